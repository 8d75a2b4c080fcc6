"""What instances in one store must not do to each other, or outlive, on every tier: each was once a crash or a leak."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest

from spinrt.errors import UsageError
from spinrt.runtime.binding import DomainExport
from spinrt.runtime.call import Transaction
from spinrt.runtime.supervisor import Supervision
from tests.runtime.dispatch.support import World, function

ONE = "(param i32) (result i32)"
# A module that writes a table cannot be moved: its instances have stores of their own.
OWN_STORE = "(table $t 2 funcref) (func $f) (elem declare func $f)"
WRITE = "(table.set $t (i32.const 0) (ref.func $f))"


@pytest.mark.parametrize("how", ["kill", "quarantine"])
@pytest.mark.parametrize("handlers", [1, 2])
def test_what_was_left_behind_by_a_collect_is_refused(tier: int, how: str, handlers: int) -> None:
    """A broken instance is not moved; its handler fails by name, and the others run."""
    world = World(tier)
    event = world.define("one", default=0)
    body = function("one", ONE, "(if (i32.eq (local.get 0) (i32.const 9)) (then unreachable)) (i32.const 1)")
    broken = world.load(body, "one", name="broken", limits={"undo_bytes": 0}, supervision=Supervision(faults=3))
    if handlers == 2:
        world.load(function("one", ONE, "(i32.const 2)"), "one", name="good")
    assert event.raise_(1) == handlers
    if how == "kill":
        broken.kill("enough", by="the operator")
    else:
        for _ in range(4):
            event.raise_(9)
    world.runtime.stores.collect()
    for _ in range(3):
        assert event.raise_(1) == (2 if handlers == 2 else 0)
    assert broken.counters.faults >= 3


def test_a_guard_left_behind_by_a_collect_holds_nothing(tier: int) -> None:
    """Nor is its memory looked at, which is gone."""
    world = World(tier)
    event = world.define("one", default=0)
    wants = function("wants", ONE, "(i32.store (i32.const 64) (i32.const 1)) (i32.const 1)")
    guarding = world.load(function("add", "(param i32 i32) (result i32)", "(i32.const 0)") + wants, name="guarding")
    assert guarding.instance is not None
    handling = world.load(function("one", ONE, "(i32.const 2)"), "one", name="handling")
    guarding = world.load(function("one", ONE, "(i32.const 3)") + wants, {"event": "one", "guard": "wants"}, name="g2")
    event.impose(next(one for one in event.bindings if one.domain is handling), DomainExport(guarding, "wants"))
    assert event.raise_(1) == 3
    guarding.kill("enough", by="the operator")
    world.runtime.stores.collect()
    for _ in range(2):
        assert event.raise_(1) == 0


def test_an_instance_with_a_store_of_its_own_is_found_again(tier: int) -> None:
    """However often it is restarted, in stores that look alike."""
    world = World(tier)
    one, ping = world.define("one"), world.define("ping")
    body = f"{OWN_STORE} (global $n (mut i32) (i32.const 0))"
    body += function("one", ONE, f"{WRITE} (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n)")
    domain = world.load(
        body + function("ping", "", "unreachable"),
        "one",
        "ping",
        limits={"undo_bytes": 0},
        supervision=Supervision(faults=0),
    )
    for times in (1, 2, 3, 4) * 25:
        assert one.raise_(1) == 1
        for _ in range(times):
            ping.raise_()
    assert domain.counters.restarts == domain.counters.faults == 250


def test_more_handlers_than_a_store_of_its_own_has_room_for(tier: int) -> None:
    """The bounds of an extension's own store do not bound how often it may be installed."""
    world = World(tier)
    event = world.define("one", fold="sum")
    domain = world.load(OWN_STORE + function("one", ONE, f"{WRITE} (i32.const 1)"), "one", limits={"table_entries": 16})
    for _ in range(199):
        event.install(domain)
    assert event.raise_(1) == 200


def test_a_raise_within_a_handler_leaves_its_call_alone(tier: int) -> None:
    """Domain, room for effects and cancel are the handler's own again, in one transaction too."""
    world = World(tier)
    one, ping = world.define("one", default=0), world.define("ping")
    transactions: list[Transaction] = []
    seen: list[Any] = []

    def again(call: Any, number: int) -> None:
        transactions[-1].raise_(ping)
        seen.append((call.domain.name, call.journal.room, call.cancelled))

    world.again = again
    notes = "(call $note (i32.const 1))" * 3
    world.load(
        function("one", ONE, f"(call $note (i32.const 9)) (call $again (i32.const 1)) {notes} (i32.const 1)"),
        "one",
        name="a",
        limits={"effects": 2},
    )
    world.load(function("ping", "", "(call $note (i32.const 5)) (call $cancel)"), "ping", name="b")
    world.load(function("one", ONE, "(i32.const 7)"), "one", name="c")
    with Transaction() as transaction:
        transactions.append(transaction)
        assert transaction.raise_(one, 1) == 7
        transaction.commit()
    assert seen == [("a", 1, False)]
    assert 1 not in world.applied
    assert world.runtime.domains["a"].counters.faults == 1


@pytest.mark.parametrize("own", [False, True])
def test_a_deadline_holds_in_raises_into_other_stores(tier: int, own: bool) -> None:
    """A handler that only calls out, and whose time is spent by others, ends all the same."""
    world = World(tier)
    one, ping = world.define("one", default=0), world.define("ping")
    turns = "(loop $l (local.set $i (i32.add (local.get $i) (i32.const 1)))"
    turns += " (br_if $l (i32.lt_u (local.get $i) (i32.const 3000000))))"
    world.load(function("ping", "", f"(local $i i32) {turns}"), "ping", name="b", limits={"deadline_ms": 1000})
    body = (WRITE if own else "") + "(call $again (i32.const 1))" * 1000 + "(i32.const 7)"
    world.load((OWN_STORE if own else "") + function("one", ONE, body), "one", name="a", limits={"deadline_ms": 10})
    raised: list[int] = []

    def again(call: Any, number: int) -> None:
        raised.append(1)
        ping.raise_()

    world.again = again
    assert one.raise_(1) == 0
    assert len(raised) < 1000
    assert world.runtime.domains["a"].counters.faults == 1


def test_a_signal_handler_may_not_raise_into_the_store_that_it_interrupts(tier: int) -> None:
    """It is told so, and nobody is blamed."""
    world = World(tier)
    one, ping = world.define("one", default=0), world.define("ping")
    world.load(
        function("ping", "", "(call $again (i32.const 1)) (loop $l (br $l))"),
        "ping",
        name="a",
        limits={"deadline_ms": 100},
    )
    innocent = world.load(function("one", ONE, "(local.get 0)"), "one", name="b")
    caught: list[str] = []

    def handler(number: int, frame: object) -> None:
        try:
            one.raise_(4)
        except UsageError as error:
            caught.append(str(error))

    before = signal.signal(signal.SIGALRM, handler)
    world.again = lambda call, number: signal.setitimer(signal.ITIMER_REAL, 0.005) and None
    try:
        ping.raise_()
        time.sleep(0.01)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(caught) == 1
    assert "signal handler" in caught[0]
    assert innocent.counters.faults == 0
    assert one.raise_(4) == 4
