"""Topic "imposed": guards that somebody puts in front of another's binding, and takes back; and who may."""

from __future__ import annotations

from typing import Any

import pytest

from spinrt.errors import LinkDenied, StateError, UsageError
from spinrt.runtime.authority import Operation, Request
from spinrt.runtime.binding import DomainExport
from spinrt.sandbox.condition import Equal, Range
from tests.runtime.dispatch.support import World, adder, function, note


def test_imposed_guards_come_first_the_newest_before_all(tier: int) -> None:
    """They hold from the next raise on, and until they are lifted."""
    world = World(tier)
    event = world.define("ping")
    seen: list[Any] = []
    own, first, second = note(seen, "own", True), note(seen, "first", True), note(seen, "second", True)
    binding = event.install(note(seen, "ran"), guards=(own,))
    event.impose(binding, first)
    event.impose(binding, second)
    event.raise_()
    assert seen == ["second", "first", "own", "ran"]
    seen.clear()
    event.lift(binding, first)
    event.raise_()
    assert seen == ["second", "own", "ran"]
    with pytest.raises(StateError):
        event.lift(binding, first)
    with pytest.raises(StateError):
        event.lift(binding, own)


def test_what_was_counted_stays_when_guards_change(tier: int) -> None:
    """Imposing and lifting make new entries; the binding's counts go on."""
    world = World(tier)
    event = world.define("one", default=0)
    binding = event.install(lambda call, value: value)
    guard = lambda call, value: False  # noqa: E731
    for round_ in range(3):
        event.raise_(1)
        event.impose(binding, guard)
        event.raise_(1)
        assert (binding.counts.raises, binding.counts.guarded) == (round_ + 1, round_ + 1)
        event.lift(binding, guard)


def test_imposing_during_a_raise_takes_effect_behind_it(tier: int) -> None:
    """The raise that is under way walks the table that it began with."""
    world = World(tier)
    event = world.define("ping")
    seen: list[Any] = []
    never = note(seen, "asked", False)
    event.install(lambda call: event.impose(second, never), order=1)
    second = event.install(note(seen, "second"))
    event.raise_()
    event.raise_()
    assert seen == ["second", "asked"]


def test_an_unloaded_guard_passes_nobody_until_it_is_lifted(tier: int) -> None:
    """What nobody can check any more stays closed, also for bindings that are swapped in later."""
    world = World(tier)
    event = world.define("add", default=-1)
    guarding = world.load(
        adder(1) + function("yes", "(param i32 i32) (result i32)", "(i32.const 1)"),
        {"event": "add", "guard": "yes"},
        name="guarding",
    )
    binding = event.install(lambda call, left, right: left)
    guard = DomainExport(guarding, "yes")
    event.impose(binding, guard)
    assert event.raise_(5, 0) == 5
    world.runtime.unload(guarding)
    assert event.raise_(5, 0) == -1
    binding = event.swap(binding, lambda call, left, right: left + 1)
    assert event.raise_(5, 0) == -1
    event.lift(binding, guard)
    assert event.raise_(5, 0) == 6


def test_an_event_with_an_owner_obeys_its_owner(tier: int) -> None:
    """Others install, and change what is theirs; nobody takes the place of another by a name alone."""
    world = World(tier)
    event = world.define("one", owner="mail", default=0)
    handler = lambda call, value: value  # noqa: E731
    alice, bob = event.install(handler, by="alice"), event.install(handler, by="bob")
    for refused in (
        lambda: event.uninstall(bob, by="alice"),
        lambda: event.uninstall(bob),
        lambda: event.reorder(bob, order=1, by="alice"),
        lambda: event.swap(bob, handler, by="alice"),
        lambda: event.impose(bob, Equal("value", 1), by="alice"),
        lambda: event.set_default(1, by="alice"),
        lambda: event.set_fold("first", by="alice"),
        lambda: event.set_intrinsic(handler, by="alice"),
        lambda: event.set_default(1),
    ):
        with pytest.raises(LinkDenied, match="belongs to mail"):
            refused()
    event.impose(bob, Equal("value", 1), by="mail")
    with pytest.raises(LinkDenied):
        event.lift(bob, Equal("value", 1), by="bob")
    event.impose(bob, Equal("value", 2), by="bob")
    event.lift(bob, Equal("value", 2), by="bob")
    event.lift(bob, Equal("value", 1), by="mail")
    event.reorder(alice, order=3, by="alice")
    event.uninstall(alice, by="alice")
    event.uninstall(bob, by="mail")
    assert event.bindings == ()


