"""Writing and syncing without the GIL: the same bytes as `Log.sync` gives, and the same errors."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import resource
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinrt._core import LogBuffer, LogWriter
from spinrt.errors import DeviceFailed, DeviceFull, StateError, UsageError
from spinrt.storage.device import OsDevice, OsFile
from spinrt.storage.log import Log
from spinrt.storage.segment import Segment
from tests.storage.support import bodies, open_log
from tests.storage.test_commit import Waiters, run

SEGMENT = Segment.planned(0, 0, bytes(16), b"0123456789abcdef")


class DivertedFile(OsFile):
    """A file whose descriptor names another one while the device says so: writing without us meets its errors."""

    def __init__(self, descriptor: int, device: DivertedDevice) -> None:
        super().__init__(descriptor)
        self._device = device

    @property
    def descriptor(self) -> int:
        return super().descriptor if self._device.target is None else self._device.target


class DivertedDevice(OsDevice):
    target: int | None = None

    def open(self, name: str, *, create: bool = False, write: bool = False) -> OsFile:
        file = super().open(name, create=create, write=write)
        return DivertedFile(file.descriptor, self)


@contextlib.contextmanager
def serving() -> Iterator[LogWriter]:
    """A writer with its thread."""
    writer = LogWriter()
    thread = threading.Thread(target=writer.serve, name="writer")
    thread.start()
    try:
        yield writer
    finally:
        writer.end()
        thread.join()


def append(log: Log, body: bytes) -> int:
    return log.append(2, (body,), time_ns=7)


def commit(log: Log, writer: LogWriter) -> int:
    """Launch and land where it can be done, sync where not."""
    return log.land() if log.launch(writer) else log.sync()


STEPS = st.lists(st.integers(0, 9) | st.integers(10, 700), max_size=60)
"""Below 5: commit; below 10: only begin to; else append a body of so many octets."""


@given(STEPS)
def test_launched_and_synced_logs_hold_the_same(tmp_path_factory: pytest.TempPathFactory, steps: list[int]) -> None:
    """Any order of appends and commits, over several segments and a buffer that runs over."""
    directory = tmp_path_factory.mktemp("logs")
    with serving() as writer:
        for step_taken in (_launch_step, _sync_step):
            log = _small_log(directory / step_taken.__name__)
            for number, step in enumerate(steps):
                if step >= 10:
                    append(log, bytes([number]) * step)
                else:
                    step_taken(log, writer, step)
            log.close()
    assert _held(directory / _launch_step.__name__) == _held(directory / _sync_step.__name__)


def _launch_step(log: Log, writer: LogWriter, step: int) -> None:
    """What is not landed here, the next commit lands, or a full buffer, or the end."""
    if not log.launch(writer):
        log.sync()
    elif step < 5:
        assert log.land() == log.durable == log.end


def _sync_step(log: Log, _writer: LogWriter, _step: int) -> None:
    log.sync()


def _small_log(directory: Path) -> Log:
    return open_log(OsDevice(directory), segment_bytes_max=2000, buffer_bytes_max=1500)


def _held(directory: Path) -> tuple[list[tuple[int, bytes]], list[tuple[str, int]]]:
    """Records and segments that are found at the next start."""
    log = _small_log(directory)
    try:
        return [(record.position, record.body) for record in log.records()], log.segments()
    finally:
        log.close()


def test_more_buffers_than_one_call_takes_are_written_in_order(tmp_path: Path) -> None:
    """2,500 records are 5,000 buffers: five calls of writev."""
    log = Log.open(tmp_path / "log")
    expected = [b"%d" % n for n in range(2500)]
    with serving() as writer:
        for body in expected:
            append(log, body)
        assert log.launch(writer)
        assert log.land() == log.end
    log.close()
    log = Log.open(tmp_path / "log")
    assert bodies(log) == expected
    log.close()


def test_reads_and_appends_go_on_while_it_is_under_way_and_sync_lands_it(tmp_path: Path) -> None:
    """What is launched is read from memory until it is landed; a sync lands it and takes what came later."""
    log = Log.open(tmp_path / "log")
    with serving() as writer:
        first = append(log, b"first")
        assert log.launch(writer)
        second = append(log, b"second")
        assert (log.read(first).body, log.read(second).body) == (b"first", b"second")
        assert not log.launch(writer)
        assert log.sync() == log.end
        assert log.land() == log.end
        assert bodies(log) == [b"first", b"second"]
    log.close()


def test_a_new_segment_and_a_device_of_our_own_are_left_to_sync(tmp_path: Path) -> None:
    """Nothing begins, and nothing is lost: sync does it."""
    log = open_log(OsDevice(tmp_path / "log"), segment_bytes_max=300)
    with serving() as writer:
        for n in range(3):
            append(log, b"%d" % n * 150)
        assert not log.launch(writer)
        assert log.sync() == log.end
        assert len(bodies(log)) == 3
    log.close()
    assert not log.launch(writer)


def test_no_memory_leaves_it_to_sync(tmp_path: Path) -> None:
    """A batch that cannot be described takes nothing from the buffer."""

    class Exhausted:
        def begin(self, _file: int, _buffer: LogBuffer) -> None:
            raise MemoryError

    log = Log.open(tmp_path / "log")
    append(log, b"body")
    assert not log.launch(cast(LogWriter, Exhausted()))
    assert log.sync() == log.end
    assert bodies(log) == [b"body"]
    log.close()


def test_full_device_gives_up_what_was_launched_and_what_came_behind_it(tmp_path: Path) -> None:
    """The same as a sync on a full device: all that is not durable is lost, and the log goes on when there is room."""
    device = DivertedDevice(tmp_path / "log")
    log = open_log(device)
    with serving() as writer, Path("/dev/full").open("wb") as full:
        append(log, b"kept")
        commit(log, writer)
        lost = append(log, b"lost")
        device.target = full.fileno()
        assert log.launch(writer)
        behind = append(log, b"behind")
        with pytest.raises(DeviceFull, match="No space left"):
            log.land()
        assert log.is_lost(lost) and log.is_lost(behind)
        assert log.land() == log.durable
        device.target = None
        append(log, b"later")
        assert commit(log, writer) == log.end
        assert bodies(log) == [b"kept", b"later"]
    log.close()


def test_full_buffer_behind_a_launch_meets_its_error_and_its_record_is_refused(tmp_path: Path) -> None:
    """The append that had to write through must not say that its record is in the log."""
    device = DivertedDevice(tmp_path / "log")
    log = open_log(device, buffer_bytes_max=500)
    with serving() as writer, Path("/dev/full").open("wb") as full:
        append(log, b"launched")
        device.target = full.fileno()
        assert log.launch(writer)
        with pytest.raises(DeviceFull):
            append(log, b"x" * 600)
        device.target = None
        assert log.land() == log.durable
        assert bodies(log) == []
    log.close()


def test_failed_write_and_failed_sync_stop_the_log(tmp_path: Path) -> None:
    """A file that cannot be written, one that cannot be synced: fail-stop, with the operation named."""
    read_end, write_end = os.pipe()
    try:
        for name, target, text in (("a", read_end, "log write"), ("b", write_end, "log sync")):
            device = DivertedDevice(tmp_path / name)
            log = open_log(device)
            with serving() as writer:
                append(log, b"body")
                device.target = target
                assert log.launch(writer)
                with pytest.raises(DeviceFailed, match=text):
                    log.land()
                assert not log.launch(writer)
                for use in (log.land, log.sync):
                    with pytest.raises(DeviceFailed, match=text):
                        use()
            log.close()
    finally:
        os.close(read_end)
        os.close(write_end)


def test_writes_cut_short_by_a_signal_are_gone_on_with() -> None:
    """A pipe takes what it has room for; a signal ends the call with that part; the rest follows, no octet twice."""
    read_end, write_end = os.pipe()
    capacity = fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 65_536)
    buffer = LogBuffer(0, bytes(16))
    for n in range(200):
        buffer.append(SEGMENT, 1, bytes([n]) * 997, 0, bytes(32), 0)
    previous = signal.signal(signal.SIGUSR1, lambda *_: None)
    signal.siginterrupt(signal.SIGUSR1, True)
    try:
        with serving() as writer:
            entries = writer.begin(write_end, buffer)
            expected = b"".join(entry.header + entry.body for entry in entries)
            (thread,) = (one for one in threading.enumerate() if one.name == "writer" and one.ident)
            while _waiting(read_end) < capacity:
                pass
            found = b""
            while len(found) < len(expected):
                assert thread.ident is not None
                signal.pthread_kill(thread.ident, signal.SIGUSR1)
                found += os.read(read_end, 5000)
            write_error, sync_error = writer.wait()
            assert found == expected
            assert write_error == 0 and sync_error != 0  # a pipe cannot be synced
    finally:
        signal.signal(signal.SIGUSR1, previous)
        os.close(read_end)
        os.close(write_end)


def _waiting(pipe: int) -> int:
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


LIMITED = """
import resource, signal, sys, threading
from pathlib import Path
from spinrt._core import LogWriter
from spinrt.errors import DeviceFailed
from spinrt.storage.log import Log

