"""The C part, compiled when it is first needed: the driver of kernel-mediated forms, and the module `ipcwork`.

What was made lies in the user's cache, under a name that follows from sources, compiler and interpreter.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, Final, Protocol

from spinrt.errors import BuildError
from spinrt.sandbox.cache import cache_home

SOURCES: Final = Path(__file__).parent / "native"
DRIVER: Final = ("driver.c", "streams.c", "http.c", "shared.c", "spawn.c")
MODULE: Final = ("module.c",)
_FLAGS: Final = ("-O2", "-std=gnu17", "-Wall", "-Wextra")
_COMPILE_TIMEOUT_S: Final = 120


class Work(Protocol):
    """The module `ipcwork`; its docstrings are in ``native/module.c``."""

    def checksum(self, payload: bytes) -> int: ...
    def time_native(self, payload: bytes, calls: int) -> int: ...
    def time_getpid(self, calls: int) -> int: ...
    def time_python(self, callee: Any, payload: Any, calls: int) -> int: ...
    def time_cycles(self, cycles: int) -> int: ...
    def gaps(self, span_ns: int, shortest_ns: int) -> list[int]: ...
    def count(self, timed: Any, calls: int) -> bool: ...


@cache
def driver() -> Path:
    """The program that measures one form between two processes; linked statically, so that it starts fast.

    Raises:
        BuildError: There is no compiler, or it fails.
    """
    return _made("driver", DRIVER, ("-static",))


@cache
def module_path() -> Path:
    """The module `ipcwork` for this interpreter, as a file.

    Raises:
        BuildError: As `driver`.
    """
    include = sysconfig.get_path("include")
    return _made("ipcwork", MODULE, ("-shared", "-fPIC", "-fvisibility=hidden", f"-I{include}"))


@cache
def work() -> Work:
    """The module `ipcwork`.

    Raises:
        BuildError: As `driver`.
    """
    loader = importlib.machinery.ExtensionFileLoader("ipcwork", str(module_path()))
    specification = importlib.util.spec_from_file_location("ipcwork", module_path(), loader=loader)
    if specification is None:
        raise BuildError(f"ipcwork: {module_path()} is no extension module of this interpreter")
    found: Any = importlib.util.module_from_spec(specification)
    loader.exec_module(found)
    made: Work = found
    return made


def compiler() -> str:
    """The C compiler: ``$CC``, or the first of gcc and cc.

    Raises:
        BuildError: There is none.
    """
    found = os.environ.get("CC") or shutil.which("gcc") or shutil.which("cc")
    if not found:
        raise BuildError("build of the callees: found no C compiler", hint="install gcc, or name one in CC")
    return found


def _made(name: str, sources: tuple[str, ...], flags: tuple[str, ...]) -> Path:
    command = [compiler(), *_FLAGS, *flags]
    target = _cache() / f"{name}-{_key(command)}"
    if target.is_file():
        return target
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=target.parent) as scratch:
        out = Path(scratch) / name
        done = subprocess.run(
            [*command, *sources, "-o", str(out)],
            cwd=SOURCES,
            capture_output=True,
            text=True,
            timeout=_COMPILE_TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0:
            raise BuildError(f"build of {name}: the compiler ended with status {done.returncode}:\n{done.stderr}")
        out.replace(target)
    return target


def _cache() -> Path:
    """A directory of this user alone: what lies in it is run."""
    where = cache_home() / "bench"
    where.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = where.stat()
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise BuildError(f"cache {where}: others may write to it; expected a directory of this user's alone")
    return where


def _key(command: list[str]) -> str:
    """What follows from all that goes into a file."""
    version = subprocess.run([command[0], "--version"], capture_output=True, check=True).stdout
    whole = hashlib.sha256(repr((command, sys.version)).encode() + version)
    for path in sorted(SOURCES.glob("*.[ch]")):
        whole.update(path.read_bytes())
    return whole.hexdigest()[:16]
