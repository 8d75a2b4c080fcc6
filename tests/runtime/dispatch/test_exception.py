"""Topic "exception": handlers that trap, take too long, or raise; what is left of them, and who is told."""

from __future__ import annotations

from typing import Any

import pytest

from spinrt.errors import AbiError, HandlerFailed, NoHandler, UsageError
from spinrt.runtime.binding import DomainExport, Ephemeral
from spinrt.runtime.event import OnFault
from tests.runtime.dispatch.support import World, adder, function, note

SPIN = "(loop $again (br $again))"


def test_a_trap_is_skipped_with_its_effects(tier: int) -> None:
    """Others run; the guest is fresh for the next raise."""
    world = World(tier)
    event = world.define("add", fold="every")
    bad = adder(1, "(call $note (local.get $left)) (if (local.get $right) (then unreachable))")
    domain = world.load(bad, "add", name="bad")
    world.load(adder(2, "(call $note (i32.const 9))"), "add", name="good")
    assert [event.raise_(1, 0), event.raise_(2, 1), event.raise_(3, 0)] == [[2, 3], [4], [4, 5]]
    assert world.applied == [1, 9, 9, 3, 9]
    assert (domain.counters.faults, event.bindings[0].counts.faults, event.bindings[0].counts.raises) == (1, 1, 3)


def test_an_event_that_refuses_fails_whole(tier: int) -> None:
    """Nothing behind the fault runs, and nothing in front of it is applied."""
    world = World(tier)
    event = world.define("ping", on_fault=OnFault.REFUSE)
    seen: list[Any] = []
    world.load(function("ping", "", "(call $note (i32.const 1))"), "ping", name="good")
    world.load(function("ping", "", "unreachable"), "ping", name="bad")
    event.install(note(seen, "behind"))
    with pytest.raises(HandlerFailed, match="bad"):
        event.raise_()
    assert (seen, world.applied) == ([], [])


def test_a_python_handler_that_raises_ends_the_raise(tier: int) -> None:
    """Mistakes of the host go to the raiser, errors of spinrt follow the event's policy."""
    world = World(tier)
    event = world.define("one", default=7)
    world.load(function("one", "(param i32) (result i32)", "(call $note (i32.const 1)) (i32.const 1)"), "one")

    def fail(call: Any, value: int) -> int:
        raise (KeyError("mine") if value else AbiError("yours"))

    binding = event.install(fail)
    with pytest.raises(KeyError):
        event.raise_(1)
    assert world.applied == []
    assert event.raise_(0) == 1
    assert binding.counts.faults == 1


def test_an_ephemeral_handler_is_ended_without_fault(tier: int) -> None:
    """Its effects go, its domain is restored, the walk goes on; its domain's own deadline would be a fault."""
    world = World(tier)
    event = world.define("one", default=0)
    domain = world.load(
        function(
            "one",
            "(param i32) (result i32)",
            f"(call $note (i32.const 1)) (if (local.get 0) (then {SPIN})) (i32.const 5)",
        ),
        {"event": "one", "mode": "ephemeral", "quantum_ms": 5},
        limits={"deadline_ms": 60_000},
    )
    assert [event.raise_(1), event.raise_(0), event.raise_(1)] == [0, 5, 0]
    assert world.applied == [1]
    counts = event.bindings[0].counts
    assert (counts.ended, counts.faults, domain.counters.faults) == (2, 0, 0)


def test_handlers_in_python_cannot_be_ephemeral(tier: int) -> None:
    """Nothing could end them; and a quantum has bounds."""
    world = World(tier)
    event = world.define("add")
    with pytest.raises(UsageError, match="ephemeral"):
        event.install(lambda call, left, right: 0, mode=Ephemeral(5))
    domain = world.load(adder(1), "add")
    for quantum in (0, -1, 60_001, 1.5, True):
        with pytest.raises(UsageError, match="quantum"):
            event.install(domain, mode=Ephemeral(quantum))  # type: ignore[arg-type]


def test_a_filter_that_fails_rewrites_nothing(tier: int) -> None:
    """A trap, or a Python filter that returns too little, is a fault like any other."""
    world = World(tier)
    event = world.define("add", fold="every")
    world.load(
        function("f", "(param i32 i32) (result i32)", "unreachable"), {"event": "add", "export": "f", "filter": True}
    )
    event.install(lambda call, left, right: (left,), filters=True)
    event.install(lambda call, left, right: left + right)
    assert event.raise_(1, 2) == [3]
    assert [binding.counts.faults for binding in event.bindings] == [1, 1, 0]


def test_a_default_handler_or_fold_that_fails_is_a_fault_of_its_domain(tier: int) -> None:
    """Then there is no result."""
    world = World(tier)
    event = world.define("add")
    domain = world.load(
        adder(1, "unreachable"), {"event": "add", "export": "test:dispatch/events@1.0.0#add"}, name="bad"
    )
    event.uninstall(domain)
    event.set_default(domain)
    with pytest.raises(NoHandler):
        event.raise_(1, 2)
    assert domain.counters.faults == 1
    event.set_default(lambda call, left, right: left * right)
    assert event.raise_(3, 4) == 12
    with pytest.raises(UsageError):
        event.set_default(DomainExport(domain, "other"))


def test_reentrancy_is_a_fault_of_the_one_that_is_running(tier: int) -> None:
    """A guest that raises its own event is not entered again; others are."""
    world = World(tier)
    event = world.define("one", fold="every", default=[])
    world.again = lambda call, number: event.raise_(number - 1)
    body = function(
        "one",
        "(param i32) (result i32)",
        "(if (local.get 0) (then (call $again (local.get 0)))) (call $note (local.get 0)) (local.get 0)",
    )
    domains = [world.load(body, "one", name=name) for name in ("a", "b")]
    assert event.raise_(2) == [2, 2]
    assert sorted(world.applied) == [1, 1, 2, 2]
    assert [domain.counters.faults for domain in domains] == [3, 3]
