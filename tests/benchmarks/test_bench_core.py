"""The core benchmark runs, with inputs so small that its numbers mean nothing."""

from __future__ import annotations

import pytest

from benchmarks.bench_core import ENVELOPE, Guest, measure, subjects
from benchmarks.harness import as_json


@pytest.fixture(scope="module")
def guest() -> Guest:
    return Guest()


def test_every_row_is_measured_and_positive(guest: Guest) -> None:
    """All subjects and the ratios to the engine's call have a row of their own name with the rounds asked for."""
    result = measure(guest, 10_000, 2)
    names = [row.name for row in result.rows]
    assert names[: len(subjects(guest))] == [subject.name for subject in subjects(guest)]
    assert len(set(names)) == len(names)
    assert all(0 < row.low <= row.median <= row.high and row.runs == 2 for row in result.rows)
    assert {row.unit for row in result.rows} == {"ns", "x"}


def test_it_sets_no_targets(guest: Guest) -> None:
    """No issue states a limit for these rows, so none is judged."""
    assert as_json("core", "spinrt bench core", measure(guest, 10_000, 1))["targets"] == []


def test_guest_answers_what_the_rows_assume(guest: Guest) -> None:
    """The functions do what the table says they do, so that the numbers are about that."""
    assert guest.event("add").raise_(1, 2) == 3
    assert guest.export("echo")(None, "grün") == "grün"
    assert guest.export("take-envelope")(None, ENVELOPE) is None


def test_guest_has_the_limits_that_long_runs_need(guest: Guest) -> None:
    """Calibration on a fast machine makes millions of host calls in one call of the guest."""
    assert guest.domain.limits.host_calls == 1 << 31
    assert guest.domain.limits.deadline_ms == 60_000
