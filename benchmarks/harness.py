"""The one format of all benchmarks: a table for people, JSON for programs; and the way they measure.

A benchmark is a function from ``Options`` to ``Result``; its file ``bench_<name>.py`` ends in::

    if __name__ == "__main__":
        sys.exit(main("name", benchmark))

JSON::

    {"benchmark": str, "command": str, "machine": {...},
     "rows":    [{"name", "params", "unit", "median", "low", "high", "runs", "interval": [low, high], "confidence",
                  "min", "max", "samples", "command"}],
     "targets": [{"name", "value", "relation": "<=" or ">=", "limit", "met"}]}

and where there are any: ``"percentiles": {"batch", "p50", "p99", "p99.9"}`` in a row, and beside the targets
``"tables": [{"title", "columns", "rows", "notes"}]``, ``"notes": [str]``, ``"skipped": {what: why}`` and ``"digest"``,
a hash of what was computed.

A target whose value could not be measured (a peer is not installed) has ``"value": null``, ``"met": null`` and a
``"reason"``. The exit code is 0 when the benchmark ran, whatever it found. Limits are stated by the issue that sets
them, never here.

Measuring: subjects are compared in *interleaved* rounds, each round in another order, so that whatever the machine does
meanwhile (clock, neighbours) hits all of them alike. A row gives the median of the runs and their spread: ``low`` and
``high`` are the first and third quartile, ``interval`` holds the true median with that confidence, ``min`` and ``max``
are over all that was measured. Percentiles are over all samples of all runs; a sample is one operation, or the mean of
``batch`` of them in a row where one alone is too short for the clock.
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
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from tabulate import tabulate

from benchmarks.selection import Selection
from benchmarks.stats import median_interval, percentile, quartiles
from benchmarks.units import number
from spinrt.errors import SpinError, UsageError

ROUND_SEED = 1
ROWS_ALONE = ("filters", "ipc")
"""The benchmarks that can measure some of their rows alone."""
PACKAGES = ("spinrt", "wasmtime", "Cython", "uvloop", "aiosmtpd", "extism", "pluggy", "grpcio")
"""Whose versions are part of the result, where they are installed."""
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ended_by: list[int] = []
"""The signal that ends the benchmark, once it came: raised where an object is deleted, `Interrupted` is lost."""

Relation: TypeAlias = Literal["<=", ">="]


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks of a benchmark."""

    quick: bool = False
    """Small parameters: the whole of it within 60 s."""
    only: Selection = field(default_factory=Selection)
    """The rows that are wanted, of benchmarks that can measure some of theirs alone."""
    mail: Path | None = None
    """The user's own messages, for benchmarks that send any: a mailbox, or a directory of messages."""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """The tail of all samples of all runs; a sample is the mean of ``batch`` operations in a row."""

    batch: int
    p50: float
    p99: float
    p999: float

    def as_json(self) -> dict[str, Any]:
        return {"batch": self.batch, "p50": self.p50, "p99": self.p99, "p99.9": self.p999}


@dataclass(frozen=True, slots=True)
class Row:
    """One subject under one set of parameters; the head of this file says what the figures are."""

    name: str
    params: Mapping[str, Any]
    unit: str
    median: float
    low: float
    high: float
    runs: int
    interval: tuple[float, float]
    confidence: float
    least: float
    most: float
    samples: int
    percentiles: Percentiles | None = None
    command: str = ""
    """What measures this row alone; empty where that is the whole benchmark."""

    @classmethod
    def of(cls, name: str, values: Sequence[float], unit: str, params: Mapping[str, Any] | None = None) -> Row:
        """Summarise the values of at least one run."""
        interval = median_interval(values)
        return cls(
            name,
            dict(params or {}),
            unit,
            statistics.median(values),
            *quartiles(values),
            runs=len(values),
            interval=(interval.low, interval.high),
            confidence=interval.confidence,
            least=min(values),
            most=max(values),
            samples=len(values),
        )

    @classmethod
    def of_samples(
        cls,
        name: str,
        runs: Sequence[Sequence[float]],
        unit: str,
        params: Mapping[str, Any] | None = None,
        *,
        batch: int = 1,
    ) -> Row:
        """Summarise runs of many samples: a run counts as its median, percentiles are over all samples.

        Samples of one run hang together (the same moment, the same place in memory), so it is the runs that say how
        sure the median is.
        """
        ordered = sorted(sample for run in runs for sample in run)
        tail = Percentiles(batch, *(percentile(ordered, share) for share in (0.5, 0.99, 0.999)))
        row = cls.of(name, [statistics.median(run) for run in runs], unit, params)
        return replace(row, least=ordered[0], most=ordered[-1], samples=len(ordered), percentiles=tail)

    def as_json(self, command: str) -> dict[str, Any]:
        """As the head of this file says; ``command`` runs the whole benchmark."""
        shown: dict[str, Any] = {
            "name": self.name,
            "params": dict(self.params),
            "unit": self.unit,
            "median": self.median,
            "low": self.low,
            "high": self.high,
            "runs": self.runs,
            "interval": list(self.interval),
            "confidence": self.confidence,
            "min": self.least,
            "max": self.most,
            "samples": self.samples,
            "command": self.command or command,
        }
        return shown | ({"percentiles": self.percentiles.as_json()} if self.percentiles else {})


