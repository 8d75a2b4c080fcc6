"""Message bodies: chunks in the log, read back by any range, before and after they are durable."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

from spinrt.errors import StateError, UsageError
from spinrt.mail.store.bodies import CHUNK_BYTES_MAX, BodyWriter, read_body
from spinrt.mail.store.model import Body
from spinrt.storage.log import Log
from spinrt.testing.device import CrashDevice


def new_log() -> Log:
    return Log.open(Path("/nonexistent"), device=CrashDevice())


def new_writer(log: Log) -> BodyWriter:
    return BodyWriter(lambda chunk, digest: log.append(0x0100, (chunk,), time_ns=0, sha256=digest), log)


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES_MAX - 1, CHUNK_BYTES_MAX, CHUNK_BYTES_MAX + 1, 700_001])
def test_body_comes_back_by_any_range(size: int) -> None:
    """Written in random pieces, read in random pieces while written, when finished, and when durable."""
    rng = random.Random(size)
    data = rng.randbytes(size)
    log = new_log()
    writer = new_writer(log)
    at = 0
    while at < size:
        step = rng.choice((1, 1000, 70_000, 300_000))
        writer.write(memoryview(data)[at : at + step])
        at = min(at + step, size)
        start, length = rng.randrange(size), rng.randrange(size)
        assert writer.read(start, length) == data[:at][start : start + length]
    body = writer.finish()

    assert (body.size, body.digest) == (size, hashlib.sha256(data).digest())
    assert len(body.extents) == -(-size // CHUNK_BYTES_MAX)
    assert all(extent.length <= CHUNK_BYTES_MAX for extent in body.extents)
    assert writer.read(0, size + 10) == data
    log.sync()
    prefixed = Body(body.digest, size + 7, body.extents, b"X: y\r\n\r")
    for _ in range(20):
        start, length = rng.randint(0, size + 8), rng.randint(0, size + 8)
        assert read_body(log, prefixed, start, length) == (prefixed.prefix + data)[start : start + length]
    assert read_body(log, prefixed) == prefixed.prefix + data


def test_small_message_is_one_record() -> None:
    """However many pieces it came in."""
    log = new_log()
    writer = new_writer(log)
    for _ in range(100):
        writer.write(b"0123456789")
    writer.finish()
    log.sync()
    assert len(list(log.records())) == 1


def test_finished_or_aborted_writer_takes_no_more() -> None:
    """Abort after finish does nothing; anything else is misuse."""
    for end in (BodyWriter.finish, BodyWriter.abort):
        writer = new_writer(new_log())
        writer.write(b"x")
        end(writer)
        writer.abort()
        with pytest.raises(StateError):
            writer.write(b"y")
        with pytest.raises(StateError):
            writer.finish()


def test_negative_range_is_refused() -> None:
    """Not a slice from the end."""
    with pytest.raises(UsageError):
        read_body(new_log(), Body(b"", 0, ()), -1, 5)
