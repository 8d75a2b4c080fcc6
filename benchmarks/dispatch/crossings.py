"""Calls out of a guest: to the host, and to another extension."""

from __future__ import annotations

from typing import Final

from benchmarks.dispatch.fleet import check
from benchmarks.timing import Subject, inside
from spinrt.host.control import ControlInterface
from spinrt.runtime.capability import Functions, Grant
from spinrt.runtime.event import Event, OnFault
from spinrt.runtime.policy import Policy
from spinrt.runtime.runtime import Runtime
from spinrt.sandbox.manifest import LIMITS_HIGHEST
from spinrt.sandbox.wit import Interfaces, Source, shipped

HOST_CALL: Final = "host_call"
HOST_CALL_PARAMS: Final = {"function": "cancel"}
"""The one that is judged: a native function without arguments that has an effect on the raise."""
EXTENSION_CALL: Final = "extension_call"
HOST: Final = "bench:crossings/host@1.0.0"
CONTROL: Final = ControlInterface.interface_id
CALLEE: Final = "bench:crossings/callee@1.0.0"
CALLER: Final = "bench:crossings/caller@1.0.0"
TEXT_BYTES: Final = 16

WIT: Final = """
package bench:crossings@1.0.0;

interface host {
  tick: func();
}

interface callee {
  scalar: func(number: u32) -> u32;
  text: func(text: string);
}

interface caller {
  python-many: func(times: u32);
  cancel-many: func(times: u32);
  left-many: func(times: u32);
  scalar-many: func(times: u32);
  text-many: func(times: u32);
}
"""

CALLEE_CODE: Final = f"""
(module
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
  (func (export "{CALLEE}#scalar") (param i32) (result i32) (local.get 0))
  (func (export "{CALLEE}#text") (param i32 i32)))
"""


def subjects() -> list[Subject]:
    """Host calls, and calls of another extension: scalars, and a text that crosses from memory to memory."""
    events, direct = _events(direct=False), _events(direct=True)
    text = f"text of {TEXT_BYTES} bytes"
    rows: list[tuple[str, dict[str, object], Event]] = [
        (HOST_CALL, {"function": "cancel"}, events["cancel"]),
        (HOST_CALL, {"function": "host-calls-left"}, events["left"]),
        (HOST_CALL, {"function": "python"}, events["python"]),
        (EXTENSION_CALL, {"values": "u32", "link": "direct"}, direct["scalar"]),
        (EXTENSION_CALL, {"values": "u32", "link": "host"}, events["scalar"]),
        (EXTENSION_CALL, {"values": text, "link": "host"}, events["text"]),
    ]
    return [Subject(name, params, inside(event.raise_)) for name, params, event in rows]


def _events(*, direct: bool) -> dict[str, Event]:
    """Events whose handler calls out as often as they say, by what it calls; long runs need the highest limits."""
    interfaces = Interfaces.parse([Source("crossings.wit", WIT)], known=shipped())
    runtime = Runtime(interfaces=interfaces)
    runtime.export(Functions(HOST, {"tick": _tick}))
    runtime.export(ControlInterface())
    names = [name.removesuffix("-many") for name in interfaces.get(CALLER).functions]
    events = {name: runtime.define(f"{CALLER}#{name}-many", on_fault=OnFault.REFUSE) for name in names}
    limits = {"host_calls": 1 << 31, "lift_bytes": 1 << 32, "deadline_ms": 60_000}
    callee = check(CALLEE_CODE, {"name": "callee", "exports": [CALLEE], "limits": limits}, interfaces)
    runtime.load(callee, Policy.granting(limits=LIMITS_HIGHEST))
    imports = [HOST, CONTROL, CALLEE]
    manifest = {"name": "caller", "imports": imports, "handlers": [event.name for event in events.values()]}
    caller = check(_caller_code(), manifest | {"limits": limits}, interfaces)
    grants = {name: Grant(name) for name in imports} | {CALLEE: Grant(CALLEE, attenuations={"direct": direct})}
    runtime.load(caller, Policy(grants, LIMITS_HIGHEST))
    return events


def _caller_code() -> str:
    return f"""
(module
  (import "{HOST}" "tick" (func $tick))
  (import "{CONTROL}" "cancel" (func $cancel))
  (import "{CONTROL}" "host-calls-left" (func $left (result i32)))
  (import "{CALLEE}" "scalar" (func $scalar (param i32) (result i32)))
  (import "{CALLEE}" "text" (func $text (param i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "{"x" * TEXT_BYTES}")
  {_many("python", "(call $tick)")}
  {_many("cancel", "(call $cancel)")}
  {_many("left", "(drop (call $left))")}
  {_many("scalar", "(drop (call $scalar (local.get $left)))")}
  {_many("text", f"(call $text (i32.const 64) (i32.const {TEXT_BYTES}))")})
"""


def _many(name: str, call: str) -> str:
    return f"""
  (func (export "{CALLER}#{name}-many") (param $left i32)
    (loop $again {call} (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))"""


def _tick(call: object) -> None:
    """The cheapest host function in Python."""
