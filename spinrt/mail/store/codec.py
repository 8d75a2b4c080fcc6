"""Fields of records as bytes: a writer and a reader that trusts nothing.

All numbers are big-endian. ``text`` is a u32 count of bytes and UTF-8; ``blob`` a u32 count and bytes; ``numbers`` a
u32 count and that many u32; ``option`` a u8 0 or 1 and, after 1, the value; a list is a u32 count and its items.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from spinrt.errors import CorruptRecord, UsageError
from spinrt.mail.store.model import Body, Extent

T = TypeVar("T")

_U8: Final = struct.Struct(">B")
_U32: Final = struct.Struct(">I")
_U64: Final = struct.Struct(">Q")
_I32: Final = struct.Struct(">i")
_I64: Final = struct.Struct(">q")
_EXTENT: Final = struct.Struct(">QII")
_BODY: Final = struct.Struct(">32sQI")
_PLACE: Final = struct.Struct(">QI")
_COUNTS: Final = tuple([_U32.pack(count) for count in range(256)])
"""The counts that nearly all texts and lists have, packed."""
_COUNTS_END: Final = len(_COUNTS)
_ONE_EXTENT: Final = struct.Struct(">32sQIQIII")
"""A body of one extent without a prefix: what nearly every message is."""
DIGEST_BYTES: Final = 32


class Writer:
    """Collects the fields of one record, the first of which is a u8 version."""

    __slots__ = ("_data",)

    def __init__(self, version: int) -> None:
        self._data = bytearray((version,))

    def u8(self, value: int) -> None:
        self._data += _pack(_U8, value)

    def u32(self, value: int) -> None:
        self._data += _COUNTS[value] if 0 <= value < _COUNTS_END else _pack(_U32, value)

    def u64(self, value: int) -> None:
        self._data += _pack(_U64, value)

    def i32(self, value: int) -> None:
        self._data += _pack(_I32, value)

    def i64(self, value: int) -> None:
        self._data += _pack(_I64, value)

    def blob(self, value: bytes) -> None:
        self.u32(len(value))
        self._data += value

    def text(self, value: str) -> None:
        self.all_texts((value,))

    def all_texts(self, values: Sequence[str]) -> None:
        """Write several texts, one after the other; `texts` writes their count first."""
        data = self._data
        try:
            for value in values:
                encoded = value.encode()
                size = len(encoded)
                data += _COUNTS[size] if size < _COUNTS_END else _pack(_U32, size)
                data += encoded
        except UnicodeEncodeError:
            raise UsageError(f"text {ascii(value)[:80]}: not Unicode, cannot be stored") from None

    def numbers(self, values: Sequence[int]) -> None:
        try:
            packed = array("I", values)
        except (OverflowError, TypeError):
            raise UsageError("a list of numbers holds one outside 0 … 4294967295") from None
        if sys.byteorder == "little":
            packed.byteswap()
        self.u32(len(packed))
        self._data += packed.tobytes()

    def items(self, values: Sequence[T], write: Callable[[T], None]) -> None:
        self.u32(len(values))
        for value in values:
            write(value)

    def texts(self, values: Sequence[str]) -> None:
        self.u32(len(values))
        self.all_texts(values)

    def option(self, value: T | None, write: Callable[[T], None]) -> None:
        self.u8(value is not None)
        if value is not None:
            write(value)

    def body(self, body: Body) -> None:
        if len(body.digest) != DIGEST_BYTES:
            raise UsageError(f"body digest: {len(body.digest)} bytes, expected {DIGEST_BYTES}")
        try:
            self._data += encode_body(body)
        except struct.error as error:
            raise UsageError(f"body: size or an extent is out of range: {error}") from None

    def take(self) -> bytes:
        return bytes(self._data)


def _pack(form: struct.Struct, *values: object) -> bytes:
    try:
        return form.pack(*values)
    except struct.error as error:
        raise UsageError(f"value {values!r:.80} cannot be stored: {error}") from None


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
        return Extent(*self._unpack(_EXTENT))

    def end(self) -> None:
        """Raise unless every byte was read."""
        if self._at != len(self._data):
            raise self.fail("bytes left over")


def stored_bytes(body: Body) -> int:
    """Return the bytes that prefix and extents have: what ``body.size`` must be."""
    if len(body.extents) == 1:
        return len(body.prefix) + body.extents[0].length
    return len(body.prefix) + sum([extent.length for extent in body.extents])


def encode_body(body: Body) -> bytes:
    """Return a body as bytes: digest (32 bytes), size u64, list of extents (u64, u32, u32), prefix as blob."""
    if len(body.extents) == 1 and not body.prefix:
        (extent,) = body.extents
        return _ONE_EXTENT.pack(body.digest, body.size, 1, extent.position, extent.offset, extent.length, 0)
    parts = [_BODY.pack(body.digest, body.size, len(body.extents))]
    parts += [_EXTENT.pack(extent.position, extent.offset, extent.length) for extent in body.extents]
    parts += (_U32.pack(len(body.prefix)), body.prefix)
    return b"".join(parts)


def decode_body(data: bytes) -> Body:
    """Return the body that `encode_body` wrote. Raises CorruptRecord."""
    reader = Reader(data, "body in the index")
    body = reader.body()
    reader.end()
    return body


def encode_placed(placed: Sequence[tuple[str, str, int, int]], queued: Sequence[int]) -> bytes:
    """Return what a delivery gave, as the index keeps it: a list of (text, text, u64, u32), a list of u64."""
    data = bytearray(_U32.pack(len(placed)))
    for user, mailbox, mailbox_id, uid in placed:
        user_bytes, name_bytes = user.encode(), mailbox.encode()
        data += _U32.pack(len(user_bytes)) + user_bytes + _U32.pack(len(name_bytes)) + name_bytes
        data += _PLACE.pack(mailbox_id, uid)
    data += _U32.pack(len(queued))
    for queue_id in queued:
        data += _U64.pack(queue_id)
    return bytes(data)


def decode_placed(data: bytes) -> tuple[tuple[tuple[str, str, int, int], ...], tuple[int, ...]]:
    """Return what `encode_placed` was given. Raises CorruptRecord."""
    reader = Reader(data, "delivery in the index")
    placed = reader.items(lambda: (reader.text(), reader.text(), reader.u64(), reader.u32()))
    queued = reader.items(reader.u64)
    reader.end()
    return placed, queued
