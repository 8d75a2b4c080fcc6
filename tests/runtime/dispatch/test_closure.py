"""Topic "closure": a value given at installation and passed in front of the arguments."""

from __future__ import annotations

from typing import Any

import pytest

from spinrt.errors import SignatureMismatch, UsageError
from spinrt.runtime.binding import DomainExport
from spinrt.runtime.guard import Check
from tests.runtime.dispatch.support import World, adder, function

SCALE = function("scale", "(param i64 i32 i32) (result i32)", "(i32.mul (i32.wrap_i64 (local.get 0)) (local.get 1))")


def test_one_handler_many_times_with_closures_of_its_own(tier: int) -> None:
    """In guests and in Python; None is a closure like any other."""
    world = World(tier)
    event = world.define("add", fold="every")
    world.load(SCALE, *({"event": "add", "export": "scale", "closure": closure} for closure in (2, 3, 2**32 + 4)))
    seen: list[object] = []
    handler = lambda call, closure, left, right: seen.append(closure) or left  # type: ignore[func-returns-value]  # noqa: E731
    event.install(handler, closure=None)
    event.install(handler, closure=world)
    assert event.raise_(10, 0) == [20, 30, 40, 10, 10]
    assert seen == [None, world]


def test_guards_have_closures_too(tier: int) -> None:
    """Given with `Check`."""
    world = World(tier)
    event = world.define("add", fold="every")
    domain = world.load(adder(1), "add")
    python = Check(lambda call, closure, left, right: left > closure, 5)
    event.install(domain, guards=(python,), order=200)
    assert [event.raise_(left, 0) for left in (5, 6)] == [[6], [7, 7]]


def test_closures_that_cannot_be_passed_are_refused(tier: int) -> None:
    """An export takes 64 bits, and must take one at all; a callable needs room for it."""
    world = World(tier)
    event = world.define("add")
    domain = world.load(SCALE + adder(1), "add", {"event": "add", "export": "scale", "closure": 1})
    for closure in (-1, 2**64, "x", None, True, 1.0):
        with pytest.raises(UsageError, match="closure"):
            event.install(domain, export="scale", closure=closure)
    with pytest.raises(SignatureMismatch, match=r"\*nothing\*"):
        event.install(domain, closure=1)
    with pytest.raises(SignatureMismatch, match=r"\*u64\*"):
        event.install(DomainExport(domain, "scale"))
    with pytest.raises(UsageError, match="take 4 arguments"):
        event.install(lambda call, left, right: 0, closure=7)
    seen: list[Any] = []
    event.install(lambda call, closure, *arguments: seen.append((closure, *arguments)) or 0, closure=7)
    event.raise_(1, 2)
    assert seen == [(7, 1, 2)]
