"""The tiers agree: the same random program, on every tier, shows the same (invariant 5 of docs/design/dispatch.md).

For longer: ``python -m tests.runtime.dispatch.campaign --minutes N --seed S``.
"""

from __future__ import annotations

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from spinrt.runtime.tables import TIERS
from tests.runtime.dispatch.programs import choices_of, disagreement, run

TWICE_IN_ONE_TRANSACTION = [92, 206, *[0] * 3, 146, *[0] * 14, 212, 0, 493, *[0] * 7, 1, 0, 1, *[0] * 6, 37]
"""The second raise meets a handler whose instance the transaction holds."""


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(st.integers(0, 1 << 16), min_size=40, max_size=400))
@example(TWICE_IN_ONE_TRANSACTION)
def test_random_programs_show_the_same_on_every_tier(choices: list[int]) -> None:
    """Results, errors, effects, order, faults and counts."""
    assert disagreement(choices, sorted(TIERS)) == ""


QUARANTINE_IN_THE_MIDDLE = 216
"""A walk meets a handler whose domain it has just quarantined, and whose policy wants the default for that."""
FAULT_ON_PROBATION_WITHIN = 638
"""A handler fails inside a raise whose other handlers of the same domain have not ended yet."""


def test_seeded_programs_show_the_same_on_every_tier() -> None:
    """A fixed set that hypothesis does not choose, so that a failure of yesterday fails today."""
    for seed in (*range(60), QUARANTINE_IN_THE_MIDDLE, FAULT_ON_PROBATION_WITHIN):
        assert disagreement(choices_of(seed), sorted(TIERS)) == "", f"seed {seed}"


def test_programs_reach_what_they_are_for() -> None:
    """The programs raise, fail, queue, hold back and re-enter; else they would agree on nothing."""
    lines = [line for seed in range(60) for line in run(0, choices_of(seed))]
    kinds = {line[0] for line in lines}
    assert {"ran", "asked", "again", "counts", "_raise", "_swap", "_impose", "_pending", "_reload"} <= kinds
    shown = {str(line[1]) for line in lines}
    assert {"HandlerFailed", "StateError", "99", "nobody"} <= shown
    assert any(line[0] == "counts" and line[3] for line in lines)
    assert any(len(line) == 4 and line[2] for line in lines if line[0] == "_raise")
