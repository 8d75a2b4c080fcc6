"""A row's subject: one alternative, with one size of payload, and what one run of it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from benchmarks.timing import Measure, key_of

RATE_SUFFIX: Final = "_rate"
"""Of the rows of a subject that say how many calls a second there are."""
WINDOW: Final = 16
"""Calls that are on their way at once where a form can have several; as ``WINDOW_MAX`` of ``native/driver.h``."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything in one run."""

    rounds: int
    batches: int
    batch_ns: int
    """In this process: so many batches of calls, each about so long."""
    round_trips: int
    rate_calls: int
    """Between processes in C: so many calls timed alone, and so many timed together, one by one and at once."""
    python_round_trips: int
    python_rate_calls: int
    spawns: int
    gaps_ns: int
    """How long to look whether the core is taken away."""
    counted: bool
    """Whether instructions are counted where that takes long."""


FULL: Final = Scale(21, 100, 20_000, 300, 300, 100, 100, 10, 50_000_000, True)
QUICK: Final = Scale(5, 40, 20_000, 60, 60, 25, 25, 3, 10_000_000, False)
WARM_UP_SHARE: Final = 10
"""A run begins with one call that does not count for each so many that do."""


@dataclass(frozen=True, slots=True)
class Taken:
    """Nanoseconds of one run."""

    samples: list[float]
    """For one call each, which was made alone or is the mean of a batch."""
    one: float | None = None
    """For each of many calls, one after the other, timed together."""
    many: float | None = None
    """The same with up to `WINDOW` on their way."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One alternative with one size of payload; ``run`` checks what is answered."""

    name: str
    params: Mapping[str, object]
    run: Callable[[], Taken]
    batch: int = 1

    @property
    def key(self) -> str:
        """Tells it from all others."""
        return key_of(self.name, self.params)


def in_batches(name: str, params: Mapping[str, object], measure: Measure, scale: Scale) -> Subject:
    """A subject too fast to be timed call by call: its samples are means of so many calls as fill ``batch_ns``."""
    calls = 1
    while (taken := min(measure(calls) for _ in range(3))) < scale.batch_ns // 2 and calls < 1 << 20:
        calls *= 2
    calls = max(1, calls * scale.batch_ns // max(taken, 1))

    def run() -> Taken:
        measure(calls)
        return Taken([measure(calls) / calls for _ in range(scale.batches)])

    return Subject(name, params, run, calls)
