"""Topic "arguments": what handlers, guards and closures get, for every kind of handler."""

from __future__ import annotations

from typing import Any

import pytest

from spinrt.errors import UsageError
from tests.runtime.dispatch.support import World, adder, function


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
