"""The pages that a branch changed: one append-only file, `overlay`, in the branch's directory.

What was written since the last commit counts only once the next commit follows it, so a crash leaves the branch as of a
commit. All numbers are unsigned and big-endian.

Header, 64 bytes::

    offset size
     0      8   magic      b"SPINOVER"
     8      4   version    1
    12      4   page       bytes of a page
    16     32   base       id of the snapshot that the branch began at
    48     12   salt       random; seeds the checksums of the entries
    60      4   crc        CRC-32 of bytes 0..59

Entry, 12 bytes and, when it is a page, its content::

     0      2   magic      b"O\\x01"
     2      1   kind       0 page, 1 commit
     3      1   zero
     4      4   number     of the page, from 0; of a commit: how many pages there are now
     8      4   crc        CRC-32 of bytes 0..7 and the content, seeded with the CRC-32 of the salt
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from collections.abc import Iterable
from typing import Final
from zlib import crc32

from spinrt.errors import CorruptRecord, FormatUnknown
from spinrt.storage.device import Device, File
from spinrt.storage.protocols import PAGE_BYTES_MAX
from spinrt.storage.segment import Window

OVERLAY_NAME: Final = "overlay"
HEADER_BYTES: Final = 64
_SALT_BYTES: Final = 12
_MAGIC: Final = b"SPINOVER"
_VERSION: Final = 1
_ENTRY_MAGIC: Final = b"O\x01"
_PAGE: Final = 0
_COMMIT: Final = 1
_HEADER: Final = struct.Struct(">8sII32s12s")
_ENTRY: Final = struct.Struct(">2sBxI")
_CRC: Final = struct.Struct(">I")
_ENTRY_BYTES: Final = _ENTRY.size + _CRC.size

assert _HEADER.size + _CRC.size == HEADER_BYTES


class Overlay:
    """An open overlay. Made by `create` or `open`; every method raises OSError when the device refuses."""

    def __init__(self, file: File, base: bytes, page_bytes: int, salt: bytes) -> None:
        self.base = base
        self.page_bytes = page_bytes
        self.page_count: int | None = None
        """As of the last commit; none before the first."""
        self._file = file
        self._seed = crc32(salt)
        self._end = HEADER_BYTES
        self._is_committed = True
        self._is_broken = False
        self._places: dict[int, int] = {}
        """Page → offset of its newest content."""

    @classmethod
    def create(cls, device: Device, base: bytes, page_bytes: int) -> Overlay:
        """Begin an overlay on snapshot ``base``; durable on return."""
        salt = os.urandom(_SALT_BYTES)
        covered = _HEADER.pack(_MAGIC, _VERSION, page_bytes, base, salt)
        file = device.open(OVERLAY_NAME, create=True, write=True)
        try:
            file.append([covered + _CRC.pack(crc32(covered))])
            file.sync()
            device.sync()
        except BaseException:
            file.close()
            raise
        return cls(file, base, page_bytes, salt)

    @classmethod
    def open(cls, device: Device) -> Overlay:
        """Open an overlay, as of its last commit; what follows that is cut off.

        Raises:
            CorruptRecord, FormatUnknown: It is none.
        """
        file = device.open(OVERLAY_NAME, write=True)
        try:
            overlay = cls(file, *_decode_header(file.read(0, HEADER_BYTES)))
            overlay._recover()
        except BaseException:
            file.close()
            raise
        return overlay

    def _recover(self) -> None:
        window, size = Window(self._file), self._file.size()
        found: dict[int, int] = {}
        offset = HEADER_BYTES
        while entry := self._entry_at(window, offset):
            kind, number, length = entry
            if kind == _PAGE:
                found[number] = offset + _ENTRY_BYTES
            else:
                self._places |= found
                found.clear()
                self.page_count, self._end = number, offset + length
            offset += length
        if self._end < size:
            self._file.truncate(self._end)
            self._file.sync()

    def _entry_at(self, window: Window, offset: int) -> tuple[int, int, int] | None:
        """Return kind, number and length of the entry there, or none when there is no whole one."""
        data = window.read(offset, _ENTRY_BYTES + self.page_bytes)
        if len(data) < _ENTRY_BYTES:
            return None
        magic, kind, number = _ENTRY.unpack_from(data)
        length = _ENTRY_BYTES + (self.page_bytes if kind == _PAGE else 0)
        if magic != _ENTRY_MAGIC or kind not in (_PAGE, _COMMIT) or len(data) < length:
            return None
        (crc,) = _CRC.unpack_from(data, _ENTRY.size)
        covered = data[: _ENTRY.size] + data[_ENTRY_BYTES:length]
        return (kind, number, length) if crc32(covered, self._seed) == crc else None

    def read(self, number: int) -> bytes | None:
        """Return a page's newest content, or none when it was never written. Raises CorruptRecord."""
        offset = self._places.get(number)
        if offset is None:
            return None
        data = self._file.read(offset - _ENTRY_BYTES, _ENTRY_BYTES + self.page_bytes)
        covered = data[: _ENTRY.size] + data[_ENTRY_BYTES:]
        if len(data) < _ENTRY_BYTES or crc32(covered, self._seed) != _CRC.unpack_from(data, _ENTRY.size)[0]:
            raise CorruptRecord(f"overlay of a branch, offset {offset}: page {number} is damaged")
        return data[_ENTRY_BYTES:]

    def write(self, number: int, content: bytes) -> None:
        """Give a page another content; it counts from the next commit on, and for `read` at once."""
        self._append(_PAGE, number, content)
        self._places[number] = self._end - len(content)
        self._is_committed = False

    def commit(self, page_count: int) -> None:
        """Make all that was written durable, as one, and say how many pages there are."""
        if self._is_committed and page_count == self.page_count:
            return
        self._append(_COMMIT, page_count, b"")
        self._file.sync()
        self._is_committed, self.page_count = True, page_count

    def _append(self, kind: int, number: int, content: bytes) -> None:
        if self._is_broken:
            raise OSError(errno.EIO, "overlay of a branch: an earlier write failed")
        front = _ENTRY.pack(_ENTRY_MAGIC, kind, number)
        try:
            self._file.append([front + _CRC.pack(crc32(front + content, self._seed)), content])
        except OSError:
            self._is_broken = True  # unless what was written of it can be taken back
            self._file.truncate(self._end)
            self._is_broken = False
            raise
        self._end += _ENTRY_BYTES + len(content)

    def numbers(self) -> Iterable[int]:
        """Return the pages that were ever written, ascending."""
        return sorted(self._places)

    def close(self) -> None:
        self._file.close()


def _decode_header(header: bytes) -> tuple[bytes, int, bytes]:
    """Return base, bytes of a page, and salt. Raises CorruptRecord, FormatUnknown."""
    if len(header) < HEADER_BYTES or crc32(header[: _HEADER.size]) != _CRC.unpack_from(header, _HEADER.size)[0]:
        raise CorruptRecord("overlay of a branch: header is damaged", hint="discard the branch")
    magic, version, page_bytes, base, salt = _HEADER.unpack_from(header)
    if magic != _MAGIC or not 0 < page_bytes <= PAGE_BYTES_MAX:
        raise CorruptRecord(f"overlay of a branch: magic is {magic!r}, expected {_MAGIC!r}", hint="discard the branch")
    if version != _VERSION:
        raise FormatUnknown(f"overlay of a branch: format version {version}, expected {_VERSION}")
    return base, page_bytes, salt


def read_base(device: Device) -> bytes:
    """Return the snapshot that an overlay began at, without opening it. Raises as `Overlay.open`, and OSError."""
    with contextlib.closing(device.open(OVERLAY_NAME)) as file:
        return _decode_header(file.read(0, HEADER_BYTES))[0]
