"""Reading segments and packs through a bounded number of open files, from any thread."""

from __future__ import annotations

import errno
import threading
from collections import OrderedDict
from typing import Final

from spinrt.errors import DeviceFailed, DeviceFull, StorageError
from spinrt.storage.device import Device, File
from spinrt.storage.segment import Segment

OPEN_FILES_MAX: Final = 64
FULL_ERRNOS: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class OpenFiles:
    """Files open for reading, each under a number, the least recently used closed first."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._files: OrderedDict[int, File] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, segment: Segment, position: int, length: int) -> bytes:
        """Return up to ``length`` bytes from a log position inside the segment. Raises StorageError.

        The lock is held over the read, so that no other thread closes the file under it.
        """
        start = segment.header.start
        with self._lock:
            try:
                file = self._files.get(start)
                if file is None:
                    file = self._open(start, segment.name)
                self._files.move_to_end(start)
                return file.read(position - start, length)
            except OSError as error:
                raise device_error(error, f"read of log segment {segment.name}") from error

    def read_named(self, key: int, name: str, offset: int, length: int) -> bytes:
        """Return up to ``length`` bytes of the file of that name, which is known by ``key``. Raises StorageError."""
        with self._lock:
            try:
                file = self._files.get(key) or self._open(key, name)
                self._files.move_to_end(key)
                return file.read(offset, length)
            except OSError as error:
                raise device_error(error, f"read of {name}") from error

    def _open(self, key: int, name: str) -> File:
        file = self._files[key] = self._device.open(name)
        while len(self._files) > OPEN_FILES_MAX:
            self._files.popitem(last=False)[1].close()
        return file

    def drop(self, segment: Segment) -> None:
        """Close the segment's file, which is about to be removed."""
        self.drop_key(segment.start)

    def drop_key(self, key: int) -> None:
        """Close the file under that number."""
        with self._lock:
            file = self._files.pop(key, None)
        if file is not None:
            file.close()

    def close(self) -> None:
        with self._lock:
            while self._files:
                self._files.popitem()[1].close()


def device_error(error: OSError, operation: str) -> StorageError:
    """Return what a failed operation on the device means to who asked for it."""
    kind = DeviceFull if error.errno in FULL_ERRNOS else DeviceFailed
    return kind(f"{operation}: {error.strerror or error}", hint="check the device and its permissions")
