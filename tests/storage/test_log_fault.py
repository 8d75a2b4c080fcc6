"""A device that fails at step k: fail-stop for errors, going on after a full device."""

from __future__ import annotations

import errno

import pytest

from spinrt.errors import DeviceFailed, DeviceFull, StorageError
from spinrt.storage.log import Log
from spinrt.testing.device import CrashDevice, FaultDevice
from tests.storage.support import bodies, open_log


def test_failure_at_every_step_stops_the_log_and_recovery_keeps_what_was_synced() -> None:
    """An error is raised once at the step and again by everything later; reopening finds every synced record."""
    step, finished = 1, False
    while not finished:
        device = CrashDevice()
        fault = FaultDevice(device, fail_at=step)
        synced: list[bytes] = []
        try:
            log = open_log(fault, segment_bytes_max=600, buffer_bytes_max=400)
        except StorageError as error:
            assert isinstance(error, DeviceFailed)
        else:
            finished = not fill(log, synced)
            if not finished:
                refuses_everything(log)
        found = bodies(open_log(device.crash()))
        assert found[: len(synced)] == synced, f"step {step}"
        step += 1
    assert step > 20


def fill(log: Log, synced: list[bytes]) -> bool:
    """Write records; tell whether the device failed."""
    try:
        for n in range(12):
            body = b"%d" % n * 80
            log.append(2, (body,), time_ns=0)
            log.append(2, (body,), time_ns=0)
            log.sync()
            synced += [body, body]
    except DeviceFailed:
        return True
    return False


def refuses_everything(log: Log) -> None:
    with pytest.raises(DeviceFailed):
        log.append(2, (b"x",), time_ns=0)
    with pytest.raises(DeviceFailed):
        log.sync()
    log.close()


def test_full_device_at_every_write_gives_up_the_unsynced_and_goes_on() -> None:
    """After room was made, the log takes records again, holds none of the lost ones, and never reuses a position."""
    for step in range(1, 60):
        device = CrashDevice()
        fault = FaultDevice(device, error=errno.ENOSPC)
        log = open_log(fault, segment_bytes_max=600, buffer_bytes_max=400)
        fault.fail_at = fault.step_count + step
        durable: dict[int, bytes] = {}
        pending: dict[int, bytes] = {}
        lost: set[int] = set()
        for n in range(20):
            body = b"%d" % n * 50
            try:
                pending[log.append(2, (body,), time_ns=0)] = body
                if n % 3 == 2:
                    log.sync()
                    durable |= pending
                    pending.clear()
            except DeviceFull:
                # What went to an earlier segment may have become durable before the device was full.
                durable |= {at: body for at, body in pending.items() if not log.is_lost(at)}
                assert all(at < log.durable for at in pending if not log.is_lost(at))
                lost |= {at for at in pending if log.is_lost(at)}
                pending.clear()
            except DeviceFailed:
                break  # the step was a sync: that stops the log
        else:
            fault.heal()
            log.sync()
            durable |= pending
            assert {record.position: record.body for record in log.records()} == durable, f"step {step}"
            assert all(log.is_lost(position) for position in lost)
            assert not any(log.is_lost(position) for position in durable)
            found = {record.position: record.body for record in open_log(device.crash()).records()}
            assert found == durable, f"step {step}"


def test_full_device_that_stays_full_loses_nothing_durable() -> None:
    """Many failed attempts in a row, then room: only what was acknowledged is there."""
    device = CrashDevice()
    fault = FaultDevice(device, error=errno.ENOSPC, lasting=True)
    log = open_log(fault, segment_bytes_max=600)
    log.append(2, (b"first" * 20,), time_ns=0)
    log.sync()
    fault.fail_at = fault.step_count + 1
    for _ in range(5):
        position = log.append(2, (b"lost" * 100,), time_ns=0)
        with pytest.raises(DeviceFull, match="gave up"):
            log.sync()
        assert log.is_lost(position)
    fault.heal()
    log.append(2, (b"second",), time_ns=0)
    log.sync()

    assert bodies(log) == [b"first" * 20, b"second"]
    assert bodies(open_log(device.crash())) == [b"first" * 20, b"second"]


def test_record_that_refers_to_a_lost_one_is_refused() -> None:
    """What depends on bytes that were given up never reaches the log."""
    fault = FaultDevice(CrashDevice(), error=errno.ENOSPC)
    log = open_log(fault)
    chunk = log.append(2, (b"chunk",), time_ns=0)
    fault.fail_at = fault.step_count + 1
    with pytest.raises(DeviceFull):
        log.sync()

    with pytest.raises(DeviceFull, match="refers to"):
        log.append(2, (b"names the chunk",), time_ns=0, references=[chunk])
    assert log.append(2, (b"does not",), time_ns=0, references=[]) > chunk


def test_full_buffer_writes_through() -> None:
    """Memory stays bounded: at most the buffer and one record wait."""
    device = CrashDevice()
    log = open_log(device, segment_bytes_max=1 << 20, buffer_bytes_max=1000)
    for _ in range(50):
        log.append(2, (b"x" * 100,), time_ns=0)
        written = sum(len(inode.content) for inode in device.names.values())
        assert log.end - written <= 1000 + 164


def test_full_device_before_the_first_sync_after_reopening() -> None:
    """What follows continues the chain of what was there when the log was opened."""
    device = CrashDevice()
    log = open_log(device)
    log.append(2, (b"old",), time_ns=0)
    log.close()
    fault = FaultDevice(device, error=errno.ENOSPC)
    log = open_log(fault)
    log.append(2, (b"lost",), time_ns=0)
    fault.fail_at = fault.step_count + 1
    with pytest.raises(DeviceFull):
        log.sync()
    log.append(2, (b"new",), time_ns=0)
    log.sync()

    assert bodies(log) == [b"old", b"new"]
    assert bodies(open_log(device.crash())) == [b"old", b"new"]
