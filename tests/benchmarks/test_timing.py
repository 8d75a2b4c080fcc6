"""How subjects are timed."""

from __future__ import annotations

from benchmarks.timing import UNROLLED, Subject, key_of, loop, one_run, statement_loop


def test_calibration_scales_calls_to_the_time_of_a_run() -> None:
    """A run makes about as many calls as fit its time, judged by what the subject says it took."""
    made: list[int] = []

    def steady(calls: int) -> int:
        made.append(calls)
        return calls * 100

    assert one_run(Subject("steady", {}, steady), 1_000_000)() == 100
    assert made[-1] == 10_000


def test_an_interruption_is_not_taken_for_a_slow_subject() -> None:
    """The first look took a second because something else ran: calls are as many as without it."""
    made: list[int] = []

    def interrupted(calls: int) -> int:
        made.append(calls)
        return calls * 100 + (1_000_000_000 if len(made) == 1 else 0)

    assert one_run(Subject("interrupted", {}, interrupted), 1_000_000)() == 100
    assert made[-1] == 10_000


def test_a_call_that_does_many_is_shared_out() -> None:
    """What is given is the time for each of what the row counts."""
    assert one_run(Subject("batch", {}, lambda calls: calls * 100, each=50), 1_000_000)() == 2


def test_loops_make_the_calls_with_their_arguments() -> None:
    """In whole rows of statements: as many calls as were asked for, or a few more."""
    seen: list[tuple[int, ...]] = []
    taken = loop(lambda *arguments: seen.append(arguments), 1, 2)(UNROLLED + 1)
    assert seen == [(1, 2)] * (2 * UNROLLED)
    assert taken > 0


def test_statements_have_their_names() -> None:
    """Names that a statement uses are what was given for them."""
    seen: list[int] = []
    statement_loop("for one in numbers:\n    seen.append(one)", numbers=[1, 2], seen=seen)(1)
    assert seen == [1, 2] * UNROLLED


def test_keys_do_not_follow_the_order_of_parameters() -> None:
    assert key_of("row", {"one": 1, "two": 2}) == key_of("row", {"two": 2, "one": 1}) != key_of("row", {"one": 1})
