"""Message bodies in the log: written in chunks while they arrive, read by ranges, durable or not.

A message of up to ``CHUNK_BYTES_MAX`` bytes is one record. Chunks of a message that is given up stay in the log and
nothing refers to them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final, Protocol

from spinrt.errors import DeviceFull, StateError, StorageError, UsageError
from spinrt.mail.store.model import Body, Extent, make_record
from spinrt.storage.record import Record

CHUNK_BYTES_MAX: Final = 256 * 1024


class Chunks(Protocol):
    """The part of a log that bodies need."""

    def read_body(self, position: int, offset: int, length: int) -> bytes: ...


class Keeping(Chunks, Protocol):
    """A log that chunks are appended to, and that may give up what was not durable."""

    def is_lost(self, position: int) -> bool: ...


class Records(Chunks, Protocol):
    """A log of which whole records are read, too."""

    @property
    def start(self) -> int: ...
    def read(self, position: int) -> Record: ...


class BodyWriter:
    """One message being received. Holds at most one chunk in memory.

    Args:
        append: Appends one chunk to the log and returns its position; gets the chunk's SHA-256 too when that is known.
        log: Where chunks are read back from.
    """

    __slots__ = (
        "__weakref__",
        "_append",
        "_digest",
        "_extents",
        "_log",
        "_open",
        "_parts",
        "_parts_bytes",
        "_size",
    )

    def __init__(self, append: Callable[[bytes, bytes | None], int], log: Keeping) -> None:
        self._append = append
        self._log = log
        self._parts: list[bytes] = []
        self._parts_bytes = 0
        self._extents: list[Extent] = []
        self._size = 0
        self._digest: hashlib._Hash | None = None
        """Of the chunks appended, unless there are none."""
        self._open = True

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._size

    def write(self, data: bytes | memoryview) -> None:
        """Add bytes to the message.

        Raises:
            StateError: After `finish` or `abort`.
            DeviceFull, DeviceFailed: The log takes no more; `abort` is all that is left to do.
        """
        if not self._open:
            raise _closed()
        size = len(data)
        self._size += size
        if type(data) is bytes and 0 < size <= CHUNK_BYTES_MAX - self._parts_bytes:
            self._parts.append(data)
            self._parts_bytes += size
            return
        room = CHUNK_BYTES_MAX - self._parts_bytes
        while len(data) > room:
            self._add(bytes(data[:room]))
            data = data[room:]
            self._flush()
            room = CHUNK_BYTES_MAX
        self._add(bytes(data))

    def finish(self) -> Body:
        """End the message and return it. It is durable once a change that holds it is.

        Raises:
            StateError: After `finish` or `abort`.
            DeviceFull, DeviceFailed: As `write`.
        """
        if not self._open:
            raise _closed()
        if self._digest is None:  # one chunk, or none: its digest is the message's
            parts = self._parts
            chunk = parts[0] if len(parts) == 1 else b"".join(parts)
            digest = hashlib.sha256(chunk).digest()
            if chunk:
                self._extents.append(make_record(Extent, (self._append(chunk, digest), 0, len(chunk))))
                self._parts, self._parts_bytes = [], 0
        else:
            if self._parts_bytes:
                self._flush()
            digest = self._digest.digest()
        self._open = False
        return make_record(Body, (digest, self._size, tuple(self._extents), b""))

    def check_kept(self) -> None:
        """Raise DeviceFull when the log gave up a part of the message, since the device was full."""
        if any(self._log.is_lost(extent.position) for extent in self._extents):
            raise DeviceFull(
                f"message body: a part of its {self._size} bytes was given up, the log's device was full",
                hint="send the message again when there is room",
            )

    def abort(self) -> None:
        """Give the message up. Does nothing after `finish`, or when called again."""
        self._open = False
        self._parts.clear()

    def read(self, offset: int, length: int) -> bytes:
        """Return up to ``length`` bytes from ``offset`` of what was written so far; also after `finish`.

        Raises:
            DeviceFull: As `check_kept`.
            StorageError: The log cannot be read.
        """
        written = self._size - self._parts_bytes
        if not written and len(self._parts) == 1:
            return self._parts[0][offset : offset + length]
        data = b""
        if offset < written:
            data = self._read_chunks(offset, min(length, written - offset))
        if offset + length > written and self._parts_bytes:
            held = self._held()
            start = max(offset - written, 0)
            data += held[start : offset + length - written]
        return data

    def _read_chunks(self, offset: int, length: int) -> bytes:
        try:
            return read_extents(self._log, self._extents, offset, length)
        except StorageError:
            self.check_kept()
            raise

    def _add(self, data: bytes) -> None:
        if data:
            self._parts.append(data)
            self._parts_bytes += len(data)

    def _held(self) -> bytes:
        if len(self._parts) > 1:
            self._parts = [b"".join(self._parts)]
        return self._parts[0]

    def _flush(self) -> None:
        chunk = self._held()
        if self._digest is None:
            self._digest = hashlib.sha256()
        self._digest.update(chunk)
        self._extents.append(Extent(self._append(chunk, None), 0, len(chunk)))
        self._parts, self._parts_bytes = [], 0


def _closed() -> StateError:
    return StateError("message body: written to after it was finished or given up")


def read_extents(log: Chunks, extents: list[Extent] | tuple[Extent, ...], offset: int, length: int) -> bytes:
    """Return ``length`` bytes from ``offset`` of what the extents name, one after the other."""
    if len(extents) == 1:
        position, start, size = extents[0]
        count = min(length, size - offset)
        return log.read_body(position, start + offset, count) if count > 0 else b""
    parts = []
    for position, start, size in extents:
        if length <= 0:
            break
        if offset < size:
            count = min(length, size - offset)
            parts.append(log.read_body(position, start + offset, count))
            length -= count
            offset = 0
        else:
            offset -= size
    return b"".join(parts)


def read_body(log: Chunks, body: Body, offset: int = 0, length: int | None = None) -> bytes:
    """Return bytes of a message, prefix first: from ``offset``, up to ``length`` or all that follow.

    Raises:
        CorruptRecord: The log does not hold what the body names.
        UsageError: A negative offset or length.
    """
    if offset < 0 or (length is not None and length < 0):
        raise UsageError(f"read of message body: range {offset}+{length}")
    end = body.size if length is None else min(body.size, offset + length)
    if offset >= end:
        return b""
    split = len(body.prefix)
    head = body.prefix[offset:end]
    if end <= split:
        return head
    start = max(offset - split, 0)
    tail = read_extents(log, body.extents, start, end - split - start)
    return head + tail if head else tail
