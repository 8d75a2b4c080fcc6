"""Servers as child processes, and where they run."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks.peers.process import on_one_core


def test_what_is_started_meanwhile_shares_one_core_and_it_ends_with_the_block() -> None:
    """The block ends by an error, too."""
    before = os.sched_getaffinity(0)
    program = "import os; print(sorted(os.sched_getaffinity(0)))"
    with pytest.raises(RuntimeError), on_one_core():
        inside = os.sched_getaffinity(0)
        child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        raise RuntimeError
    assert inside == {max(before)}
    assert child.stdout.strip() == f"[{max(before)}]"
    assert os.sched_getaffinity(0) == before
