"""The one format of all benchmarks: a table for people, JSON for programs; and the way they measure.

A benchmark is a function from ``Options`` to ``Result``; its file ``bench_<name>.py`` ends in::

    if __name__ == "__main__":
        sys.exit(main("name", benchmark))

JSON::

    {"benchmark": str, "command": str, "machine": {...},
     "rows":    [{"name", "params", "unit", "median", "low", "high", "runs"}],
     "targets": [{"name", "value", "relation": "<=" or ">=", "limit", "met"}]}

A target whose value could not be measured (a peer is not installed) has ``"value": null``, ``"met": null`` and a
``"reason"``. The exit code is 0 when the benchmark ran, whatever it found. Limits are stated by the issue that sets
them, never here.

Measuring: subjects are compared in *interleaved* rounds, each round in another order, so that whatever the machine does
meanwhile (clock, neighbours) hits all of them alike. A row gives the median and the spread of the middle: ``low`` and
``high`` are the first and third quartile.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import shlex
import signal
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, TypeAlias

from tabulate import tabulate

ROUND_SEED = 1
PACKAGES = ("spinrt", "wasmtime", "Cython", "uvloop", "aiosmtpd", "extism", "pluggy")
"""Whose versions are part of the result, where they are installed."""
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Relation: TypeAlias = Literal["<=", ">="]


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks of a benchmark."""

    quick: bool = False
    """Small parameters: the whole of it within 60 s."""


@dataclass(frozen=True, slots=True)
class Row:
    """One subject under one set of parameters."""

    name: str
    params: Mapping[str, Any]
    unit: str
    median: float
    low: float
    high: float
    runs: int

    @classmethod
    def of(cls, name: str, values: Sequence[float], unit: str, params: Mapping[str, Any] | None = None) -> Row:
        """Summarise the values of at least one run."""
        low, high = quartiles(values)
        return cls(name, dict(params or {}), unit, statistics.median(values), low, high, len(values))


@dataclass(frozen=True, slots=True)
class Target:
    """What an issue demands and what was found; ``value`` none when it could not be measured, with the reason."""

    name: str
    value: float | None
    relation: Relation
    limit: float
    reason: str = ""

    def __post_init__(self) -> None:
        if self.value is None and not self.reason:
            raise ValueError(f"target {self.name}: a value that is missing needs a reason")

    @property
    def met(self) -> bool | None:
        """Whether the value keeps the limit; none without a value. Not a number is a miss."""
        if self.value is None:
            return None
        return self.value <= self.limit if self.relation == "<=" else self.value >= self.limit

    def as_json(self) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "name": self.name,
            "value": self.value,
            "relation": self.relation,
            "limit": self.limit,
            "met": self.met,
        }
        return shown | ({"reason": self.reason} if self.reason else {})


@dataclass(slots=True)
class Result:
    """What a benchmark found; rows and targets in the order in which they are shown."""

    rows: list[Row] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Shown below the table: what a reader must know to judge the numbers."""


Benchmark: TypeAlias = Callable[[Options], Result]
Subject: TypeAlias = Callable[[], float]
"""Runs once and returns what it measured."""


def compare(subjects: Mapping[str, Subject], rounds: int, *, warm_up: int = 1) -> dict[str, list[float]]:
    """Measure subjects against each other: in each round every subject once, in another order each time.

    Args:
        subjects: Name to what runs once and returns its measurement.
        rounds: Rounds that count; at least 1.
        warm_up: Rounds before them that do not.

    Returns:
        The measurements of each subject, one for each round, in the order of the rounds.
    """
    if rounds < 1:
        raise ValueError(f"compare: {rounds} rounds, expected at least 1")
    order = list(subjects)
    shuffle = random.Random(ROUND_SEED).shuffle
    found: dict[str, list[float]] = {name: [] for name in subjects}
    for index in range(-warm_up, rounds):
        shuffle(order)
        for name in order:
            value = subjects[name]()
            if index >= 0:
                found[name].append(value)
    return found


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    """The median of the ratios of paired rounds: steadier than the ratio of medians when the machine's speed drifts."""
    return statistics.median([above / below for above, below in zip(numerator, denominator, strict=True)])


