"""Topic "asynchronous": handlers and raises that run later, in bounded queues, and look again before they do."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from spinrt.errors import HandlerFailed, NoHandler, QueueFull, StateError, UsageError
from spinrt.runtime.binding import ASYNC
from spinrt.runtime.call import Transaction
from spinrt.runtime.event import OnFault
from tests.runtime.dispatch.support import World, function, note

NOTE = function("ping", "", "(call $note (i32.const 7))")


def test_asynchronous_handlers_run_when_pending_is_run(tier: int) -> None:
    """They give no result, run in order, and their effects are applied by themselves."""
    world = World(tier)
    event = world.define("one", default=0)
    seen: list[Any] = []
    event.install(lambda call, value: seen.append(value), mode=ASYNC)
    body = function("one", "(param i32) (result i32)", "(call $note (local.get 0)) (local.get 0)")
    world.load(body, {"event": "one", "mode": "async"})
    assert [event.raise_(3), event.raise_(4)] == [0, 0]
    assert (seen, world.applied) == ([], [])
    assert world.runtime.run_pending() == 4
    assert (seen, world.applied) == ([3, 4], [3, 4])
    assert world.runtime.run_pending() == 0


def test_nothing_is_queued_by_a_raise_that_does_not_commit(tier: int) -> None:
    """Failed raises and dropped transactions leave nothing, and give their room back."""
    world = World(tier)
    event = world.define("ping", on_fault=OnFault.REFUSE, queue_max=1)
    seen: list[Any] = []
    event.install(note(seen, "later"), mode=ASYNC)
    bad = world.load(function("ping", "", "unreachable"), "ping")
    for _ in range(3):
        with pytest.raises(HandlerFailed):
            event.raise_()
    world.runtime.unload(bad)
    for _ in range(3):
        with Transaction() as transaction:
            transaction.raise_(event)
    gc.collect()
    event.raise_()
    assert world.runtime.run_pending() == 1
    assert seen == ["later"]


def test_a_full_queue_follows_the_events_policy_and_blames_nobody(tier: int) -> None:
    """Skipped, or the raise fails; what is promised in an open transaction counts."""
    world = World(tier)
    event = world.define("ping", queue_max=2)
    domain = world.load(NOTE, {"event": "ping", "mode": "async"})
    with Transaction() as transaction:
        for _ in range(2):
            transaction.raise_(event)
        event.raise_()
        transaction.commit()
    assert world.runtime.run_pending() == 2
    assert world.applied == [7, 7]
    event.on_fault = OnFault.REFUSE
    event.raise_()
    event.raise_()
    with pytest.raises(HandlerFailed, match="waiting"):
        event.raise_()
    assert domain.counters.faults == 0
    assert event.bindings[0].counts.faults == 2


def test_what_was_uninstalled_or_unloaded_meanwhile_does_not_run(tier: int) -> None:
    """The queue looks again; a swapped binding was uninstalled too."""
    world = World(tier)
    event = world.define("ping")
    seen: list[Any] = []
    gone = event.install(note(seen, "gone"), mode=ASYNC)
    old = event.install(note(seen, "old"), mode=ASYNC)
    domain = world.load(NOTE, {"event": "ping", "mode": "async"})
    event.install(note(seen, "kept"), mode=ASYNC)
    event.raise_()
    event.uninstall(gone)
    event.swap(old, note(seen, "new"))
    world.runtime.unload(domain)
    assert world.runtime.run_pending() == 4
    assert (seen, world.applied) == (["kept"], [])
    event.raise_()
    world.runtime.run_pending()
    assert seen == ["kept", "new", "kept"]


def test_later_handlers_that_fail_are_counted_and_the_rest_runs(tier: int) -> None:
    """A fault of a queued handler is its domain's; its effects are dropped."""
    world = World(tier)
    event = world.define("ping", on_fault=OnFault.REFUSE)
    bad = world.load(
        function("ping", "", "(call $note (i32.const 1)) unreachable"), {"event": "ping", "mode": "async"}, name="bad"
    )
    world.load(NOTE, {"event": "ping", "mode": "async"})
    event.raise_()
    assert world.runtime.run_pending() == 2
    assert world.applied == [7]
    assert bad.counters.faults == 1
    assert [binding.counts.faults for binding in event.bindings] == [1, 0]
    assert [binding.counts.raises for binding in event.bindings] == [1, 1]


def test_a_handler_that_queues_itself_again_does_not_run_for_ever(tier: int) -> None:
    """What is queued while the queue runs waits for the next time, also below a bound."""
    world = World(tier)
    event = world.define("ping")
    event.install(lambda call: event.raise_(), mode=ASYNC)
    event.raise_()
    assert [world.runtime.run_pending() for _ in range(3)] == [1, 1, 1]
    for _ in range(4):
        event.raise_()
    assert world.runtime.run_pending(2) == 2
    assert len(world.runtime.pending) == 5


def test_a_whole_raise_can_be_later(tier: int) -> None:
    """It finds what is installed then; its queue is the event's; its failure is nobody's to catch."""
    world = World(tier)
    event = world.define("add", queue_max=3)
    with pytest.raises(UsageError, match="arguments"):
        event.raise_later(1)
    for left in (1, 2, 3):
        event.raise_later(left, 0, context=left)
    with pytest.raises(QueueFull):
        event.raise_later(4, 0)
    assert world.runtime.run_pending(1) == 1  # nobody handles it: a failure, and logged
    seen: list[Any] = []
    event.install(lambda call, left, right: seen.append((left, call.context, call.event)))
    assert world.runtime.run_pending() == 2
    assert seen == [(2, 2, event.name), (3, 3, event.name)]
    with pytest.raises(NoHandler):
        world.define("one").raise_(1)


def test_filtered_arguments_are_what_is_queued(tier: int) -> None:
    """An asynchronous handler sees what a handler at its place would."""
    world = World(tier)
    event = world.define("one", default=0)
    seen: list[Any] = []
    event.install(lambda call, value: value * 10, filters=True, order=1)
    event.install(lambda call, value: seen.append(value), mode=ASYNC)
    event.raise_(4)
    world.runtime.run_pending()
    assert seen == [40]


def test_an_interrupt_while_pending_runs_keeps_the_rest(tier: int) -> None:
    """What it hit is done with; what is behind it waits on."""
    world = World(tier)
    event = world.define("one", default=0)
    seen: list[Any] = []

    def handler(call: Any, value: int) -> None:
        if value == 1:
            raise KeyboardInterrupt
        seen.append(value)

    event.install(handler, mode=ASYNC)
    for value in (0, 1, 2):
        event.raise_(value)
    with pytest.raises(KeyboardInterrupt):
        world.runtime.run_pending()
    assert world.runtime.run_pending() == 1
    assert seen == [0, 2]


def test_modes_that_contradict_are_refused(tier: int) -> None:
    """An asynchronous handler has no say in the raise."""
    world = World(tier)
    event = world.define("one")
    for options in ({"filters": True}, {"cancels": True}):
        with pytest.raises(UsageError, match="asynchronous"):
            event.install(lambda call, value: value, mode=ASYNC, **options)
    with pytest.raises(StateError):
        event.uninstall(world.define("ping").install(lambda call: None))
