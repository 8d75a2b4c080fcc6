"""Fields of records, read back by a reader that trusts nothing. What writes them is `spinrt._core.RecordWriter`.

All numbers are big-endian. ``text`` is a u32 count of bytes and UTF-8; ``blob`` a u32 count and bytes; ``numbers`` a
u32 count and that many u32; ``option`` a u8 0 or 1 and, after 1, the value; a list is a u32 count and its items.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Callable
from typing import Final, TypeVar

from spinrt._core import stored_bytes
from spinrt.errors import CorruptRecord
from spinrt.mail.store.model import Body, Extent

T = TypeVar("T")

_U8: Final = struct.Struct(">B")
_U32: Final = struct.Struct(">I")
_U64: Final = struct.Struct(">Q")
_I32: Final = struct.Struct(">i")
_I64: Final = struct.Struct(">q")
_EXTENT: Final = struct.Struct(">QII")
_ONE_EXTENT: Final = struct.Struct(">32sQI QII I")
"""A body of one extent up to its prefix: digest, size, count of extents; position, offset, length; bytes of prefix."""
DIGEST_BYTES: Final = 32
POSITION_MAX: Final = 2**63 - 1
"""What the index can hold; positions of a log stay below it by their generations."""


class Reader:
    """Takes fields off a record, in order; every count is checked against the bytes that are there.

    Raises:
        CorruptRecord: From every method, when the bytes do not hold what is asked for.
    """

    __slots__ = ("_at", "_data", "_what")

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._at = 0
        self._what = what

    def fail(self, reason: str) -> CorruptRecord:
        return CorruptRecord(f"{self._what}: {reason} at byte {self._at} of {len(self._data)}")

    def _unpack(self, form: struct.Struct) -> tuple[int, ...]:
        try:
            values = form.unpack_from(self._data, self._at)
        except struct.error:
            raise self.fail("cut short") from None
        self._at += form.size
        return values

    def _take(self, length: int) -> bytes:
        end = self._at + length
        if end > len(self._data):
            raise self.fail(f"{length} bytes expected, cut short")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def u8(self) -> int:
        return self._unpack(_U8)[0]

    def u32(self) -> int:
        return self._unpack(_U32)[0]

    def u64(self) -> int:
        return self._unpack(_U64)[0]

    def i32(self) -> int:
        return self._unpack(_I32)[0]

    def i64(self) -> int:
        return self._unpack(_I64)[0]

    def bool(self) -> bool:
        value = self.u8()
        if value > 1:
            raise self.fail(f"found {value}, expected 0 or 1")
        return value == 1

    def blob(self) -> bytes:
        return self._take(self.u32())

    def text(self) -> str:
        data = self.blob()
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise self.fail("text is not UTF-8") from None

    def numbers(self) -> tuple[int, ...]:
        packed = array("I")
        packed.frombytes(self._take(self.u32() * 4))
        if sys.byteorder == "little":
            packed.byteswap()
        return tuple(packed)

    def items(self, read: Callable[[], T]) -> tuple[T, ...]:
        count = self.u32()
        if count > len(self._data) - self._at:  # every item takes a byte at least
            raise self.fail(f"list of {count} items, cut short")
        return tuple(read() for _ in range(count))

    def texts(self) -> tuple[str, ...]:
        return self.items(self.text)

    def option(self, read: Callable[[], T]) -> T | None:
        return read() if self.bool() else None

    def body(self) -> Body:
        digest = self._take(DIGEST_BYTES)
        size = self.u64()
        extents = self.items(self._extent)
        body = Body(digest, size, extents, self.blob())
        if body.size != stored_bytes(body):
            raise self.fail(f"body of {size} bytes whose parts have {stored_bytes(body)}")
        return body

    def _extent(self) -> Extent:
        extent = Extent(*self._unpack(_EXTENT))
        if extent.position > POSITION_MAX:
            raise self.fail(f"position {extent.position}, expected at most {POSITION_MAX}")
        return extent

    def end(self) -> None:
        """Raise unless every byte was read."""
        if self._at != len(self._data):
            raise self.fail("bytes left over")


def decode_body(data: bytes) -> Body:
    """Return the body that `spinrt._core.encode_body` wrote. Raises CorruptRecord."""
    if len(data) >= _ONE_EXTENT.size:
        digest, size, count, position, offset, length, prefix_bytes = _ONE_EXTENT.unpack_from(data)
        prefix = data[_ONE_EXTENT.size :]
        whole = len(prefix) == prefix_bytes and size == length + prefix_bytes
        if count == 1 and whole and position <= POSITION_MAX:
            return Body(digest, size, (Extent(position, offset, length),), prefix)
    return _decode_any_body(data)


def _decode_any_body(data: bytes) -> Body:
    """What `decode_body` does for bodies of any number of extents, and the words for what is none."""
    reader = Reader(data, "body in the index")
    body = reader.body()
    reader.end()
    return body


def decode_placed(data: bytes) -> tuple[tuple[tuple[str, str, int, int], ...], tuple[int, ...]]:
    """Return what `spinrt._core.encode_placed` was given. Raises CorruptRecord."""
    reader = Reader(data, "delivery in the index")
    placed = reader.items(lambda: (reader.text(), reader.text(), reader.u64(), reader.u32()))
    queued = reader.items(reader.u64)
    reader.end()
    return placed, queued
