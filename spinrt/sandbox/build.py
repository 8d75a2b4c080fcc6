"""From C sources to a shipped extension: bindings, compiler, check.

The compiler is clang, as it comes in the ordinary package ``ziglang``. Same sources, same package version: same bytes;
nothing of the machine, the time or the directories gets into a module. What is built is loaded once before it is put
into place, so that a module which does not fit its manifest never gets there.

Shape of a module: no entry, one memory with the shadow stack at its bottom (an overflow traps instead of reaching the
data), ``__stack_pointer`` exported for whoever saves the machine's state, and only plain instructions: WebAssembly 1.0
with sign extension, saturating conversion, mutable globals and bulk memory.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from spinrt.errors import BuildError
from spinrt.sandbox.bindgen import Wanted, export_word, generate_c
from spinrt.sandbox.bindgen_types import c_words, interface_words
from spinrt.sandbox.cache import cache_home
from spinrt.sandbox.loader import check_extension
from spinrt.sandbox.manifest import Manifest
from spinrt.sandbox.wit import Interfaces, shipped

STACK_BYTES = 16384
COMPILE_TIMEOUT_S = 300.0
_OUTPUT_SHOWN_CHARACTERS = 8000

_FLAGS = [
    *("-target", "wasm32-freestanding", "-nostdlib", "-std=c17", "-Os", "-g0"),
    "-mcpu=mvp+bulk_memory+sign_ext+mutable_globals+nontrapping_fptoint",
    *("-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wno-sign-conversion"),
    *("-Wl,--no-entry", f"-Wl,-z,stack-size={STACK_BYTES}", "-Wl,--export=__stack_pointer", "-Wl,--strip-debug"),
]

_UNDECLARED = re.compile(r"undeclared (?:function|identifier) '(\w+)'")
_UNDEFINED_EXPORT = re.compile(r"undefined symbol: (export_\w+)")
_CACHED_OBJECT = re.compile(r"\S+/(?=guest\.o: undefined symbol)")

Report = Callable[[str], None]


def build_extension(
    directory: Path,
    out: Path,
    *,
    interfaces: Interfaces | None = None,
    report: Report | None = None,
    flags: Sequence[str] = (),
) -> Path:
    """Build the extension whose manifest and sources lie in `directory`.

    Args:
        directory: Has ``manifest.yaml`` with a ``build`` entry, and the sources that this names, all below it.
        out: Where extensions go; ``out/<name>/`` gets manifest and module, both replaced whole; older modules go.
        interfaces: Where the manifest's interfaces are found; those that come with spinrt by default.
        report: Called with the compiler's warnings, if it has any.
        flags: For the compiler, behind those of every extension.

    Returns:
        ``out/<name>``.

    Raises:
        ManifestError: The manifest is malformed.
        BuildError: Nothing to build, no compiler, or the compiler's own messages.
        ModuleError, LinkError: The module does not fit the manifest or the interfaces.
    """
    manifest = Manifest.read(directory / "manifest.yaml")
    known = shipped() if interfaces is None else interfaces
    with tempfile.TemporaryDirectory(prefix="spinrt-build-") as scratch:
        code = _compile(manifest, directory, Path(scratch), known, report, flags)
    check_extension(manifest, code, interfaces=known)
    target = out / manifest.name
    target.mkdir(parents=True, exist_ok=True)
    _replace(target / manifest.module, code)
    _replace(target / "manifest.yaml", (directory / "manifest.yaml").read_bytes())
    for stale in target.glob("*.wasm"):  # the manifest called its module something else before
        if stale.name != manifest.module:
            stale.unlink()
    return target


def build_all(
    source_root: Path, out_root: Path, *, interfaces: Interfaces | None = None, report: Report | None = None
) -> list[Path]:
    """Build each extension directly below `source_root`, in order of their names; see `build_extension`.

    Raises:
        BuildError: There is none; otherwise as `build_extension`, for the first that fails.
    """
    directories = sorted(path.parent for path in source_root.glob("*/manifest.yaml"))
    if not directories:
        raise BuildError(
            f"build: no extension below {source_root}; expected directories with a manifest.yaml",
            hint="sources of the shipped extensions need a checkout",
        )
    return [build_extension(directory, out_root, interfaces=interfaces, report=report) for directory in directories]


def bindings(manifest: Manifest, interfaces: Interfaces) -> dict[str, str]:
    """Return the generated C files for what a manifest imports, exports and handles."""
    wanted = Wanted.of_manifest(manifest, interfaces)
    return generate_c(interfaces, wanted.imports, wanted.exports, wanted.named)


def _compile(
    manifest: Manifest,
    directory: Path,
    scratch: Path,
    interfaces: Interfaces,
    report: Report | None,
    flags: Sequence[str],
) -> bytes:
    sources = _sources(manifest, directory)
    for name, text in bindings(manifest, interfaces).items():
        (scratch / name).write_text(text, encoding="utf-8")
    module = scratch / "module.wasm"
    files = [*map(str, sources), str(scratch / "guest.c")]
    command = [*toolchain("cc"), *_FLAGS, *flags, f"-I{scratch}", *files, "-o", str(module)]
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            env=toolchain_environment(),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMPILE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"build of {manifest.name}: the compiler took over {COMPILE_TIMEOUT_S:g} s") from error
    output = done.stderr.replace(f"{scratch}{os.sep}", "").strip()[:_OUTPUT_SHOWN_CHARACTERS]
    if done.returncode != 0 or not module.is_file():
        output = _CACHED_OBJECT.sub("", output)
        raise BuildError(
            f"build of {manifest.name}: the compiler ended with status {done.returncode}:\n{output}",
            hint=_manifest_hint(output, manifest, interfaces),
        )
    if output and report is not None:
        report(output)
    return module.read_bytes()


def _manifest_hint(output: str, manifest: Manifest, interfaces: Interfaces) -> str:
    """What the manifest lacks, or promises too much, when that is why something is not declared or not defined."""
    if undefined := _UNDEFINED_EXPORT.search(output):
        for handler in manifest.handlers:
            for name in (handler.export, handler.guard):
                if name and undefined[1] == export_word(name):
                    return f"the manifest names {name} under `handlers`: write it or take it out"
        for interface in interfaces:
            if undefined[1].startswith(f"{c_words('export', *interface_words(interface.id))}_"):
                return f"the manifest promises {interface.id} under `handlers` or `exports`: write it or take it out"
    if undeclared := _UNDECLARED.search(output):
        for interface in interfaces:
            if undeclared[1].startswith(f"{c_words(*interface_words(interface.id))}_"):
                return f"it is of {interface.id}: add `- interface: {interface.id}` under `imports` of the manifest"
    return ""


def _sources(manifest: Manifest, directory: Path) -> list[Path]:
    if manifest.build is None:
        raise BuildError(
            f"build of {manifest.name}: its manifest has no `build`",
            hint="add `build: {sources: [src/name.c], language: c}`",
        )
    for source in manifest.build.sources:
        if not (directory / source).resolve().is_relative_to(directory.resolve()):
            raise BuildError(
                f"build of {manifest.name}: build.sources: found {source!r}, expected a file below {directory}",
                hint="an extension is built from its own directory alone; copy what it shares",
            )
        if not (directory / source).is_file():
            raise BuildError(f"build of {manifest.name}: no source file {directory / source}; the manifest names it")
    return [Path(source) for source in manifest.build.sources]


def toolchain(command: str) -> list[str]:
    """Return how a command of the toolchain is run; see `toolchain_environment`.

    Raises:
        BuildError: It is not installed.
    """
    if importlib.util.find_spec("ziglang") is None:
        raise BuildError("build: no compiler; expected the Python package ziglang", hint="pip install 'spinrt[build]'")
    return [sys.executable, "-m", "ziglang", command]


def toolchain_environment() -> dict[str, str]:
    """Return the environment for the toolchain, its caches in a place that can be written to."""
    cache = str(cache_directory())
    return {"ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache, **os.environ}


def cache_directory() -> Path:
    """Return a directory of this user for what the toolchain made and can make again."""
    cache = cache_home() / "zig"
    with contextlib.suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
    if os.access(cache, os.W_OK):
        return cache
    fallback = Path(tempfile.gettempdir()) / f"spinrt-zig-{os.getuid()}"
    fallback.mkdir(mode=0o700, exist_ok=True)
    return fallback


def _replace(path: Path, content: bytes) -> None:
    """Write a file so that readers see the old one or the new one."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.write_bytes(content)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise BuildError(f"build: cannot write {path}: {error.strerror}") from error
