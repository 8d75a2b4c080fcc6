"""Topic "type": what is checked at installation, and how a difference reads."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from spinrt.errors import SignatureMismatch, UsageError
from spinrt.sandbox.handler_type import difference, handler_type
from tests.runtime.dispatch.support import EVENTS, INTERFACES, World, adder, function


def test_a_difference_shows_both_types_and_marks_where(tier: int) -> None:
    """Parameters, results, and what is missing."""
    world = World(tier)
    event, other = world.define("add"), world.define("say")
    domain = world.load(adder(1), "add")
    with pytest.raises(SignatureMismatch) as caught:
        other.install(domain, export=f"{EVENTS}#add")
    assert "found func(*u32*, *u32*) -> *u32*, expected func(*string*, *nothing*) -> *string*" in str(caught.value)
    assert "asterisks" in caught.value.hint
    with pytest.raises(SignatureMismatch, match=r"expected func\(u32, u32\) -> \*tuple<u32, u32>\*"):
        event.install(domain, filters=True)


def test_names_of_parameters_do_not_count_and_types_of_one_name_do() -> None:
    """Two records of one name with other fields are two types."""
    from spinrt.sandbox.wit import Interfaces, Source

    events = INTERFACES.get(EVENTS).functions
    text = "package a:b@1.0.0; interface c { record r { x: u32 } f: func(r: r); }"
    one = Interfaces.parse([Source("one", text)]).get("a:b/c@1.0.0").functions["f"]
    same = Interfaces.parse([Source("one", text.replace("f: func(r: r)", "f: func(s: r)"))])
    other = Interfaces.parse([Source("two", text.replace("x: u32", "x: u64"))])
    assert difference(same.get("a:b/c@1.0.0").functions["f"], one) == ""
    assert "defined differently" in difference(other.get("a:b/c@1.0.0").functions["f"], one)
    assert difference(events["add"], handler_type(events["add"])) == ""


def test_events_without_parameters_have_no_filters(tier: int) -> None:
    """There is nothing to rewrite."""
    world = World(tier)
    event = world.define("ping")
    world.load(function("ping", "", ""), "ping")
    with pytest.raises(UsageError, match="no parameters"):
        event.install(world.runtime.domains["guest"], filters=True)


def test_callables_are_counted(tier: int) -> None:
    """Functions, methods, partials, objects, defaults, stars and keywords."""
    world = World(tier)
    event = world.define("add", fold="every")

    class Adder:
        def method(self, call: Any, left: int, right: int) -> int:
            return left + right

        def __call__(self, call: Any, left: int, right: int, more: int = 5) -> int:
            return left + right + more

    def keyword(call: Any, left: int, right: int, *, more: int) -> int:
        return left

    good = (Adder().method, Adder(), functools.partial(keyword, more=1), lambda *all_: 1, max)
    for handler in good:
        event.install(handler)
    for bad in (keyword, lambda call: 0, lambda call, left, right, more: 0, functools.partial(Adder().method, 1), 5):
        with pytest.raises(UsageError):
            event.install(bad)  # type: ignore[arg-type]
    assert len(event.bindings) == len(good)


def test_options_that_make_no_sense_are_refused(tier: int) -> None:
    """By name, before anything is installed."""
    world = World(tier)
    event = world.define("one")
    for options in ({"order": "first"}, {"mode": "async"}, {"order": 1.5}):
        with pytest.raises(UsageError, match="found"):
            event.install(lambda call, value: value, **options)  # type: ignore[arg-type]
    assert event.bindings == ()
