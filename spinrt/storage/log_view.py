"""A log looked at from outside, also while its owner writes it. Nothing is locked, nothing is changed.

What is being written at the end looks torn until it is whole: there a walk ends, and the next one goes on. Segments may
expire under a reader's feet; then it is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from spinrt.errors import ConfigError, CorruptRecord, DeviceFailed, NotFound
from spinrt.storage.carry import decode_carried
from spinrt.storage.device import File
from spinrt.storage.files import device_error
from spinrt.storage.reading import RecordReader
from spinrt.storage.readonly import ReadOnlyDevice
from spinrt.storage.record import COMPRESSED, HEADER_BYTES, KIND_CARRIED, KIND_MAX, Record
from spinrt.storage.recovery import without_torn_creation
from spinrt.storage.segment import HeaderWalk, Segment, Walk, damage_error, load_segment, segment_starts, was_durable

NS: Final = 1_000_000_000


class LogView:
    """The log in a directory, as it is at each look."""

    def __init__(self, directory: Path) -> None:
        """Raises ConfigError: there is no log."""
        self.device = ReadOnlyDevice(directory)
        if not segment_starts(self.device):
            raise ConfigError(f"log {directory}: found no segment", hint="give the data directory of a spinrt")

    def segments(self) -> list[Segment]:
        """Return the segments there are now, the oldest first; none while the first one is being created.

        Raises:
            CorruptRecord, FormatUnknown: The header of one is not as it should be.
            DeviceFailed: One cannot be read, or went away just now.
        """
        try:
            starts = without_torn_creation(ReadOnlyDevice(self.device.directory), segment_starts(self.device))
            return [load_segment(self.device, start)[0] for start in starts]
        except OSError as error:
            raise device_error(error, "look at the log") from error

    def records(self, start: int = 0) -> Iterator[Record]:
        """Yield the records from the first at or after a position, up to where the log ends now.

        A position inside a segment must be the start of a record or a ``next_position``.

        Raises:
            ConfigError: Nothing was ever in the log: its only segment has no header.
            CorruptRecord: Damage; segment and offset are named.
            DeviceFailed: A segment cannot be read, or expired meanwhile.
        """
        segments = self.segments()
        if not segments:
            raise ConfigError(
                f"log {self.device.directory}: its only segment has no header, so there is no record in it",
                hint="`spinrt fsck` says whether records were lost; if none were, the next start begins the log anew",
            )
        for segment, follower in zip(segments, [*segments[1:], None], strict=True):
            if follower is None or follower.header.previous_end > start:
                yield from self._walk(segment, follower, start)

    def since(self, time_ns: int) -> Iterator[Record]:
        """Yield the records from the first that is no older than that; as `records`."""
        start = 0
        for segment in self.segments():
            first = next(iter(self._headers(segment)), None)
            if first is None or first.header.time_ns >= time_ns:
                break
            start = segment.start
        return (record for record in self.records(start) if record.time_ns >= time_ns)

    def _walk(self, segment: Segment, follower: Segment | None, start: int) -> Iterator[Record]:
        file = self._open(segment)
        try:
            end = segment.start + file.size() if follower is None else follower.header.previous_end
            walk = Walk(segment, file, end, max(start, segment.start + HEADER_BYTES))
            try:
                yield from walk
            except CorruptRecord as error:
                if follower is None and not was_durable(segment, file, end, walk.position):
                    return  # being written
                raise damage_error(segment, walk.position, error) from None
        finally:
            file.close()

    def _headers(self, segment: Segment) -> Iterator[HeaderWalk.Found]:
        file = self._open(segment)
        try:
            walk = HeaderWalk(segment, file, segment.start + file.size(), segment.start + HEADER_BYTES)
            try:
                yield from walk
            except CorruptRecord:
                return  # who wants to know what is wrong asks for records
        finally:
            file.close()

    def _open(self, segment: Segment) -> File:
        try:
            return self.device.open(segment.name)
        except FileNotFoundError:
            raise DeviceFailed(f"log segment {segment.name}: expired while it was read", hint="try again") from None
        except OSError as error:
            raise device_error(error, f"open of log segment {segment.name}") from error

    def read(self, name: int) -> Record:
        """Return the record at a position, or the one whose body was carried under that name.

        Raises:
            NotFound: There is none.
            CorruptRecord: It is damaged.
        Cost: a walk over all headers when the position is not in the log.
        """
        segments = self.segments()
        inside = [segment for segment in segments if segment.start + HEADER_BYTES <= name]
        if inside and name < inside[-1].start + self._size(inside[-1]):
            header, stored = RecordReader(self.device).stored(inside[-1], name)
            return _record(name, header.kind, header.time_ns, stored)
        for segment in reversed(segments):
            places = [
                found.header.position
                for found in self._headers(segment)
                if found.header.kind == KIND_CARRIED and decode_carried(found.first).name == name
            ]
            if places:
                _, stored = RecordReader(self.device).stored(segment, places[-1])
                carried = decode_carried(stored)
                return _record(name, carried.kind, carried.time_ns, carried.stored)
        raise NotFound(f"log: no record at {name}", hint="`spinrt log list` shows what there is")

    def _size(self, segment: Segment) -> int:
        file = self._open(segment)
        try:
            return file.size()
        finally:
            file.close()


def _record(name: int, kind: int, time_ns: int, stored: bytes) -> Record:
    after = name + HEADER_BYTES + len(stored)
    return Record(name, kind & KIND_MAX, time_ns, stored, after, kind & COMPRESSED != 0)
