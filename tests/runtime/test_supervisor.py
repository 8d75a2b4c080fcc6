"""The supervisor: its states against a model, and what raises answer while an extension is quarantined."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinrt.errors import ConfigError, ExporterFailed, HandlerFailed, QuotaExceeded
from spinrt.runtime import fold
from spinrt.runtime.capability import Functions
from spinrt.runtime.event import OnFault
from spinrt.runtime.monitor import LINES_AT_ONCE
from spinrt.runtime.policy import Policy
from spinrt.runtime.runtime import Runtime
from spinrt.runtime.supervisor import FAULTS_KEPT, Health, Meanwhile, Probation, Supervision, Supervisor
from tests.guests import EVENTS, HOST
from tests.runtime.clocks import HandClock
from tests.runtime.linked_guests import LIFECYCLE, WORDS, exporter, guest, importer, interfaces, words

ADD = f"{EVENTS}#add"


# -------------------------------------------------------------------------------------------------- against a model


@dataclass
class Owner:
    """What is supervised: counts."""

    runs: int = 0
    changes: int = 0

    def count_runs(self) -> int:
        return self.runs

    def note_health(self) -> None:
        self.changes += 1


@dataclass
class Model:
    """The states as the design page says them, kept as lists of times."""

    supervision: Supervision
    now_s: float = 0.0
    faults: list[float] = field(default_factory=list)
    until_s: float | None = None
    proving: int | None = None
    unproved: int = 0
    quarantines: int = 0

    def fault(self) -> None:
        if self.until_s is not None:
            return
        self.faults.append(self.now_s)
        window = [at for at in self.faults if self.now_s - at < self.supervision.window_s]
        used_up = self.supervision.faults > 0 and len(window) >= self.supervision.faults
        if self.proving is not None or used_up:
            length = min(
                self.supervision.back_off_max_s,
                self.supervision.back_off_s * self.supervision.back_off_factor**self.unproved,
            )
            self.until_s, self.proving, self.faults = self.now_s + length, None, []
            self.unproved += 1
            self.quarantines += 1

    def run(self) -> None:
        """A handler is asked to run, without a fault."""
        if self.until_s is not None and self.now_s >= self.until_s:
            self.until_s, self.proving = None, 0
        if self.until_s is None and self.proving is not None:
            self.proving += 1
            if self.proving >= self.supervision.probation_raises:
                self.proving, self.unproved, self.faults = None, 0, []

    def health(self) -> Health:
        if self.until_s is not None:
            return Health.QUARANTINED
        if self.proving is not None:
            return Health.PROBATION
        recent = any(self.now_s - at < self.supervision.window_s for at in self.faults)
        return Health.FAULTED if recent else Health.HEALTHY


STEPS = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from([0.25, 1.0, 4.0, 16.0])),
    st.tuples(st.sampled_from(["fault", "run", "look"]), st.just(0.0)),
)
SUPERVISIONS = st.builds(
    Supervision,
    faults=st.integers(0, 4),
    window_s=st.sampled_from([1.0, 8.0]),
    back_off_s=st.sampled_from([1.0, 2.0]),
    back_off_factor=st.sampled_from([1.0, 2.0, 4.0]),
    back_off_max_s=st.sampled_from([2.0, 16.0]),
    probation_raises=st.integers(1, 3),
)


@given(SUPERVISIONS, st.lists(STEPS, max_size=60))
def test_states_follow_the_model(supervision: Supervision, steps: list[tuple[str, float]]) -> None:
    """Whatever happens in whatever order, the supervisor and the model are in the same state."""
    clock, owner, model = HandClock(), Owner(), Model(supervision)
    supervisor = Supervisor("guest", supervision, clock, owner)
    logging.disable(logging.CRITICAL)
    try:
        for step, seconds in steps:
            clock.now_s += seconds
            model.now_s += seconds
            if step == "fault":
                model.run() if model.until_s is None else None  # a handler that fails has run, too
                owner.runs += 0 if supervisor.is_quarantined else 1
                supervisor.note_fault(clock.now_s)
                model.fault()
            elif step == "run":
                model.run()
                owner.runs += 1 if supervisor.may_run() else 0
            assert supervisor.health is model.health()
            assert supervisor.quarantines == model.quarantines
            left = 0.0 if model.until_s is None else max(0.0, model.until_s - model.now_s)
            assert supervisor.left_s == pytest.approx(left)
    finally:
        logging.disable(logging.NOTSET)
    assert owner.changes >= supervisor.quarantines


@given(st.integers(0, 10_000), st.floats(1.0, 100.0))
def test_back_off_grows_and_never_overflows(unproved: int, factor: float) -> None:
    """From the first to the maximum."""
    supervision = Supervision(back_off_s=1.0, back_off_factor=factor, back_off_max_s=300.0)
    assert 1.0 <= supervision.back_off(unproved) <= supervision.back_off(unproved + 1) <= 300.0


def test_a_version_on_probation_returns_instead_of_a_quarantine() -> None:
    """Also when the budget is smaller than what its probation allows."""
    returned: list[str] = []
    supervisor = Supervisor("guest", Supervision(faults=2), HandClock(), Owner())
    supervisor.begin_probation(Probation(faults_max=5), on_failed=lambda: returned.append("back"))
    supervisor.note_fault(0.0)
    supervisor.note_fault(0.0)
    assert returned == ["back"]
    assert not supervisor.is_quarantined


# -------------------------------------------------------------------------------------------------------- in a runtime

TRAP_AT_13 = f"""
(memory (export "memory") 1)
(func (export "{ADD}") (param i32 i32) (result i32)
  (i32.store (i32.const 8) (i32.add (i32.load (i32.const 8)) (i32.const 1)))
  (if (i32.eq (local.get 0) (i32.const 13)) (then unreachable))
  (i32.add (local.get 0) (i32.const 100)))
