"""Topic "cancel": a handler that ends the raise behind it, by its binding or by what it asks while it runs."""

from __future__ import annotations

from typing import Any

import pytest

from spinrt.runtime.call import Transaction
from tests.runtime.dispatch.support import World, function, note


def test_a_binding_that_cancels_keeps_those_behind_it_from_running(tier: int) -> None:
    """What ran before keeps its results and effects; the one that cancels too."""
    world = World(tier)
    event = world.define("one", fold="every")
    body = function("one", "(param i32) (result i32)", "(call $note (local.get 0)) (local.get 0)")
    world.load(body, "one", name="first")
    world.load(body, {"event": "one", "cancels": True}, name="second")
    world.load(body, "one", name="third")
    assert event.raise_(5) == [5, 5]
    assert world.applied == [5, 5]
    assert [binding.counts.raises for binding in event.bindings] == [1, 1, 0]


def test_a_handler_cancels_by_asking(tier: int) -> None:
    """From Python, and from a guest through a host function."""
    for install in ("python", "guest"):
        world = World(tier)
        event = world.define("ping")
        seen: list[Any] = []
        event.install(note(seen, "before"), order=1)
        if install == "python":
            event.install(lambda call: call.cancel())
        else:
            world.load(function("ping", "", "(call $cancel) (call $note (i32.const 1))"), "ping")
        event.install(note(seen, "behind"), order=500)
        event.raise_()
        event.raise_()
        assert seen == ["before", "before"]
        assert world.applied == ([1, 1] if install == "guest" else [])


@pytest.mark.parametrize("guarded", [False, True])
def test_a_guest_among_guests_cancels(tier: int, guarded: bool) -> None:
    """Flat values and extensions only: what the stub would run without coming back in between."""
    world = World(tier)
    event = world.define("one", fold="every")
    body = function(
        "one",
        "(param i32) (result i32)",
        "(if (i32.eq (local.get 0) (i32.const 3)) (then (call $cancel))) (local.get 0)",
    )
    when = [{"field": "value", "at_least": 1}] if guarded else []
    for name in ("a", "b", "c"):
        world.load(body, {"event": "one", "when": when}, name=name)
    assert [event.raise_(value) for value in (2, 3, 2)] == [[2, 2, 2], [3], [2, 2, 2]]


def test_one_that_was_held_back_or_failed_cancels_nothing(tier: int) -> None:
    """Neither by its binding nor by what it asked before it failed."""
    world = World(tier)
    event = world.define("ping")
    seen: list[Any] = []
    event.install(note(seen, "held"), cancels=True, guards=(lambda call: False,))
    world.load(function("ping", "", "(call $cancel) unreachable"), {"event": "ping", "cancels": True})
    event.install(note(seen, "behind"))
    event.raise_()
    assert seen == ["behind"]


def test_a_cancelled_raise_inside_another_ends_alone(tier: int) -> None:
    """Neither the outer raise nor the next one in the transaction notices; a guard's wish counts for nothing."""
    world = World(tier)
    inner, outer = world.define("one", default=0), world.define("ping")
    seen: list[Any] = []
    inner.install(lambda call, value: call.cancel() or value)

    def cancelling(call: Any) -> bool:
        call.cancel()
        return True

    outer.install(lambda call: inner.walk(call, (1,)), guards=(cancelling,))
    outer.install(note(seen, "outer"))
    with Transaction() as transaction:
        transaction.raise_(inner, 1)
        transaction.raise_(outer)
        transaction.raise_(outer)
    assert seen == ["outer", "outer"]


def test_a_filter_may_cancel(tier: int) -> None:
    """It ran; there is no result."""
    world = World(tier)
    event = world.define("one", default=99)
    event.install(lambda call, value: value, filters=True, cancels=True)
    event.install(lambda call, value: value)
    assert event.raise_(1) == 99
