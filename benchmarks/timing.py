"""How one subject is timed: so many calls in a row, as many as fill the time of a run."""

from __future__ import annotations

import time
import timeit
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

CALIBRATION_CALLS_MAX: Final = 1 << 24
CALIBRATION_LOOKS: Final = 3
UNROLLED: Final = 8
"""Statements in a row in a Python loop: what the loop itself costs is then little beside them."""

Measure: TypeAlias = Callable[[int], int]
"""Makes so many calls and returns the nanoseconds they took."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One row: what is called, and how.

    Attributes:
        name: Of the row.
        params: Of the row; with the name they tell it from all others.
        measure: Makes calls.
        each: How much one call does of what the row counts.
    """

    name: str
    params: Mapping[str, object]
    measure: Measure
    each: int = 1

    @property
    def key(self) -> str:
        """Tells it from all others of a benchmark."""
        return key_of(self.name, self.params)


def key_of(name: str, params: Mapping[str, object]) -> str:
    """The `Subject.key` of a subject with that name and these parameters, in any order."""
    return " ".join([name, *sorted(f"{key}={value}" for key, value in params.items())])


def one_run(subject: Subject, run_ns: int) -> Callable[[], float]:
    """Calibrate a subject to runs of about ``run_ns``; what is returned makes one and gives nanoseconds for each.

    The best of a few looks counts, so that an interruption does not pass for a slow subject.
    """
    calls = 1
    while (taken := _best(subject.measure, calls)) < run_ns // 8 and calls < CALIBRATION_CALLS_MAX:
        calls *= 4
    calls = max(1, calls * run_ns // max(taken, 1))
    return lambda: subject.measure(calls) / (calls * subject.each)


def _best(measure: Measure, calls: int) -> int:
    return min(measure(calls) for _ in range(CALIBRATION_LOOKS))


def of_thread(measure: Measure) -> Measure:
    """Count the processor time of this thread instead: what others do on the machine meanwhile is not in it."""

    def run(calls: int) -> int:
        began = time.thread_time_ns()
        measure(calls)
        return time.thread_time_ns() - began

    return run


def loop(function: Callable[..., Any], *arguments: Any) -> Measure:
    """Call a function over and over from Python, with arguments that stand in local variables."""
    names = {f"argument_{number}": argument for number, argument in enumerate(arguments)}
    return statement_loop(f"function({', '.join(names)})", function=function, **names)


def statement_loop(statement: str, **names: Any) -> Measure:
    """Run a Python statement over and over; ``names`` are its local variables. Nothing is collected meanwhile."""
    timer = timeit.Timer(
        "\n".join([statement] * UNROLLED),
        "\n".join(f"{name} = given[{name!r}]" for name in names),
        timer=time.perf_counter_ns,
        globals={"given": names},
    )

    def run(calls: int) -> int:
        rounds = -(-calls // UNROLLED)
        return int(timer.timeit(rounds)) * calls // (rounds * UNROLLED)

    return run


def inside(enter: Callable[[int], Any]) -> Measure:
    """Let a guest make the calls: one call in, which says how many, and so many out."""

    def run(calls: int) -> int:
        began = time.perf_counter_ns()
        enter(calls)
        return time.perf_counter_ns() - began

    return run
