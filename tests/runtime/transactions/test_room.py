"""`limits.effects` and raises from within: each handler has its own, before and behind them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from spinrt._core import Call
from spinrt.errors import HandlerFailed
from spinrt.runtime.capability import Functions
from spinrt.runtime.event import OnFault
from spinrt.runtime.runtime import Runtime
from tests.guests import BUMP, EVENTS, HOST, extension, granted, interfaces

IMPORTS = f'(import "{HOST}" "note" (func $note (param i32 i32))) (import "{HOST}" "again" (func $again))'
NOTE = "(call $note (i32.const 0) (i32.const 0))"


class Noted:
    """An effect that is counted when it is applied."""

    def __init__(self, applied: list[str], by: str) -> None:
        self._applied, self._by = applied, by

    def apply(self) -> None:
        self._applied.append(self._by)


def raise_nested(outer: int, inner: int, fold: Callable[[list[Any]], Any] | None) -> list[str]:
    """Five effects of the outer handler, behind the first of which another event's handler has one; who had which."""
    applied: list[str] = []
    made = Runtime(interfaces=interfaces())

    def note(call: Call, text: str) -> None:
        call.journal.append(Noted(applied, call.domain.name))

    made.export(Functions(HOST, {"note": note, "again": lambda call: add.raise_(1, 2)}))
    ping = made.define(f"{EVENTS}#ping", on_fault=OnFault.REFUSE)
    add = made.define(f"{EVENTS}#add", on_fault=OnFault.SKIP, default=0, fold=fold)
    ping_body = f'{IMPORTS} {BUMP} (func (export "{EVENTS}#ping") {NOTE} (call $again) {NOTE * 4})'
    add_body = f'{IMPORTS} {BUMP} (func (export "{EVENTS}#add") (param i32 i32) (result i32) {NOTE} (i32.const 3))'
    made.load(extension(ping_body, name="outer", handlers=("ping",), limits={"effects": outer}), granted())
    made.load(extension(add_body, name="inner", handlers=("add",), limits={"effects": inner}), granted())
    ping.raise_()
    return applied


@pytest.mark.parametrize("fold", [None, lambda results: results[-1]], ids=["last", "folded"])
def test_a_raise_from_within_leaves_the_limit_as_it_was(fold: Callable[[list[Any]], Any] | None) -> None:
    """The inner handler's limit neither widens nor narrows the outer one's."""
    assert raise_nested(5, 1, fold) == ["outer", "inner", "outer", "outer", "outer", "outer"]
    with pytest.raises(HandlerFailed, match="found one effect more"):
        raise_nested(4, 64, fold)
