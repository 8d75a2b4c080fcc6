"""What a log's files hold after whatever happened to the process or the machine.

Only the newest segment can end in a torn tail: every other one was synced before its successor was created, and a
segment's header is durable before its first record. So recovery walks the newest segment, and

    - a clean end: done;
    - a bad record that no later record claims to have been durable, nor a `Witness`: the tail was torn, it is cut;
    - a record that was durable and whose body alone is bad, of a kind that nobody needs to go on: it is stepped over,
      and whoever reads it is told;
    - any other bad record that was durable: damage, `CorruptRecord`, nothing is changed;
    - a newest segment too short for a header: its creation was torn, it is removed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from spinrt.errors import CorruptRecord
from spinrt.storage.device import Device, File
from spinrt.storage.record import CHAIN_START, HEADER_BYTES, SALT_SHARED_BYTES, Header, log_identity
from spinrt.storage.segment import (
    DAMAGE_HINT,
    Segment,
    Walk,
    damage_error,
    load_segment,
    segment_name,
    segment_starts,
    was_durable,
)

Witness: TypeAlias = Callable[[bytes], int]
"""Given a log's identity, returns up to which position something else than the log knows that it was durable, or 0."""
RESTORE: Final = (
    "`spinrt fsck --repair` mends a single flipped byte; if the end is gone, promote the mirror or restore a backup"
)


@dataclass(slots=True)
class Recovered:
    """``file`` is the newest segment's, open for writing. No segments: the log is new."""

    segments: list[Segment]
    file: File | None
    end: int
    chain: bytes


def recover(
    device: Device,
    start: int = 0,
    is_opaque: Callable[[Header], bool] | None = None,
    witness: Witness | None = None,
) -> Recovered:
    """Check the segments on a device, cut a torn tail, and make what is left durable.

    Args:
        start: Position at which a log begins that is new.
        is_opaque: Whether nobody needs a record's body to go on behind it.
        witness: Asked before a tail is cut.

    Raises:
        CorruptRecord, FormatUnknown: As ``Log.open``.
        OSError: The device refused.
    """
    starts = without_torn_creation(device, segment_starts(device))
    if not starts:
        return Recovered([], None, start, CHAIN_START)
    loaded = [load_segment(device, start) for start in starts]
    segments = [segment for segment, _ in loaded]
    for (segment, size), follower in zip(loaded, segments[1:], strict=False):
        _check_whole(segment, size, follower)
        _check_same_log(segments[0], follower)
    file = device.open(segments[-1].name, write=True)
    try:
        end, chain = _Tail(segments, file, is_opaque, witness).recover()
        device.sync()
    except BaseException:
        file.close()
        raise
    return Recovered(segments, file, end, chain)


def without_torn_creation(device: Device, starts: list[int]) -> list[int]:
    """Return the starts without that of a newest segment that has no header, and remove that one."""
    if not starts:
        return starts
    file = device.open(segment_name(starts[-1]))
    try:
        size = file.size()
        whole = size > HEADER_BYTES or (size == HEADER_BYTES and any(file.read(0, HEADER_BYTES)))
        if whole and size == HEADER_BYTES:
            whole = _header_decodes(device, starts[-1])
    finally:
        file.close()
    if whole:
        return starts
    device.remove(segment_name(starts[-1]))
    device.sync()
    return starts[:-1]


def _header_decodes(device: Device, start: int) -> bool:
    try:
        load_segment(device, start)
    except CorruptRecord:
        return False
    return True


def _check_whole(segment: Segment, size: int, follower: Segment) -> None:
    end = segment.start + size
    if end != follower.header.previous_end:
        raise CorruptRecord(
            f"log segment {segment.name}: ends at {end}, but {follower.name} says {follower.header.previous_end}",
            hint=DAMAGE_HINT,
        )


def _check_same_log(first: Segment, segment: Segment) -> None:
    if segment.header.version > 1 and segment.header.salt[:SALT_SHARED_BYTES] != first.header.salt[:SALT_SHARED_BYTES]:
        raise CorruptRecord(
            f"log segment {segment.name}: is of another log than {first.name}",
            hint=DAMAGE_HINT,
        )


class _Tail:
    """The newest segment at recovery."""

    def __init__(
        self,
        segments: list[Segment],
        file: File,
        is_opaque: Callable[[Header], bool] | None,
        witness: Witness | None,
    ) -> None:
        self._segment = segments[-1]
        self._identity = log_identity(segments[0].header.salt)
        self._file = file
        self._end = self._segment.start + file.size()
        self._is_opaque = is_opaque
        self._witness = witness

    def recover(self) -> tuple[int, bytes]:
        """Cut what is torn; return the end and the chain there. Raises CorruptRecord: nothing was changed."""
        walk = Walk(self._segment, self._file, self._end, spares=self._spares)
        try:
            for _ in walk:
                pass
        except CorruptRecord as error:
            self._refuse_durable(walk.position, error)
            self._file.truncate(walk.position - self._segment.start)
        self._file.sync()
        assert walk.chain is not None
        return walk.position, walk.chain

    def _spares(self, header: Header) -> bool:
        if self._is_opaque is None or not self._is_opaque(header):
            return False
        return self._was_durable(header.position) or self._witnessed() > header.position

    def _was_durable(self, position: int) -> bool:
        return was_durable(self._segment, self._file, self._end, position)

    def _witnessed(self) -> int:
        return 0 if self._witness is None else self._witness(self._identity)

    def _refuse_durable(self, position: int, error: CorruptRecord) -> None:
        if self._was_durable(position):
            raise damage_error(self._segment, position, error) from None
        if (covered := self._witnessed()) > position:
            raise CorruptRecord(
                f"log segment {self._segment.name}, offset {position - self._segment.start}: {error}; index or"
                f" snapshots cover the log up to {covered}, so this was stored; the log was left as it is",
                hint=RESTORE,
            ) from None