log = Log.open(Path(sys.argv[1]))
writer = LogWriter()
threading.Thread(target=writer.serve, daemon=True).start()
log.append(2, (b"x" * 5000,), time_ns=0)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
assert log.launch(writer)
try:
    log.land()
except DeviceFailed as error:
    print(error)
"""


def test_write_that_ends_in_an_error_half_way_stops_the_log_and_recovery_cuts_it(tmp_path: Path) -> None:
    """A bound on the file's size: the first call writes a part, the second says why."""
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("log write: File too large")
    assert [path.stat().st_size for path in tmp_path.iterdir()] == [1000]
    log = Log.open(tmp_path)
    assert bodies(log) == []
    log.close()


def test_writer_refuses_what_is_out_of_turn() -> None:
    """A batch at a time, and waiting only for one; a buffer keeps its records when a batch is refused."""
    writer, buffer = LogWriter(), LogBuffer(0, bytes(16))
    with pytest.raises(StateError):
        writer.wait()
    with pytest.raises((TypeError, UsageError)):
        writer.begin(0, None)  # type: ignore[arg-type]
    writer.call()
    buffer.append(SEGMENT, 1, b"body", 0, bytes(32), 0)
    with pytest.raises(StateError):
        writer.begin(0, buffer)
    assert len(buffer.take()) == 1
    assert writer.serve()
    writer.end()
    assert not writer.serve()
    writer.acknowledge()


