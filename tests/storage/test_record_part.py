"""The core's way to read a record back agrees with the one in plain Python, on good records and on damaged ones."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinrt._core import LogBuffer, record_part
from spinrt.errors import CorruptRecord
from spinrt.storage.compress import BODY_BYTES_MAX
from spinrt.storage.log import Log
from spinrt.storage.reading import READ_AHEAD_BYTES
from spinrt.storage.record import CHAIN_START, HEADER_BYTES, check_body, checksum_seed, decode_header
from spinrt.testing.device import CrashDevice
from tests.storage.test_record_bytes import Place

SEED = checksum_seed(b"s" * 16)
POSITION = 2**40 + 64


def record(body: bytes) -> bytes:
    buffer = LogBuffer(POSITION, CHAIN_START)
    buffer.append(Place(SEED), kind=7, body=body, time_ns=5, digest=sha256(body).digest(), durable=55)
    (entry,) = buffer.take()
    return entry.header + entry.body


def slowly(data: bytes, position: int, seed: int, offset: int, length: int) -> bytes | None:
    """What `record_part` is to give, from the parts that also say what is wrong."""
    try:
        header = decode_header(data, position, seed)
        part = data[HEADER_BYTES:][offset : offset + length]
        if min(offset, length) < 0 or offset + length > header.length or len(part) != length:
            return None
        if length == header.length:
            check_body(header, part)
    except CorruptRecord:
        return None
    return part


ranges = st.integers(-2, 70) | st.sampled_from((2**31, 2**62, -(2**62)))


@given(st.binary(max_size=60), ranges, ranges, st.none() | st.integers(0, 140), st.none() | st.integers(0, 1000))
def test_both_ways_agree(body: bytes, offset: int, length: int, cut: int | None, bit: int | None) -> None:
    """Any range of a record that is whole, cut short, or has one bit flipped."""
    data = bytearray(record(body))
    if bit is not None and bit // 8 < len(data):
        data[bit // 8] ^= 1 << bit % 8
    read = bytes(data[:cut])
    assert record_part(read, POSITION, SEED, offset, length) == slowly(read, POSITION, SEED, offset, length)


@given(st.binary(max_size=60))
def test_a_whole_body_comes_back(body: bytes) -> None:
    """Also when more was read than the record has; not at another position, or with another salt."""
    data = record(body) + b"R\x01 the next one"
    assert record_part(data, POSITION, SEED, 0, len(body)) == body
    assert record_part(data, POSITION + 1, SEED, 0, len(body)) is None
    assert record_part(data, POSITION, SEED ^ 1, 0, len(body)) is None


def test_a_header_that_claims_too_much_is_not_believed() -> None:
    """A length over the bound is none, however good its checksum."""
    longest = record(bytes(BODY_BYTES_MAX))
    assert record_part(longest[:100], POSITION, SEED, 0, 36) == bytes(36)
    too_long = record(bytes(BODY_BYTES_MAX + 1))
    assert record_part(too_long[:100], POSITION, SEED, 0, 36) is None


@pytest.mark.parametrize("offset", [0, 1, READ_AHEAD_BYTES - 1, READ_AHEAD_BYTES, READ_AHEAD_BYTES + 1])
def test_the_log_says_what_is_wrong_wherever_it_was_found(offset: int) -> None:
    """Ranges near the start are read in one go, those far inside are not; damage is the same error for both."""
    device = CrashDevice()
    log = Log.open(Path("/nonexistent"), device=device)
    body = bytes(range(256)) * 1200
    position = log.append(2, (body,), time_ns=0)
    log.sync()
    assert log.read_body(position, offset, 100) == body[offset : offset + 100]
    with pytest.raises(CorruptRecord, match="magic"):
        log.read_body(position + 1, offset, 100)
