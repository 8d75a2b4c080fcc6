"""References of other kinds beside functions: what was kept of the ones is not taken for the others."""

from __future__ import annotations

import pytest

from spinrt.runtime.capability import Functions
from spinrt.runtime.event import OnFault
from spinrt.runtime.runtime import Runtime
from tests.guests import BUMP, EVENTS, HOST, extension, granted, interfaces

ADD = f"{EVENTS}#add"
FUNCTIONS = "(table $functions 4 funcref) (elem declare func $one) (func $one)"
OTHERS = "(table $others 4 externref) (global $other (mut externref) (ref.null extern))"
SET_FUNCTION = "(table.set $functions (i32.const 1) (ref.func $one))"
SET_OTHERS = {
    "set": "(table.set $others (i32.const 0) (ref.null extern))",
    "fill": "(table.fill $others (i32.const 0) (ref.null extern) (i32.const 4))",
    "global": "(global.set $other (ref.null extern))",
}


@pytest.mark.parametrize("kind", SET_OTHERS)
@pytest.mark.parametrize("order", ["functions first", "others first"])
@pytest.mark.parametrize("tables", [FUNCTIONS + OTHERS, OTHERS + FUNCTIONS], ids=["functions", "others"])
def test_a_guest_that_writes_both_is_rolled_back(kind: str, order: str, tables: str) -> None:
    """Its memory comes back, too, and the fault is an ordinary one."""
    writes = [SET_FUNCTION, SET_OTHERS[kind]] if order == "functions first" else [SET_OTHERS[kind], SET_FUNCTION]
    made = Runtime(interfaces=interfaces())
    made.export(Functions(HOST, {}))
    event = made.define(ADD, on_fault=OnFault.SKIP, default=999)
    body = f"""
    {BUMP} {tables}
    (func (export "{ADD}") (param i32 i32) (result i32)
      (i32.store (i32.const 128) (i32.add (i32.load (i32.const 128)) (i32.const 1)))
      {" ".join(writes)}
      (if (i32.eq (local.get 0) (i32.const 5)) (then unreachable))
      (i32.load (i32.const 128)))
    """
    domain = made.load(extension(body, handlers=("add",)), granted())

    assert [event.raise_(left, 0) for left in (1, 5, 1, 5, 1)] == [1, 999, 2, 999, 3]
    assert domain.counters.by_code == {"extension.trap": 2}
    assert domain.counters.restarts == 0
