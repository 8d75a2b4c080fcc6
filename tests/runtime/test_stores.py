"""Collecting: when it is done, when not, and that nobody notices but the memory."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from spinrt._core import InstanceLimits
from spinrt.errors import HandlerFailed, SpinError
from spinrt.runtime import fold
from spinrt.runtime.call import Transaction
from spinrt.runtime.event import OnFault
from spinrt.runtime.policy import Policy
from spinrt.runtime.stores import DEAD_MAX
from spinrt.runtime.supervisor import Supervision
from tests.guests import EVENTS
from tests.runtime.linked_guests import WORDS, exporter, guest, importer, runtime

ADD = f"{EVENTS}#add"
# Answers how often it was called, in a global and in memory; traps when its left argument is 0.
COUNTING = f"""
(memory (export "memory") 1 3) (global $calls (mut i32) (i32.const 0))
(func (export "{ADD}") (param i32 i32) (result i32)
  (if (i32.eqz (local.get 0)) (then unreachable))
  (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
  (i32.store (i32.const 70000) (i32.add (i32.load (i32.const 70000)) (i32.const 100)))
  (i32.add (global.get $calls) (i32.load (i32.const 70000))))
(func $start (drop (memory.grow (i32.const 1)))) (start $start)
"""


def counting(name: str = "counting", body: str = COUNTING, **options: Any) -> Any:
    return guest(name, body, handlers=("add",), limits={"memory_bytes": 3 << 16, "undo_bytes": 0, **options})


def churn(made: Any, count: int) -> None:
    """So many instances that live and die."""
    extension = guest("passing", '(memory (export "memory") 1)')
    for _ in range(count):
        made.unload(made.load(extension))


def test_collected_when_as_many_are_dead_as_live() -> None:
    """Not before there are `DEAD_MAX`; state, handlers and links of those that live are as before."""
    made = runtime(events=())
    event = made.define(ADD, fold=fold.every)
    shared = made.stores.shared
    made.load(counting())
    made.load(exporter())
    made.load(importer(), Policy.granting(WORDS))
    assert event.raise_(1, 0) == [101, 2]
    churn(made, DEAD_MAX - 1)
    assert (shared.generation, shared.dead) == (0, DEAD_MAX - 1)
    assert event.raise_(2, 0) == [202, 4]
    churn(made, 1)
    assert (shared.generation, shared.dead, shared.live) == (1, 0, 3)
    assert event.raise_(3, 0) == [303, 6]


def test_many_live_ones_wait_for_as_many_dead() -> None:
    """Moving costs what lives: it is done for no less than it frees."""
    made = runtime(events=())
    event = made.define(ADD, fold=fold.every)
    for number in range(100):
        made.load(counting(f"c{number}"))
    churn(made, 98)
    assert made.stores.shared.generation == 0
    churn(made, 3)
    assert made.stores.shared.generation == 1
    assert event.raise_(1, 0) == [101] * 100


def test_not_collected_under_a_raise() -> None:
    """It waits until the outermost one has ended."""
    made = runtime(events=())
    event = made.define(ADD, fold=fold.every)
    made.load(counting())
    generations: list[int] = []

    def meddle(call: Any, left: int, right: int) -> int:
        churn(made, 2 * DEAD_MAX)
        generations.append(made.stores.shared.generation)
        return 0

    binding = event.install(meddle, order=500)
    assert event.raise_(1, 0) == [101, 0]
    event.uninstall(binding)
    assert generations == [0]
    assert made.stores.shared.generation == 1
    assert event.raise_(1, 0) == [202]


def test_broken_instances_are_let_go_and_counted_once() -> None:
    """Faults without end: every restart leaves a dead instance, and the count never goes wrong."""
    made = runtime(events=())
    event = made.define(ADD, fold=fold.every, default=None)
    made.load(counting(), Policy(supervision=Supervision(faults=0)))
    other = made.load(counting("other", COUNTING.replace("(i32.eqz (local.get 0))", "(i32.const 0)")))
    for number in range(1, 3 * DEAD_MAX):
        assert event.raise_(0, 0) == [number * 101]
        assert made.stores.shared.live == 2
        assert made.stores.shared.dead <= DEAD_MAX
    assert made.stores.shared.generation >= 2
    assert other.counters.restarts == 0


def test_when_moving_fails_the_old_store_stays(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, everything goes on, and it is tried again when twice as many are dead."""
    made = runtime(events=())
    event = made.define(ADD, fold=fold.every)
    made.load(counting())
    stores = made.stores

    class Stubborn:
        """A store that cannot be collected now."""

        dead, dead_bytes, live, running, tries = DEAD_MAX, 0, 1, False, 0

        def collect(self) -> int:
            self.tries += 1
            raise SpinError("no room")

    real, stores.shared = stores.shared, Stubborn()  # type: ignore[assignment]
    stubborn: Any = stores.shared
    with caplog.at_level(logging.ERROR, "spinrt.runtime"):
        for stubborn.dead in range(DEAD_MAX, 2 * DEAD_MAX + 1):
            stores.collect_soon()
    stores.shared = real
    assert stubborn.tries == 2
    assert "event=collect-failed code=spin dead=64 reason='no room'" in caplog.text
    assert event.raise_(1, 0) == [101]


def test_module_that_cannot_be_moved_has_a_store_of_its_own() -> None:
    """It writes to a table: nothing but its own store holds that, which goes with it."""
    body = f"""
    (table 2 funcref) (elem declare func $f) (func $f)
    (func (export "{ADD}") (param i32 i32) (result i32) (table.set (i32.const 0) (ref.func $f)) (i32.const 5))
    """
    made = runtime(events=())
    event = made.define(ADD, fold=fold.every, default=None)
    domain = made.load(guest("tables", body, handlers=("add",)))
    assert made.stores.shared.live == 0
    churn(made, 2 * DEAD_MAX)
    assert event.raise_(1, 0) == [5]
    made.unload(domain)
    assert event.raise_(1, 0) is None


def test_policy_below_the_manifest_bounds_the_module() -> None:
    """Memory ends where the policy says, in a shared store too; neighbours have their own bounds."""
    body = f"""
    (memory (export "memory") 1) (func (export "{ADD}") (param i32 i32) (result i32) (memory.grow (i32.const 1)))
    """
    made = runtime({"note": lambda call, text: None}, events=())
    event = made.define(ADD, fold=fold.every)
    extension = guest("wide", body, handlers=("add",), limits={"memory_bytes": 4 << 16})
    made.load(extension, Policy.from_mapping({"limits": {"memory_bytes": 2 << 16}}))
    made.load(guest("own", body, handlers=("add",), limits={"memory_bytes": 3 << 16}))
    grown = [event.raise_(1, 0) for _ in range(3)]
    assert grown == [[1, 1], [0xFFFFFFFF, 2], [0xFFFFFFFF, 0xFFFFFFFF]]


def test_instances_are_made_here_with_the_limits_of_their_domain() -> None:
    """`Stores.instantiate` hands the limits on."""
    made = runtime()
    limits = InstanceLimits(
        memory_bytes=1 << 16, table_entries=1, handles=3, deadline_ticks=5, effects=1, host_calls=1, lift_bytes=1
    )
    instance = made.stores.instantiate(
        counting().fitting.fit(counting().manifest.limits), lambda store: (), limits, "x"
    )
    assert instance.limits is limits
    assert instance.store is made.stores.shared


def test_growth_that_is_taken_back_leaves_no_instances_behind() -> None:
    """Each time the instance is made anew, and what it was is collected: by raises that fail, and by transactions."""
    made = runtime(events=())
    event = made.define(ADD, on_fault=OnFault.REFUSE)
    body = f"""(memory (export "memory") 1 3) (func (export "{ADD}") (param i32 i32) (result i32)
      (drop (memory.grow (i32.const 1))) (if (i32.eqz (local.get 0)) (then unreachable)) (memory.size))"""
    patient = Policy(supervision=Supervision(faults=0))
    made.load(guest("growing", body, handlers=("add",), limits={"memory_bytes": 3 << 16}), patient)
    for _ in range(4 * DEAD_MAX):
        with pytest.raises(HandlerFailed):
            event.raise_(0, 0)
        with Transaction() as transaction:
            assert transaction.raise_(event, 1, 0) == 2
        assert made.stores.shared.dead <= DEAD_MAX
    assert made.stores.shared.generation > 0
    assert event.raise_(1, 0) == 2