def test_a_domains_name_is_not_the_domain(tier: int) -> None:
    """Who says a name is not who has it; the domain itself may take away its own, also where another installed it."""
    world = World(tier)
    event = world.define("add", owner="mail")
    domain = world.load(adder(1), "add", name="mine")
    with pytest.raises(LinkDenied):
        event.uninstall(event.bindings[0], by="mine")
    event.uninstall(domain, by=domain)
    event.install(domain, by="mail")
    event.uninstall(domain)
    assert event.bindings == ()


def test_the_authorizer_decides_every_change(tier: int) -> None:
    """It hears of all of them, with who asks; it refuses, or imposes guards on what is installed."""
    world = World(tier)
    heard: list[Request] = []
    answers: dict[Operation, Any] = {Operation.INSTALL: [Range("value", 2)]}

    def authorizer(request: Request) -> Any:
        heard.append(request)
        return answers.get(request.operation)

    event = world.define("one", owner="mail", authorizer=authorizer, default=0, intrinsic=lambda call, value: 0)
    assert heard == []
    handler = lambda call, value: value  # noqa: E731
    one = event.install(handler, by="alice")
    assert [event.raise_(1), event.raise_(2)] == [0, 2]
    event.impose(one, Equal("value", 3), by="x")
    event.lift(one, Equal("value", 3), by="x")
    event.reorder(one, order=7, by="x")
    two = event.swap(one, handler, by="x")
    event.uninstall(two, by="x")
    event.set_default(5, by="x")
    event.set_fold("last", by="x")
    event.set_intrinsic(None, by="x")
    assert [request.operation.value for request in heard] == [
        "install", "impose", "lift", "reorder", "swap", "uninstall", "default", "fold", "intrinsic",
    ]  # fmt: skip
    assert {request.by for request in heard[1:]} == {"x"}
    assert two.guards == (Range("value", 2),)
    answers.update(dict.fromkeys(Operation, "not today"))
    kept = event.bindings
    for refused in (lambda: event.install(handler), lambda: event.set_fold("first"), lambda: event.set_default(1)):
        with pytest.raises(LinkDenied, match="not today"):
            refused()
    with pytest.raises(LinkDenied):
        world.load(function("one", "(param i32) (result i32)", "(local.get 0)"), "one")
    assert event.bindings == kept
    assert world.runtime.domains == {}


def test_an_authorizer_that_answers_nonsense_is_named(tier: int) -> None:
    """Guards are for what is installed; what is neither text nor guards is a mistake, and nothing happens."""
    world = World(tier)
    answer: list[Any] = [None]
    event = world.define("one", authorizer=lambda request: answer[0])
    binding = event.install(lambda call, value: value)
    for nonsense in (True, 7, [Equal("value", 1)]):
        answer[0] = nonsense
        with pytest.raises(UsageError, match="authorizer"):
            event.uninstall(binding)
    answer[0] = [Equal("colour", 1)]
    with pytest.raises(UsageError, match="colour"):
        event.install(lambda call, value: value)
    assert event.bindings == (binding,)


def test_unloading_asks_nobody(tier: int) -> None:
    """An authorizer cannot keep an extension that is to go."""
    world = World(tier)
    allowed = [None]
    event = world.define("add", default=-1, owner="mail", authorizer=lambda request: allowed[0])
    domain = world.load(adder(1), "add")
    allowed[0] = "never"  # type: ignore[call-overload]
    world.runtime.unload(domain)
    assert event.raise_(1, 2) == -1
