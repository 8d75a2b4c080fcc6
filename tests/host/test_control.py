"""``spinrt:extension/control`` on every tier: cancelling from within a guest, and what is left of its host calls."""

from __future__ import annotations

import pytest

from spinrt.host.control import ControlInterface
from spinrt.runtime import fold
from spinrt.runtime.event import Event
from spinrt.runtime.policy import Policy
from spinrt.runtime.runtime import Runtime
from spinrt.sandbox.loader import Extension, check_extension
from spinrt.sandbox.manifest import Manifest
from spinrt.sandbox.wit import Interfaces, Source, shipped
from tests.guests import EVENTS, TEST_WIT, wat

CONTROL = "spinrt:extension/control@1.0.0"
GRANTED = Policy.granting(CONTROL)


def handler(name: str, body: str, **limits: int) -> Extension:
    code = wat(
        f'(module (import "{CONTROL}" "cancel" (func $cancel))'
        f' (import "{CONTROL}" "host-calls-left" (func $left (result i32)))'
        f' (func (export "{EVENTS}#add") (param i32 i32) (result i32) {body}))'
    )
    manifest = {
        "spinrt": 1,
        "name": name,
        "version": "1.0.0",
        "module": "m.wasm",
        "imports": [CONTROL],
        "handlers": [f"{EVENTS}#add"],
        "limits": limits,
    }
    return check_extension(Manifest.parse(str(manifest)), code, interfaces=known())


def known() -> Interfaces:
    return Interfaces.parse([Source("test.wit", TEST_WIT)], known=shipped())


@pytest.fixture(params=[0, 1, 2])
def event(request: pytest.FixtureRequest) -> tuple[Runtime, Event]:
    runtime = Runtime(interfaces=known())
    runtime.export(ControlInterface())
    return runtime, runtime.define(f"{EVENTS}#add", fold=fold.every, tier=request.param)


def test_handlers_behind_one_that_cancels_do_not_run(event: tuple[Runtime, Event]) -> None:
    """What ran before keeps its result; what stands behind is not run, in this raise only."""
    runtime, add = event
    runtime.load(handler("one", "(i32.const 1)"), GRANTED)
    runtime.load(handler("two", "(if (local.get 0) (then (call $cancel) (call $cancel))) (i32.const 2)"), GRANTED)
    runtime.load(handler("three", "(i32.const 3)"), GRANTED)
    assert add.raise_(1, 0) == [1, 2]
    assert add.raise_(0, 0) == [1, 2, 3]
    assert [binding.entry.raises for binding in add.bindings] == [2, 2, 1]


def test_handler_that_cancels_and_fails_cancels_nothing(event: tuple[Runtime, Event]) -> None:
    """A call that failed did not happen."""
    runtime, add = event
    runtime.load(handler("one", "(call $cancel) (call $cancel) unreachable"), GRANTED)
    runtime.load(handler("two", "(i32.const 2)"), GRANTED)
    assert add.raise_(1, 0) == [2]


def test_calls_left_count_down_and_begin_anew(event: tuple[Runtime, Event]) -> None:
    """Each handler of each raise has its own; the quota ends it by name."""
    runtime, add = event
    body = "(drop (call $left)) (drop (call $left)) (call $left)"
    runtime.load(handler("one", body, host_calls=5), GRANTED)
    runtime.load(handler("two", body, host_calls=3), GRANTED)
    runtime.load(handler("three", body, host_calls=2), GRANTED)
    for _ in range(3):
        assert add.raise_(0, 0) == [2, 0]
    assert runtime.domains["three"].counters.faults == 3
    assert "host calls" in runtime.domains["three"].counters.last_fault
