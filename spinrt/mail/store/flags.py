"""Flags of messages as the index keeps them: a bit for each system flag, a sorted text for the rest.

System flags compare without case and are written as in RFC 3501 section 2.3.2; keywords are kept as given. ``\\Recent``
is never stored.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from spinrt.errors import UsageError

SEEN: Final = 1
ANSWERED: Final = 2
FLAGGED: Final = 4
DELETED: Final = 8
DRAFT: Final = 16
SYSTEM_FLAGS: Final = {
    "\\Seen": SEEN,
    "\\Answered": ANSWERED,
    "\\Flagged": FLAGGED,
    "\\Deleted": DELETED,
    "\\Draft": DRAFT,
}
FLAG_BYTES_MAX: Final = 100
FLAG_COUNT_MAX: Final = 200

_BY_LOWER: Final = {name.lower(): (name, bit) for name, bit in SYSTEM_FLAGS.items()}
_NOT_ATOM: Final = frozenset('(){ %*"\\]')


def check_flags(flags: Iterable[str]) -> None:
    """Raise UsageError unless each is a known system flag, ``\\Recent``, or a keyword: an atom (RFC 3501 section 9)."""
    count = 0
    for flag in flags:
        count += 1
        if not _is_keyword(flag) and flag.lower() not in _BY_LOWER and flag.lower() != "\\recent":
            raise UsageError(f"flag {flag[:80]!r}: neither a system flag nor a keyword")
    if count > FLAG_COUNT_MAX:
        raise UsageError(f"flags: {count} given, limit {FLAG_COUNT_MAX}")


def _is_keyword(flag: str) -> bool:
    return 0 < len(flag) <= FLAG_BYTES_MAX and _is_atom(flag)


@lru_cache(maxsize=4096)
def _is_atom(flag: str) -> bool:
    return flag.isascii() and flag.isprintable() and _NOT_ATOM.isdisjoint(flag)


def bit_of(flag: str) -> int:
    """Return the bit of a system flag, 0 for anything else."""
    known = _BY_LOWER.get(flag.lower())
    return known[1] if known else 0


@lru_cache(maxsize=4096)
def pack_flags(flags: tuple[str, ...]) -> tuple[int, str]:
    """Return bits and the keywords, sorted, with a space between."""
    bits, keywords = 0, set()
    for flag in flags:
        known = _BY_LOWER.get(flag.lower())
        if known:
            bits |= known[1]
        elif not flag.startswith("\\"):
            keywords.add(flag)
    return bits, " ".join(sorted(keywords))


@lru_cache(maxsize=4096)
def unpack_flags(bits: int, keywords: str) -> frozenset[str]:
    """Return the flags as IMAP writes them."""
    system = [name for name, bit in SYSTEM_FLAGS.items() if bits & bit]
    return frozenset((*system, *keywords.split()))
