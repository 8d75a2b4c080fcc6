"""Topics "invoke", "no invoke", "result" and "linear": who runs, what is answered, and how many there may be."""

from __future__ import annotations

from typing import Any

import pytest

from spinrt.errors import NoHandler, SignatureMismatch, UsageError
from spinrt.runtime.binding import DomainExport
from spinrt.sandbox.condition import Equal
from spinrt.sandbox.types import Err, Ok
from tests.runtime.dispatch.support import EVENTS, World, adder, function, note


def test_the_same_handler_runs_as_often_as_it_is_installed(tier: int) -> None:
    """Bindings are themselves; uninstalling one leaves the others."""
    world = World(tier)
    event = world.define("ping")
    seen: list[Any] = []
    handler = note(seen, 1)
    bindings = [event.install(handler) for _ in range(3)]
    event.raise_()
    event.uninstall(bindings[1])
    event.raise_()
    assert len(seen) == 5
    assert event.bindings == (bindings[0], bindings[2])


def test_nobody_runs_when_nobody_passes(tier: int) -> None:
    """No handlers, none left, or all held back: the default, or an error if a result is due."""
    world = World(tier)
    event = world.define("one")
    with pytest.raises(NoHandler):
        event.raise_(1)
    binding = event.install(lambda call, value: value, guards=(Equal("value", 2),))
    with pytest.raises(NoHandler):
        event.raise_(1)
    event.set_default(0)
    assert [event.raise_(1), event.raise_(2)] == [0, 2]
    event.set_default(None)
    assert event.raise_(1) is None
    event.set_default(lambda call, value: value + 40)
    assert event.raise_(1) == 41
    event.set_default()
    event.uninstall(binding)
    with pytest.raises(NoHandler):
        event.raise_(2)
    assert world.define("ping").raise_() is None


def test_the_default_handler_may_be_an_export(tier: int) -> None:
    """It runs like a handler, with effects; when its domain is unloaded there is none."""
    world = World(tier)
    event = world.define("add")
    domain = world.load(adder(1, "(call $note (i32.const 3))"), "add")
    event.uninstall(domain)
    event.set_default(domain)
    assert (event.raise_(5, 0), world.applied) == (6, [3])
    world.runtime.unload(domain)
    with pytest.raises(NoHandler):
        event.raise_(5, 0)


@pytest.mark.parametrize(
    ("event", "answers", "folds"),
    [
        ("one", [3, 1, 2], {"first": 3, "last": 2, "every": [3, 1, 2], "sum": 6, "highest": 3, "lowest": 1, None: 2}),
        ("ask", [False, True], {"any": True, "all": False, "first": False, None: True}),
        ("judge", ["middle", "high", "low"], {"highest": "high", "lowest": "low", None: "high", "first": "middle"}),
        ("check", [Ok(), Err("no"), Err("never")], {"first-error": Err("no"), None: Err("no"), "last": Err("never")}),
    ],
)
def test_results_fold(tier: int, event: str, answers: list[Any], folds: dict[str | None, Any]) -> None:
    """By name, by the result's type, and by a callable."""
    world = World(tier)
    made = world.define(event)
    for answer in answers:
        made.install(lambda call, argument, answer=answer: answer)
    argument = 0 if event == "one" else "x"
    for name, expected in folds.items():
        made.set_fold(name)
        assert made.raise_(argument) == expected
    made.set_fold(len)
    assert made.raise_(argument) == len(answers)


@pytest.mark.parametrize(
    ("event", "fold"),
    [
        ("one", "any"),
        ("say", "sum"),
        ("say", "highest"),
        ("ping", "lowest"),
        ("one", "first-error"),
        ("one", "biggest"),
        ("one", 7),
    ],
)
def test_folds_that_do_not_suit_are_refused(tier: int, event: str, fold: Any) -> None:
    """When they are set, and when the event is defined."""
    world = World(tier)
    with pytest.raises(UsageError, match="fold"):
        world.define(event, fold=fold)
    made = world.define("add")
    with pytest.raises(UsageError):
        made.set_fold("any")


