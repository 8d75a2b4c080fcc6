"""What the machine does meanwhile: how often it takes a core away, what a cycle takes, how alike two equals are."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from benchmarks.ipc.cores import Cores, pin
from benchmarks.ipc.native import work
from benchmarks.ipc.subject import Scale, Subject, Taken, in_batches

CYCLE: Final = "cycle"
LOST: Final = "core_lost"
LONGEST: Final = "core_longest_gap"
AGAIN: Final = "again"
"""Parameter of a subject that is measured a second time, as if it were another one."""
_SHORTEST_GAP_NS: Final = 1000


def subjects(cores: Cores, scale: Scale) -> list[Subject]:
    """A dependent addition, and for each core how much of a second it is gone, and for how long at most."""
    made = [in_batches(CYCLE, {}, work().time_cycles, scale)]
    for core in cores.places().values():
        made.append(Subject(LOST, {"core": core}, _looking(core, cores.caller, scale.gaps_ns, _lost_us_a_second)))
        made.append(Subject(LONGEST, {"core": core}, _looking(core, cores.caller, scale.gaps_ns, _longest_us)))
    return made


def again(subject: Subject) -> Subject:
    """The same subject under another key."""
    return Subject(subject.name, {**subject.params, AGAIN: "yes"}, subject.run, subject.batch)


def _looking(core: int, home: int, span_ns: int, summary: Callable[[list[int], int], float]) -> Callable[[], Taken]:
    def run() -> Taken:
        pin(os.getpid(), core)
        try:
            return Taken([summary(work().gaps(span_ns, _SHORTEST_GAP_NS), span_ns)])
        finally:
            pin(os.getpid(), home)

    return run


def _lost_us_a_second(gaps: list[int], span_ns: int) -> float:
    lost_ns = sum(gaps)  # the last gap may reach beyond the span
    return lost_ns / 1e3 / (max(span_ns, lost_ns) / 1e9)


def _longest_us(gaps: list[int], span_ns: int) -> float:
    return max(gaps, default=0) / 1e3
