"""A benchmark that is interrupted: it ends in order, with one line and the exit code that shells know."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from tests.meta.source import ROOT

TIMEOUT_S = 60


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_reach_the_benchmark_and_are_told_in_one_line(number: signal.Signals) -> None:
    """The command hands them on and waits; the benchmark cleans up, and nobody shows a traceback."""
    command = [sys.executable, "-m", "spinrt", "bench", "core"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stderr is not None
        first = child.stderr.readline()
        child.send_signal(number)
        out, err = child.communicate(timeout=TIMEOUT_S)

    assert first.startswith("bench: core:")
    assert child.returncode == 128 + number
    assert err == f"bench: core: interrupted by {number.name}; everything it started is stopped\n"
    assert out == ""


def test_an_interrupted_benchmark_of_calls_leaves_no_partner_behind() -> None:
    """Its partners are processes of five kinds, each in the middle of its work."""
    mark = f"SPINRT_TEST_MARK={uuid.uuid4()}"
    name, _, value = mark.partition("=")
    command = [sys.executable, "-m", "spinrt", "bench", "ipc", "--quick"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), name: value}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stderr is not None
        while "rounds" not in (line := child.stderr.readline()):
            assert line, "it ended before it measured"
        assert len(having(mark)) > 6
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=TIMEOUT_S)

    assert child.returncode == 128 + signal.SIGINT
    assert err.endswith("bench: ipc: interrupted by SIGINT; everything it started is stopped\n")
    assert having(mark) == []


def having(mark: str) -> list[int]:
    """Processes that were started with this in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark.encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found
