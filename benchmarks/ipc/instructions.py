"""Instructions of a call in user mode: by the processor's counters where the machine has them, else by callgrind.

Both count a program that makes so many calls and one that makes more: the difference is that of the calls. Callgrind
counts each subject alone, and takes 15 s for all; what the kernel executes for a system call is in neither.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.ipc import counted
from benchmarks.ipc.counted import SMALL
from spinrt.errors import InternalError

PERF_CALLS: Final = 4_000_000
_EVENT: Final = "instructions:u"
_TIMEOUT_S: Final = 300
_ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Counts:
    """Row → instructions of one call; empty with the reason, where nothing counts them."""

    source: str = ""
    each: dict[str, float] = field(default_factory=dict)
    reason: str = ""


def measure(names: Sequence[str], *, slowly: bool) -> Counts:
    """Count, by what there is; by callgrind only if there is time for it."""
    if perf_counts():
        return Counts("perf", {name: _by_perf(name) for name in names})
    without = "there is no perf with an instruction counter on this machine, and"
    if shutil.which("valgrind") is None:
        return Counts(reason=f"{without} valgrind is not installed")
    if not slowly:
        return Counts(reason=f"{without} callgrind takes too long for --quick")
    return Counts("callgrind", _by_callgrind(names))


def perf_counts() -> bool:
    """Whether ``perf stat`` counts instructions here: a virtual machine often has no counters."""
    if shutil.which("perf") is None:
        return False
    return _perf_total(["true"]) is not None


def _perf_total(command: Sequence[str]) -> float | None:
    done = _run(["perf", "stat", "-x,", "-e", _EVENT, "--", *command])
    return parse_perf(done.stderr) if done.returncode == 0 else None


def parse_perf(text: str) -> float | None:
    """The count in what ``perf stat -x,`` says; none where it is not supported."""
    found = re.search(rf"^(\d+),[^,]*,{re.escape(_EVENT)}", text, re.MULTILINE)
    return float(found[1]) if found else None


def _by_perf(name: str) -> float:
    few, many = (_perf_total([*_program(), name, str(calls)]) for calls in (0, PERF_CALLS))
    if few is None or many is None:
        raise InternalError(f"perf: found no count for {name}, which it had for another program")
    return (many - few) / PERF_CALLS


def _by_callgrind(names: Sequence[str]) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="spinrt-bench-") as scratch:
        out = Path(scratch) / "counts"
        options = ["--tool=callgrind", "--collect-atstart=no", f"--callgrind-out-file={out}"]
        done = _run(["valgrind", *options, *_program()])
        if done.returncode != 0:
            raise InternalError(f"callgrind: ended with status {done.returncode}: {done.stderr[-2000:]}")
        dumps = [out.with_name(f"{out.name}.{at}") for at in range(1, 2 * len(names) + 1)]
        totals = [parse_callgrind(dump.read_text()) for dump in dumps]
    return {name: (totals[2 * at + 1] - totals[2 * at]) / SMALL for at, name in enumerate(names)}


def parse_callgrind(text: str) -> int:
    """The sum of one dump."""
    found = re.search(r"^(?:summary|totals): (\d+)", text, re.MULTILINE)
    if found is None:
        raise InternalError("callgrind: found a dump without a summary")
    return int(found[1])


def _program() -> list[str]:
    return [sys.executable, "-m", counted.__name__]


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """The hash seed is fixed: what a program in Python executes follows it."""
    path = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path, "PYTHONHASHSEED": "0"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