"""


def adding(name: str, plus: int) -> Any:
    body = f'(func (export "{ADD}") (param i32 i32) (result i32) (i32.add (local.get 0) (i32.const {plus})))'
    return guest(name, body, handlers=("add",))


@dataclass
class World:
    """A runtime with one extension that fails when its left argument is 13, and perhaps others."""

    tier: int
    meanwhile: Meanwhile | None = None
    on_fault: OnFault = OnFault.SKIP
    others: int = 1
    faults: int = 2
    clock: HandClock = field(default_factory=HandClock)

    def __post_init__(self) -> None:
        self.runtime = Runtime(interfaces=interfaces(), clock=self.clock)
        self.event = self.runtime.define(ADD, fold=fold.every, default=[-1], on_fault=self.on_fault, tier=self.tier)
        self.supervision = Supervision(
            faults=self.faults, window_s=10, back_off_s=1, probation_raises=3, while_quarantined=self.meanwhile
        )
        self.bad = self.runtime.load(guest("bad", TRAP_AT_13, handlers=("add",)), Policy(supervision=self.supervision))
        for number in range(self.others):
            self.runtime.load(adding(f"good-{number}", number))

    def quarantine(self) -> None:
        for _ in range(2):
            self.fail()
        assert self.bad.supervisor.is_quarantined

    def fail(self) -> None:
        try:
            self.event.raise_(13, 0)
        except HandlerFailed:
            assert self.on_fault is OnFault.REFUSE


@pytest.fixture(params=[0, 1, 2], ids=["reference", "walk", "stub"])
def tier(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def test_a_quarantined_extension_does_not_run_and_others_do(tier: int) -> None:
    """Its handler is skipped; neither memory nor counters of its own move; others answer as before."""
    world = World(tier)
    world.quarantine()
    faults, instance = world.bad.counters.faults, world.bad.instance
    for _ in range(5):
        assert world.event.raise_(1, 0) == [1]
    assert world.bad.counters.faults == faults == 2
    assert world.bad.counters.refused == 5
    assert world.bad.instance is instance
    assert world.bad.supervisor.health is Health.QUARANTINED


@pytest.mark.parametrize("others", [0, 1, 2])
def test_the_raise_that_needs_it_puts_it_on_probation(tier: int, others: int) -> None:
    """It runs in that very raise, and after so many handlers it is healthy."""
    world = World(tier, others=others)
    good = [*range(others)]
    world.quarantine()
    assert world.event.raise_(0, 0) == (good or [-1])
    world.clock.now_s = 1.0
    assert world.event.raise_(0, 0) == [100, *good]
    assert world.bad.supervisor.health is Health.PROBATION
    for _ in range(3):  # the raise that began it counts or not, as the tier counts before or behind a handler
        assert world.event.raise_(0, 0) == [100, *good]
    assert world.bad.supervisor.health is Health.HEALTHY
    world.fail()
    assert world.bad.supervisor.health is Health.FAULTED


def test_a_fault_on_probation_quarantines_for_longer(tier: int) -> None:
    """One second, two, four."""
    world = World(tier)
    world.quarantine()
    for length in (1.0, 2.0, 4.0):
        assert world.bad.supervisor.left_s == length
        world.clock.now_s += length
        world.fail()
    assert world.bad.supervisor.quarantines == 4


def test_refuse_fails_the_raise_for_now(tier: int) -> None:
    """Whatever the event does about failures."""
    world = World(tier, Meanwhile.REFUSE)
    world.quarantine()
    with pytest.raises(HandlerFailed, match="bad failed: extension bad: found it quarantined"):
        world.event.raise_(1, 0)


def test_skip_lets_the_raise_go_on_where_failures_refuse(tier: int) -> None:
    """Fail open while it is quarantined, and closed before."""
    world = World(tier, Meanwhile.SKIP, OnFault.REFUSE)
    world.quarantine()
    assert world.event.raise_(1, 0) == [1]


def test_without_a_word_the_event_decides(tier: int) -> None:
    """An event that fails closed fails closed."""
    world = World(tier, None, OnFault.REFUSE)
    world.quarantine()
    with pytest.raises(HandlerFailed):
        world.event.raise_(1, 0)


@pytest.mark.parametrize("others", [0, 1])
def test_default_answers_the_events_default_alone(tier: int, others: int) -> None:
    """Results of others do not count, and the quarantine's end brings them back."""
    world = World(tier, Meanwhile.DEFAULT, OnFault.REFUSE, others)
    world.quarantine()
    assert world.event.raise_(1, 0) == [-1]
    world.clock.now_s = 1.0
    assert world.event.raise_(1, 0) == [101, *([1] if others else [])]


