"""What a call costs, layer by layer: the engine alone, the core, the runtime, host functions, values at the boundary.

One small guest, written as WebAssembly text, does as little as can be done, so that what is measured is the way there
and back. Each number is nanoseconds per call, from runs of many calls; the rows of one table are interleaved.

No issue sets targets here. docs/benchmarks.md says what each row means.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any, Final

import wasmtime
import yaml

from benchmarks.harness import Options, Result, Row, compare, main, progress, ratio
from benchmarks.timing import Subject, inside, loop, one_run
from spinrt import _core
from spinrt.runtime.capability import Functions
from spinrt.runtime.event import Event
from spinrt.runtime.policy import Policy
from spinrt.runtime.runtime import Runtime
from spinrt.sandbox.loader import Extension, check_extension
from spinrt.sandbox.manifest import LIMITS_HIGHEST, Manifest
from spinrt.sandbox.wit import Interfaces, Source

HOST: Final = "bench:core/host@1.0.0"
EVENTS: Final = "bench:core/events@1.0.0"
RUN_NS: Final = 20_000_000
RUN_NS_QUICK: Final = 5_000_000
ROUNDS: Final = 21
ROUNDS_QUICK: Final = 9

WIT: Final = """
package bench:core@1.0.0;

interface host {
  tick: func();
  note: func(text: string);
}

