"""The arithmetic of medians, their confidence intervals and tails, against slow and obvious twins."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.stats import median_interval, percentile, quartiles

values = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60)


@pytest.mark.parametrize(("given", "expected"), [([7.0], (7.0, 7.0)), ([1.0, 2.0, 3.0], (1.5, 2.5))])
def test_quartiles(given: list[float], expected: tuple[float, float]) -> None:
    assert quartiles(given) == expected


@pytest.mark.parametrize(
    ("count", "ranks", "confidence"),
    [(1, (1, 1), 0.0), (5, (1, 5), 0.9375), (6, (1, 6), 0.96875), (9, (2, 8), 0.9609), (21, (6, 16), 0.9734)],
)
def test_ranks_of_the_interval_are_those_of_the_tables(count: int, ranks: tuple[int, int], confidence: float) -> None:
    """As every table of order-statistic intervals for a median has them."""
    found = median_interval([float(one) for one in range(1, count + 1)])
    assert (found.low, found.high) == ranks
    assert found.confidence == pytest.approx(confidence, abs=1e-4)


def _held(count: int, from_end: int) -> float:
    """The twin: of all ways in which values can lie below or above the median, how many does the interval hold?"""
    below = [sum(sides) for sides in itertools.product((0, 1), repeat=count)]
    return sum(from_end <= one <= count - from_end for one in below) / len(below)


@pytest.mark.parametrize("count", range(1, 13))
def test_confidence_is_what_counting_all_cases_gives(count: int) -> None:
    """And no narrower pair is sure enough."""
    found = median_interval([float(one) for one in range(1, count + 1)])
    assert found.confidence == pytest.approx(max(_held(count, int(found.low)), 0.0))
    if found.low + 1 <= count / 2:
        assert _held(count, int(found.low) + 1) < 0.95


@given(values, st.randoms())
def test_the_interval_holds_the_median_whatever_the_order(given: list[float], dice: random.Random) -> None:
    found = median_interval(given)
    assert found.low <= sorted(given)[len(given) // 2] <= found.high
    assert median_interval(dice.sample(given, len(given))) == found


@given(values, st.floats(0.001, 1.0))
def test_a_percentile_is_exceeded_by_no_more_than_the_rest(given: list[float], share: float) -> None:
    ordered = sorted(given)
    found = percentile(ordered, share)
    assert found in ordered
    assert sum(one <= found for one in ordered) >= share * len(ordered)
    assert sum(one < found for one in ordered) < share * len(ordered)
