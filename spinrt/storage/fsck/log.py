"""Checking every byte of a log: headers, bodies, the chain through them, and that segments follow each other.

Other than `spinrt.storage.recovery` this does not stop at the first thing that is wrong: behind a damaged record it
goes on with the next whose header is right. It opens nothing for writing and changes nothing.

Memory: one window of a mebibyte, or one record.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from spinrt.errors import CorruptRecord, FormatUnknown
from spinrt.storage.compress import BODY_BYTES_MAX
from spinrt.storage.device import Device, File
from spinrt.storage.fsck.finding import Advance, Finding, Mend, damage, note, repaired, unwatched
from spinrt.storage.record import (
    HEADER_BYTES,
    Header,
    check_body,
    check_chain,
    checksum_seed,
    decode_segment,
    log_identity,
)
from spinrt.storage.recovery import Witness
from spinrt.storage.repair import Flip, find_flip, find_segment_flip
from spinrt.storage.segment import (
    Segment,
    Window,
    fitting_header,
    next_header,
    segment_name,
    segment_starts,
    was_durable,
)

RESTORE: Final = "`spinrt fsck --repair` finds a single flipped byte; else a mirror or a backup may still have it"
LOST_END: Final = "promote the mirror, or restore a backup"


@dataclass(slots=True)
class LogCheck:
    """One pass over the log on a device. `findings` is its work; the other fields say what it saw meanwhile.

    Args:
        device: Holds the segments.
        place: How the directory is called in findings.
        advance: Told how far it is.
        witness: Asked before the end is taken for torn.
        mend: Puts a byte right that was found by trying, so that the device shows it; none: nothing is tried.
    """

    device: Device
    place: str = "log"
    advance: Advance = unwatched
    mend: Mend | None = None
    witness: Witness | None = None
    start: int = 0
    """Position at which the log begins."""
    end: int = 0
    """Position behind the last good record."""
    records: int = 0
    identity: bytes | None = field(default=None)
    """Of the log; none before a segment's header was read."""
    chain: bytes | None = field(default=None)
    """Chain value behind the last record looked at; none when it is not known."""
    lost_end: bool = False
    """Whether the end is gone: the witness knows of more than there is."""

    def findings(self) -> Iterator[Finding]:
        """Check everything, yield what is wrong. Raises OSError when the device cannot be read."""
        starts = segment_starts(self.device)
        names = {segment_name(start) for start in starts}
        for name in self.device.list():
            if name not in names and name.endswith(".log"):
                yield note(f"{self.place}/{name}", None, "file", "its name is not that of a segment")
        if not starts:
            yield note(self.place, None, "log", "has no segments")
        else:
            self.start = starts[0]
        for number, start in enumerate(starts):
            yield from self._segment(start, first=number == 0, newest=start == starts[-1])
        if self.end and (covered := self.witnessed()) > self.end:
            self.lost_end = True
            problem = f"is at {self.end}, but index or snapshots cover the log up to {covered}: records were lost"
            yield damage(self.place, None, "end of the log", problem, LOST_END)

    def witnessed(self) -> int:
        """Up to where the log is known to have been durable, or 0."""
        return 0 if self.witness is None or self.identity is None else self.witness(self.identity)

    def _segment(self, start: int, *, first: bool, newest: bool) -> Iterator[Finding]:
        name = segment_name(start)
        place = f"{self.place}/{name}"
        try:
            file = self.device.open(name)
        except FileNotFoundError:  # it expired since the names were read
            self.chain, self.end = None, 0
            return
        try:
            size = file.size()
            head = file.read(0, HEADER_BYTES)
            mended = self._mend_head(name, head, start, file.read(HEADER_BYTES, HEADER_BYTES))
            if mended is not None:
                yield mended
                head = file.read(0, HEADER_BYTES)
            try:
                segment = Segment(decode_segment(head, name), 0)
                segment.seed = checksum_seed(segment.header.salt)
                self.identity = self.identity or log_identity(segment.header.salt)
            except (CorruptRecord, FormatUnknown) as error:
                yield self._bad_head(place, size, head, newest, str(error))
                return
            yield from self._links(segment, place, start, first)
            self.chain = segment.header.chain
            yield from _Records(self, segment, file, place, size, newest).findings()
        finally:
            file.close()

    def _mend_head(self, name: str, head: bytes, start: int, record: bytes) -> Finding | None:
        flip = None if self.mend is None else find_segment_flip(head, start, record)
        if self.mend is None or flip is None:
            return None
        self.mend(name, flip.offset, flip.right)
        return _mended(f"{self.place}/{name}", flip.offset, "segment header", flip)

    def _bad_head(self, place: str, size: int, head: bytes, newest: bool, problem: str) -> Finding:
        self.chain = None
        self.advance(size)
        if newest and (size < HEADER_BYTES or (size == HEADER_BYTES and not any(head))):
            return note(place, 0, "segment header", "its creation was cut off", "the next start removes it")
        self.end = 0
        return damage(place, 0, "segment header", problem, RESTORE)

    def _links(self, segment: Segment, place: str, start: int, first: bool) -> Iterator[Finding]:
        """What a segment's header says of its name and of the segment before it."""
        header = segment.header
        if header.start != start:
            yield damage(place, 12, "segment header", f"says start {header.start}, the file's name {start}", RESTORE)
        if first or not self.end:
            return
        if header.previous_end != self.end:
            problem = f"says that the segment before it ends at {header.previous_end}, found its end at {self.end}"
            yield damage(place, 20, "segment header", problem, RESTORE)
        elif self.chain is not None and header.chain != self.chain:
            yield damage(place, 28, "segment header", "does not follow the segment before it (chain)", RESTORE)


