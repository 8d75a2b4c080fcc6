"""Topics "guard evaluation" and "post guard": all guards before any handler; they leave nothing."""

from __future__ import annotations

from typing import Any

import pytest

from spinrt.errors import SignatureMismatch, UsageError
from spinrt.runtime.binding import DomainExport
from spinrt.runtime.call import Transaction
from spinrt.sandbox.condition import Equal, Prefix, Range
from tests.runtime.dispatch.support import World, adder, function, note

GUARD = "(param i32 i32) (result i32)"


def test_all_guards_are_asked_before_any_handler_runs(tier: int) -> None:
    """And the ones of a binding in order, until one does not hold."""
    world = World(tier)
    event = world.define("ping")
    seen: list[Any] = []
    event.install(note(seen, "one"), guards=(note(seen, "g1", True), note(seen, "g2", True)))
    event.install(note(seen, "two"), guards=(note(seen, "g3", False), note(seen, "g4", True)))
    event.install(note(seen, "three"), guards=(note(seen, "g5", True),))
    event.raise_()
    assert seen == ["g1", "g2", "g3", "g5", "one", "three"]
    assert [binding.counts.guarded for binding in event.bindings] == [0, 1, 0]


def test_conditions_are_asked_before_code(tier: int) -> None:
    """Wherever they stand, imposed or not: code runs only for what passed them."""
    world = World(tier)
    event = world.define("one", default=0)
    seen: list[Any] = []
    binding = event.install(lambda call, value: value, guards=(note(seen, "own", True), Equal("value", 1)))
    event.impose(binding, note(seen, "imposed", True))
    assert ([event.raise_(2), event.raise_(1)], seen) == ([0, 1], ["imposed", "own"])


def test_a_handler_cannot_change_what_passed(tier: int) -> None:
    """What a handler does to the state that guards look at counts for the next raise."""
    world = World(tier)
    event = world.define("ping")
    seen: list[Any] = []
    state = {"open": True}

    def close(call: Any) -> None:
        state["open"] = False

    event.install(close)
    event.install(note(seen, "ran"), guards=(lambda call: state["open"],))
    event.raise_()
    event.raise_()
    assert seen == ["ran"]


def test_guards_of_every_kind_select(tier: int) -> None:
    """Declarative ones, a guest's, and Python's, for the same values."""
    world = World(tier)
    event = world.define("add", fold="every", default=[])
    domain = world.load(
        adder(1) + function("odd", GUARD, "(i32.and (local.get 0) (i32.const 1))"), {"event": "add", "guard": "odd"}
    )
    for number, guard in enumerate(
        (
            Equal("left", 3),
            Equal("right", 3),
            Range("left", 2, 4),
            Range("left", low=4),
            Range("left", high=1),
            DomainExport(domain, "odd"),
            lambda call, left, right: left > right,
        ),
        start=100,
    ):
        event.install(lambda call, left, right, number=number: number, guards=(guard,))

    def expected(left: int, right: int) -> list[int]:
        holds = (left == 3, right == 3, 2 <= left <= 4, left >= 4, left <= 1, left & 1, left > right)
        chosen = [number for number, held in enumerate(holds, start=100) if held]
        return [left + 1, *chosen] if left & 1 else chosen

    for left in range(6):
        for right in (0, 3, 9):
            assert event.raise_(left, right) == expected(left, right)


def test_text_and_record_fields_select(tier: int) -> None:
    """Prefixes, enums, options that are not there, and fields of records in records."""
    world = World(tier)
    event = world.define("meet")
    seen: list[str] = []
    conditions = {
        "prefix": Prefix("person.name", "al"),
        "user": Equal("person.inner.user", "bob"),
        "young": Range("person.inner.age", high=17),
        "no nick": Equal("person.nick", None),
        "nick": Equal("person.nick", "al"),
        "high": Equal("person.mood", "high"),
        "both": Equal("person.mood", "low"),
    }
    for name, condition in conditions.items():
        more = (Equal("person.nick", "al"),) if name == "both" else ()
        event.install(lambda call, person, name=name: seen.append(name), guards=(condition, *more))
    event.raise_(("alice", ("bob", 17), None, "high", []))
    assert seen == ["prefix", "user", "young", "no nick", "high"]
    seen.clear()
    event.raise_(("Alice", ("rob", 18), "al", "low", ["x"]))
    assert seen == ["nick", "both"]


def test_a_guard_leaves_no_effect_and_no_wish(tier: int) -> None:
    """What a guard in Python promised is dropped, whether it holds or not."""
    world = World(tier)
    event = world.define("add", fold="every", default=[])

    def lying(call: Any, left: int, right: int) -> bool:
        call.journal.append(object())
        call.domain = "somebody else"
        call.cancel()
        return bool(left)

    event.install(lambda call, left, right: left, guards=(lying,))
    event.install(lambda call, left, right: int(call.domain is None))
    with Transaction() as transaction:
        assert [transaction.raise_(event, left, 0) for left in (1, 0)] == [[1, 1], [1]]
        assert transaction.effects == []


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("(call $note (i32.const 9))", "#note, expected pure functions only"),
        ("(call $cancel)", "#cancel, expected pure"),
        ("(drop (memory.grow (i32.const 1)))", "memory.grow"),
    ],
)
def test_an_export_that_may_change_what_cannot_be_taken_back_is_no_guard(tier: int, does: str, said: str) -> None:
    """Found in its code, however it gets there, before it ever runs; the extension is not loaded."""
    world = World(tier)
    event = world.define("add")
    body = adder(1) + function("wants", GUARD, "(call $deep) (local.get 0)") + f"(func $deep {does})"
    with pytest.raises(UsageError, match=said):
        world.load(body, {"event": "add", "guard": "wants"})
    assert (event.bindings, world.runtime.domains) == ((), {})


