"""Reading segments: names, opening, walking records one after the other, and telling a torn tail from damage.

Owns no state beyond one open file. Formats are in ``record``; who may write is in ``log``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from spinrt.errors import CorruptRecord, FormatUnknown
from spinrt.storage.device import Device, File
from spinrt.storage.record import (
    COMPRESSED,
    HEADER_BYTES,
    KIND_MAX,
    RECORD_MAGIC,
    Header,
    Record,
    SegmentHeader,
    check_body,
    check_chain,
    checksum_seed,
    decode_header,
    decode_segment,
    encode_segment,
    log_identity,
)

DAMAGE_HINT = (
    "nothing was changed; `spinrt fsck` shows what is damaged, and may mend it: --repair, --repair --from MIRROR"
)

SUFFIX = ".log"
WINDOW_BYTES = 1024 * 1024
HEADERS_WINDOW_BYTES = 64 * 1024
"""Large bodies are skipped without being read, small ones come along with their headers."""


def segment_name(start: int) -> str:
    """Return the file name of the segment whose header is at that position."""
    return f"{start:020d}{SUFFIX}"


def segment_starts(device: Device) -> list[int]:
    """Return the start positions of the segments on a device, ascending. Other files are left alone."""
    stems = (name.removesuffix(SUFFIX) for name in device.list() if name.endswith(SUFFIX))
    return sorted(int(stem) for stem in stems if len(stem) == 20 and stem.isascii() and stem.isdigit())


@dataclass(slots=True)
class Segment:
    """A segment that is on the device, or (while it is planned) will be at the next flush."""

    header: SegmentHeader
    seed: int
    on_device: bool = False

    @classmethod
    def planned(cls, start: int, previous_end: int, chain: bytes, salt: bytes) -> Segment:
        return cls(SegmentHeader(start, previous_end, chain, salt), checksum_seed(salt))

    @property
    def start(self) -> int:
        return self.header.start

    @property
    def name(self) -> str:
        return segment_name(self.header.start)

    def create(self, device: Device) -> File:
        """Make the file and its header durable, so that recovery can rely on the header whatever follows."""
        file = device.open(self.name, create=True, write=True)
        try:
            file.append([encode_segment(self.header)])
            file.sync()
            device.sync()
        except OSError:
            file.close()
            raise
        self.on_device = True
        return file


def load_segment(device: Device, start: int) -> tuple[Segment, int]:
    """Read a segment's header; return it and the size of its file in bytes."""
    name = segment_name(start)
    file = device.open(name)
    try:
        size = file.size()
        header = decode_segment(file.read(0, HEADER_BYTES), name)
    finally:
        file.close()
    if header.start != start:
        raise CorruptRecord(f"log segment {name}: header says start {header.start}")
    return Segment(header, checksum_seed(header.salt), on_device=True), size


def log_on(device: Device) -> bytes | None:
    """Return the identity of the log on a device; none when no segment has a header that says it."""
    for start in segment_starts(device):
        with contextlib.suppress(CorruptRecord, FormatUnknown):
            return log_identity(load_segment(device, start)[0].header.salt)
    return None


class Window:
    """Sequential reads of a file through one buffer, by default of about a mebibyte."""

    def __init__(self, file: File, window_bytes: int = WINDOW_BYTES) -> None:
        self._file = file
        self._window_bytes = window_bytes
        self._start = 0
        self._data = b""

    def read(self, offset: int, length: int) -> bytes:
        """Return up to ``length`` bytes; fewer only at the end of the file."""
        inside = offset - self._start
        if inside < 0 or inside + length > len(self._data):
            self._data = self._file.read(offset, max(length, self._window_bytes))
            self._start, inside = offset, 0
        return self._data[inside : inside + length]


