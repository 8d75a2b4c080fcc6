"""Files are written out in pieces, and whatever goes wrong there is left to the sync."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Event

import pytest

from spinrt import _core
from spinrt.storage import write_out
from spinrt.storage.write_out import PIECE_BYTES


def test_a_file_is_written_out_whole_in_pieces_with_pauses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No gap, no more than a piece at once; a pause behind each that had something to write, and there it stops."""
    calls: list[tuple[int, int, bool]] = []
    slept: list[float] = []
    now_ns = 0
    stop = Event()

    def write(descriptor: int, offset: int, length: int, wait: bool) -> None:
        nonlocal now_ns
        calls.append((offset, length, wait))
        now_ns += write_out.WRITTEN_NS + 1 if offset else 0

    monkeypatch.setattr(write_out.time, "monotonic_ns", lambda: now_ns)
    monkeypatch.setattr(stop, "wait", lambda pause_s: slept.append(pause_s) or stop.is_set())
    monkeypatch.setattr(_core, "write_out", write)
    path = tmp_path / "file"
    path.write_bytes(bytes(2 * PIECE_BYTES + 1))
    write_out.write_out_file(path, stop)
    assert calls == [(at * PIECE_BYTES, PIECE_BYTES, True) for at in range(3)]
    assert slept == [write_out.PAUSE_S] * 2
    stop.set()
    calls.clear()
    write_out.write_out_file(path, stop)
    assert len(calls) == 2


@pytest.mark.parametrize("wait", [False, True])
def test_what_cannot_be_written_out_is_no_error(tmp_path: Path, wait: bool) -> None:
    """A pipe, a descriptor that is closed: whoever syncs is told."""
    path = tmp_path / "file"
    path.write_bytes(b"x")
    descriptor = os.open(path, os.O_RDONLY)
    _core.write_out(descriptor, 0, 0, wait)
    os.close(descriptor)
    _core.write_out(descriptor, 0, 0, wait)
    reader, writer = os.pipe()
    _core.write_out(reader, 0, 1, wait)
    os.close(reader)
    os.close(writer)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """As for any other use of it."""
    with pytest.raises(FileNotFoundError):
        write_out.write_out_file(tmp_path / "none", Event())
