"""Bodies that left the segment in which they were first written: records of kind CARRIED.

The body of such a record, all numbers big-endian::

    offset size
     0      8   name    log position of the record that had this body first, in whichever log that was
     8      2   kind    of that record, with the bit that says whether ``stored`` is compressed
    10      8   time    of that record, nanoseconds since 1970-01-01 UTC
    18      -   stored  the body as it was stored

The record itself is never marked as compressed. Its own time is that of the carrying, so that segments age in the order
of their positions. The last CARRIED record of a name is the place of that name (``places``).
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from spinrt.errors import CorruptRecord, UsageError
from spinrt.storage.compress import BODY_BYTES_MAX

_FRONT: Final = struct.Struct(">QHQ")
CARRIED_BYTES: Final = _FRONT.size
"""Of a carried record's body, before ``stored``."""
STORED_BYTES_MAX: Final = BODY_BYTES_MAX - CARRIED_BYTES
"""Longest body that can be carried, and so the longest that a log takes."""
NAME_MAX: Final = 2**62 - 1


class Carried(NamedTuple):
    """A body under its name, as stored; ``kind`` has the bit for compressed bodies."""

    name: int
    kind: int
    time_ns: int
    stored: bytes


def encode_carried(name: int, kind: int, time_ns: int, stored: bytes) -> bytes:
    """Return the body of a CARRIED record. Raises UsageError: a value has no room in it."""
    if not 0 <= name <= NAME_MAX or not 0 <= kind <= 0xFFFF or not 0 <= time_ns < 2**64:
        raise UsageError(f"carried body: name {name}, kind {kind} and time {time_ns} cannot be stored")
    if len(stored) > STORED_BYTES_MAX:
        raise UsageError(f"carried body: {len(stored)} bytes, limit {STORED_BYTES_MAX}")
    return _FRONT.pack(name, kind, time_ns) + stored


def decode_carried(body: bytes) -> Carried:
    """Return what the body of a CARRIED record holds. Raises CorruptRecord."""
    if len(body) < CARRIED_BYTES:
        raise CorruptRecord(f"carried body: found {len(body)} bytes, expected {CARRIED_BYTES} or more")
    name, kind, time_ns = _FRONT.unpack_from(body)
    if name > NAME_MAX:
        raise CorruptRecord(f"carried body: found name {name}, expected at most {NAME_MAX}")
    return Carried(name, kind, time_ns, body[CARRIED_BYTES:])
