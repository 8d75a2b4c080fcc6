"""The devices that misbehave: they do what they say, and the log keeps its word on each."""

from __future__ import annotations

import errno

import pytest

from spinrt.errors import CorruptRecord, DeviceFull
from spinrt.storage.device import Device
from spinrt.testing.device import CrashDevice, FullDevice, RottingDevice, Space
from tests.storage.support import bodies, open_log


def write(device: Device, name: str, data: bytes) -> None:
    file = device.open(name, create=True, write=True)
    file.append([data])
    file.close()


def content(device: Device, name: str) -> bytes:
    return device.open(name).read(0, 1 << 20)


def test_full_device_writes_what_fits_and_gets_its_space_back() -> None:
    """ENOSPC comes in the middle of a write; truncating and removing make room."""
    device = FullDevice(CrashDevice(), Space(64 + 10))
    file = device.open("a", create=True, write=True)
    with pytest.raises(OSError, match="No space") as caught:
        file.append([b"0123456", b"789abc"])
    assert caught.value.errno == errno.ENOSPC
    assert content(device, "a") == b"0123456789"
    with pytest.raises(OSError, match="No space"):
        device.open("b", create=True, write=True)
    file.truncate(4)
    file.append([b"xyz"])
    assert content(device, "a") == b"0123xyz"
    device.remove("a")
    write(device, "b", b"ten bytes.")


def test_two_devices_share_one_space() -> None:
    """As two directories of one file system do."""
    space = Space(1000)
    one, two = FullDevice(CrashDevice(), space), FullDevice(CrashDevice(), space)
    write(one, "a", b"x" * 800)
    with pytest.raises(OSError, match="No space"):
        write(two, "b", b"y" * 800)
    one.remove("a")
    two.remove("b")
    assert space.left == 1000


def test_log_on_a_device_that_is_full_at_any_size_keeps_what_it_synced() -> None:
    """The device has room for so many bytes, for every so many; then it gets more and the log goes on by itself."""
    for room in range(200, 3000, 41):
        device = CrashDevice()
        space = Space(room)
        log = open_log(FullDevice(device, space), segment_bytes_max=700)
        durable: list[bytes] = []
        full = 0
        for n in range(20):
            body = b"%02d" % n * 60
            try:
                log.append(2, (body,), time_ns=0)
                log.sync()
                durable.append(body)
            except DeviceFull:
                full += 1
                space.left += 300
        assert full > 0 or room > 2500
        assert bodies(log) == durable
        assert bodies(open_log(device.crash())) == durable


def test_directories_of_one_device_share_power_and_steps() -> None:
    """Names are made durable in the directory that was synced, and a crash in one takes the other along."""
    device = CrashDevice(seed=3)
    one, two = device.directory("one"), device.directory("two")
    write(one, "a", b"in one")
    write(two, "a", b"in two")
    two.sync()
    assert (one.list(), two.list()) == (["a"], ["a"])
    assert set(device.durable_names) == {"two/a"}
    assert device.step_count == 5
    two.remove("a")
    assert (one.list(), two.list()) == (["a"], [])
    survivors = {tuple(CrashDevice.crash(device).list()) for _ in range(40)}
    assert len(survivors) == 4  # each name with or without the other: neither directory was synced since


def test_power_lost_within_a_sync_leaves_any_sectors_and_torn_ones() -> None:
    """Later sectors without earlier ones, and sectors of which only the beginning was written."""
    seen: set[tuple[bool, bool]] = set()
    torn = False
    for seed in range(60):
        device = CrashDevice(seed)
        write(device, "a", b"a" * 1024)
        device.sync()
        left = device.crash()
        if left.list() and (data := content(left, "a")) and len(data) == 1024:
            first, second = data[:512], data[512:]
            seen.add((b"a" in first, b"a" in second))
            torn |= 0 < first.count(b"a") < 512
    assert seen == {(False, False), (False, True), (True, False), (True, True)}
    assert torn


def test_what_a_rotting_device_gives_is_never_taken_for_right() -> None:
    """Whatever bit of whatever read is flipped: the bodies are right, or the log says that they are not."""
    device = CrashDevice()
    log = open_log(device)
    expected = [b"%04d" % n * 100 for n in range(20)]
    positions = [log.append(2, (body,), time_ns=n) for n, body in enumerate(expected)]
    log.close()
    found = 0
    for seed in range(200):
        rotting = RottingDevice(device, seed, rate=0.0)
        log = open_log(rotting)
        rotting.rate = 0.3
        for position, body in zip(positions, expected, strict=True):
            before = rotting.flipped
            try:
                # A flip in what was read beyond the record is nobody's harm.
                assert log.read(position).body == body
            except CorruptRecord:
                found += 1
                assert rotting.flipped > before
        log.close()
    assert found > 100