def test_a_guard_may_call_what_is_pure(tier: int) -> None:
    """What its host function answers decides."""
    world = World(tier)
    event = world.define("add", default=-1)
    wants = function("wants", GUARD, "(i32.gt_u (call $hour) (i32.const 11))")
    world.load(adder(1) + wants, {"event": "add", "guard": "wants"})
    assert event.raise_(1, 0) == -1
    world.hour = 12
    assert event.raise_(1, 0) == 2


def test_a_guard_that_fails_holds_nothing_and_is_its_owners_fault(tier: int) -> None:
    """The handler does not run, others do, and the guard's domain is restored."""
    world = World(tier)
    event = world.define("add", fold="every", default=[])
    trap = function("trap", GUARD, "(if (local.get 1) (then unreachable)) (i32.const 1)")
    guarding = world.load(adder(1) + trap, {"event": "add", "guard": "trap"}, name="guarding")
    handling = world.load(adder(2), "add", name="handling")
    event.impose(event.bindings[1], DomainExport(guarding, "trap"))
    event.install(lambda call, left, right: 0)
    assert [event.raise_(1, 0), event.raise_(1, 1), event.raise_(1, 0)] == [[2, 3, 0], [0], [2, 3, 0]]
    assert (guarding.counters.faults, handling.counters.faults) == (2, 0)
    assert [binding.counts.guarded for binding in event.bindings] == [1, 1, 0]


def test_a_python_guard_that_fails_ends_the_raise(tier: int) -> None:
    """A mistake of the host's is the host's to see; nothing is left of the raise."""
    world = World(tier)
    event = world.define("ping")
    world.load(function("ping", "", "(call $note (i32.const 1))"), "ping")
    event.install(lambda call: None, guards=(lambda call: 1 // 0,))
    with pytest.raises(ZeroDivisionError):
        event.raise_()
    assert world.applied == []


def test_guards_see_the_raisers_values_handlers_the_filtered_ones(tier: int) -> None:
    """The filter in front changes nothing of who passes."""
    world = World(tier)
    event = world.define("one", fold="every")
    event.install(lambda call, value: value + 100, filters=True, order=1)
    event.install(lambda call, value: value, guards=(Equal("value", 1),))
    event.install(lambda call, value: -value, guards=(Equal("value", 101),))
    assert event.raise_(1) == [101]


def test_a_guard_may_raise_another_event(tier: int) -> None:
    """In the same call: its effects are the guard's, and are dropped."""
    world = World(tier)
    asked, event = world.define("one", default=0), world.define("ping")
    world.load(function("one", "(param i32) (result i32)", "(call $note (i32.const 5)) (local.get 0)"), "one")
    seen: list[Any] = []
    event.install(note(seen, "ran"), guards=(lambda call: asked.walk(call, (1,)) == 1,))
    event.raise_()
    assert (seen, world.applied) == (["ran"], [])


def test_guards_that_make_no_sense_are_refused(tier: int) -> None:
    """Fields, values, exports and callables are checked when they are installed or imposed."""
    world = World(tier)
    event = world.define("add")
    domain = world.load(adder(1), "add")
    binding = event.bindings[0]
    for guard in (Equal("middle", 1), Equal("left", "x"), Prefix("left", "1"), lambda call: True, 7):
        with pytest.raises(UsageError):
            event.install(lambda call, left, right: 0, guards=(guard,))  # type: ignore[arg-type]
        with pytest.raises(UsageError):
            event.impose(binding, guard)  # type: ignore[arg-type]
    with pytest.raises(SignatureMismatch, match=r"-> \*u32\*, expected .* -> \*bool\*"):
        event.impose(binding, DomainExport(domain, event.name))
    assert binding.guards == ()
    assert event.bindings == (binding,)


def test_what_a_guard_changed_in_its_guest_is_put_back(tier: int) -> None:
    """Memory and globals are as before it, whether it held, did not hold, or failed; handlers keep what they change."""
    world = World(tier)
    event = world.define("add", default=-1)
    count = "(global $count (mut i32) (i32.const 0))"
    both = "(i32.add (i32.mul (global.get $count) (i32.const 100)) (i32.load (i32.const 256)))"
    change = "(global.set $count (i32.add (global.get $count) (i32.const 1)))"
    change += f" (i32.store (i32.const 256) {both})"
    wants = function("wants", GUARD, f"{change} {change} (local.get 0)")
    handler = function("add", GUARD, f"{change} {both}")
    domain = world.load(count + handler + wants, {"event": "add", "guard": "wants"})
    assert [event.raise_(left, 0) for left in (1, 0, 0, 1)] == [200, -1, -1, 500]
    assert domain.counters.faults == 0


def test_a_guard_with_text_leaves_the_allocator_as_it_was(tier: int) -> None:
    """Lowering its arguments is part of the guard; ten thousand of them fill nothing."""
    world = World(tier)
    event = world.define("ask", default=False)
    wants = function("wants", "(param i32 i32) (result i32)", "(i32.eq (i32.load8_u (local.get 0)) (i32.const 97))")
    handler = function("ask", "(param i32 i32) (result i32)", "(i32.gt_u (global.get $top) (i32.const 8192))")
    world.load(wants + handler, {"event": "ask", "guard": "wants"})
    assert not any(event.raise_("b" * 100) for _ in range(10_000))
    assert event.raise_("a") is False
