"""A real process, really killed: what it said was durable is in the log."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from spinrt.storage.log import Log

WRITER = """
import sys, threading
from pathlib import Path
from spinrt._core import LogWriter
from spinrt.storage.log import Log

writer = LogWriter()
threading.Thread(target=writer.serve, daemon=True).start()
launches = sys.argv[2] == "launch"
log = Log.open(Path(sys.argv[1]), segment_bytes_max=20_000, buffer_bytes_max=3_000)
number = sum(1 for _ in log.records())
while True:
    for _ in range(number % 5 + 1):
        log.append(2, (b"%d" % number * (number % 300 + 1),), time_ns=number)
        number += 1
    log.land() if launches and log.launch(writer) else log.sync()
    print(number, flush=True)
"""
ROUNDS = 10


@pytest.mark.parametrize("way", ["sync", "launch"])
def test_kill_nine_loses_nothing_that_was_synced(tmp_path: Path, way: str) -> None:
    """Ten rounds on the same log; each is killed after a few acknowledged syncs."""
    rng = random.Random(1)
    for _ in range(ROUNDS):
        acknowledged = run_and_kill(tmp_path / "log", lines=rng.randint(1, 40), way=way)
        log = Log.open(tmp_path / "log", segment_bytes_max=20_000)
        records = list(log.records())
        log.close()

        assert len(records) >= acknowledged
        for number, record in enumerate(records):
            assert record.body == b"%d" % number * (number % 300 + 1)


def run_and_kill(path: Path, lines: int, way: str) -> int:
    """Run the writer until it printed that many lines, kill it; return the last number it printed."""
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path), way], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(lines):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split(b"\n")
        process.wait()
    whole = [line for line in rest[:-1] if line]
    return int(whole[-1]) if whole else 0
