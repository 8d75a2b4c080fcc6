"""Subjects that are measured in several layouts of their code: the median over them is what counts, in each round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import TypeAlias

from benchmarks.timing import key_of
from benchmarks.transactions.guests import LOG, PLAIN

Found: TypeAlias = Mapping[str, Sequence[float]]
"""`Subject.key` → nanoseconds of each round."""


def params(function: str, layout: int, log: str) -> dict[str, object]:
    """What tells these subjects apart."""
    return {"function": function, "log": log, "layout": layout}


def each(found: Found, name: str, function: str, log: str) -> list[Sequence[float]]:
    """What each layout took, in each round."""
    columns: list[Sequence[float]] = []
    while (key := key_of(name, params(function, len(columns), log))) in found:
        columns.append(found[key])
    return columns


def medians(found: Found, name: str, function: str, log: str) -> list[float]:
    """The median over the layouts, in each round."""
    return [median(values) for values in zip(*each(found, name, function, log), strict=True)]


def over_plain(found: Found, name: str, function: str) -> list[float]:
    """With a log ÷ without, in each round."""
    pairs = zip(medians(found, name, function, LOG), medians(found, name, function, PLAIN), strict=True)
    return [above / below for above, below in pairs]


def spread(found: Found, name: str, function: str, log: str) -> list[float]:
    """The slowest layout ÷ the fastest, in each round."""
    return [max(values) / min(values) for values in zip(*each(found, name, function, log), strict=True)]
