"""Temporary directories of checks, and what checks that were killed left of theirs.

A directory is locked (flock) while its process lives, so whoever begins a check can tell those that nobody uses.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

PREFIX: Final = "spinrt-fsck-"


@contextmanager
def scratch() -> Iterator[Path]:
    """Make a temporary directory, gone afterwards; those of dead processes go, too. Raises OSError."""
    _sweep(Path(tempfile.gettempdir()))
    path, descriptor = _made()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(descriptor)


def _made() -> tuple[Path, int]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=PREFIX))
        with suppress(FileNotFoundError):
            descriptor = _locked(path)
            if descriptor is not None and path.is_dir():
                return path, descriptor
            if descriptor is not None:  # somebody swept it between the two
                os.close(descriptor)


def _locked(path: Path) -> int | None:
    """Return a descriptor of a directory that is locked by it; none when another process has it. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _sweep(directory: Path) -> None:
    """Remove what is ours, and locked by nobody."""
    with suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith(PREFIX) and entry.is_dir(follow_symlinks=False):
                with suppress(OSError):
                    _remove_if_dead(entry)


def _remove_if_dead(entry: os.DirEntry[str]) -> None:
    if entry.stat(follow_symlinks=False).st_uid != os.geteuid():
        return
    descriptor = _locked(Path(entry.path))
    if descriptor is not None:
        shutil.rmtree(entry.path, ignore_errors=True)
        os.close(descriptor)