def test_no_descriptor_left_is_told(tmp_path: Path) -> None:
    """The error says what to do."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with (tmp_path / "probe").open("wb") as probe:
        resource.setrlimit(resource.RLIMIT_NOFILE, (probe.fileno(), hard))
        try:
            with pytest.raises(DeviceFailed, match="event descriptor"):
                LogWriter()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# ------------------------------------------------------------------------------------------------------- group commit


def test_group_commit_on_files_syncs_without_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No request needs `Log.sync`; all are durable when answered, also after a crash."""

    async def body() -> None:
        log = Log.open(tmp_path / "log")
        waiters = Waiters(log)
        monkeypatch.setattr(log, "sync", None)
        for _ in range(20):
            await asyncio.gather(*(waiters.write(b"%d" % n) for n in range(10)))
        await waiters.commit.close()
        monkeypatch.undo()
        assert waiters.commit.sync_count == 20
        log.close()
        log = Log.open(tmp_path / "log")
        assert len(bodies(log)) == 200
        log.close()

    run(body)


def test_group_commit_on_a_full_device_tells_and_goes_on(tmp_path: Path) -> None:
    """After DeviceFull the same commit serves again."""

    async def body() -> None:
        device = DivertedDevice(tmp_path / "log")
        log = open_log(device)
        waiters = Waiters(log)
        device.target = full.fileno()
        lost = waiters.write(b"lost")
        await waiters.changed.wait()
        device.target = None
        assert isinstance(waiters.errors[0], DeviceFull)
        assert log.is_lost(waiters.waiting.pop()[0])
        await waiters.write(b"kept")
        assert not lost.done()
        await waiters.commit.close()
        assert bodies(log) == [b"kept"]
        log.close()

    with Path("/dev/full").open("wb") as full:
        run(body)


def test_group_commit_on_a_failed_device_tells_every_request_and_its_thread_ends(tmp_path: Path) -> None:
    """As in test_commit, by the way that needs no GIL."""

    async def body() -> None:
        before = set(threading.enumerate())
        device = DivertedDevice(tmp_path / "log")
        log = open_log(device)
        waiters = Waiters(log)
        device.target = unwritable.fileno()
        waiters.write(b"x")
        await waiters.changed.wait()
        waiters.changed.clear()
        waiters.commit.request()
        await waiters.changed.wait()
        assert [type(error) for error in waiters.errors] == [DeviceFailed, DeviceFailed]
        await waiters.commit.close()
        assert not [thread for thread in set(threading.enumerate()) - before if thread.name == "spinrt-commit"]
        log.close()

    with Path("/dev/null").open("rb") as unwritable:
        run(body)
