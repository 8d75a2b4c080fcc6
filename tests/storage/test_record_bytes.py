"""The bytes of records and segments are as documented, and every flipped bit is found."""

from __future__ import annotations

import struct
from hashlib import sha256
from typing import NamedTuple
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinrt._core import LogBuffer
from spinrt.errors import CorruptRecord, FormatUnknown, UsageError
from spinrt.storage.record import (
    CHAIN_START,
    HEADER_BYTES,
    SegmentHeader,
    body_digest,
    chain_after,
    check_body,
    check_chain,
    checksum_seed,
    decode_header,
    decode_segment,
    encode_segment,
)

SEED = checksum_seed(b"s" * 16)
BODY = b"the body"


class Place(NamedTuple):
    """What a buffer needs to know of a segment."""

    seed: int


def header() -> bytes:
    buffer = LogBuffer(64, CHAIN_START)
    buffer.append(Place(SEED), kind=7, body=BODY, time_ns=5, digest=sha256(BODY).digest(), durable=55)
    (entry,) = buffer.take()
    return entry.header


def test_header_bytes_are_as_documented() -> None:
    """The layout in the module's docstring, written out by hand, is what the encoder writes."""
    front = b"R\x01" + struct.pack(">HIQQI", 7, len(BODY), 64, 5, 9) + sha256(BODY).digest()[:16]
    covered = front + sha256(bytes(16) + front).digest()[:16]

    assert header() == covered + struct.pack(">I", crc32(covered, crc32(b"s" * 16)))
    assert len(header()) == HEADER_BYTES


def test_header_decodes_to_what_was_encoded() -> None:
    """Every field comes back."""
    found = decode_header(header(), 64, SEED)

    assert (found.kind, found.length, found.position, found.time_ns, found.unsynced) == (7, len(BODY), 64, 5, 9)
    check_body(found, BODY)
    check_chain(found, CHAIN_START)


@pytest.mark.parametrize("bit", range(HEADER_BYTES * 8))
def test_header_with_one_bit_flipped_is_refused(bit: int) -> None:
    """No single flipped bit of a header passes."""
    data = bytearray(header())
    data[bit // 8] ^= 1 << bit % 8

    with pytest.raises(CorruptRecord):
        decode_header(bytes(data), 64, SEED)


def test_header_at_another_position_or_salt_is_refused() -> None:
    """A header copied elsewhere, or made without knowing the salt, does not pass."""
    with pytest.raises(CorruptRecord, match="position 64"):
        decode_header(header(), 128, SEED)
    with pytest.raises(CorruptRecord, match="checksum"):
        decode_header(header(), 64, checksum_seed(b"t" * 16))


def test_body_and_chain_are_checked() -> None:
    """Another body of the same length and another predecessor are found."""
    found = decode_header(header(), 64, SEED)

    with pytest.raises(CorruptRecord, match="digest"):
        check_body(found, b"The body")
    with pytest.raises(CorruptRecord, match="chain"):
        check_chain(found, b"x" * 16)


@pytest.mark.parametrize("offset", range(HEADER_BYTES))
def test_segment_header_with_one_byte_changed_is_refused(offset: int) -> None:
    """Every byte of a segment header is covered."""
    data = bytearray(encode_segment(SegmentHeader(0, 0, CHAIN_START, b"s" * 16)))
    data[offset] ^= 0x80

    with pytest.raises(CorruptRecord):
        decode_segment(bytes(data), "x.log")


def test_segment_of_a_newer_version_says_so() -> None:
    """A whole header with a higher version is unknown, not corrupt."""
    data = bytearray(encode_segment(SegmentHeader(0, 0, CHAIN_START, b"s" * 16)))
    data[11] = 3
    data[60:] = struct.pack(">I", crc32(bytes(data[:60])))

    with pytest.raises(FormatUnknown, match="version 3"):
        decode_segment(bytes(data), "x.log")


U64 = st.integers(0, 2**64 - 1)
RECORDS = st.lists(
    st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=200), U64, U64, st.integers(0, 2**32 - 1)), max_size=5
)


@given(RECORDS, st.integers(0, 2**48), st.binary(min_size=16, max_size=16))
@settings(deadline=None)
def test_headers_agree_with_the_standard_library(
    records: list[tuple[int, bytes, int, int, int]], start: int, chain: bytes
) -> None:
    """Fields, chain and checksum are those that struct, hashlib and zlib give; positions follow one another."""
    buffer, position = LogBuffer(start, chain), start
    for kind, body, time_ns, synced, seed in records:
        durable = min(synced, position)
        assert buffer.append(Place(seed), kind, body, time_ns, sha256(body).digest()[:16], durable) == position
        unsynced = min(position - durable, 0xFFFF_FFFF)
        front = struct.pack(">2sHIQQI16s", b"R\x01", kind, len(body), position, time_ns, unsynced, body_digest(body))
        chain = chain_after(chain, front)
        entry = buffer.get(position)
        assert entry is not None and entry.body == body
        assert entry.header == front + chain + struct.pack(">I", crc32(front + chain, seed))
        position += HEADER_BYTES + len(body)
    assert (buffer.end, buffer.chain) == (position, chain)


def test_buffer_keeps_records_until_they_are_written() -> None:
    """What is taken for writing can still be read; what was written or given up cannot, and its positions stay used."""
    buffer = LogBuffer(0, CHAIN_START)
    first = buffer.append(Place(0), 1, b"one", 1, bytes(16), 0)
    taken = buffer.take()
    second = buffer.append(Place(0), 1, b"three", 1, bytes(16), 0)
    assert [entry.position for entry in taken] == [first] and buffer.get(first) is taken[0]
    buffer.written(taken)
    assert buffer.get(first) is None and buffer.waiting_bytes == HEADER_BYTES + 5
    end = buffer.end
    buffer.give_up(CHAIN_START)
    assert (buffer.get(second), buffer.take(), buffer.waiting_bytes, buffer.end) == (None, [], 0, end)


@pytest.mark.parametrize(("kind", "digest"), [(0x1_0000, bytes(16)), (1, bytes(15))])
def test_buffer_refuses_what_no_header_holds(kind: int, digest: bytes) -> None:
    """A kind of more than 16 bits, a digest that is too short: nothing is appended."""
    buffer = LogBuffer(0, CHAIN_START)
    with pytest.raises(UsageError):
        buffer.append(Place(0), kind, b"", 1, digest, 0)
    assert (buffer.end, buffer.take()) == (0, [])
