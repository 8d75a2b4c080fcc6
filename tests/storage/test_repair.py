"""One flipped byte is found again; anything else is left alone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from hashlib import sha256

import pytest

from spinrt._core import LogBuffer
from spinrt.storage.record import CHAIN_START, HEADER_BYTES, SegmentHeader, checksum_seed, encode_segment
from spinrt.storage.repair import BODY_TRIED_BYTES_MAX, Flip, find_flip, find_segment_flip
from tests.storage.test_record_bytes import Place

SALT = b"a salt of 16 b.."
SEED = checksum_seed(SALT)
CHAIN = b"chain before it."
POSITION = 2**40 + 64


def record(body: bytes, chain: bytes = CHAIN, position: int = POSITION) -> bytes:
    buffer = LogBuffer(position, chain)
    buffer.append(Place(SEED), 7, body, 5 * 10**18, sha256(body).digest(), position - 500)
    (entry,) = buffer.take()
    return entry.header + entry.body


def flipped(data: bytes, offset: int, mask: int) -> bytes:
    return data[:offset] + bytes([data[offset] ^ mask]) + data[offset + 1 :]


def flips(size: int) -> Iterator[tuple[int, int]]:
    rng = random.Random(1)
    for offset in range(size):
        yield offset, rng.choice((1, 2, 4, 8, 16, 32, 64, 128, rng.randint(1, 255)))


@pytest.mark.parametrize("body", [b"", b"the body of a record", bytes(100)])
def test_every_byte_of_a_record_is_found_again(body: bytes) -> None:
    """Header and body, with something behind the record; nothing is found where nothing is wrong."""
    good = record(body)
    for offset, mask in flips(len(good)):
        bad = flipped(good, offset, mask)
        assert find_flip(bad + b"the next one", POSITION, SEED, CHAIN) == Flip(offset, bad[offset], good[offset])
    assert find_flip(good, POSITION, SEED, CHAIN) is None


def test_without_the_chain_the_digest_decides() -> None:
    """When the record before is damaged, too."""
    good = record(b"a body that is its own witness")
    for offset, mask in flips(len(good)):
        if not 44 <= offset < 60:  # the chain is what nobody can check then, but for the CRC
            assert find_flip(flipped(good, offset, mask), POSITION, SEED, None) == Flip(
                offset, good[offset] ^ mask, good[offset]
            )


def test_two_bytes_are_not_found() -> None:
    """In header, body, or one in each."""
    good = record(b"the body of a record" * 3)
    for first, second in ((3, 30), (10, HEADER_BYTES + 5), (HEADER_BYTES + 1, HEADER_BYTES + 2), (61, 62)):
        assert find_flip(flipped(flipped(good, first, 4), second, 32), POSITION, SEED, CHAIN) is None


def test_what_is_no_flip_is_left_alone() -> None:
    """Another chain, another place, another salt, a record cut short, noise."""
    good = record(b"the body of a record")
    assert find_flip(good, POSITION, SEED, b"another chain...") is None
    assert find_flip(good, POSITION + 1024 * 1025, SEED, CHAIN) is None
    assert find_flip(good, POSITION, SEED ^ 0x5555, CHAIN) is None
    for size in (0, 10, 63, 64, len(good) - 1):
        assert find_flip(good[:size], POSITION, SEED, CHAIN) is None
    assert find_flip(random.Random(2).randbytes(5000), POSITION, SEED, CHAIN) is None


def test_a_long_body_is_not_tried() -> None:
    """It would take too long; a single bit near the beginning of a short enough one is found."""
    good = record(bytes(BODY_TRIED_BYTES_MAX + 1))
    assert find_flip(flipped(good, HEADER_BYTES, 1), POSITION, SEED, CHAIN) is None
    good = record(random.Random(3).randbytes(BODY_TRIED_BYTES_MAX))
    bad = flipped(good, HEADER_BYTES + 100, 64)
    assert find_flip(bad, POSITION, SEED, CHAIN) == Flip(
        HEADER_BYTES + 100, bad[HEADER_BYTES + 100], good[HEADER_BYTES + 100]
    )


def test_every_byte_of_a_segment_header_is_found_again() -> None:
    """With the first record as a witness of salt and chain, and without one."""
    start = POSITION - HEADER_BYTES
    good = encode_segment(SegmentHeader(start, start - 100, CHAIN, SALT))
    first = record(b"x")[:HEADER_BYTES]
    found = 0
    for offset, mask in flips(HEADER_BYTES):
        bad = flipped(good, offset, mask)
        right = Flip(offset, bad[offset], good[offset])
        assert find_segment_flip(bad, start, first) == right
        found += find_segment_flip(bad, start, b"") == right
    assert found > 60
    assert find_segment_flip(good, start, first) is None
    assert find_segment_flip(good[:63], start, first) is None
    assert find_segment_flip(flipped(flipped(good, 13, 1), 40, 1), start, first) is None
    assert find_segment_flip(encode_segment(SegmentHeader(0, 0, CHAIN_START, SALT)), start, b"") is None