def test_an_extension_may_fold(tier: int) -> None:
    """Its export takes the list of results; when it is unloaded, the usual fold folds."""
    world = World(tier)
    event = world.define("one")
    fold_wit = function(
        "fold",
        "(param $at i32) (param $count i32) (result i32)",
        "(i32.mul (i32.load (local.get $at)) (local.get $count))",
    )
    domain = world.load(
        fold_wit.replace('"fold"', '"test:dispatch/folds@1.0.0#fold"'), exports=("test:dispatch/folds@1.0.0",)
    )
    event.set_fold(DomainExport(domain, "test:dispatch/folds@1.0.0#fold"))
    for answer in (5, 6, 7):
        event.install(lambda call, value, answer=answer: answer)
    assert event.raise_(0) == 15
    with pytest.raises(SignatureMismatch):
        world.define("say").set_fold(DomainExport(domain, "test:dispatch/folds@1.0.0#fold"))
    world.runtime.unload(domain)
    assert event.raise_(0) == 7


def test_the_intrinsic_handler_is_first_among_equals_and_replaceable(tier: int) -> None:
    """In its place; a swap counts, uninstalling and unloading too."""
    world = World(tier)
    event = world.define("add", fold="every", default=[], intrinsic=lambda call, left, right: 0)
    event.install(lambda call, left, right: 9, order=100)
    event.set_intrinsic(lambda call, left, right: 1)
    assert event.raise_(0, 0) == [1, 9]
    domain = world.load(adder(5), "add")
    event.uninstall(domain)
    event.set_intrinsic(domain)
    assert event.raise_(0, 0) == [5, 9]
    world.runtime.unload(domain)
    assert (event.intrinsic, event.raise_(0, 0)) == (None, [9])
    event.set_intrinsic(lambda call, left, right: 2)
    assert event.intrinsic is not None
    swapped = event.swap(event.intrinsic, lambda call, left, right: 3)
    assert (event.intrinsic, event.raise_(0, 0)) == (swapped, [3, 9])
    event.set_intrinsic(None)
    assert event.raise_(0, 0) == [9]


def test_ten_thousand_handlers(tier: int) -> None:
    """All run in order; a thousand guarded ones let one pass; all can be uninstalled one by one."""
    world = World(tier)
    event = world.define("one", fold="every", default=[])
    bindings = [event.install(lambda call, value, number=number: number) for number in range(10_000)]
    assert event.raise_(0) == list(range(10_000))
    for binding in bindings[1::2]:
        event.uninstall(binding)
    assert event.raise_(0) == list(range(0, 10_000, 2))
    for binding in bindings[::2]:
        event.uninstall(binding)
    for number in range(1000):
        event.install(lambda call, value: value, guards=(Equal("value", number),))
    assert [event.raise_(number) for number in (0, 500, 999, 1000)] == [[0], [500], [999], []]


def test_handlers_are_exports_by_name(tier: int) -> None:
    """One extension may handle one event with several exports, and another with the same."""
    world = World(tier)
    add, one = world.define("add", fold="every"), world.define("one", fold="every")
    body = adder(1, export="a") + adder(2, export="b") + function("c", "(param i32) (result i32)", "(local.get 0)")
    domain = world.load(
        body,
        {"event": "add", "export": "a"},
        {"event": "add", "export": "b", "order": 1},
        {"event": "one", "export": "c"},
    )
    assert (add.raise_(5, 0), one.raise_(5)) == ([7, 6], [5])
    add.install(domain, export="a")
    assert add.raise_(5, 0) == [7, 6, 6]
    for wrong in ("c", "d"):
        with pytest.raises((UsageError, SignatureMismatch)):
            add.install(domain, export=wrong)
    with pytest.raises(UsageError, match=f"exports no {EVENTS}#add"):
        add.install(domain)
