"""Which segments of a log may go, and getting what is still needed out of them first.

A segment goes when all its records lie before a snapshot that is kept (its changes are in the snapshot's index), it is
among the oldest, and it is older than asked for or the log is larger than asked for. Bodies in it that something still
refers to are carried to the log's end, made durable, and only then the segment is removed; one segment after the other,
so that a pass needs no more room than one of them, and can be cut off anywhere.

*Paying*: a log whose segments are nearly all live gets no smaller by moving it. When a pass by size moved more than
`MOVED_SHARE_MAX` of what it removed, the next one waits until the log has grown by a third.

*Pace*: runs on a thread of its own beside an event loop, and lets go of the interpreter every half millisecond.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, NamedTuple

from spinrt.errors import CorruptRecord, DeviceFull
from spinrt.storage.carry import decode_carried
from spinrt.storage.files import device_error
from spinrt.storage.log import Log
from spinrt.storage.record import HEADER_BYTES, KIND_CARRIED, KIND_MAX, Header
from spinrt.storage.segment import WINDOW_BYTES, Segment

YOUNG_S: Final = 3600.0
"""A segment with a younger record stays: a message that is still on its way in may have its first part there."""
MOVED_SHARE_MAX: Final = 0.75
GROWTH: Final = 4 / 3
NAMES_AT_ONCE: Final = 64
UNSYNCED_BYTES_MAX: Final = 1024 * 1024
ASIDE_SUFFIX: Final = ".damaged"
WORK_S: Final = 0.0005
"""Time that the thread works before it rests for as long."""

_trace: Final = logging.getLogger("spinrt.storage")

LiveNames = Callable[[Sequence[int]], set[int]]
"""Returns those of the names that something refers to."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How much of a log is kept; none: all of it. Bodies that are in use are kept in any case."""

    age_s: float | None = None
    log_bytes_max: int | None = None

    @property
    def keeps_all(self) -> bool:
        return self.age_s is None and self.log_bytes_max is None


class Expired(NamedTuple):
    """What a pass did. ``reason`` says why it did no more; empty when all went that was to go."""

    segments: int = 0
    bytes: int = 0
    bodies_carried: int = 0
    bytes_carried: int = 0
    reason: str = ""
    damaged: int = 0
    """Bodies that are needed and were damaged: set aside as they were."""


class Plan(NamedTuple):
    """Segments that are to go, the oldest first, and the position before which all of them end."""

    segments: list[tuple[Segment, int]]
    """With the bytes of each."""
    end: int
    reason: str
    """Why there are not more; empty when all are there that the policy names."""


def plan(
    log: Log, policy: Retention, *, covered: int, now_ns: int, young_s: float = YOUNG_S, idle_bytes: int = 0
) -> Plan:
    """Choose the segments that go.

    Args:
        covered: Position of the newest snapshot that is kept.
        now_ns: Since 1970-01-01 UTC.
        young_s: Segments with a younger record stay.
        idle_bytes: A log up to this size is not made smaller for its size.

    Raises:
        StorageError: The log cannot be read.
    """
    segments = log.segment_list()
    sizes = [max(follower.start - one.start, 0) for one, follower in pairwise(segments)]
    total = sum(sizes) + log.end - segments[-1].start
    over = 0 if policy.log_bytes_max is None or total <= idle_bytes else total - policy.log_bytes_max
    chosen: list[tuple[Segment, int]] = []
    for (segment, follower), size in zip(pairwise(segments), sizes, strict=True):
        ended_ns = next((found.header.time_ns for found in log.headers(follower, lost=_overlooked)), now_ns)
        old = policy.age_s is not None and now_ns - ended_ns > policy.age_s * 1e9
        if not old and over <= 0:
            return _plan(chosen, segments, "")
        if follower.header.previous_end > covered:
            return _plan(chosen, segments, f"no snapshot covers segment {segment.name}")
        if now_ns - ended_ns < young_s * 1e9:
            return _plan(chosen, segments, f"segment {segment.name} is younger than {young_s:g} s")
        chosen.append((segment, size))
        over -= size
    return _plan(chosen, segments, "")


def _overlooked(start: int, end: int) -> None:
    """A damaged header says no time; the next one does."""


def _plan(chosen: list[tuple[Segment, int]], segments: list[Segment], reason: str) -> Plan:
    return Plan(chosen, segments[len(chosen)].start if chosen else 0, reason)