def test_default_takes_back_what_handlers_before_it_promised(tier: int) -> None:
    """As a refusal does."""
    applied: list[str] = []

    class Promise:
        def apply(self) -> None:
            applied.append("applied")

    def promising(call: Any, left: int, right: int) -> int:
        call.journal.append(Promise())
        return 7

    world = World(tier, Meanwhile.DEFAULT)
    world.event.install(promising, order=1)
    world.quarantine()
    applied.clear()
    assert world.event.raise_(1, 0) == [-1]
    assert applied == []


def test_an_extension_whose_init_fails_is_quarantined(tier: int) -> None:
    """Every raise tries again, and each try is a fault. (Code that changes nothing is not rolled back.)"""
    tries: list[int] = []

    def again(call: object) -> None:
        tries.append(1)
        if len(tries) > 1:
            raise QuotaExceeded("not a second time")

    body = f"""
    (import "{HOST}" "again" (func $again)) (memory (export "memory") 1)
    (func (export "{LIFECYCLE}#init") (result i32) (call $again) (i32.const 64))
    (func (export "{ADD}") (param i32 i32) (result i32) unreachable)
    """
    made = Runtime(interfaces=interfaces(), clock=HandClock())
    made.export(Functions(HOST, {"again": again}))
    event = made.define(ADD, default=0, tier=tier)
    policy = Policy.granting(HOST, supervision=Supervision(faults=6, window_s=10))
    bad = guest("bad", body, imports=(HOST,), exports=(LIFECYCLE,), handlers=("add",), limits={"undo_bytes": 0})
    domain = made.load(bad, policy)
    for _ in range(8):
        assert event.raise_(1, 1) == 0
    assert (domain.supervisor.quarantines, domain.counters.faults) == (1, 6)
    assert domain.counters.by_code == {"extension.trap": 1, "extension.quota": 3, "state": 2}
    assert len(tries) == 4


def test_an_importer_of_what_is_quarantined_is_cut_short() -> None:
    """It is not at fault, and goes on when the exporter does."""
    clock = HandClock()
    made = Runtime(interfaces=interfaces(), clock=clock)
    event = made.define(ADD, on_fault=OnFault.REFUSE)
    double = "(if (i32.eq (local.get 0) (i32.const 13)) (then unreachable)) (i32.mul (local.get 0) (i32.const 2))"
    made.load(exporter(body=words(double)), Policy(supervision=Supervision(faults=1)))
    made.load(importer(), Policy.granting(WORDS))
    for left in (13, 1, 1):
        with pytest.raises(HandlerFailed) as caught:
            event.raise_(left, 0)
        assert isinstance(caught.value.__cause__, ExporterFailed)
    assert {name: one.counters.faults for name, one in made.domains.items()} == {"words": 1, "doubler": 0}
    clock.now_s = 1.0
    assert event.raise_(4, 0) == 8


def test_quarantine_outlives_a_move_to_a_fresh_store(tier: int) -> None:
    """It is kept from running there, and comes back."""
    world = World(tier)
    world.quarantine()
    world.runtime.stores.collect()
    assert world.event.raise_(1, 0) == [1]
    world.clock.now_s = 1.0
    assert world.event.raise_(1, 0) == [101, 1]


def test_a_handler_that_fails_every_seventh_time_disturbs_nobody(tier: int) -> None:
    """Bystanders answer each of two thousand raises; only the faults that were made are counted."""
    made = Runtime(interfaces=interfaces(), clock=HandClock())
    event = made.define(ADD, fold=fold.every, default=[], tier=tier)
    bad = made.load(guest("bad", TRAP_AT_13, handlers=("add",)), Policy(supervision=Supervision(faults=0)))
    for number in range(3):
        made.load(adding(f"good-{number}", number))
    for number in range(2_000):
        left = 13 if number % 7 == 0 else 20
        assert event.raise_(left, 0) == [*([120] if left == 20 else []), left, left + 1, left + 2]
    assert bad.counters.faults == 286
    counts = {one.domain.name: one.counts.faults for one in event.bindings if one.domain}
    assert counts == {"bad": 286, "good-0": 0, "good-1": 0, "good-2": 0}


