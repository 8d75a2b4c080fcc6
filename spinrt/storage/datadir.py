"""The data directory: who owns it, which format it has, who may read it.

Layout (docs/formats/data-directory.md)::

    FORMAT   one line: "spinrt-data <version>"
    LOCK     process id of the owner; flock held while it runs
    log/     the log's segments
    pages/   snapshots, and the pages that they share
    index/   the mail store's SQLite index; may be deleted while nothing runs, it is rebuilt

*Upgrade rule*: a directory of a newer version is refused; one of an older version is taken through ``UPGRADES`` step by
step, and each finished step is written to ``FORMAT`` before the next begins, so an upgrade that was cut off goes on.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final

from spinrt.errors import ConfigError, CorruptRecord, DataLocked, FormatUnknown
from spinrt.storage.device import open_regular, read_bounded, sync_directory

FORMAT_VERSION: Final = 1
FORMAT_NAME: Final = "FORMAT"
FORMAT_BYTES_MAX: Final = 1024
LOCK_NAME: Final = "LOCK"
LOG_NAME: Final = "log"
PAGES_NAME: Final = "pages"
_WORD: Final = "spinrt-data"

UPGRADES: Final[Mapping[int, Callable[[Path], None]]] = {}
"""From version to the function that makes the next version of a directory. Each may be run again after a crash."""


class DataDirectory:
    """A data directory that this process owns until `close`. Made by `open`."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        version: int = FORMAT_VERSION,
        upgrades: Mapping[int, Callable[[Path], None]] = UPGRADES,
    ) -> DataDirectory:
        """Create or open, lock, check and if need be upgrade a data directory.

        Raises:
            DataLocked: Another process owns it; the message names its process id.
            FormatUnknown: A newer version wrote it, or there is no upgrade from its version.
            ConfigError: The path is not a directory, may not be used, or holds something else.
        """
        _create(path)
        directory = cls(path, _acquire(path))
        try:
            path.chmod(0o700)
            _upgrade(path, version, upgrades)
        except BaseException:
            directory.close()
            raise
        return directory

    @property
    def log_path(self) -> Path:
        return self.path / "log"

    @property
    def index_path(self) -> Path:
        return self.path / "index"

    def close(self) -> None:
        """Give the directory up. Closing twice does nothing."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> DataDirectory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _create(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"data directory {path}: {error.strerror}", hint="choose another path") from error
    refuse_foreign(path)


def check_place(path: Path) -> None:
    """Raise ConfigError where `DataDirectory.open` would, as far as it shows without making or changing anything."""
    if path.exists():
        refuse_foreign(path)
        return
    above = next(one for one in path.absolute().parents if one.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise ConfigError(f"data directory {path}: cannot be made in {above}", hint="choose another path")


def refuse_foreign(path: Path) -> None:
    """Raise ConfigError unless a directory is empty or a data directory."""
    try:
        names = {entry.name for entry in os.scandir(path)}
    except OSError as error:
        raise ConfigError(f"data directory {path}: {error.strerror}", hint="choose another path") from error
    if names and FORMAT_NAME not in names and not names <= {LOCK_NAME, FORMAT_NAME + ".new"}:
        raise ConfigError(
            f"data directory {path}: holds other files and no {FORMAT_NAME}",
            hint="give an empty directory, or one that spinrt made",
        )


def _acquire(path: Path) -> int:
    try:
        descriptor = open_regular(path / LOCK_NAME, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise ConfigError(f"data directory {path}: {error.strerror}", hint="check its owner") from error
    try:
        _lock(path, descriptor)
    except DataLocked:
        os.close(descriptor)
        raise
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock of a data directory that is to be looked at and not changed.

    Raises:
        DataLocked: Another process owns it; the message names its process id.
        ConfigError: There is no such directory, or it may not be read.
    """
    if not path.is_dir():
        raise ConfigError(f"data directory {path}: does not exist", hint="name one with --data, or its configuration")
    try:
        descriptor = open_regular(path / LOCK_NAME, os.O_RDONLY)
    except FileNotFoundError:  # a copy, or one that nobody has opened yet
        yield
        return
    except OSError as error:
        raise ConfigError(f"data directory {path}: {error.strerror}", hint="check its owner") from error
    try:
        _lock(path, descriptor)
        yield
    finally:
        os.close(descriptor)


def _lock(path: Path, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        raise DataLocked(f"data directory {path}: in use by process {owner}", hint="stop that process first") from None


def _upgrade(path: Path, version: int, upgrades: Mapping[int, Callable[[Path], None]]) -> None:
    found = read_format(path)
    if found is None:
        write_format(path, version)
        return
    while found < version:
        if found not in upgrades:
            raise FormatUnknown(f"data directory {path}: format {found}, no upgrade to {version} is known")
        upgrades[found](path)
        found += 1
        write_format(path, found)
    if found > version:
        raise FormatUnknown(
            f"data directory {path}: format {found}, this version knows up to {version}",
            hint="it was written by a newer spinrt; run that version",
        )


def read_format(path: Path) -> int | None:
    """Return the format version of a data directory, or none when it has none yet."""
    try:
        text = read_bounded(path / FORMAT_NAME, FORMAT_BYTES_MAX).decode("ascii", "replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CorruptRecord(f"{path / FORMAT_NAME}: {error.strerror}", hint="restore it from a backup") from None
    word, _, number = text.strip().partition(" ")
    if word != _WORD or not number.isdigit():
        raise CorruptRecord(f"{path / FORMAT_NAME}: found {text[:40]!r}, expected '{_WORD} <version>'")
    return int(number)


def write_format(path: Path, version: int) -> None:
    """Write the format version, whole or not at all."""
    new = path / (FORMAT_NAME + ".new")
    descriptor = open_regular(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        os.write(descriptor, f"{_WORD} {version}\n".encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    new.rename(path / FORMAT_NAME)
    sync_directory(path)
