"""Values are checked against an event's type whoever handles it: an extension, Python, or nobody."""

from __future__ import annotations

from typing import Any

import pytest

from spinrt.errors import CapabilityRevoked, UsageError
from spinrt.runtime.binding import ASYNC
from spinrt.runtime.capability import mint
from spinrt.sandbox.condition import Equal
from tests.runtime.dispatch.support import HOST, INTERFACES, World, adder

PERSON = ("ann", ("ann", 7), None, "low", ["a"])
WRONG: list[tuple[str, tuple[Any, ...], str]] = [
    ("one", (-1,), "value for u32: found -1"),
    ("one", ("1",), "value for u32: found '1'"),
    ("add", (1,), "found 1 arguments, expected 2"),
    ("add", (1, 2, 3), "found 3 arguments, expected 2"),
    ("ping", (1,), "found 1 arguments, expected 0"),
    ("say", (b"x",), "value for string: found bytes"),
    ("say", ("\ud800",), "lone surrogates"),
    ("meet", (PERSON[:4],), "found 4 values"),
    ("meet", ((*PERSON[:3], "hihg", []),), "expected one of low, middle, high"),
    ("meet", ((*PERSON[:4], "ab"),), "value for list: found str"),
    ("meet", ((*PERSON[:4], [1]),), "value for string: found int"),
    ("meet", (("ann", ("ann", 256), *PERSON[2:]),), "value for u8: found 256"),
    ("meet", (("ann", ("ann", 1), 5, *PERSON[3:]),), "value for string: found int"),
    ("look", (None,), "found None, expected an object"),
]


@pytest.mark.parametrize("how", ["nobody", "python", "asynchronous", "later"])
@pytest.mark.parametrize(("name", "arguments", "says"), WRONG)
def test_arguments_of_another_type_are_refused(
    tier: int, how: str, name: str, arguments: tuple[Any, ...], says: str
) -> None:
    """Nothing ran, nothing waits."""
    world = World(tier)
    event = world.define(name, default=lambda call, *given: pytest.fail("the default ran"))
    ran: list[Any] = []
    handler = lambda call, *given: ran.append(given) or 0  # noqa: E731
    if how == "python":
        event.install(handler)
    if how == "asynchronous":
        event.install(handler, mode=ASYNC)
    with pytest.raises(UsageError, match=says):
        event.raise_later(*arguments) if how == "later" else event.raise_(*arguments)
    world.runtime.run_pending()
    assert ran == []


def test_what_no_handler_takes_is_checked_too(tier: int) -> None:
    """An extension is installed, and its guard holds it back."""
    world = World(tier)
    event = world.define("add", default=0)
    world.load(adder(1), "add")
    event.impose(event.bindings[0], Equal("left", 5))
    assert [event.raise_(left, 0) for left in (5, 6)] == [6, 0]
    with pytest.raises(UsageError, match="value for u32: found -1"):
        event.raise_(6, -1)


def test_right_values_pass(tier: int) -> None:
    """As many kinds as there are, to Python and back."""
    world = World(tier)
    seen: list[Any] = []
    meet, wide = world.define("meet"), world.define("wide")
    meet.install(lambda call, person: seen.append(person))
    wide.install(lambda call, *values: 2**64 - 1)
    meet.raise_(PERSON)
    assert wide.raise_(2**64 - 1, -128, 1, True, "é") == 2**64 - 1
    assert seen == [PERSON]


def test_a_revoked_capability_reaches_nobody(tier: int) -> None:
    """As when an extension would be passed it."""
    world = World(tier)
    event = world.define("look")
    event.install(lambda call, thing: pytest.fail("it ran"))
    thing = mint(INTERFACES, object(), f"{HOST}#thing")
    thing.revoke("a test", "over")
    with pytest.raises(CapabilityRevoked, match="a test"):
        event.raise_(thing)


@pytest.mark.parametrize(
    ("name", "arguments", "answer", "says"),
    [
        ("one", (1,), None, "value for u32: found None"),
        ("one", (1,), 2**32, "value for u32"),
        ("say", ("x",), 7, "value for string: found int"),
        ("judge", ("x",), "hihg", "found 'hihg', expected one of low, middle, high"),
        ("check", ("x",), "no", r"expected Ok\(…\) or Err\(…\)"),
    ],
)
def test_a_handler_in_python_answers_what_its_event_says(
    tier: int, name: str, arguments: tuple[Any, ...], answer: Any, says: str
) -> None:
    """Else the raise fails and names it; what it promised is dropped."""
    world = World(tier)
    event = world.define(name)

    def wrong(call: Any, *given: Any) -> Any:
        return answer

    event.install(wrong)
    with pytest.raises(UsageError, match=f"handler .*wrong: its result: .*{says}"):
        event.raise_(*arguments)


def test_a_filter_in_python_gives_what_the_event_takes(tier: int) -> None:
    """Whoever comes behind it."""
    world = World(tier)
    event = world.define("one")
    event.install(lambda call, value: "seven", filters=True)
    event.install(lambda call, value: pytest.fail("it ran"))
    with pytest.raises(UsageError, match=r"filter .*value for u32: found 'seven'"):
        event.raise_(1)
