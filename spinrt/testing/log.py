"""What every `spinrt.storage.protocols.Log` must do: subclass `LogConformance` and say how to make one.

::

    class TestMine(LogConformance):
        def open(self, place: Path) -> Log:
            return MyLog(place)

``open`` of the same place gives the same log again, after the one before it was closed. Its pieces should hold few
records (a few KiB), so that something can expire. Crashes and devices that fail are each implementation's own to test.
"""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest

from spinrt.errors import ClosedError, CorruptRecord, UsageError
from spinrt.storage.protocols import Log

KIND = 7
BODY_BYTES_MAX = 16 * 1024 * 1024 - 18


def text(number: int, size: int = 700) -> bytes:
    """So many bytes that compress, of that number and no other."""
    return (b"%d, " % number * size)[:size]


class LogConformance:
    """The suite. Each test gets a log of its own in ``place``."""

    def open(self, place: Path) -> Log:
        raise NotImplementedError

    def fill(self, log: Log, count: int, first: int = 0) -> dict[int, bytes]:
        """Append so many bodies, every other one in any form that the log likes; return them by name."""
        made = {}
        for number in range(first, first + count):
            position = log.append(KIND, (text(number),), time_ns=number, may_compress=number % 2 == 0)
            made[position] = text(number)
        return made

    def check(self, log: Log, bodies: dict[int, bytes]) -> None:
        for name, body in bodies.items():
            assert log.holds(name) and log.place(name) is not None
            record = log.read(name)
            assert (record.position, record.kind, record.body) == (name, KIND, body)
            assert log.read_body(name, 0, len(body)) == body
            assert log.read_body(name, 100, 50) == body[100:150]
            assert log.read_body(name, len(body), 0) == b""

    def test_what_is_appended_is_read_at_once_and_after_reopening(self, tmp_path: Path) -> None:
        """In order, each leading to the next, of any size down to nothing; the identity stays."""
        log = self.open(tmp_path)
        identity = log.identity
        given = [(2 + n, text(n, size), n * 10) for n, size in enumerate((0, 1, 100, 511, 512, 5000, 300_000))]
        positions = [log.append(kind, (body,), time_ns=time_ns) for kind, body, time_ns in given]
        assert positions == sorted(set(positions)) and len(identity) == 16 and log.whole
        for _ in range(2):
            for position, (kind, body, time_ns) in zip(positions, given, strict=True):
                record = log.read(position)
                assert (record.position, record.kind, record.time_ns, record.body) == (position, kind, time_ns, body)
            assert log.sync() == log.durable == log.end
            found = list(log.records())
            assert [(one.kind, one.body, one.time_ns) for one in found] == given
            assert list(log.records(found[2].next_position)) == found[3:]
            assert list(log.records(positions[4])) == found[4:]
            log.close()
            log = self.open(tmp_path)
            assert log.identity == identity
        log.close()
        assert self.open(tmp_path / "other").identity != identity

    def test_durable_follows_sync(self, tmp_path: Path) -> None:
        """What was appended is not durable before, and all of it is after."""
        log = self.open(tmp_path)
        log.sync()
        before = log.durable
        position = log.append(KIND, (b"one", memoryview(b" two")), time_ns=1)
        assert log.durable == before <= position < log.end
        assert log.read_body(position, 0, 7) == b"one two"
        assert list(log.records()) == []
        assert log.sync() > position and not log.is_lost(position)
        assert [record.position for record in log.records()] == [position]

    def test_bodies_in_any_form_read_as_given(self, tmp_path: Path) -> None:
        """Whether or not the log compressed them; the digest is of what is stored."""
        log = self.open(tmp_path)
        bodies = self.fill(log, 12)
        for _ in range(2):
            self.check(log, bodies)
            for name in bodies:
                kind, _, stored, digest = log.stored_body(name)
                assert kind & 0x7FFF == KIND
                assert digest == hashlib.sha256(stored).digest()[:16]
                assert kind & 0x8000 or stored == bodies[name]
            log.sync()

    def test_misuse_is_refused(self, tmp_path: Path) -> None:
        """A body that is too long, a kind that is none, a range outside, a position that is no record, a closed log."""
        log = self.open(tmp_path)
        position = log.append(KIND, (b"abc",), time_ns=0)
        for kind, size in ((KIND, BODY_BYTES_MAX + 1), (0x8000, 1), (0x1_0000, 1), (1, 1)):
            with pytest.raises(UsageError):
                log.append(kind, (bytes(size),), time_ns=0)
        for offset, length in ((0, 4), (3, 1), (-1, 1), (0, -1)):
            with pytest.raises(UsageError):
                log.read_body(position, offset, length)
        for nowhere in (position + 1, log.end, log.end + 10_000, log.end + 2**48):
            assert not log.holds(nowhere) and (nowhere == position + 1 or log.place(nowhere) is None)
            with pytest.raises(CorruptRecord):
                log.read(nowhere)
        log.close()
        log.close()
        with pytest.raises(ClosedError):
            log.append(KIND, (b"",), time_ns=0)

    def test_carried_bodies_keep_their_names(self, tmp_path: Path) -> None:
        """When their first places expired, and at the next start; what was not carried is gone."""
        log = self.open(tmp_path)
        identity, bodies = log.identity, self.fill(log, 40)
        border = log.end
        kept = dict(list(bodies.items())[::2])
        for name in kept:
            kind, time_ns, stored, _ = log.stored_body(name)
            assert log.append_carried(name, kind, time_ns, stored) >= border
            assert log.stored_body(name)[:3] == (kind, time_ns, stored)
        log.sync()
        assert log.expire(border)
        assert not log.whole and log.start <= border
        for _ in range(2):
            self.check(log, kept)
            gone = [name for name in bodies if name not in kept and name < log.start]
            assert gone and not any(log.holds(name) for name in gone)
            assert log.identity == identity
            log.close()
            log = self.open(tmp_path)
        later = self.fill(log, 5, first=100)
        self.check(log, kept | later)

    def test_bodies_of_another_log_are_carried(self, tmp_path: Path) -> None:
        """Under names that mean nothing in the log itself."""
        source, target = self.open(tmp_path / "source"), self.open(tmp_path / "target")
        bodies = self.fill(source, 10)
        far = 3 << 48
        for name in bodies:
            kind, time_ns, stored, digest = source.stored_body(name)
            target.append_carried(far + name, kind, time_ns, stored)
            assert target.stored_body(far + name) == (kind, time_ns, stored, digest)
        self.check(target, {far + name: body for name, body in bodies.items()})
        target.close()
        self.check(self.open(tmp_path / "target"), {far + name: body for name, body in bodies.items()})

    def test_nothing_expires_in_use(self, tmp_path: Path) -> None:
        """While somebody holds the log, or walks it."""
        log = self.open(tmp_path)
        bodies = self.fill(log, 40)
        log.sync()
        with log.hold():
            assert log.expire(log.end) == []
        walk = log.records()
        next(walk)
        assert log.expire(log.end) == []
        assert 1 + sum(1 for _ in walk) == len(bodies)
        assert log.expire(log.end)
        assert log.expire(log.start) == []

    def test_threads_append_and_read_together(self, tmp_path: Path) -> None:
        """Each record is there once, whole, whoever appended it."""
        log = self.open(tmp_path)
        made: dict[int, bytes] = {}

        def work(first: int) -> None:
            for start in range(first, first + 60, 20):
                mine = self.fill(log, 20, first=start)
                self.check(log, mine)
                log.sync()
                made.update(mine)

        threads = [threading.Thread(target=work, args=(1000 * number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == 240
        self.check(log, made)
        assert {record.position: record.body for record in log.records()} == made
