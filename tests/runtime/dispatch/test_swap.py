"""Topic "swap": many bindings of many events change together, or not at all; also in the middle of a raise."""

from __future__ import annotations

from typing import Any

import pytest

from spinrt.errors import LinkDenied, StateError, UsageError
from spinrt.runtime.binding import Options
from spinrt.runtime.order import After, Before
from spinrt.runtime.swap import Swap
from spinrt.sandbox.condition import Equal
from tests.runtime.dispatch.support import World, adder, function, note


def test_a_swapped_handler_takes_the_place_and_the_guards_of_the_old_one(tier: int) -> None:
    """Its options, and what was imposed on it, unless the swap says otherwise."""
    world = World(tier)
    event = world.define("one", fold="every", default=[])
    event.install(lambda call, value: 0)
    old = event.install(lambda call, value: 1, guards=(Equal("value", 1),))
    event.install(lambda call, value: 2)
    event.impose(old, lambda call, value: True)
    new = event.swap(old, lambda call, value: 7)
    assert (event.raise_(1), event.raise_(2)) == ([0, 7, 2], [0, 2])
    assert (new.options, new.imposed, old.installed, new.installed) == (old.options, old.imposed, False, True)
    world.runtime.swap([Swap(event, new, lambda call, value: 8, Options(order=500))])
    assert event.raise_(2) == [0, 2, 8]


def test_many_events_change_together(tier: int) -> None:
    """Replace, install and uninstall in one step."""
    world = World(tier)
    one, add = world.define("one", fold="every", default=[]), world.define("add", fold="every", default=[])
    bindings = [one.install(lambda call, value: 1), one.install(lambda call, value: 2)]
    other = add.install(lambda call, left, right: 3)
    domain = world.load(adder(10), "add")
    made = world.runtime.swap(
        [
            Swap(one, bindings[0], lambda call, value: 4),
            Swap(one, bindings[1], None),
            Swap(add, other, domain),
            Swap(one, None, lambda call, value: 5),
        ]
    )
    assert (one.raise_(0), add.raise_(0, 0)) == ([4, 5], [10, 10])
    assert [binding is None for binding in made] == [False, True, False, False]


@pytest.mark.parametrize("wrong", ["arguments", "twice", "gone", "foreign", "guard", "circle", "denied"])
def test_one_mistake_and_nothing_changes(tier: int, wrong: str) -> None:
    """Whatever is wrong with the last of the changes, the first ones are not made."""
    world = World(tier)
    one, add = world.define("one", fold="every"), world.define("add", fold="every", owner="mail")
    first = one.install(lambda call, value: 1)
    second = add.install(lambda call, left, right: 2, by="mail")
    third = add.install(lambda call, left, right: 3, by="mail")
    add.reorder(second, place=Before(third), by="mail")
    good = lambda call, left, right: 9  # noqa: E731
    spare = add.install(good, by="mail")
    add.uninstall(spare, by="mail")
    last = {
        "arguments": Swap(add, second, lambda call: 0),
        "twice": Swap(one, first, lambda call, value: 8),
        "gone": Swap(add, spare, good),
        "foreign": Swap(add, first, good),
        "guard": Swap(add, second, good, Options(guards=(Equal("colour", 1),))),
        "circle": Swap(add, second, good, Options(places=(After(third), Before(third)))),
        "denied": Swap(add, second, good),
    }[wrong]
    before = (one.bindings, add.bindings)
    with pytest.raises((UsageError, StateError, LinkDenied)):
        world.runtime.swap([Swap(one, first, lambda call, value: 7), last], by="alice" if wrong == "denied" else "mail")
    assert (one.bindings, add.bindings) == before
    assert all(binding.installed for bindings in before for binding in bindings)
    assert (one.raise_(0), add.raise_(0, 0)) == ([1], [2, 3])


def test_loading_is_all_or_nothing(tier: int) -> None:
    """When the handler of one event is refused, none is installed."""
    world = World(tier)
    one = world.define("one")
    world.define("add", authorizer=lambda request: "no")
    with pytest.raises(LinkDenied):
        world.load(adder(1) + function("one", "(param i32) (result i32)", "(local.get 0)"), "one", "add")
    assert (one.bindings, world.runtime.domains) == ((), {})


def test_a_swap_during_a_raise_shows_in_the_next_one(tier: int) -> None:
    """Also where it takes away the handler that runs, and those behind it."""
    world = World(tier)
    event = world.define("ping")
    seen: list[Any] = []

    def change(call: Any) -> None:
        seen.append("old")
        world.runtime.swap([Swap(event, binding, note(seen, "new")), Swap(event, behind, None)])

    binding = event.install(change)
    behind = event.install(note(seen, "behind"))
    event.raise_()
    event.raise_()
    assert seen == ["old", "behind", "new"]


@pytest.mark.parametrize("unload", [False, True])
def test_uninstalling_oneself_while_running_ends_after_this_raise(tier: int, unload: bool) -> None:
    """A guest through a host function, among others; and unloading itself."""
    world = World(tier)
    event = world.define("add", fold="every", default=[])
    domain = world.load(adder(1, "(call $leave)"), "add")
    world.leave = lambda call: world.runtime.unload(domain) if unload else event.uninstall(domain)
    event.install(lambda call, left, right: right)
    assert [event.raise_(1, 5), event.raise_(1, 5)] == [[2, 5], [5]]


def test_installing_while_running_waits_for_the_next_raise(tier: int) -> None:
    """A raise that installs does not go on for ever."""
    world = World(tier)
    event = world.define("ping")
    seen: list[Any] = []
    event.install(lambda call: event.install(note(seen, "more")))
    for expected in (0, 1, 3, 6):
        event.raise_()
        assert len(seen) == expected
