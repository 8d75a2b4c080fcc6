"""The calls in one table that fits on a page: each way to make one, with each size of payload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final

from benchmarks.harness import Table
from benchmarks.ipc.subject import Subject, Taken
from benchmarks.ipc.work import SIZES
from benchmarks.units import duration, number

SIZE_NAMES: Final = {0: "no payload", 64: "64 bytes", 4096: "4 KiB", 65_536: "64 KiB"}
COLUMNS: Final = ("call", *SIZE_NAMES.values(), "÷ spinrt_raise")
NOTE: Final = "Medians; the ratio is that without payload."


def table(subjects: Sequence[Subject], found: Mapping[str, Sequence[Taken]], judged_ns: float) -> Table:
    """Those that were measured, fastest first.

    Args:
        subjects: Calls; a size that is not among their parameters is 0.
        found: `Subject.key` → what each round took.
        judged_ns: What they are set beside.
    """
    lines: dict[str, dict[int, float]] = {}
    for subject in subjects:
        params = dict(subject.params)
        size = int(str(params.pop("bytes", 0)))
        name = " ".join([subject.name, *(f"{key}={value}" for key, value in params.items())])
        lines.setdefault(name, {})[size] = median(median(run.samples) for run in found[subject.key])
    ordered = sorted(lines.items(), key=lambda line: min(line[1].values()))
    return Table("One call", COLUMNS, [_line(name, medians, judged_ns) for name, medians in ordered], [NOTE])


def _line(name: str, medians: Mapping[int, float], judged_ns: float) -> list[str]:
    cells = [duration(medians[size]) if size in medians else "" for size in SIZES]
    return [name, *cells, number(medians[0] / judged_ns) if 0 in medians else ""]
