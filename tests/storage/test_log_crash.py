"""Power lost at every step: what was synced is there, the rest is a prefix, and nothing is torn."""

from __future__ import annotations

import contextlib
import random

import pytest

from spinrt.errors import CorruptRecord
from spinrt.storage.log import Log
from spinrt.testing.device import CrashDevice, PowerLost
from tests.storage.support import NOWHERE, bodies, open_log


def run(log: Log, rng: random.Random, appended: list[bytes], synced: list[int]) -> None:
    """Append and sync at random; ``synced`` gets the count of records that a returned sync covers."""
    for _ in range(12):
        for _ in range(rng.randint(0, 4)):
            body = rng.randbytes(rng.choice((0, 1, 60, 500, 1300)))
            appended.append(body)
            log.append(2, (body,), time_ns=0)
        log.sync()
        synced.append(len(appended))


@pytest.mark.parametrize("seed", range(4))
def test_crash_at_every_step_keeps_a_prefix_and_all_that_was_synced(seed: int) -> None:
    """Also when the machine crashes again in the recovery, at every step of that."""
    step, finished = 1, False
    while not finished:
        for second in (None, 1, 2, 3):
            device = CrashDevice(seed, crash_at=step)
            appended: list[bytes] = []
            synced = [0]
            try:
                run(open_log(device, buffer_bytes_max=1500), random.Random(seed), appended, synced)
                finished = True
            except PowerLost:
                pass
            device = device.crash(crash_at=second)
            with contextlib.suppress(PowerLost):
                open_log(device)

            log = open_log(device.crash())
            found = bodies(log)

            assert found == appended[: len(found)], f"seed {seed}, step {step}, then {second}"
            assert len(found) >= synced[-1], f"seed {seed}, step {step}, then {second}"
            log.append(2, (b"goes on",), time_ns=0)
            log.sync()
            assert bodies(log) == [*found, b"goes on"]
        step += 1
    assert step > 20


def filled(count: int = 30) -> tuple[CrashDevice, list[int]]:
    """A device with a closed log of many records in several segments, each record synced by itself."""
    device = CrashDevice()
    log = open_log(device)
    positions = []
    for n in range(count):
        positions.append(log.append(2, (b"%04d" % n * 100,), time_ns=n))
        log.sync()
    log.close()
    return device, positions


def test_torn_tail_is_cut_at_every_length() -> None:
    """Whatever is left of the last record, the ones before it stay and the log goes on."""
    length = 64 + 400
    for cut in range(1, length, 7):
        device, _ = filled(3)
        name = device.list()[-1]
        file = device.open(name, write=True)
        file.truncate(file.size() - cut)

        log = open_log(device)

        assert len(bodies(log)) == 2
        position = log.append(2, (b"new",), time_ns=0)
        log.sync()
        assert log.read(position).body == b"new"


@pytest.mark.parametrize("inside", [0, 5, 20, 30, 50, 62, 64, 300])
def test_flipped_byte_before_the_tail_is_damage_at_open(inside: int) -> None:
    """In the newest segment: recovery names segment and offset, and does not cut what was durable."""
    device, positions = filled(6)
    name = device.list()[-1]
    start = int(name.removesuffix(".log"))
    victim = next(position for position in positions if position > start)
    assert positions[-1] > victim
    device.flip(name, victim - start + inside)
    before = {n: bytes(inode.content) for n, inode in device.names.items()}

    with pytest.raises(CorruptRecord, match=rf"{name}, offset {victim - start}"):
        open_log(device)

    assert {n: bytes(inode.content) for n, inode in device.names.items()} == before


def test_flipped_byte_in_an_older_segment_is_found_when_read() -> None:
    """Every byte of every older segment is covered by some check."""
    device, _ = filled()
    name = device.list()[1]
    size = device.open(name).size()
    for offset in range(0, size, 13):
        device.flip(name, offset)
        with pytest.raises(CorruptRecord, match=name):
            bodies(open_log(device))
        device.flip(name, offset)
    assert len(bodies(open_log(device))) == 30


def test_missing_or_short_older_segment_is_damage() -> None:
    """A segment whose neighbour is gone or cut does not pass for whole."""
    device, _ = filled()
    name = device.list()[1]
    file = device.open(name, write=True)
    file.truncate(file.size() - 1)
    with pytest.raises(CorruptRecord, match=name):
        open_log(device)
    device.remove(name)
    with pytest.raises(CorruptRecord, match=device.list()[0]):
        open_log(device)


def test_unsynced_records_lost_out_of_order_are_no_damage() -> None:
    """A later unsynced record that reached the disk does not make the loss of an earlier one an error."""
    device = CrashDevice()
    log = open_log(device, buffer_bytes_max=0)
    log.append(2, (b"durable",), time_ns=0)
    log.sync()
    lost = log.append(2, (b"a" * 1024,), time_ns=0)
    log.append(2, (b"b" * 1024,), time_ns=0)
    device.flip(device.list()[0], lost + 100)

    assert bodies(open_log(device)) == [b"durable"]


def test_record_inside_a_body_is_not_taken_for_one() -> None:
    """A message that holds bytes of this very format, right position and all, cannot make recovery see damage."""
    device = CrashDevice()
    forged = CrashDevice()
    fake_log = Log.open(NOWHERE, device=forged, segment_bytes_max=1 << 20, salt=lambda: b"another salt 16!")
    for _ in range(20):
        fake_log.append(2, (b"x" * 100,), time_ns=0)
        fake_log.sync()
    content = bytes(forged.names[forged.list()[0]].content)
    log = open_log(device, segment_bytes_max=1 << 20)
    log.append(2, (content[64 + 64 :],), time_ns=0)
    log.close()
    device.flip(device.list()[0], 64 + 10)

    assert bodies(open_log(device)) == []


def test_segment_of_another_log_is_found_by_its_chain() -> None:
    """Same positions, same sizes, every checksum right: the chain still tells that it does not belong here."""
    mine, _ = filled()
    other = CrashDevice()
    log = open_log(other)
    for n in range(30):
        log.append(2, (b"%04d" % (n + 1) * 100,), time_ns=n)
        log.sync()
    log.close()
    name = mine.list()[1]
    mine.names[name] = mine.durable_names[name] = other.names[name]

    with pytest.raises(CorruptRecord, match="chain"):
        bodies(open_log(mine))


def test_flipped_byte_in_a_batch_is_damage_when_a_later_one_says_it_was_durable() -> None:
    """Records of the same batch say nothing about each other; one behind them does, however far."""
    device = CrashDevice()
    log = open_log(device, segment_bytes_max=1 << 20)
    first = log.append(2, (b"first" * 20,), time_ns=0)
    for _ in range(50):
        log.append(2, (b"same batch" * 20,), time_ns=0)
    log.sync()
    log.append(2, (b"behind it",), time_ns=0)
    log.sync()
    device.flip(device.list()[0], first + 80)
    size = device.open(device.list()[0]).size()
    with pytest.raises(CorruptRecord, match=f"offset {first}"):
        open_log(device)
    assert device.open(device.list()[0]).size() == size
