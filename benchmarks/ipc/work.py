"""What is called for, and what must be answered: the twin of ``native/work.h`` in plain Python."""

from __future__ import annotations

import hashlib
import struct
from typing import Final

from spinrt.errors import InternalError

SIZES: Final = (0, 64, 4096, 65_536)
"""Bytes of payload; 0 is a call that does nothing, with a number for its argument and answer."""
NUMBER: Final = 7
"""What a call without payload is given, and answers."""
_WORDS: Final = 1 << 64


def payload(size: int) -> bytes:
    """So many bytes, the same always, no two blocks alike."""
    return bytes((at * 167 + (at >> 8) * 13 + 89) & 255 for at in range(size))


def checksum(data: bytes) -> int:
    """Fletcher's sums over words of 8 bytes, little-endian, modulo 2^64; the size is a multiple of 8."""
    total = totals = 0
    for (word,) in struct.iter_unpack("<Q", data):
        total = (total + word) % _WORDS
        totals = (totals + total) % _WORDS
    return (total + 3 * totals) % _WORDS


EXPECTED: Final = {size: checksum(payload(size)) for size in SIZES}
"""Size → the checksum of that payload."""


def answer(size: int) -> int:
    """What a call with so large a payload answers, when its number is 0; without payload, what `NUMBER` gives."""
    return EXPECTED[size] if size else NUMBER


def check(who: str, size: int, found: int) -> None:
    """See that an alternative answered what all must.

    Raises:
        InternalError: It did not.
    """
    if found != answer(size):
        raise InternalError(f"{who}: answered {found} to {size} bytes, expected {answer(size)}")


def digest() -> str:
    """A hash of all answers, which are the same for all."""
    text = "\n".join(f"{size} {answer(size):#x}" for size in SIZES)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
