"""What the benchmark of transactions computes of what it measured."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from benchmarks.harness import Result
from benchmarks.timing import key_of
from benchmarks.transactions import alternatives, faults, instrumenting, nulls
from benchmarks.transactions.bystanders import HANDLERS, BystandersFound, plan, run_open_loop
from benchmarks.transactions.guests import KERNEL_NAMES, LOG, PLAIN
from benchmarks.transactions.layouts import params
from benchmarks.transactions.mail import MailFound
from benchmarks.transactions.report import Found, Report

MODULES = {"audit": bytes(5_000), "large": bytes(1_000_000)}
ROUNDS = [1000.0, 1000.0]


def key(name: str, function: str, layout: int, log: str) -> str:
    return key_of(name, params(function, layout, log))


def found(changed: Mapping[str, list[float]], **parts: object) -> Found:
    """Rounds in which everything took 1,000 ns, in three layouts, but for what is given."""
    sides = [(layout, log) for layout in range(3) for log in (LOG, PLAIN)]
    keys = [
        *(key("null_raise", name, *side) for name in nulls.FUNCTIONS for side in sides),
        *(key("kernel", name, *side) for name in KERNEL_NAMES for side in sides),
        "engine_call",
        *(key_of(alternatives.COPY, alternatives.copy_params(pages)) for pages in alternatives.MEMORIES),
        *(key_of(alternatives.FRESH, alternatives.fresh_params(name)) for name in alternatives.FRESH_MODULES),
        *(key_of(faults.FAULT, faults.params(words)) for words in faults.WORDS),
        key_of(faults.FAULT_WITHOUT_LOG, faults.params(faults.WORDS[0])),
        *(key_of(instrumenting.INSTRUMENT, instrumenting.params(name, code)) for name, code in MODULES.items()),
    ]
    beside = {(name, noisy): ROUNDS for name in HANDLERS for noisy in (False, True)}
    given = {
        "bystanders": BystandersFound(beside, beside, 10_000.0),
        "mail": MailFound({LOG: ROUNDS, PLAIN: ROUNDS}, 3, [200_000.0]),
    } | parts
    return Found(
        times=dict.fromkeys(keys, ROUNDS) | dict(changed),
        modules=MODULES,
        hashes=dict.fromkeys(KERNEL_NAMES, "0"),
        log_bytes=dict.fromkeys(KERNEL_NAMES, 16),
        **given,  # type: ignore[arg-type]
    )


def value(result: Result, name: str) -> float | None:
    return next(target.value for target in result.targets if target.name == name)


def test_a_ratio_is_that_of_the_median_layouts_in_a_round() -> None:
    """One layout that is slow by chance changes nothing, nor does a machine that is slow in one round."""
    changed = {
        key("kernel", "sha256", 0, LOG): [1500.0, 3000.0],
        key("kernel", "sha256", 1, LOG): [1500.0, 3000.0],
        key("kernel", "sha256", 2, LOG): [9000.0, 18000.0],
        key("kernel", "sha256", 0, PLAIN): [1000.0, 2000.0],
        key("kernel", "sha256", 1, PLAIN): [1000.0, 2000.0],
    }
    result = Report(found(changed | {key("kernel", "sha256", 2, PLAIN): [100.0, 200.0]})).result()
    rows = {row.params["function"]: row for row in result.rows if row.name == "kernel_over_plain"}
    assert (rows["sha256"].low, rows["sha256"].high) == (1.5, 1.5)
    assert value(result, "kernels_worst_over_plain") == 1.5
    assert value(result, "kernels_median_over_plain") == 1.0
    assert "The worst kernel is sha256: 1.50" in result.notes[0]


def test_the_null_handler_that_is_judged_changes_nothing() -> None:
    """The one that writes a word has a row and no target."""
    changed = {key("null_raise", "store", layout, LOG): [5000.0, 5000.0] for layout in range(3)}
    result = Report(found(changed)).result()
    assert value(result, "null_over_plain") == 1.0
    assert [row.median for row in result.rows if row.name == "null_over_plain"] == [1.0, 5.0]


def test_the_share_of_mail_is_the_difference_times_the_calls() -> None:
    """Three calls, 600 ns more for a delivery, 200 µs for a message: 0.3 %."""
    mail = MailFound({LOG: [60_600.0, 121_200.0, 60_600.0], PLAIN: [60_000.0, 120_600.0, 60_000.0]}, 3, [200_000.0])
    result = Report(found({}, mail=mail)).result()
    assert value(result, "mail_share") == pytest.approx(0.003)
    assert next(row.median for row in result.rows if row.name == "mail_transaction") == pytest.approx(200.0)


def test_faults_are_counted_in_engine_calls_and_their_cost_by_the_byte() -> None:
    """The small handler against the engine; the slope between sizes that are eight times apart."""
    changed = {
        "engine_call": [20.0, 40.0],
        key_of(faults.FAULT, faults.params(4)): [2000.0, 4000.0],
        key_of(faults.FAULT, faults.params(128)): [3000.0, 3000.0],
        key_of(faults.FAULT, faults.params(1024)): [3000.0 + 7168, 3000.0 + 7168],
        key_of(faults.FAULT, faults.params(8192)): [3000.0 + 7168 + 2 * 57344, 3000.0 + 7168 + 2 * 57344],
    }
    result = Report(found(changed)).result()
    assert value(result, "fault_over_engine") == 100.0
    slopes = {row.params["from"]: row.median for row in result.rows if row.name == "fault_for_each_byte"}
    assert slopes == {1024: 1.0, 8192: 2.0}


def test_bystanders_are_compared_within_a_round() -> None:
    """p99 with faults ÷ p99 without, of the handler that does something."""
    p99s = {
        ("header-parse", False): [10.0, 20.0],
        ("header-parse", True): [12.0, 24.0],
        ("nothing", False): [1.0, 1.0],
        ("nothing", True): [9.0, 9.0],
    }
    result = Report(found({}, bystanders=BystandersFound(p99s, p99s, 9_990.0))).result()
    assert value(result, "bystander_p99_over_quiet") == pytest.approx(1.2)
    assert any("9,990 times a second" in note for note in result.notes)


def test_the_slowest_module_decides_how_fast_modules_are_rewritten() -> None:
    """5,000 bytes in 1,000 ns are 5,000 MB/s; a million in 10 ms are 100."""
    slow = key_of(instrumenting.INSTRUMENT, instrumenting.params("large", MODULES["large"]))
    result = Report(found({slow: [1e7, 1e7]})).result()
    assert value(result, "instrument_mb_per_s") == 100.0
    assert any("the slowest module, large" in note for note in result.notes)


def test_arrivals_are_the_same_with_faults_and_without() -> None:
    """A Poisson process from a seed, in order, about as many as were asked for."""
    quiet, noisy = plan(1.0, 1000, 0), plan(1.0, 1000, 10_000)
    assert [one for one in noisy if not one[1]] == quiet == sorted(quiet)
    assert noisy == sorted(noisy)
    assert len(quiet) == pytest.approx(1000, rel=0.15)
    assert sum(fails for _, fails in noisy) == pytest.approx(10_000, rel=0.05)


def test_who_waits_behind_a_fault_waits_in_the_numbers() -> None:
    """The clock is one of ours: a fault takes 50 ns, an answer 7, a look at the clock 1."""
    clock = [0]

    def take(ns: int) -> None:
        clock[0] += ns

    def now() -> int:
        take(1)
        return clock[0]

    arrivals = [(0, True), (10, False), (20, False), (1000, False)]
    waits = run_open_loop(arrivals, lambda: take(7), lambda: take(50), now)
    assert waits == pytest.approx([50 - 10 + 7, 50 + 7 - 20 + 7, 7], abs=8)
