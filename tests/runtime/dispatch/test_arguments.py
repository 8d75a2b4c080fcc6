"""Topic "arguments": what handlers, guards and closures get, for every kind of handler."""

from __future__ import annotations

from typing import Any

import pytest

from spinrt._core import Call
from spinrt.errors import UsageError
from spinrt.runtime.binding import Counts
from spinrt.runtime.call import Transaction
from spinrt.runtime.capability import mint
from tests.runtime.dispatch.support import HOST, INTERFACES, World, adder, function


def test_every_handler_gets_the_raisers_values(tier: int) -> None:
    """Scalars of all widths reach guests and Python alike."""
    world = World(tier)
    event = world.define("wide", fold="every")
    body = function(
        "wide",
        "(param i64 i32 f64 i32 i32) (result i64)",
        "(i64.add (i64.add (local.get 0) (i64.extend_i32_s (local.get 1)))"
        " (i64.add (i64.trunc_f64_s (local.get 2)) (i64.extend_i32_u (i32.add (local.get 3) (local.get 4)))))",
    )
    world.load(body, "wide")
    seen: list[Any] = []

    def handler(call: Any, *arguments: Any) -> int:
        seen.append(arguments)
        return 0

    event.install(handler, order=1)
    assert event.raise_(1 << 63, -128, 4096.5, True, "a") == [0, (1 << 63) - 128 + 4096 + 1 + 97]
    assert seen == [(1 << 63, -128, 4096.5, True, "a")]


def test_text_and_records_reach_every_handler_whole(tier: int) -> None:
    """Each guest gets a copy of its own."""
    world = World(tier)
    event = world.define("say", fold="every")
    body = function(
        "say",
        "(param i32 i32) (result i32)",
        "(i32.store8 (local.get 0) (i32.const 88)) (i32.store (i32.const 64) (local.get 0))"
        " (i32.store (i32.const 68) (local.get 1)) (i32.const 64)",
    )
    for name in ("one", "two"):
        world.load(body, "say", name=name)
    event.install(lambda call, text: text, order=500)
    assert event.raise_("gruß") == ["Xruß", "Xruß", "gruß"]


def test_the_wrong_number_or_type_is_the_raisers_mistake(tier: int) -> None:
    """Nobody runs, nobody is blamed, nothing is applied."""
    world = World(tier)
    event = world.define("add")
    domain = world.load(adder(1, "(call $note (i32.const 1))"), "add")
    for arguments in ((1,), (1, 2, 3), ("1", 2), (-1, 2), (1 << 32, 0)):
        with pytest.raises(UsageError):
            event.raise_(*arguments)
    assert world.applied == []
    assert domain.counters.faults == 0
    assert event.raise_(1, 2) == 2


SAY = function("say", "(param i32 i32) (result i32)", "(i32.const 64)")
MEET = function("meet", "(param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)", "")
PERSON = ("ann", ("ann", 7), None, "low", ["a"])
MISTAKES: list[tuple[str, str, tuple[Any, ...], str]] = [
    ("add", adder(1), (1, -1), r"#add: argument 2 \(right\): value for u32: found -1"),
    ("add", adder(1), ("1", 1), r"#add: argument 1 \(left\): value for u32: found '1'"),
    ("add", adder(1), (1,), "#add.*: found 1 arguments, expected 2"),
    ("say", SAY, (7,), r"#say: argument 1 \(text\): value for string: found int"),
    ("meet", MEET, ((*PERSON[:4], [1]),), r"#meet: argument 1 \(person\): value for string: found int"),
    ("meet", MEET, (PERSON[:4],), r"#meet: argument 1 \(person\): value for person: found 4 values"),
]


def raise_in_transaction(event: Any, *arguments: Any) -> None:
    with Transaction() as transaction:
        transaction.raise_(event, *arguments)


@pytest.mark.parametrize("beside", ["nobody", "an extension", "python", "asynchronous"])
@pytest.mark.parametrize("how", ["raise_", "transaction", "walk"])
@pytest.mark.parametrize(("name", "body", "arguments", "says"), MISTAKES)
def test_a_mistake_of_the_raiser_is_counted_for_nobody(
    tier: int, how: str, beside: str, name: str, body: str, arguments: tuple[Any, ...], says: str
) -> None:
    """Neither as a raise nor as a fault, also of the raise that would be timed; the message names the argument."""
    world = World(tier)
    event = world.define(name, default=lambda call, *given: pytest.fail("the default ran"))
    if beside == "asynchronous":
        world.load(body, {"event": name, "mode": "async"}, name="later")
    if beside == "python":
        event.install(lambda call, *given: pytest.fail("it ran"))
    domains = [world.load(body, name, name=one) for one in ("one", "two")[: 1 + (beside == "an extension")]]
    for _ in range(1030 if (how, beside) == ("raise_", "nobody") else 2):
        with pytest.raises(UsageError, match=says):
            if how == "raise_":
                event.raise_(*arguments)
            elif how == "transaction":
                raise_in_transaction(event, *arguments)
            else:
                event.walk(Call(), arguments)
    world.runtime.run_pending()
    assert [binding.counts for binding in event.bindings] == [Counts()] * len(event.bindings)
    assert [domain.counters.faults for domain in domains] == [0] * len(domains)


def test_a_capability_that_was_taken_back_is_counted_for_nobody(tier: int) -> None:
    """It did not reach the extension."""
    world = World(tier)
    event = world.define("look")
    world.load(function("look", "(param i32) (result i32)", "(i32.const 1)"), "look")
    thing = mint(INTERFACES, object(), f"{HOST}#thing")
    assert event.raise_(thing) == 1
    thing.revoke("a test", "over")
    with pytest.raises(UsageError, match="a test"):
        event.raise_(thing)
    assert [binding.counts for binding in event.bindings] == [Counts(raises=1)]


def test_what_a_handler_in_python_does_wrong_is_its_own_fault(tier: int) -> None:
    """It ran: a mistake of its own is no mistake of who raised."""
    world = World(tier)
    event, other = world.define("one"), world.define("say", default="")
    event.install(lambda call, value: other.raise_(value))
    with pytest.raises(UsageError, match="#say: argument 1"):
        event.raise_(1)
    assert [binding.counts for binding in event.bindings] == [Counts(raises=1, faults=1)]
