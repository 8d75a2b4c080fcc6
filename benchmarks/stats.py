"""What a list of measurements says: its middle, how sure that is, and its tail. Nothing is thrown away."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

CONFIDENCE: Final = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """Where the true median lies, with this confidence, whatever the distribution is."""

    low: float
    high: float
    confidence: float


def median_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """The narrowest pair of order statistics, as many from below as from above, that holds the median surely enough.

    How many of n independent values lie below their distribution's median is binomial with 1/2; so the k-th value from
    below and the k-th from above hold it with 1 - 2 P(X < k). With fewer than 6 values no pair reaches 95 %: then it is
    the smallest and the largest, and the confidence says less.

    Source: H. A. David and H. N. Nagaraja, Order Statistics, 3rd edition, section 7.1.
    """
    ordered, count = sorted(values), len(values)
    outside, from_end, held = 0, 1, 1 - 2 * math.ldexp(1, -count)
    for below in range(count // 2):
        outside += math.comb(count, below)
        sure = 1 - 2 * outside / (1 << count)
        if sure < confidence:
            break
        from_end, held = below + 1, sure
    return Interval(ordered[from_end - 1], ordered[-from_end], max(held, 0.0))


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """First and third quartile; a single value is both."""
    if len(values) == 1:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest of these values, in ascending order, that at least such a share of them does not exceed."""
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]