@dataclass(frozen=True, slots=True)
class Target:
    """What an issue demands and what was found.

    Attributes:
        value: None when it could not be measured.
        reason: Why there is no value; or what a reader should know who sees the target missed.
    """

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


@dataclass(frozen=True, slots=True)
class Table:
    """Figures that are no rows, as text: those that others published, beside ours."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def as_json(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "columns": list(self.columns),
            "rows": [list(row) for row in self.rows],
            "notes": list(self.notes),
        }


@dataclass(slots=True)
class Result:
    """What a benchmark found; rows and targets in the order in which they are shown."""

    rows: list[Row] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Shown below the table: what a reader must know to judge the numbers."""
    tables: list[Table] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    """What was not measured, and why."""
    digest: str = ""
    """A hash of what was computed while it was measured; empty where nothing is compared."""

    def add(self, part: Result) -> None:
        """Append what a part of the same benchmark found."""
        self.rows += part.rows
        self.targets += part.targets
        self.notes += part.notes
        self.tables += part.tables
        self.skipped |= part.skipped


Benchmark: TypeAlias = Callable[[Options], Result]
Subject: TypeAlias = Callable[[], float]
"""Runs once and returns what it measured."""
_Measured = TypeVar("_Measured")


def compare(
    subjects: Mapping[str, Callable[[], _Measured]], rounds: int, *, warm_up: int = 1
) -> dict[str, list[_Measured]]:
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
    found: dict[str, list[_Measured]] = {name: [] for name in subjects}
    for index in range(-warm_up, rounds):
        shuffle(order)
        for name in order:
            if _ended_by:
                raise Interrupted(_ended_by[0])
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
        "rows": [row.as_json(command) for row in result.rows],
        "targets": [target.as_json() for target in result.targets],
    }
    optional: dict[str, Any] = {
        "tables": [table.as_json() for table in result.tables],
        "notes": result.notes,
        "skipped": result.skipped,
        "digest": result.digest,
    }
    return shown | {key: value for key, value in optional.items() if value}


def as_text(name: str, command: str, result: Result) -> str:
    """The result as tables."""
    where = machine()
    parts = [
        f"{name}: {command}",
        f"{where['cpu']}, {where['cores']} cores, Linux {where['kernel']}, Python {where['python']}",
        _rows_table(result.rows),
        *([_targets_table(result.targets)] if result.targets else []),
        *([missed_hint(command)] if any(target.met is False for target in result.targets) else []),
        *map(_table, result.tables),
        *result.notes,
        *(f"Not measured: {what}: {why}." for what, why in result.skipped.items()),
        *([f"Hash of what was computed: {result.digest}"] if result.digest else []),
        *([_again(result.rows)] if any(row.command for row in result.rows) else []),
    ]
    return "\n\n".join(parts)


def _again(rows: Sequence[Row]) -> str:
    """How a row is measured again: the whole of its command stands in the JSON, and beside it in the report's page."""
    example = next(row.command for row in rows if row.command)
    each = "`--json` and the report have the command of each"
    return f"One row again, here the first, by its name and parameters: `{example}`; {each}."


def missed_hint(command: str) -> str:
    """What may have made a target be missed, besides the program."""
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    busy = f"the load was {load:.1f} on {cores} cores" if load > cores / 2 + 1 else ""
    quick = "--quick measures briefly and with small parameters" if "--quick" in command.split() else ""
    reasons = " and ".join(reason for reason in (quick, busy) if reason)
    again = "measure again without --quick, with nothing else running, before you believe it"
    return f"MISSED: {reasons}, which may be why; {again}." if reasons else f"MISSED: {again}; compare the quartiles."


