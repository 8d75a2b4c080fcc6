"""What a log's files hold after whatever happened to the process or the machine.

Only the newest segment can end in a torn tail: every other one was synced before its successor was created, and a
segment's header is durable before its first record. So recovery walks the newest segment, and

    - a clean end: done;
    - a bad record that no later record claims to have been durable: the tail was torn, it is cut there;
    - a bad record that a later one claims to have been durable: damage, `CorruptRecord`, nothing is changed;
    - a newest segment too short for a header: its creation was torn, it is removed.
"""

from __future__ import annotations

from dataclasses import dataclass

from spinrt.errors import CorruptRecord
from spinrt.storage.device import Device, File
from spinrt.storage.record import CHAIN_START, HEADER_BYTES, SALT_SHARED_BYTES
from spinrt.storage.segment import (
    Segment,
    Walk,
    damage_error,
    load_segment,
    segment_name,
    segment_starts,
    was_durable,
)


@dataclass(slots=True)
class Recovered:
    """``file`` is the newest segment's, open for writing. No segments: the log is new."""

    segments: list[Segment]
    file: File | None
    end: int
    chain: bytes


def recover(device: Device, start: int = 0) -> Recovered:
    """Check the segments on a device, cut a torn tail, and make what is left durable.

    Args:
        start: Position at which a log begins that is new.

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
        end, chain = _recover_tail(segments[-1], file)
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
            hint="restore the segment from a backup; nothing was changed",
        )


def _check_same_log(first: Segment, segment: Segment) -> None:
    if segment.header.version > 1 and segment.header.salt[:SALT_SHARED_BYTES] != first.header.salt[:SALT_SHARED_BYTES]:
        raise CorruptRecord(
            f"log segment {segment.name}: is of another log than {first.name}",
            hint="restore the segment from a backup; nothing was changed",
        )


def _recover_tail(segment: Segment, file: File) -> tuple[int, bytes]:
    end = segment.start + file.size()
    walk = Walk(segment, file, end)
    try:
        for _ in walk:
            pass
    except CorruptRecord as error:
        if was_durable(segment, file, end, walk.position):
            raise damage_error(segment, walk.position, error) from None
        file.truncate(walk.position - segment.start)
    file.sync()
    assert walk.chain is not None
    return walk.position, walk.chain