@dataclass(slots=True)
class _Records:
    """The records of one segment."""

    check: LogCheck
    segment: Segment
    file: File
    place: str
    size: int
    newest: bool

    def findings(self) -> Iterator[Finding]:
        check, window = self.check, Window(self.file)
        offset = HEADER_BYTES
        check.end = self.segment.start + offset
        check.advance(offset)
        while offset < self.size:
            position = self.segment.start + offset
            header, bad = self._look(window, offset, position)
            if bad is not None:
                if (mended := self._mend(offset, position)) is not None:
                    yield mended
                    window = Window(self.file)
                    continue
                if self._is_torn(position):
                    yield self._torn(offset)
                    return
            check.records += header is not None
            check.chain = None if header is None else header.chain
            if header is None:
                following = next_header(window, self.segment, position + 1, self._end) - self.segment.start
            else:
                following = offset + HEADER_BYTES + header.length
            if bad is not None and not (header is None and following >= self.size and self._is_cut_off):
                yield bad
            check.advance(following - offset)
            offset = following
            check.end = self.segment.start + offset

    def _look(self, window: Window, offset: int, position: int) -> tuple[Header | None, Finding | None]:
        """Return the header of the record there, none when it is wrong, and what is wrong with the record."""
        try:
            header = fitting_header(window.read(offset, HEADER_BYTES), position, self.segment.seed, self._end)
        except CorruptRecord as error:
            return None, damage(self.place, offset, f"record at {position}", _problem(error), RESTORE, position)
        return header, self._body(window, offset, header)

    @property
    def _end(self) -> int:
        return self.segment.start + self.size

    def _mend(self, offset: int, position: int) -> Finding | None:
        """Try to find the byte that makes the record right, and put it there."""
        mend = self.check.mend
        if mend is None:
            return None
        data = self.file.read(offset, HEADER_BYTES + BODY_BYTES_MAX)
        flip = find_flip(data, position, self.segment.seed, self.check.chain)
        if flip is None:
            return None
        mend(self.segment.name, offset + flip.offset, flip.right)
        return _mended(self.place, offset + flip.offset, f"record at {position}", flip)

    def _body(self, window: Window, offset: int, header: Header) -> Finding | None:
        subject = f"record at {header.position}, kind {header.kind:#06x}, body of {header.length} bytes"
        try:
            check_body(header, window.read(offset + HEADER_BYTES, header.length))
        except CorruptRecord as error:
            return damage(self.place, offset + HEADER_BYTES, subject, _problem(error), RESTORE, header.position)
        try:
            if self.check.chain is not None:
                check_chain(header, self.check.chain)
        except CorruptRecord as error:
            return damage(self.place, offset, subject, _problem(error), RESTORE)
        return None

    def _is_torn(self, position: int) -> bool:
        if not self.newest or was_durable(self.segment, self.file, self._end, position):
            return False
        return self.check.witnessed() <= position

    @property
    def _is_cut_off(self) -> bool:
        """Whether the log went on behind the file's end: what is not whole there is told with the rest that is gone."""
        return self.newest and self.check.witnessed() > self._end

    def _torn(self, offset: int) -> Finding:
        left = self.size - offset
        self.check.advance(left)
        problem = f"{left} bytes that were never known to be durable"
        return note(self.place, offset, "end of the log", problem, "the next start cuts them off")


def _mended(place: str, offset: int, subject: str, flip: Flip) -> Finding:
    problem = f"one byte was {flip.found:#04x}, only {flip.right:#04x} fits its checksums; it is that again"
    return repaired(place, offset, subject, problem)


def _problem(error: CorruptRecord) -> str:
    """The message without the record it begins with."""
    text = str(error)
    return text.partition(": ")[2] if text.startswith("record at ") else text