@dataclass(slots=True)
class Mover:
    """Carries out a plan, on a thread of its own.

    Args:
        live: Asked about names in segments that go. What it says must hold until the pass is over: whoever refers to a
            name after that has to know that it is there.
        sync: Makes durable what was appended before the call.
        body_kinds: Kinds of records that have bodies; others are not asked about.
    """

    log: Log
    live: LiveNames
    sync: Callable[[], object]
    body_kinds: frozenset[int]
    rest: Callable[[float], None] = time.sleep
    bodies: int = 0
    bytes: int = 0
    damaged: int = 0
    _unsynced: list[int] = field(default_factory=list)
    _unsynced_bytes: int = 0
    _since_s: float = field(default_factory=time.monotonic)

    def run(self, chosen: Plan) -> Expired:
        """Move what is live and remove the segments. What is damaged and may be needed is set aside, see `_set_aside`.

        Raises:
            StorageError: What went before that is gone rightly.
        """
        gone = gone_bytes = 0
        for segment, size in chosen.segments:
            self._empty(segment)
            self._make_durable()
            if not self.log.expire(self.log.segment_end(segment)):
                return self._expired(gone, gone_bytes, "somebody reads the log, the next pass goes on")
            gone += 1
            gone_bytes += size
        return self._expired(gone, gone_bytes, chosen.reason)

    def _expired(self, gone: int, gone_bytes: int, reason: str) -> Expired:
        return Expired(gone, gone_bytes, self.bodies, self.bytes, reason, self.damaged)

    def _empty(self, segment: Segment) -> None:
        headers: dict[int, Header] = {}
        lost: list[tuple[int, int]] = []
        for name, header in self._names(segment, lost):
            headers[name] = header
            if len(headers) == NAMES_AT_ONCE:
                self._carry(segment, headers)
                headers = {}
        self._carry(segment, headers)
        for start, end in lost:
            self._set_aside(segment, start, (start, end), "the header of its record is damaged")

    def _names(self, segment: Segment, lost: list[tuple[int, int]]) -> Iterator[tuple[int, Header]]:
        """Yield the names whose place is in a segment, and the headers of their records; enter in ``lost`` from where
        to where nobody knows what there is."""
        for header, first in self.log.headers(segment, lost=lambda start, end: lost.append((start, end))):
            self._breathe()
            if header.kind == KIND_CARRIED:
                name = _carried_name(self.log, header, first)
                if name is None:
                    lost.append((header.position, header.position + HEADER_BYTES + header.length))
                    continue
            elif header.kind & KIND_MAX in self.body_kinds:
                name = header.position
            else:
                continue
            if self.log.place(name) == header.position:
                yield name, header

    def _carry(self, segment: Segment, headers: Mapping[int, Header]) -> None:
        for name in sorted(self.live(list(headers))) if headers else ():
            try:
                kind, time_ns, stored, _ = self.log.stored_body(name)
            except CorruptRecord as error:
                start = headers[name].position
                self._set_aside(segment, name, (start, start + HEADER_BYTES + headers[name].length), str(error))
                continue
            self._unsynced.append(self.log.append_carried(name, kind, time_ns, stored))
            self.bodies += 1
            self.bytes += len(stored)
            self._unsynced_bytes += len(stored)
            if self._unsynced_bytes >= UNSYNCED_BYTES_MAX:
                self._make_durable()
            self._breathe()

    def _set_aside(self, segment: Segment, name: int, between: tuple[int, int], problem: str) -> None:
        """Keep what is damaged of a segment as it is, in a file beside the segments: the others must not wait for it, a
        new record would make its bytes look right, and it may still be mended from a mirror or by hand."""
        start, end = between
        device, file_name = self.log.device, aside_name(name)
        try:
            if file_name in device.list():  # of a pass that was cut off
                device.remove(file_name)
            with (
                contextlib.closing(device.open(segment.name)) as source,
                contextlib.closing(device.open(file_name, create=True)) as file,
            ):
                for at in range(start, end, WINDOW_BYTES):
                    file.append([source.read(at - segment.start, min(WINDOW_BYTES, end - at))])
                file.sync()
            device.sync()
        except OSError as error:
            raise device_error(error, f"retention: setting aside of {file_name}") from error
        self.damaged += 1
        _trace.error("retention: body %d is damaged, and set aside as log/%s: %s", name, file_name, problem)

    def _make_durable(self) -> None:
        if not self._unsynced:
            return
        self.sync()
        if self.log.durable <= self._unsynced[-1] or any(map(self.log.is_lost, self._unsynced)):
            raise DeviceFull(
                "retention: bodies that were to be kept could not be written", hint="make room on the device"
            )
        self._unsynced.clear()
        self._unsynced_bytes = 0

    def _breathe(self) -> None:
        worked_s = time.monotonic() - self._since_s
        if worked_s > WORK_S:
            self.rest(WORK_S)
            self._since_s = time.monotonic()


def _carried_name(log: Log, header: Header, first: bytes) -> int | None:
    """Return the name of a body that was carried; none when the record is damaged, so that it may be any."""
    try:
        name = decode_carried(first).name
        if log.place(name) != header.position:  # it was carried again since, or the name is not the right one
            log.check(header.position)
    except CorruptRecord:
        return None
    return name


def aside_name(name: int) -> str:
    """The file of a damaged body that was set aside, beside the segments: its record, header and all, as it lay.

    Where a header is damaged the name is a position, and what lay from there to the next good header is kept.
    """
    return f"{name:020d}{ASIDE_SUFFIX}"


def idle_bytes_after(expired: Expired, log_bytes: int) -> int:
    """Return up to which size the log is left alone after a pass: ``plan`` takes it."""
    paid = expired.bytes_carried <= MOVED_SHARE_MAX * expired.bytes
    return 0 if paid else int(log_bytes * GROWTH)