def third_fastest(times: Sequence[float]) -> float:
    """The third-smallest of at least 8 times: near the floor, without trusting the luckiest run."""
    if len(times) < 8:
        raise ValueError(f"third_fastest: {len(times)} runs, expected at least 8")
    return sorted(times)[2]


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """First and third quartile; a single value is both."""
    if len(values) == 1:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def machine() -> dict[str, Any]:
    """Describe where it ran."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "architecture": platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": _versions(),
    }


def _cpu_model() -> str:
    """The processor as Linux names it: x86 says ``model name``, many ARM machines nothing of use."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.machine()
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in {"model name", "Model"}:
            return value.strip()
    return platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def as_json(name: str, command: str, result: Result) -> dict[str, Any]:
    """The result as the JSON of the head of this file."""
    shown: dict[str, Any] = {
        "benchmark": name,
        "command": command,
        "machine": machine(),
        "rows": [
            {
                "name": row.name,
                "params": dict(row.params),
                "unit": row.unit,
                "median": row.median,
                "low": row.low,
                "high": row.high,
                "runs": row.runs,
            }
            for row in result.rows
        ],
        "targets": [target.as_json() for target in result.targets],
    }
    return shown | ({"notes": result.notes} if result.notes else {})


def as_text(name: str, command: str, result: Result) -> str:
    """The result as tables."""
    where = machine()
    parts = [
        f"{name}: {command}",
        f"{where['cpu']}, {where['cores']} cores, Linux {where['kernel']}, Python {where['python']}",
        _rows_table(result.rows),
        *([_targets_table(result.targets)] if result.targets else []),
        *([missed_hint(command)] if any(target.met is False for target in result.targets) else []),
        *result.notes,
    ]
    return "\n\n".join(parts)


def missed_hint(command: str) -> str:
    """What may have made a target be missed, besides the program."""
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    busy = f"the load is {load:.1f} on {cores} cores: that alone may miss a target" if load > cores / 2 + 1 else ""
    quick = "--quick measures briefly and with small parameters, which may" if "--quick" in command.split() else ""
    reasons = "; ".join(reason for reason in (quick, busy) if reason)
    again = "measure again without --quick, with nothing else running, before you believe it"
    return f"MISSED: {reasons}; {again}." if reasons else f"MISSED: {again}, and compare the quartiles."


def _rows_table(rows: Sequence[Row]) -> str:
    cells = [
        [row.name, _params(row.params), _number(row.median), _number(row.low), _number(row.high), row.unit, row.runs]
        for row in rows
    ]
    return tabulate(
        cells,
        headers=["name", "parameters", "median", "low", "high", "unit", "runs"],
        tablefmt="simple",
        disable_numparse=True,
        colalign=("left", "left", "right", "right", "right", "left", "right"),
    )


def _targets_table(targets: Sequence[Target]) -> str:
    verdicts = {True: "met", False: "MISSED", None: "not measured"}
    cells = [
        [
            target.name,
            "" if target.value is None else _number(target.value),
            f"{target.relation} {_number(target.limit)}",
            verdicts[target.met] + (f": {target.reason}" if target.reason else ""),
        ]
        for target in targets
    ]
    return tabulate(
        cells,
        headers=["target", "value", "limit", ""],
        tablefmt="simple",
        disable_numparse=True,
        colalign=("left", "right", "left", "left"),
    )


def _params(params: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in params.items())


def _number(value: float) -> str:
    """Four significant digits, thousands apart, no exponent for what people read."""
    if value and abs(value) < 0.001:
        return f"{value:.3g}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


class Interrupted(KeyboardInterrupt):
    """A signal ends the benchmark: everything that it started is stopped on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def progress(text: str) -> None:
    """Say on standard error which part runs now."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Turn the first signal that would end us into `Interrupted`; later ones wait for the clean-up: it is bounded."""

    def interrupt(number: int, frame: object) -> None:
        for one in ENDING:
            signal.signal(one, signal.SIG_IGN)
        raise Interrupted(number)

    before = {number: signal.signal(number, interrupt) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(name: str, benchmark: Benchmark, arguments: Sequence[str] | None = None) -> int:
    """Run a benchmark from the command line: ``--quick``, ``--json``. What goes wrong is raised.

    Returns:
        0, or 128 and the number of the signal that ended it.
    """
    parser = argparse.ArgumentParser(prog=f"spinrt bench {name}", description=sys.modules[benchmark.__module__].__doc__)
    parser.add_argument("--quick", action="store_true", help="small parameters, within 60 s")
    parser.add_argument("--json", action="store_true", help="print JSON for programs instead of a table")
    given = list(sys.argv[1:] if arguments is None else arguments)
    parsed = parser.parse_args(given)
    try:
        with _ended_by_signals():
            result = benchmark(Options(quick=parsed.quick))
    except Interrupted as error:
        progress(f"{name}: interrupted by {error}; everything it started is stopped")
        return 128 + error.number
    command = shlex.join(["spinrt", "bench", name, *given])
    if parsed.json:
        print(json.dumps(as_json(name, command, result), indent=2, allow_nan=False))
    else:
        print(as_text(name, command, result))
    return 0
