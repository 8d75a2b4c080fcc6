"""The bytes of records and segments are as documented, and every flipped bit is found."""

from __future__ import annotations

import struct
from hashlib import sha256
from zlib import crc32

import pytest

from spinrt.errors import CorruptRecord, FormatUnknown
from spinrt.storage.record import (
    CHAIN_START,
    HEADER_BYTES,
    SegmentHeader,
    body_digest,
    check_body,
    check_chain,
    checksum_seed,
    decode_header,
    decode_segment,
    encode_header,
    encode_segment,
)

SEED = checksum_seed(b"s" * 16)
BODY = b"the body"


def header() -> bytes:
    data, _ = encode_header(
        kind=7,
        length=len(BODY),
        position=64,
        time_ns=5,
        unsynced=9,
        digest=body_digest(BODY),
        chain=CHAIN_START,
        seed=SEED,
    )
    return data


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
    data[11] = 2
    data[60:] = struct.pack(">I", crc32(bytes(data[:60])))

    with pytest.raises(FormatUnknown, match="version 2"):
        decode_segment(bytes(data), "x.log")
