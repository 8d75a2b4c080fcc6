"""How setuptools compiles ``cython_core/_core.pyx`` into ``spinrt._core``.

The environment variable ``SPINRT_BUILD`` chooses the mode:

``release``
    Optimised; the default, and what a wheel carries.
``debug``
    Not optimised, with assertions and allocation counters (``SPINRT_DEBUG`` is defined). Compiles several times faster.
``trace``
    As ``debug``, with line coverage. Generated C is left beside its source, where the coverage plug-in looks for it.

Everything generated goes below ``build/`` (except in ``trace`` mode), so that the source tree stays clean. Changing the
mode forces a rebuild, which time stamps alone would not.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from setuptools.command.build_ext import build_ext
from setuptools.errors import OptionError

SOURCES = Path("cython_core")
MODE_STAMP = Path("build/mode")
PART_SUFFIXES = frozenset({".pyx", ".pxi", ".pxd", ".h"})
DIRECTIVES: dict[str, object] = {"language_level": "3"}


@dataclass(frozen=True, slots=True)
class Mode:
    """Compiler settings of one build mode."""

    name: str
    compile_args: tuple[str, ...]
    macros: tuple[tuple[str, str], ...] = ()
    directives: dict[str, object] = field(default_factory=dict)
    keeps_c: bool = False
    """Whether the generated C stays beside its source."""

    @property
    def build_dir(self) -> str | None:
        return None if self.keeps_c else f"build/cython-{self.name}"


_DEBUG = (("SPINRT_DEBUG", "1"),)
MODES = {
    mode.name: mode
    for mode in (
        Mode("release", ("-O2", "-g0")),
        Mode("debug", ("-O0", "-g"), _DEBUG),
        Mode("trace", ("-O0", "-g"), (*_DEBUG, ("CYTHON_TRACE_NOGIL", "1")), {"linetrace": True}, keeps_c=True),
    )
}


def chosen_mode(name: str) -> Mode:
    """Return the build mode of that name.

    Raises:
        OptionError: There is no such mode.
    """
    try:
        return MODES[name]
    except KeyError:
        raise OptionError(f"SPINRT_BUILD is {name!r}, expected one of {', '.join(MODES)}") from None


def parts() -> list[str]:
    """Every file that the one extension module is compiled from, sorted."""
    return sorted(str(path) for path in SOURCES.rglob("*") if path.suffix in PART_SUFFIXES)


class BuildExt(build_ext):
    """``build_ext`` that runs Cython with the mode of ``SPINRT_BUILD`` and notices a change of any part."""

    def finalize_options(self) -> None:
        mode = chosen_mode(os.environ.get("SPINRT_BUILD", "release"))
        self._cythonize(mode)
        super().finalize_options()
        self.mode_name = mode.name
        if not MODE_STAMP.exists() or MODE_STAMP.read_text(encoding="ascii") != mode.name:
            self.force = True

    def run(self) -> None:
        if self.inplace and not self.editable_mode and not self.force and self._is_current():
            return
        super().run()
        MODE_STAMP.parent.mkdir(exist_ok=True)
        MODE_STAMP.write_text(self.mode_name, encoding="ascii")  # only now: a build that failed stays forced

    def _is_current(self) -> bool:
        """Whether what stands in place is newer than all that it is made of.

        Installing compiles elsewhere and copies it here, where ``build_ext`` by itself would not look.
        """
        for extension in self.extensions:
            made = Path(self.get_ext_fullpath(extension.name))
            sources = [*extension.sources, *extension.depends]
            if not made.exists() or made.stat().st_mtime < max(Path(one).stat().st_mtime for one in sources):
                return False
        return True

    def _cythonize(self, mode: Mode) -> None:
        from Cython.Build import cythonize  # a build requirement: absent when only metadata is asked for

        extensions = self.distribution.ext_modules or []
        for extension in extensions:
            extension.depends = parts()
            extension.extra_compile_args = list(mode.compile_args)
            extension.define_macros = list(mode.macros)
        self.distribution.ext_modules = cythonize(  # type: ignore[no-untyped-call]
            extensions, build_dir=mode.build_dir, compiler_directives=DIRECTIVES | mode.directives
        )