# -------------------------------------------------------------------------------------------------------------- monitor


def test_log_lines_are_bounded_and_say_how_many_there_were(caplog: pytest.LogCaptureFixture, tier: int) -> None:
    """Each of the first, then one after the pause, with the count of the others."""
    world = World(tier, faults=0)
    with caplog.at_level(logging.WARNING, "spinrt.runtime"):
        for _ in range(100):
            world.fail()
        assert len(caplog.records) == LINES_AT_ONCE
        world.clock.now_s = 60.0
        world.fail()
    assert caplog.records[LINES_AT_ONCE].getMessage() == "extension=bad event=faults more=95"
    assert len(caplog.records) == LINES_AT_ONCE + 2
    assert world.bad.counters.faults == 101
    assert len(world.bad.counters.last_faults()) == FAULTS_KEPT


def test_traps_are_remembered_alike_whether_an_error_is_made_of_them_or_not(tier: int) -> None:
    """Where no line is due and none is too many, a trap is noted without an error: it looks the same afterwards."""
    world = World(tier, faults=0)
    for number in range(LINES_AT_ONCE + 3):
        world.clock.now_s = float(number)
        world.fail()
    newest, *_, oldest = world.bad.counters.last_faults()
    assert newest.line == oldest.line
    assert newest.line == f"extension.trap: extension bad, {ADD}: wasm `unreachable` instruction executed"
    assert (newest.at_s, newest.event, newest.hint, newest.arguments) == (LINES_AT_ONCE + 2, ADD, "", (13, 0))
    assert newest.digest == oldest.digest != ""
    assert newest.trace.frames() == oldest.trace.frames() != []
    assert world.bad.counters.last_fault == newest.line
    assert world.bad.counters.by_code == {"extension.trap": LINES_AT_ONCE + 3}
    (binding,) = (one for one in world.event.bindings if one.domain is world.bad)
    assert binding.counts.faults == LINES_AT_ONCE + 3


@pytest.mark.parametrize("faults", [1, 2, LINES_AT_ONCE + 4, 30])
def test_the_budget_is_met_exactly(tier: int, faults: int) -> None:
    """The last fault of the budget quarantines, however the others were noted; those before the window do not count."""
    world = World(tier, faults=faults)
    if faults > 1:
        world.fail()
        world.clock.now_s = 10.0
    for _ in range(faults - 1):
        world.fail()
    assert not world.bad.supervisor.is_quarantined
    world.fail()
    assert world.bad.supervisor.is_quarantined
    assert world.bad.counters.faults == faults + (faults > 1)


# --------------------------------------------------------------------------------------------------------------- policy


def test_policy_says_it_all() -> None:
    """Every key, and defaults for the rest."""
    content = {
        "faults": 5,
        "window_s": 30,
        "back_off_s": 0.5,
        "back_off_factor": 3,
        "back_off_max_s": 60,
        "probation_raises": 7,
        "while_quarantined": "default",
        "crash_records": True,
    }
    policy = Policy.from_mapping({"supervision": content})
    assert policy.supervision == Supervision(5, 30.0, 0.5, 3.0, 60.0, 7, Meanwhile.DEFAULT, True)
    assert Policy.from_mapping({}).supervision == Supervision()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], r"policy\.supervision: found \[\], expected a mapping"),
        ({"fault": 1}, "found 'fault', expected only faults, window_s"),
        ({"faults": -1}, r"supervision\.faults: found -1, expected an integer from 0 to 100000"),
        ({"faults": 1.5}, "expected an integer"),
        ({"faults": True}, "expected an integer"),
        ({"window_s": 0}, r"supervision\.window_s: found 0, expected a number from 0\.001"),
        ({"window_s": float("nan")}, "expected a number"),
        ({"back_off_s": 10, "back_off_max_s": 5}, "expected at least back_off_s, which is 10"),
        ({"while_quarantined": "explode"}, "expected one of skip, default, refuse"),
        ({"while_quarantined": []}, "expected one of skip, default, refuse"),
        ({"crash_records": "maybe"}, "expected on or off"),
        ({"crash_records": 1}, "expected on or off"),
    ],
)
def test_policy_refuses_what_makes_no_sense(content: Any, said: str) -> None:
    """With the place, what was found and what was expected."""
    with pytest.raises(ConfigError, match=said):
        Policy.from_mapping({"supervision": content})