class Walk:
    """Records of one segment in order, each checked against the one before.

    After an error or at the end, ``position`` is where the walk stopped and ``chain`` the last good chain value.
    A walk that starts inside a segment cannot check the chain of its first record and takes its word.

    Args:
        spares: Told of a record whose body alone is wrong, says whether to step over it; none: the walk ends there.
    """

    def __init__(
        self,
        segment: Segment,
        file: File,
        end: int,
        position: int | None = None,
        spares: Callable[[Header], bool] | None = None,
    ) -> None:
        self.segment = segment
        self._spares = spares
        self.position = segment.start + HEADER_BYTES if position is None else position
        self.end = end
        at_start = self.position == segment.start + HEADER_BYTES
        self.chain: bytes | None = segment.header.chain if at_start else None
        self._window = Window(file)

    def __iter__(self) -> Iterator[Record]:
        while self.position < self.end:
            record = self._next()
            if record is not None:
                yield record

    def _next(self) -> Record | None:
        offset = self.position - self.segment.start
        header = decode_header(self._window.read(offset, HEADER_BYTES), self.position, self.segment.seed)
        after = self.position + HEADER_BYTES + header.length
        if after > self.end:
            raise CorruptRecord(f"record at {self.position}: ends at {after}, the segment at {self.end}")
        body = self._window.read(offset + HEADER_BYTES, header.length)
        if self.chain is not None:
            check_chain(header, self.chain)
        try:
            check_body(header, body)
        except CorruptRecord:
            if self._spares is None or not self._spares(header):
                raise
            self.position, self.chain = after, header.chain
            return None
        compressed = header.kind & COMPRESSED != 0
        record = Record(self.position, header.kind & KIND_MAX, header.time_ns, body, after, compressed)
        self.position, self.chain = after, header.chain
        return record


class HeaderWalk:
    """Headers of the records of one segment in order, with the first bytes of their bodies, which are not checked.

    After an error or at the end, ``position`` is where the walk stopped.
    """

    FIRST_BYTES = 32

    class Found(NamedTuple):
        header: Header
        first: bytes
        """Up to ``FIRST_BYTES`` of the body as it is stored."""

    def __init__(self, segment: Segment, file: File, end: int, position: int) -> None:
        self.segment = segment
        self.position = position
        self.end = end
        self._window = Window(file, HEADERS_WINDOW_BYTES)

    def __iter__(self) -> Iterator[Found]:
        while self.position < self.end:
            data = self._window.read(self.position - self.segment.start, HEADER_BYTES + self.FIRST_BYTES)
            header = fitting_header(data, self.position, self.segment.seed, self.end)
            yield self.Found(header, data[HEADER_BYTES : HEADER_BYTES + header.length])
            self.position = header.position + HEADER_BYTES + header.length

    def skip(self) -> int:
        """Go on with the next record whose header is right, or at the end; return the position where that is."""
        self.position = next_header(self._window, self.segment, self.position + 1, self.end)
        return self.position


def fitting_header(data: bytes, position: int, seed: int, end: int) -> Header:
    """As `decode_header`; CorruptRecord, too, when the record does not end before ``end``."""
    header = decode_header(data, position, seed)
    after = position + HEADER_BYTES + header.length
    if after > end:
        raise CorruptRecord(f"record at {position}: ends at {after}, the segment at {end}")
    return header


def next_header(window: Window, segment: Segment, position: int, end: int) -> int:
    """Return where the first record at or after a position begins whose header is right; ``end`` when there is none.

    What a message holds is never taken for one: checksums are seeded by the segment's salt.
    """
    while position < end:
        data = window.read(position - segment.start, min(WINDOW_BYTES, end - position))
        at = data.find(RECORD_MAGIC)
        while at >= 0:
            found = position + at
            try:
                fitting_header(window.read(found - segment.start, HEADER_BYTES), found, segment.seed, end)
            except CorruptRecord:
                at = data.find(RECORD_MAGIC, at + 1)
            else:
                return found
        position += max(len(data) - HEADER_BYTES + 1, 1)
    return end


def damage_error(segment: Segment, position: int, cause: CorruptRecord) -> CorruptRecord:
    """Return the error for damage that recovery must not cut away: segment, offset and cause."""
    return CorruptRecord(
        f"log segment {segment.name}, offset {position - segment.start}: {cause}",
        hint=DAMAGE_HINT,
    )


def was_durable(segment: Segment, file: File, end: int, position: int) -> bool:
    """Tell whether a good record header after ``position`` says that the bytes at ``position`` were durable.

    Cost: one pass over the rest of the segment.
    """
    window, offset, limit = Window(file), position - segment.start + 1, end - segment.start
    while offset < limit:
        data = window.read(offset, WINDOW_BYTES)
        if _claims_durable(segment, data, segment.start + offset, position):
            return True
        # Overlap, so that a header across the border of two windows is seen whole in one of them.
        offset += max(len(data) - HEADER_BYTES + 1, 1)
    return False


def _claims_durable(segment: Segment, data: bytes, data_position: int, position: int) -> bool:
    at = data.find(RECORD_MAGIC)
    while at >= 0:
        with contextlib.suppress(CorruptRecord):
            header = decode_header(data[at : at + HEADER_BYTES], data_position + at, segment.seed)
            if header.position - header.unsynced > position:
                return True  # those before it may have been appended in the same batch as the bad one
        at = data.find(RECORD_MAGIC, at + 1)
    return False
