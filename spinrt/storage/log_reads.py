"""What a log answers while it is written: records and bodies by name, durable or not, from any thread.

A body is named by the position at which it was first written, for ever. Where it lies now is its *place*: the same
position, or that of the last CARRIED record of that name (``carry``, ``places``). A name among the positions that the
log still has is its own place, unless it was carried all the same; those few are kept in memory, so that reading them
asks no database.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from itertools import pairwise
from operator import attrgetter
from typing import Final

from spinrt._core import LogBuffer, LogEntry
from spinrt.errors import ClosedError, CorruptRecord, StorageError
from spinrt.storage.carry import Carried, decode_carried
from spinrt.storage.device import Device
from spinrt.storage.files import device_error
from spinrt.storage.places import Places
from spinrt.storage.reading import FIRST_READ_BYTES, RecordReader, body_range
from spinrt.storage.record import (
    CHAIN_START,
    COMPRESSED,
    HEADER_BYTES,
    KIND_CARRIED,
    KIND_MAX,
    Header,
    Record,
    body_digest,
    log_identity,
    plain_body,
)
from spinrt.storage.segment import HeaderWalk, Segment, Walk, damage_error

GENERATION_SHIFT: Final = 48
"""Positions of one generation, as a power of two."""

_start_of: Final = attrgetter("header.start")


class LogReads:
    """The reading half of ``Log``."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._lock = threading.Lock()
        self._closed = False
        self._durable = 0
        self._reader = RecordReader(device)
        self._opaque: frozenset[int] = frozenset((KIND_CARRIED,))
        """Kinds of records that nobody needs whole to go on behind them."""
        # Guarded by _lock.
        self._segments: list[Segment] = []
        self._buffer = LogBuffer(0, CHAIN_START)
        self._holds = 0
        """How many want no segment to go away."""
        self._places: Places | None = None
        """None while nobody carried a body, or asked for one."""
        self._carried: dict[int, int] = {}
        """Places of the carried names that are at or after the log's start."""

    @property
    def end(self) -> int:
        """Position after everything appended."""
        return self._buffer.end

    @property
    def durable(self) -> int:
        """Position after everything durable."""
        return self._durable

    @property
    def start(self) -> int:
        """Position of the oldest segment."""
        return self._segments[0].start

    @property
    def whole(self) -> bool:
        """Whether the log still begins at its beginning: no segment expired, and it was not made for a mirror."""
        return self._segments[0].header.chain == CHAIN_START and self.start >> GENERATION_SHIFT == 0

    @property
    def identity(self) -> bytes:
        """16 bytes that tell this log from any other, also when its first segment is gone."""
        return log_identity(self._segments[0].header.salt)

    def read(self, name: int, about: int = FIRST_READ_BYTES) -> Record:
        """Return the record of that position, durable or not, after checking header and body.

        Of one that was carried the record is what it was, but for ``next_position``, which says nothing.

        Args:
            about: How long the body may be as stored: a longer one takes two reads.

        Raises:
            CorruptRecord: No record is there, or its bytes are wrong.
        """
        kind, time_ns, stored = self._stored(name, about)
        after = name + HEADER_BYTES + len(stored)
        return Record(name, kind & KIND_MAX, time_ns, stored, after, kind & COMPRESSED != 0)

    def stored_body(self, name: int) -> tuple[int, int, bytes, bytes]:
        """Return (kind with the bit COMPRESSED, time, body as stored, digest of that) of a record, as `read` finds it.

        The digest is that of the record's header: 16 bytes of SHA-256. Raises as `read`.
        """
        kind, time_ns, stored = self._stored(name, FIRST_READ_BYTES)
        return kind, time_ns, stored, body_digest(stored)

    def read_body(self, name: int, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset`` of the body of the record of that name, durable or not.

        The header is always checked, the body's digest when all of the body is asked for.

        Raises:
            CorruptRecord: No record is there, or its bytes are wrong.
            UsageError: The range does not lie in the body.
        """
        start = self.start
        try:
            return self._read_body(name, offset, length)
        except StorageError:
            if self.start == start:
                raise
            return self._read_body(name, offset, length)  # its segment expired meanwhile

    def holds(self, name: int) -> bool:
        """Tell whether there is a record of that name. Its header is looked at, its body not."""
        try:
            found, place = self._find(name)
            if isinstance(found, Segment):
                self._reader.header(found, place)
        except CorruptRecord:
            return False
        return True

    def check(self, position: int) -> None:
        """Read the record at a position, which is durable. Raises CorruptRecord: it is damaged, or none is there."""
        with self._lock:
            found = self._at(position)
        if not isinstance(found, Segment):
            raise CorruptRecord(f"record at {position}: found none that is durable")
        self._reader.stored(found, position)

    def place(self, name: int) -> int | None:
        """Return the position of the record that has the body of that name; none when there is none."""
        try:
            return self._find(name)[1]
        except CorruptRecord:
            return None

    def _read_body(self, name: int, offset: int, length: int) -> bytes:
        found, place = self._find(name)
        if place != name:
            return body_range(name, self._carried_body(name, found, place), offset, length)
        if isinstance(found, LogEntry):
            body = plain_body(name, found.body) if found.kind & COMPRESSED else found.body
            return body_range(name, body, offset, length)
        return self._reader.part(found, name, offset, length)

    def _carried_body(self, name: int, found: LogEntry | Segment, place: int) -> bytes:
        body = self._reader.kept(place)
        if body is None:
            carried = self._read_carried(name, found, place)
            body = plain_body(name, carried.stored) if carried.kind & COMPRESSED else carried.stored
            self._reader.keep(place, body)
        return body

    def _stored(self, name: int, about: int) -> tuple[int, int, bytes]:
        start = self.start
        try:
            return self._stored_once(name, about)
        except StorageError:
            if self.start == start:
                raise
            return self._stored_once(name, about)

    def _stored_once(self, name: int, about: int) -> tuple[int, int, bytes]:
        found, place = self._find(name)
        if place != name:
            _, kind, time_ns, stored = self._read_carried(name, found, place)
            return kind, time_ns, stored
        if isinstance(found, LogEntry):
            return found.kind, found.time_ns, found.body
        header, stored = self._reader.stored(found, name, about)
        return header.kind, header.time_ns, stored

    def _read_carried(self, name: int, found: LogEntry | Segment, place: int) -> Carried:
        if isinstance(found, LogEntry):
            kind, body = found.kind, found.body
        else:
            header, body = self._reader.stored(found, place)
            kind = header.kind
        carried = decode_carried(body) if kind == KIND_CARRIED else None
        if carried is None or carried.name != name:
            what = f"a record of kind {kind}" if carried is None else f"the body of {carried.name}"
            raise CorruptRecord(f"record at {place}: found {what}, expected the carried body of {name}")
        return carried

    def _find(self, name: int) -> tuple[LogEntry | Segment, int]:
        """Return what has the record of that name, and its place: an entry that is not written yet, or a segment."""
        with self._lock:
            if self._closed:
                raise ClosedError("log: used after close")
            place = self._carried.get(name, name) if self._carried else name
            found = self._at(place)
            places = self._places
        if found is None:
            carried = (places or self._made_places()).lookup(name)
            if carried is not None:
                with self._lock:
                    place, found = carried, self._at(carried)
        if found is None:
            raise CorruptRecord(f"log read: no record at {name}, the log has {self.start} … {self.end}")
        return found, place

    def _made_places(self) -> Places:
        """Return the table of places when there is none yet, made from the log: somebody asks for a foreign name."""
        raise NotImplementedError

    def _at(self, position: int) -> LogEntry | Segment | None:
        """Return what has the record at a position: an entry that is not written, or its segment. With _lock."""
        entry = self._buffer.get(position)
        if entry is not None:
            return entry
        segments = self._segments
        index = bisect_right(segments, position, key=_start_of) - 1
        if index < 0 or not segments[index].header.start + HEADER_BYTES <= position < self._buffer.end:
            return None
        return segments[index]

    # ------------------------------------------------------------------------------------------------- in their order

    def records(self, start: int = 0) -> Iterator[Record]:
        """Yield the records that are durable now, from the first at or after ``start``, which must be a record's start,
        a ``next_position``, or 0. No segment expires until the last was taken. Opaque ones whose body is
        damaged are left out.

        Raises:
            CorruptRecord: Damage; segment and offset are named.
        """
        with self.hold():
            with self._lock:
                segments, durable = list(self._segments), self._durable
            for segment, follower in pairwise([*segments, None]):
                assert segment is not None
                end = durable if follower is None else min(follower.header.previous_end, durable)
                if start < end:
                    chain = yield from self._walk(segment, end, start)
                    if follower is not None and chain is not None and chain != follower.header.chain:
                        raise damage_error(follower, follower.start, CorruptRecord("chain does not follow"))

    def _walk(self, segment: Segment, end: int, start: int) -> Generator[Record, None, bytes | None]:
        try:
            file = self.device.open(segment.name)
        except OSError as error:
            raise device_error(error, f"open of log segment {segment.name}") from error
        walk = Walk(segment, file, end, max(start, segment.start + HEADER_BYTES), self._is_opaque)
        try:
            yield from walk
            return walk.chain
        except CorruptRecord as error:
            raise damage_error(segment, walk.position, error) from None
        finally:
            file.close()

    def _is_opaque(self, header: Header) -> bool:
        return header.kind & KIND_MAX in self._opaque

    def headers(
        self, segment: Segment, start: int = 0, *, lost: Callable[[int, int], None] | None = None
    ) -> Iterator[HeaderWalk.Found]:
        """Yield headers of a segment's durable records from ``start`` on, and the first bytes of the bodies.

        Bodies are not checked.

        Args:
            lost: Told from where to where nothing can be said, as a header is damaged; the walk goes on behind it.

        Raises:
            CorruptRecord: A header is damaged, unless ``lost`` is there; segment and offset are named.
        """
        end = self.segment_end(segment)
        try:
            file = self.device.open(segment.name)
        except OSError as error:
            raise device_error(error, f"open of log segment {segment.name}") from error
        walk = HeaderWalk(segment, file, end, max(start, segment.start + HEADER_BYTES))
        try:
            while walk.position < end:
                try:
                    yield from walk
                except CorruptRecord as error:
                    if lost is None:
                        raise damage_error(segment, walk.position, error) from None
                    lost(walk.position, walk.skip())
        finally:
            file.close()

    def headers_since(self, start: int) -> Generator[Header, None, None]:
        """Yield the headers of the records that `records` yields, and of those whose bodies are damaged; no body is
        looked at."""
        with self.hold():
            for segment in self.segment_list():
                if self.segment_end(segment) > start:
                    for found in self.headers(segment, start):
                        yield found.header

    def segments(self) -> list[tuple[str, int]]:
        """Return name and durable size in bytes of each segment file: what a copy of the log needs (inside `hold`)."""
        with self._lock:
            ends = [segment.header.previous_end for segment in self._segments[1:]] + [self._durable]
            pairs = zip(self._segments, ends, strict=True)
            return [(segment.name, end - segment.start) for segment, end in pairs if end > segment.start]

    def segment_list(self) -> list[Segment]:
        """Return the segments, the oldest first."""
        with self._lock:
            return list(self._segments)

    def segment_end(self, segment: Segment) -> int:
        """Return the position where a segment's durable records end."""
        with self._lock:
            index = self._segments.index(segment)
            follower = self._segments[index + 1] if index + 1 < len(self._segments) else None
            return self._durable if follower is None else min(follower.header.previous_end, self._durable)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Let no segment go away inside."""
        with self._lock:
            self._holds += 1
        try:
            yield
        finally:
            with self._lock:
                self._holds -= 1
