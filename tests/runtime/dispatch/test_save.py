"""Topic "save": filters rewrite a copy; what the raiser has stays as it was."""

from __future__ import annotations

from tests.runtime.dispatch.support import World, function

FILTER = function(
    "swapped",
    "(param i32 i32) (result i32)",
    "(i32.store (i32.const 64) (local.get 1)) (i32.store (i32.const 68) (local.get 0)) (i32.const 64)",
) + function("add", "(param i32 i32) (result i32)", "(local.get 0)")


def test_filters_rewrite_for_those_behind_them(tier: int) -> None:
    """One after the other; those in front see the raiser's values, and so does the raiser."""
    world = World(tier)
    event = world.define("add", fold="every")
    seen = []
    event.install(lambda call, left, right: seen.append((left, right)) or 0, order=1)
    world.load(FILTER, {"event": "add", "export": "swapped", "filter": True, "order": 2}, {"event": "add", "order": 3})
    event.install(lambda call, left, right: [left * 10, right], filters=True, order=4)
    event.install(lambda call, left, right: seen.append((left, right)) or 0, order=5)
    arguments = (3, 4)
    assert event.raise_(*arguments) == [0, 4, 0]
    assert seen == [(3, 4), (40, 3)]
    assert arguments == (3, 4)


def test_a_filter_of_one_parameter_returns_it(tier: int) -> None:
    """Text too; the raiser's own text is not touched by a guest that writes over its copy."""
    world = World(tier)
    event = world.define("say")
    body = function(
        "shout",
        "(param i32 i32) (result i32)",
        "(i32.store8 (local.get 0) (i32.const 72)) (i32.store (i32.const 64) (local.get 0))"
        " (i32.store (i32.const 68) (local.get 1)) (i32.const 64)",
    )
    world.load(body, {"event": "say", "export": "shout", "filter": True})
    event.install(lambda call, text: text + "!")
    text = "hello"
    assert event.raise_(text) == "Hello!"
    assert text == "hello"


def test_a_filters_effects_are_applied_and_it_gives_no_result(tier: int) -> None:
    """It is a handler in all else; alone it leaves the default."""
    world = World(tier)
    event = world.define("one", default=-1)
    body = function("f", "(param i32) (result i32)", "(call $note (local.get 0)) (i32.const 8)")
    world.load(body, {"event": "one", "export": "f", "filter": True})
    assert (event.raise_(2), world.applied) == (-1, [2])
    event.install(lambda call, value: value)
    assert event.raise_(2) == 8
