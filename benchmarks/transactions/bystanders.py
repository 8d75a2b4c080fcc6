"""Raises to one extension while another one fails ten thousand times a second, on the same runtime and thread.

Open loop: who arrives, arrives, whether the one before has been answered or not, and what counts is the time from the
arrival that was planned to the answer. So a raise that has to wait behind a fault, or behind one that does, waits in
the numbers too. Arrivals are a Poisson process from a seed; quiet runs have the same ones, without the faults.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from heapq import merge
from statistics import quantiles
from time import perf_counter_ns
from typing import Final

from benchmarks.harness import compare
from benchmarks.transactions.guests import FAIL, FAILED, KERNELS, LOG, NOTHING, Guest
from spinrt.errors import InternalError
from spinrt.sandbox.loader import Extension

BYSTANDER: Final = "bystander"
FAULTS_PER_SECOND: Final = 10_000
FAULT_WORDS: Final = 4
HANDLERS: Final[dict[str, tuple[str, tuple[int, ...]]]] = {
    "header-parse": (f"{KERNELS}#header-parse", ()),
    "nothing": (NOTHING, (1,)),
}
"""What bystanders run, and with what; the first is judged: a handler that does something."""
SEED: Final = 4
LEAD_NS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Scale:
    """How long one run is, how many count, and how often bystanders are raised."""

    seconds: float
    rounds: int
    raises_per_second: int = 10_000


@dataclass(frozen=True, slots=True)
class BystandersFound:
    """(what they run, whether the other extension fails meanwhile) → a value for each round: median and p99 in ns."""

    medians: dict[tuple[str, bool], list[float]]
    p99s: dict[tuple[str, bool], list[float]]
    faults_per_second: float
    """As they came to be: counted, over the time that the runs took."""


def measure(extension: Extension, scale: Scale) -> BystandersFound:
    """Quiet and noisy runs in turns, for each handler."""
    runs = {
        (name, noisy): _Run(extension, *HANDLERS[name], noisy=noisy, scale=scale)
        for name in HANDLERS
        for noisy in (False, True)
    }
    p99s = compare({f"{name} {noisy}": run for (name, noisy), run in runs.items()}, scale.rounds)
    noisy_runs = [run for (_, noisy), run in runs.items() if noisy]
    return BystandersFound(
        {key: run.medians[-scale.rounds :] for key, run in runs.items()},
        {key: p99s[f"{key[0]} {key[1]}"] for key in runs},
        sum(run.faults for run in noisy_runs) / sum(run.seconds for run in noisy_runs),
    )


class _Run:
    """One subject; a run returns the p99 in ns, and adds what else was found to what it keeps."""

    def __init__(
        self, extension: Extension, name: str, arguments: tuple[int, ...], *, noisy: bool, scale: Scale
    ) -> None:
        bystander = Guest.load(extension, LOG, name="bystander")
        failing = Guest.load(extension, LOG, bystander.runtime, "failing")
        self.medians: list[float] = []
        self.faults, self.seconds = 0, 0.0
        self._scale, self._noisy, self._arguments = scale, noisy, arguments
        self._event, self._failing = bystander.event(name), failing.event(FAIL)

    def __call__(self) -> float:
        arrivals = plan(self._scale.seconds, self._scale.raises_per_second, FAULTS_PER_SECOND if self._noisy else 0)
        began = perf_counter_ns()
        waits = run_open_loop(arrivals, self._raise, self._fail)
        self.seconds += (perf_counter_ns() - began) / 1e9
        cuts = quantiles(waits, n=100)
        self.medians.append(cuts[49])
        return cuts[98]

    def _raise(self) -> None:
        if self._event.raise_(*self._arguments) == FAILED:
            raise InternalError(f"event {self._event.name}: a bystander failed, expected an answer")

    def _fail(self) -> None:
        if self._failing.raise_(FAULT_WORDS, 1) != FAILED:
            raise InternalError(f"event {self._failing.name}: found an answer, expected a fault")
        self.faults += 1


def plan(seconds: float, raises_per_second: int, faults_per_second: int) -> list[tuple[int, bool]]:
    """Who arrives when, in order: nanoseconds from the start, and whether it is one that fails."""
    raises = ((at, False) for at in _poisson(random.Random(SEED), seconds, raises_per_second))
    faults = ((at, True) for at in _poisson(random.Random(SEED + 1), seconds, faults_per_second))
    return list(merge(raises, faults))


def _poisson(chance: random.Random, seconds: float, per_second: int) -> Iterator[int]:
    at = 0.0
    while per_second and (at := at + chance.expovariate(per_second)) < seconds:
        yield int(at * 1e9)


def run_open_loop(
    arrivals: Iterable[tuple[int, bool]],
    raise_: Callable[[], None],
    fail: Callable[[], None],
    now: Callable[[], int] = perf_counter_ns,
) -> list[int]:
    """Let them arrive as planned; nanoseconds from arrival to answer of each that does not fail."""
    waits = []
    start = now() + LEAD_NS
    for at, fails in arrivals:
        due = start + at
        while now() < due:
            pass
        if fails:
            fail()
        else:
            raise_()
            waits.append(now() - due)
    return waits
