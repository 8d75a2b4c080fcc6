"""A benchmark that is interrupted: it ends in order, with one line and the exit code that shells know."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

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
