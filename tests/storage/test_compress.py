"""Compressed bodies: what comes back is what was stored, whatever is read of it, and no hostile frame gets through."""

from __future__ import annotations

import contextlib
import random
from hashlib import sha256
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.make_dictionary import Sampler
from spinrt._core import LogBuffer, record_frame
from spinrt.errors import CorruptRecord, FormatUnknown, StorageError, UsageError
from spinrt.storage import compress as module
from spinrt.storage.compress import (
    BODY_BYTES_MAX,
    PLAIN_BYTES_MAX,
    SHORT_BYTES_MAX,
    compress,
    decompress,
)
from spinrt.storage.record import CHAIN_START, COMPRESSED, HEADER_BYTES, SegmentHeader, checksum_seed, encode_segment
from spinrt.testing.device import CrashDevice
from tests.storage.support import open_log

DICTIONARY_SHA256 = "2a97e63222ae953bb7dbdfa7719432c608085b8bd47152d56666c92e247ca328"
SALT = b"0123456789abcdef"
MAIL = Sampler(5).message()


def squeezable(size: int) -> bytes:
    """So many bytes that compress, no two stretches the same."""
    return b"".join(b"line %08d of the message\r\n" % number for number in range(size // 27 + 1))[:size]


def test_the_dictionary_is_the_one_that_was_shipped() -> None:
    """Bodies in logs need this very file: a change to it makes them unreadable."""
    path = Path(module.__file__).with_name("mail-1.zdict")
    assert sha256(path.read_bytes()).hexdigest() == DICTIONARY_SHA256


@given(st.integers(0, 3 * SHORT_BYTES_MAX), st.integers(0, 2**32))
def test_what_is_compressed_comes_back(size: int, seed: int) -> None:
    """Of any length; nothing that stays nearly as long is compressed."""
    body = Sampler(seed).message() if seed % 2 else squeezable(size)
    frame = compress(body)
    if frame is not None:
        assert decompress(frame) == body
        assert len(frame) <= len(body) * 7 / 8 + 1


def test_short_and_random_bodies_stay_plain() -> None:
    """What is short, and what has nothing that repeats."""
    assert compress(bytes(PLAIN_BYTES_MAX)) is None
    assert compress(bytes(PLAIN_BYTES_MAX + 1)) is not None
    assert compress(random.Random(1).randbytes(10_000)) is None


def frame_of(body: bytes, *, dict_id: int = 0, size: bool = True) -> bytes:
    trained = None
    if dict_id:
        samples = [squeezable(1000 + n) for n in range(200)]
        trained = zstandard.train_dictionary(2000, samples, dict_id=dict_id)
    return zstandard.ZstdCompressor(dict_data=trained, write_content_size=size).compress(body)


HOSTILE = {
    "nothing": b"",
    "no frame": b"not a frame at all",
    "no content size": frame_of(b"x" * 1000, size=False),
    "size over the limit": frame_of(bytes(BODY_BYTES_MAX + 1)),
    "size of petabytes": b"\x28\xb5\x2f\xfd" + b"\xe0" + b"\xff" * 8 + frame_of(b"x" * 600)[6:],
    "empty": frame_of(b""),
    "cut short": frame_of(squeezable(5000))[:-1],
    "something behind": frame_of(squeezable(5000)) + b"x",
    "two frames": frame_of(squeezable(5000)) * 2,
    "skippable frame": b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_frame_is_refused(name: str) -> None:
    """Never with more memory than a body may have, never with anything but the error that says what it is."""
    with pytest.raises(CorruptRecord, match="zstd frame"):
        decompress(HOSTILE[name])


def test_frame_of_an_unknown_dictionary_says_so() -> None:
    """A newer version wrote it: that is no damage."""
    with pytest.raises(FormatUnknown, match="40000"):
        decompress(frame_of(squeezable(5000), dict_id=40_000))


@given(st.data())
def test_any_damage_is_an_error_or_another_body(data: st.DataObject) -> None:
    """A frame with bytes changed never brings anything but a StorageError; the record's digest tells the rest."""
    frame = bytearray(compress(MAIL) or b"")
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(StorageError):
        assert len(decompress(bytes(frame))) <= BODY_BYTES_MAX


@pytest.mark.parametrize("size", [600, 4096, 200_000, 2_000_000])
def test_ranges_of_a_compressed_body(size: int) -> None:
    """Durable or not, whole or in part, and after reopening; the record is smaller than the body."""
    device, body = CrashDevice(), squeezable(size)
    log = open_log(device, segment_bytes_max=1 << 24)
    position = log.append(7, (body,), time_ns=5, may_compress=True)
    assert log.end - position < size
    for _ in range(2):
        record = log.read(position)
        assert (record.kind, record.body, record.compressed, record.next_position) == (7, body, True, log.end)
        assert log.read_body(position, 0, size) == body
        for offset, length in ((0, 0), (0, 1), (5, 100), (size - 1, 1), (size // 2, size // 4)):
            assert log.read_body(position, offset, length) == body[offset : offset + length]
        for offset, length in ((0, size + 1), (size, 1), (-1, 1), (1, -1)):
            with pytest.raises(UsageError, match="range"):
                log.read_body(position, offset, length)
        log.sync()
    log.close()
    again = open_log(device)
    assert [record.body for record in again.records()] == [body]


def test_without_compression_bodies_are_stored_plain() -> None:
    """When the log is opened so, or the writer does not ask for it; what is there already is read all the same."""
    device, body = CrashDevice(), squeezable(5000)
    log = open_log(device)
    log.append(7, (body,), time_ns=5, may_compress=True)
    log.append(7, (body,), time_ns=5)
    log.close()
    log = open_log(device, compression=False)
    log.append(7, (body,), time_ns=5, may_compress=True)
    log.sync()
    assert [(record.body, record.compressed) for record in log.records()] == [
        (body, True),
        (body, False),
        (body, False),
    ]


def test_kind_that_is_no_kind_is_refused() -> None:
    """The bit is the log's own."""
    with pytest.raises(UsageError, match="kind"):
        open_log(CrashDevice()).append(COMPRESSED | 7, (b"",), time_ns=0)


@pytest.mark.parametrize("offset", [2, 30, HEADER_BYTES + 5])
def test_damage_in_a_compressed_record_is_found(offset: int) -> None:
    """In its kind, its digest or its frame, whatever is asked of it."""
    device = CrashDevice()
    log = open_log(device)
    position = log.append(7, (squeezable(5000),), time_ns=5, may_compress=True)
    log.sync()
    device.flip("00000000000000000000.log", position + offset, 0x80)
    for start, length in ((0, 5000), (10, 10)):
        with pytest.raises(CorruptRecord, match=f"offset {position}"):
            log.read_body(position, start, length)


@given(st.binary(max_size=80), st.booleans(), st.none() | st.integers(0, 160), st.none() | st.integers(0, 1100))
def test_a_frame_is_read_whole_or_not_at_all(body: bytes, marked: bool, cut: int | None, bit: int | None) -> None:
    """`record_frame` gives exactly the stored body of a record that is marked, all there and undamaged."""
    buffer, seed = LogBuffer(64, CHAIN_START), checksum_seed(SALT)
    place = type("Place", (), {"seed": seed})()
    buffer.append(place, COMPRESSED * marked | 7, body, 5, sha256(body).digest(), 0)
    (entry,) = buffer.take()
    data = bytearray(entry.header + entry.body)
    damaged = bit is not None and bit // 8 < len(data)
    if damaged:
        assert bit is not None
        data[bit // 8] ^= 1 << bit % 8
    whole = marked and not damaged and (cut is None or cut >= len(data))
    assert record_frame(bytes(data[:cut]), 64, seed) == (body if whole else None)
    assert record_frame(bytes(data[:cut]) + b"more", 65, seed) is None


def old_segment() -> CrashDevice:
    """A log as the first version wrote it: one record, 64 bytes of header in front."""
    device = CrashDevice()
    header = SegmentHeader(0, 0, CHAIN_START, b"old salt, random", version=1)
    buffer = LogBuffer(HEADER_BYTES, CHAIN_START)
    buffer.append(type("Place", (), {"seed": checksum_seed(header.salt)})(), 7, b"old", 5, sha256(b"old").digest(), 64)
    (entry,) = buffer.take()
    file = device.open("00000000000000000000.log", create=True)
    file.append([encode_segment(header), entry.header, entry.body])
    file.sync()
    device.sync()
    return device


def test_a_log_of_the_first_version_goes_on_in_a_new_segment() -> None:
    """Its segments are read and never added to, so an older program refuses what it cannot read."""
    device = old_segment()
    log = open_log(device)
    identity, body = log.identity, squeezable(5000)
    log.append(7, (body,), time_ns=6, may_compress=True)
    log.sync()
    assert [record.body for record in log.records()] == [b"old", body]
    log.close()

    names = device.list()
    assert len(names) == 2
    second = device.open(names[1]).read(0, HEADER_BYTES)
    assert second[11] == 2 and second[44:52] == b"old salt"
    again = open_log(device)
    assert again.identity == identity
    again.append(7, (b"next",), time_ns=7)
    again.sync()
    assert len(device.list()) == 2


def test_a_log_of_the_first_version_survives_a_full_device() -> None:
    """Before its first new segment is there, nothing is lost and nothing old is touched."""
    device = old_segment()
    log = open_log(device)
    log.append(7, (b"a",), time_ns=6)
    log.append(7, (b"b",), time_ns=6)
    after = device.crash()
    assert [record.body for record in open_log(after).records()] == [b"old"]


def test_a_segment_of_another_log_is_found() -> None:
    """One that was put between ours has another first half of the salt."""
    device = CrashDevice()
    log = open_log(device, segment_bytes_max=200)
    for _ in range(3):
        log.append(7, (bytes(200),), time_ns=6)
    log.close()
    name = device.list()[-1]
    content = device.names[name].content
    start, previous = int.from_bytes(content[12:20], "big"), int.from_bytes(content[20:28], "big")
    content[:64] = encode_segment(SegmentHeader(start, previous, bytes(content[28:44]), b"fremd" + bytes(11)))
    with pytest.raises(CorruptRecord, match="another log"):
        open_log(device)


def test_positions_of_a_generation() -> None:
    """A later generation's log begins where no position of an earlier one is; it stays so when opened again."""
    device = CrashDevice()
    for generation in (3, 0):
        log = open_log(device, generation=generation)
        assert log.start == 3 << 48
        log.append(7, (b"x",), time_ns=6)
        log.close()
    assert [record.position >> 48 for record in open_log(device).records()] == [3, 3]
    with pytest.raises(UsageError, match="generation"):
        open_log(CrashDevice(), generation=1 << 14)