def _rows_table(rows: Sequence[Row]) -> str:
    """One line for each row; the tail is shown where there are rows that have one."""
    tails = any(row.percentiles for row in rows)
    cells = [
        [
            *(row.name, _params(row.params), number(row.median), number(row.low), number(row.high)),
            *(_tail(row.percentiles) if tails else ()),
            *(row.unit, row.runs),
        ]
        for row in rows
    ]
    headers = ["name", "parameters", "median", "low", "high", *(["p99", "p99.9"] if tails else []), "unit", "runs"]
    return tabulate(
        cells,
        headers=headers,
        tablefmt="simple",
        disable_numparse=True,
        colalign=["left", "left", *["right"] * (len(headers) - 4), "left", "right"],
    )


def _tail(found: Percentiles | None) -> tuple[str, str]:
    return (number(found.p99), number(found.p999)) if found else ("", "")


def _table(table: Table) -> str:
    shown = tabulate(table.rows, headers=table.columns, tablefmt="simple", disable_numparse=True)
    return "\n\n".join([table.title, shown, *table.notes])


def _targets_table(targets: Sequence[Target]) -> str:
    verdicts = {True: "met", False: "MISSED", None: "not measured"}
    cells = [
        [
            target.name,
            "" if target.value is None else number(target.value),
            f"{target.relation} {number(target.limit)}",
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


class Interrupted(KeyboardInterrupt):
    """A signal ends the benchmark: everything that it started is stopped on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def progress(text: str) -> None:
    """Say on standard error which part runs now."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Turn the first signal that would end us into `Interrupted`; later ones wait for the clean-up: it is bounded."""

    def interrupt(number: int, frame: object) -> None:
        for one in ENDING:
            signal.signal(one, signal.SIG_IGN)
        _ended_by.append(number)
        raise Interrupted(number)

    before = {number: signal.signal(number, interrupt) for number in ENDING}
    try:
        yield
    finally:
        _ended_by.clear()
        for number, handler in before.items():
            signal.signal(number, handler)


def main(
    name: str,
    benchmark: Benchmark,
    arguments: Sequence[str] | None = None,
    *,
    takes: Collection[Literal["only", "mail"]] = (),
) -> int:
    """Run a benchmark from the command line. What the user can mend is said in one line, any other fault is raised.

    Args:
        name: As ``spinrt bench`` knows it.
        benchmark: What runs.
        arguments: Those of the process by default.
        takes: Options that not all benchmarks have.

    Returns:
        0; 1 where it failed; 2 where it was asked for what there is not; or 128 and the number of the signal that
        ended it.
    """
    parser = _parser(name, benchmark, takes)
    parsed = parser.parse_args(arguments, argparse.Namespace(only=[], mail=None))
    if parsed.only and "only" not in takes:
        parser.error(f"--only: {name} measures all of its rows together; {' and '.join(ROWS_ALONE)} can measure some")
    try:
        with ended_by_signals():
            result = benchmark(Options(parsed.quick, Selection.parse(parsed.only), parsed.mail))
        if not result.rows and parsed.only:
            raise UsageError(f"bench {name}: found no row {' or '.join(map(repr, parsed.only))}", hint=_no_row(result))
    except Interrupted as error:
        progress(f"{name}: interrupted by {error}; everything it started is stopped")
        return 128 + error.number
    except SpinError as error:
        progress(error.line())
        return 2 if isinstance(error, UsageError) else 1
    shown = as_json(name, _command(name, parsed), result)
    if parsed.save:
        parsed.save.write_text(json.dumps(shown, indent=2, allow_nan=False), encoding="utf-8")
    print(json.dumps(shown, indent=2, allow_nan=False) if parsed.json else as_text(name, shown["command"], result))
    return 0


def _no_row(result: Result) -> str:
    skipped = "; ".join(f"{what}: {why}" for what, why in result.skipped.items())
    return skipped or "names and parameters of rows are those of the first two columns"


def _parser(name: str, benchmark: Benchmark, takes: Collection[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"spinrt bench {name}", description=sys.modules[benchmark.__module__].__doc__)
    parser.add_argument("--quick", action="store_true", help="small parameters, within 60 s")
    parser.add_argument("--json", action="store_true", help="print JSON for programs instead of a table")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the JSON there too")
    text = "rows by name: NAME or 'NAME key=value ...'" if "only" in takes else argparse.SUPPRESS
    parser.add_argument("--only", action="append", metavar="ROW", help=text)
    if "mail" in takes:
        parser.add_argument("--mail", type=Path, metavar="PATH", help="your own messages instead of the samples")
    return parser


def _command(name: str, parsed: argparse.Namespace) -> str:
    """What runs it again."""
    words = ["spinrt", "bench", name]
    words += [flag for flag in ("--quick", "--json") if getattr(parsed, flag[2:])]
    words += [word for row in parsed.only for word in ("--only", row)]
    return shlex.join(words + (["--mail", str(parsed.mail)] if parsed.mail else []))