interface events {
  enum protocol { smtp, lmtp, imap, local }
  record envelope {
    delivery-id: string,
    protocol: protocol,
    peer: string,
    authenticated: option<string>,
    sender: string,
    recipient: string,
    user: string,
    detail: option<string>,
  }
  add: func(left: u32, right: u32) -> u32;
  tick-many: func(times: u32);
  note-many: func(times: u32);
  echo: func(text: string) -> string;
  take-text: func(text: string);
  take-bytes: func(data: list<u8>);
  take-numbers: func(numbers: list<u32>);
  take-texts: func(texts: list<string>);
  take-envelope: func(envelope: envelope);
  check: func(text: string) -> result<_, string>;
}
"""

# The allocator never frees; it starts again at 4096 when it comes near the end of its two pages.
GUEST: Final = """
(module
  (import "HOST" "tick" (func $tick))
  (import "HOST" "note" (func $note (param i32 i32)))
  (memory (export "memory") 2)
  (data (i32.const 1024) "a line of text..")
  (global $top (mut i32) (i32.const 4096))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (if (i32.gt_u (i32.add (global.get $top) (local.get 3)) (i32.const 131000))
      (then (global.set $top (i32.const 4096))))
    (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
    (global.set $top (i32.add (local.get $at) (local.get 3)))
    (local.get $at))
  (func (export "EVENTS#add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "EVENTS#tick-many") (param $left i32)
    (loop $again
      (call $tick)
      (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))
  (func (export "EVENTS#note-many") (param $left i32)
    (loop $again
      (call $note (i32.const 1024) (i32.const 16))
      (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))
  (func (export "EVENTS#echo") (param i32 i32) (result i32)
    (i32.store (i32.const 64) (local.get 0))
    (i32.store (i32.const 68) (local.get 1))
    (i32.const 64))
  (func (export "EVENTS#take-text") (param i32 i32))
  (func (export "EVENTS#take-bytes") (param i32 i32))
  (func (export "EVENTS#take-numbers") (param i32 i32))
  (func (export "EVENTS#take-texts") (param i32 i32))
  (func (export "EVENTS#take-envelope") (param i32))
  (func (export "EVENTS#check") (param i32 i32) (result i32)
    (i32.store8 (i32.const 64) (i32.const 0))
    (i32.const 64))
)
"""

ENVELOPE: Final = (
    "01J9Z6T5V3Q8",
    "smtp",
    "192.0.2.17",
    None,
    "someone@example.org",
    "alice+lists@example.com",
    "alice",
    "lists",
)


class Guest:
    """The guest, loaded as an extension into a runtime of its own."""

    def __init__(self) -> None:
        interfaces = Interfaces.parse([Source("bench.wit", WIT)])
        self.runtime = Runtime(interfaces=interfaces)
        self.runtime.export(Functions(HOST, {"tick": _tick, "note": _note}))
        names = list(interfaces.get(EVENTS).functions)
        self.events = {name: self.runtime.define(f"{EVENTS}#{name}") for name in names}
        self.domain = self.runtime.load(_extension(names, interfaces), Policy.granting(HOST, limits=LIMITS_HIGHEST))

    def export(self, name: str) -> Any:
        """The guest's export for an event."""
        return self.domain.exports[f"{EVENTS}#{name}"]

    def event(self, name: str) -> Event:
        return self.events[name]


OVER_ENGINE = {
    "raise_from_core": "raise_from_core",
    "raise_from_python": "raise_from_python",
    "host_call": "host_call_python",
}
"""Subjects that are compared with the engine's call → how the ratio's name begins.

`host_call_over_engine` is that of `spinrt bench dispatch`, whose host function is the core's own.
"""


def benchmark(options: Options) -> Result:
    """Measure every subject, and how far a raise is from the bare engine."""
    run_ns, rounds = (RUN_NS_QUICK, ROUNDS_QUICK) if options.quick else (RUN_NS, ROUNDS)
    return measure(Guest(), run_ns, rounds)


def measure(guest: Guest, run_ns: int, rounds: int) -> Result:
    """Run every subject for about ``run_ns`` in each of so many rounds."""
    chosen = subjects(guest)
    progress(f"core: {len(chosen)} subjects, {rounds} rounds")
    found = compare({subject.name: one_run(subject, run_ns) for subject in chosen}, rounds)
    rows = [Row.of(subject.name, found[subject.name], "ns", subject.params) for subject in chosen]
    engine = found["engine_call"]
    rows += [
        Row.of(f"{name}_over_engine", [above / below for above, below in zip(found[subject], engine, strict=True)], "x")
        for subject, name in OVER_ENGINE.items()
    ]
    times = ratio(found["raise_from_core"], engine)
    return Result(rows, notes=[f"An event with one handler, raised from Cython, costs {times:.2f} engine calls."])


def subjects(guest: Guest) -> list[Subject]:
    """Every row of the table: calls, host calls, values."""
    add = guest.event("add")
    return [
        Subject("python_call", {}, loop(_add, 1, 2)),
        Subject("engine_call", {}, lambda calls: _core.time_engine_call(guest.export("add"), (1, 2), calls)),
        Subject("raise_from_core", {}, lambda calls: _core.time_raise(add.dispatcher, (1, 2), calls)),
        Subject("raise_from_python", {}, loop(add.raise_, 1, 2)),
        Subject("export_from_python", {}, loop(guest.export("add"), None, 1, 2)),
        Subject("host_call", {}, inside(partial(guest.export("tick-many"), None))),
        Subject("host_call_text", {"bytes": 16}, inside(partial(guest.export("note-many"), None))),
        *_value_subjects(guest),
    ]


def _value_subjects(guest: Guest) -> list[Subject]:
    """Values through an export, called from Python: lowered, or lowered and lifted again."""
    line = "a line of text.."
    values: list[tuple[str, dict[str, object], str, Any]] = [
        ("lower_text", {"bytes": 16}, "take-text", line),
        ("lower_text", {"bytes": 4096}, "take-text", "x" * 4096),
        ("lower_bytes", {"bytes": 4096}, "take-bytes", bytes(4096)),
        ("lower_list_u32", {"elements": 64}, "take-numbers", list(range(64))),
        ("lower_list_text", {"elements": 8, "bytes": 16}, "take-texts", [line] * 8),
        ("lower_envelope", {"fields": 8}, "take-envelope", ENVELOPE),
        ("echo_text", {"bytes": 16}, "echo", line),
        ("echo_text", {"bytes": 4096}, "echo", "x" * 4096),
        ("lift_result", {}, "check", line),
    ]
    return [
        Subject(f"{name}{_suffix(params)}", params, loop(guest.export(function), None, value))
        for name, params, function, value in values
    ]


def _suffix(params: dict[str, object]) -> str:
    """Tells rows of one name apart."""
    return f"_{params['bytes']}" if list(params) == ["bytes"] else ""


def _extension(handlers: list[str], interfaces: Interfaces) -> Extension:
    manifest = {
        "spinrt": 1,
        "name": "bench",
        "version": "1.0.0",
        "module": "bench.wasm",
        "imports": [HOST],
        "handlers": [f"{EVENTS}#{name}" for name in handlers],
        "limits": {"host_calls": 1 << 31, "lift_bytes": 1 << 32, "deadline_ms": 60_000},
    }
    code = bytes(wasmtime.wat2wasm(GUEST.replace("HOST", HOST).replace("EVENTS", EVENTS)))
    return check_extension(Manifest.parse(yaml.safe_dump(manifest)), code, interfaces=interfaces)


def _add(left: int, right: int) -> int:
    return left + right


def _tick(call: object) -> None:
    """The cheapest host function."""


def _note(call: object, text: str) -> None:
    """A host function that gets a text."""


if __name__ == "__main__":
    sys.exit(main("core", benchmark))
