"""The filter compiled: shared library, milters, extensions. All from the sources in ``filter/``."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import yaml

from benchmarks.peers.process import PeerFailed, PeerMissing, program
from spinrt.sandbox.build import build_extension

DIRECTORY: Final = Path(__file__).parent / "filter"
OPTIMISED: Final = "-O2"
FLAGS: Final = (OPTIMISED, "-std=gnu17", "-Wall", "-Wextra")
MILTER_HEADER: Final = "libmilter/mfapi.h"
_INSTALLS: Final = "benchmarks/install-peers installs it (Debian, root)"


def library(out: Path) -> Path:
    """Compile the filter as a shared library.

    Raises:
        PeerMissing: There is no C compiler.
    """
    return _compile(out / "libfilter.so", ["filter.c"], ["-shared", "-fPIC"])


def milter(out: Path) -> Path:
    """Compile the filter as a milter.

    Raises:
        PeerMissing: There is no C compiler, or no libmilter.
    """
    return _compile_milter(out / "milter", ["filter.c", "milter.c"])


def noop_milter(out: Path) -> Path:
    """Compile the milter that does nothing. Raises as `milter`."""
    return _compile_milter(out / "noop_milter", ["noop_milter.c"])


def extensions(out: Path, names: Sequence[str]) -> dict[str, Path]:
    """Build the filter as an extension for each of these names: name → directory.

    Each adds a field of its own, ``X-Bench-NAME``.

    Raises:
        BuildError: There is no compiler for WebAssembly, or it fails.
    """
    return {name: _extension(out, name) for name in names}


def added_field(name: str) -> str:
    """The header field that the extension of that name adds."""
    return f"X-Bench-{name}"


def _extension(out: Path, name: str) -> Path:
    made = build_extension(DIRECTORY, out, flags=[OPTIMISED, f'-DFILTER_HEADER="{added_field(name)}"'])
    manifest = yaml.safe_load((made / "manifest.yaml").read_text(encoding="utf-8"))
    (made / "manifest.yaml").write_text(yaml.safe_dump(manifest | {"name": name}), encoding="utf-8")
    return made.rename(out / name)


def _compile_milter(target: Path, sources: Sequence[str]) -> Path:
    compiler = program("cc")
    has_header = subprocess.run(
        [compiler, "-E", "-include", MILTER_HEADER, "-x", "c", "/dev/null"], capture_output=True, check=False
    )
    if has_header.returncode:
        raise PeerMissing(f"libmilter is not installed (no {MILTER_HEADER}); {_INSTALLS}")
    return _compile(target, sources, ["-lmilter", "-lpthread"])


def _compile(target: Path, sources: Sequence[str], flags: Sequence[str]) -> Path:
    paths = [str(DIRECTORY / "src" / source) for source in sources]
    command = [program("cc"), *FLAGS, *paths, "-o", str(target), *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PeerFailed(f"compiling {target.name}: cc ended with code {done.returncode}: {done.stderr.strip()}")
    return target
