"""One flipped byte in the log is found again by trying: checksums, chain and digests say when it is right.

What one byte may have been is 255 other values at each place. In a header a CRC-32 decides in microseconds; in a body
SHA-256 does, which takes a second for 4 KiB and minutes for 64 KiB, single bits first, as they are what memory and
disks flip. Longer bodies, and more than one byte, come from a mirror or a backup.

A CRC-32 of 60 bytes alone could be met by a wrong byte too, once in some ten cases; so a header counts as found only
when its chain, which depends on all that is before it, and the digest of its body are right as well, and when nothing
else fits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Final, NamedTuple
from zlib import crc32

from spinrt.errors import CorruptRecord, FormatUnknown
from spinrt.storage.record import (
    DIGEST_BYTES,
    HEADER_BYTES,
    Header,
    SegmentHeader,
    body_digest,
    chain_after,
    checksum_seed,
    decode_header,
    decode_segment,
)
from spinrt.storage.segment import segment_name

BODY_TRIED_BYTES_MAX: Final = 64 * 1024
_BITS: Final = tuple(1 << bit for bit in range(8))
_OTHERS: Final = tuple(mask for mask in range(1, 256) if mask not in _BITS)


class Flip(NamedTuple):
    """A byte that must be another for everything to fit."""

    offset: int
    """In the record or the segment header."""
    found: int
    right: int


def find_flip(data: bytes, position: int, seed: int, chain: bytes | None) -> Flip | None:
    """Find the one byte of a record that was changed; none when there is no such byte, or more than one answer.

    Args:
        data: What is stored from the record's header on: header and body, and whatever follows.
        position: Of the record.
        seed: Seeds the checksums of its segment.
        chain: Chain value of the record before it, or what the segment's header says for the first one; none when that
            is not known, then the body's digest alone decides.

    Returns:
        None also for a record in which nothing is wrong.
    """
    try:
        header = decode_header(data, position, seed)
    except CorruptRecord:
        return _only(flip for flip in _header_flips(data, position, seed) if _fits(data, position, seed, chain, flip))
    if chain is not None and chain_after(chain, header.front) != header.chain:
        return None  # its own checksum is right: no byte of it was flipped
    return _body_flip(data, header)


def find_segment_flip(data: bytes, start: int, record: bytes) -> Flip | None:
    """Find the one byte of a segment header that was changed.

    Args:
        data: The 64 bytes as they are.
        start: Position of the segment: the number in its file's name.
        record: The header of its first record, empty if there is none: it knows the salt.
    """

    def fits(header: SegmentHeader) -> bool:
        if header.start != start or header.previous_end > start:
            return False
        try:
            if len(record) >= HEADER_BYTES:
                first = decode_header(record, start + HEADER_BYTES, checksum_seed(header.salt))
                return chain_after(header.chain, first.front) == first.chain
        except CorruptRecord:
            return False
        return True

    return _only(flip for flip, header in _segment_flips(data, segment_name(start)) if fits(header))


def _only(flips: Iterator[Flip]) -> Flip | None:
    """Return what there is one of."""
    found = next(flips, None)
    return found if found is not None and next(flips, None) is None else None


def _changed(data: bytes, seed: int) -> Iterator[tuple[Flip, bytes]]:
    """Yield a header with one byte changed, whenever its checksum is right then."""
    head = bytearray(data[:HEADER_BYTES])
    for mask in range(1, 256):
        for offset, octet in enumerate(data[:HEADER_BYTES]):
            head[offset] = octet ^ mask
            if crc32(head[:-4], seed) == int.from_bytes(head[-4:], "big"):
                yield Flip(offset, octet, octet ^ mask), bytes(head)
            head[offset] = octet


def _header_flips(data: bytes, position: int, seed: int) -> Iterator[Flip]:
    if len(data) < HEADER_BYTES:
        return
    for flip, head in _changed(data, seed):
        if _is(decode_header, head, position, seed):
            yield flip


def _segment_flips(data: bytes, name: str) -> Iterator[tuple[Flip, SegmentHeader]]:
    if len(data) < HEADER_BYTES or _is(decode_segment, data[:HEADER_BYTES], name):
        return
    for flip, head in _changed(data, 0):
        if _is(decode_segment, head, name):
            yield flip, decode_segment(head, name)


def _is(decode: Callable[..., object], *arguments: object) -> bool:
    try:
        decode(*arguments)
    except (CorruptRecord, FormatUnknown):
        return False
    return True


def _fits(data: bytes, position: int, seed: int, chain: bytes | None, flip: Flip) -> bool:
    """Tell whether a record is right with a byte of its header changed back."""
    head = bytearray(data[:HEADER_BYTES])
    head[flip.offset] = flip.right
    header = decode_header(bytes(head), position, seed)
    if chain is not None and chain_after(chain, header.front) != header.chain:
        return False
    body = data[HEADER_BYTES : HEADER_BYTES + header.length]
    return len(body) == header.length and body_digest(body) == header.digest


def _body_flip(data: bytes, header: Header) -> Flip | None:
    body = data[HEADER_BYTES : HEADER_BYTES + header.length]
    if len(body) != header.length or header.length > BODY_TRIED_BYTES_MAX or body_digest(body) == header.digest:
        return None
    for masks in (_BITS, _OTHERS):
        before = sha256()
        for offset, octet in enumerate(body):
            after = body[offset + 1 :]
            for mask in masks:
                tried = before.copy()
                tried.update(bytes((octet ^ mask,)))
                tried.update(after)
                if tried.digest()[:DIGEST_BYTES] == header.digest:
                    return Flip(HEADER_BYTES + offset, octet, octet ^ mask)
            before.update(bytes((octet,)))
    return None
