"""Appending and reading without anything going wrong."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from spinrt.errors import ClosedError, CorruptRecord, UsageError
from spinrt.storage.log import BODY_BYTES_MAX, Log
from spinrt.storage.record import HEADER_BYTES
from spinrt.testing.device import CrashDevice
from tests.storage.support import bodies, open_log


def test_records_come_back_after_reopening(tmp_path: Path) -> None:
    """On real files: kinds, times, bodies and positions survive close and open."""
    log = Log.open(tmp_path / "log", segment_bytes_max=1000)
    written = [(log.append(n + 2, (b"a" * n, b"b"), time_ns=n), n + 2, n, b"a" * n + b"b") for n in range(300)]
    log.close()

    again = Log.open(tmp_path / "log", segment_bytes_max=1000)

    assert [tuple(record)[:4] for record in again.records()] == written
    assert again.end == again.durable == log.end
    assert len(list((tmp_path / "log").iterdir())) > 10
    assert (tmp_path / "log").stat().st_mode & 0o77 == 0
    again.close()


def test_read_sees_unsynced_written_and_durable_records() -> None:
    """A record can be read from the moment it is appended, whole or in part."""
    log = open_log(CrashDevice(), buffer_bytes_max=1000)
    positions = [log.append(2, (b"x%d" % n, memoryview(b"y" * 50)), time_ns=n) for n in range(40)]
    log.sync()
    positions += [log.append(2, (b"x%d" % n, memoryview(b"y" * 50)), time_ns=n) for n in range(40, 80)]

    for n, position in enumerate(positions):
        body = b"x%d" % n + b"y" * 50
        record = log.read(position)
        assert (record.body, record.time_ns, record.next_position) == (body, n, position + 64 + len(body))
        assert log.read_body(position, 0, len(body)) == body
        assert log.read_body(position, 1, 7) == body[1:8]


def test_next_position_leads_through_all_segments() -> None:
    """`records` from any next_position gives the rest, over borders of segments."""
    log = open_log(CrashDevice(), segment_bytes_max=500)
    for n in range(30):
        log.append(2, (b"%d" % n * 20,), time_ns=0)
    log.sync()
    everything = list(log.records())

    for n, record in enumerate(everything):
        assert list(log.records(record.next_position)) == everything[n + 1 :]
        assert list(log.records(record.position)) == everything[n:]


def test_records_are_the_durable_ones() -> None:
    """What is not synced is not yielded, written through or not."""
    log = open_log(CrashDevice(), buffer_bytes_max=200)
    log.append(2, (b"a",), time_ns=0)
    log.sync()
    for _ in range(10):
        log.append(2, (b"b" * 100,), time_ns=0)

    assert bodies(log) == [b"a"]
    assert log.durable < log.end


def test_large_record_has_a_segment_of_its_own() -> None:
    """A body larger than a segment is stored whole."""
    log = open_log(CrashDevice(), segment_bytes_max=500)
    large = bytes(range(256)) * 10
    position = log.append(2, (large,), time_ns=0)
    log.append(2, (b"after",), time_ns=0)
    log.sync()

    assert log.read(position).body == large
    assert bodies(log) == [large, b"after"]
    assert log.read_body(position, 2000, 100) == large[2000:2100]


def test_misuse_is_refused() -> None:
    """Too long a body, a range outside the body, a position that is no record, use after close."""
    log = open_log(CrashDevice())
    position = log.append(2, (b"abc",), time_ns=0)
    log.sync()

    with pytest.raises(UsageError, match="limit"):
        log.append(2, (bytes(BODY_BYTES_MAX + 1),), time_ns=0)
    with pytest.raises(UsageError, match="range"):
        log.read_body(position, 2, 2)
    for nowhere in (0, position + 1, log.end, log.end + 1000):
        with pytest.raises(CorruptRecord):
            log.read(nowhere)
    log.close()
    log.close()
    with pytest.raises(ClosedError):
        log.append(2, (b"",), time_ns=0)


def test_range_of_a_damaged_body_is_refused_wherever_the_damage_is() -> None:
    """Before any range of it was given out, all of a body is checked; near and far inside, short and long."""
    body = random.Random(1).randbytes(700_000)
    device = CrashDevice(1)
    log = Log.open(Path("log"), device=device)
    position = log.append(7, (body,), time_ns=1)
    log.sync()
    log.append(2, (b"the one before was durable",), time_ns=2)
    log.sync()
    log.close()
    (name,) = device.list()
    for at in (0, 350_000, len(body) - 1):
        device.flip(name, position + HEADER_BYTES + at)
        log = Log.open(Path("log"), device=device, opaque_kinds=frozenset({7}))
        for offset, length in ((0, 10), (100, 300_000), (400_000, 10), (len(body) - 20, 10), (1, len(body) - 1)):
            with pytest.raises(CorruptRecord, match=f"record at {position}"):
                log.read_body(position, offset, length)
        log.close()
        device.flip(name, position + HEADER_BYTES + at)
        log = Log.open(Path("log"), device=device, opaque_kinds=frozenset({7}))
        assert log.read_body(position, 400_000, 10) == body[400_000:400_010]
        assert log.read_body(position, 3, 10) == body[3:13]
        log.close()
