"""Guests written as WebAssembly text, and the pieces to load them: shared by the core, sandbox and runtime tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import wasmtime

from spinrt import _core
from spinrt.runtime.capability import Closure, Functions
from spinrt.runtime.policy import Policy
from spinrt.runtime.runtime import Runtime
from spinrt.sandbox.loader import Extension, check_extension
from spinrt.sandbox.manifest import Manifest
from spinrt.sandbox.wit import Interfaces, Source

TEST_WIT = """
package test:guest@1.0.0;

interface host {
  resource thing {
    name: func() -> string;
    size: func() -> u32;
  }
  note: func(text: string);
  shout: func(text: string) -> string;
  again: func();
  lend: func() -> thing;
  take: func(thing: thing);
}

interface events {
  use host.{thing};
  enum mood { low, middle, high }
  ping: func();
  add: func(left: u32, right: u32) -> u32;
  echo: func(text: string) -> string;
  judge: func(text: string) -> mood;
  check: func(text: string) -> result<_, string>;
  look: func(thing: borrow<thing>) -> u32;
}
"""

HOST = "test:guest/host@1.0.0"
EVENTS = "test:guest/events@1.0.0"

# A memory of one page, and an allocator that never frees and starts again at 4096 when it comes near the end.
BUMP = """
(memory (export "memory") 1)
(global $top (mut i32) (i32.const 4096))
(func $alloc (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
  (local $at i32)
  (if (i32.gt_u (i32.add (global.get $top) (local.get 3)) (i32.const 65000)) (then (global.set $top (i32.const 4096))))
  (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
  (global.set $top (i32.add (local.get $at) (local.get 3)))
  (local.get $at))
"""


def wat(text: str) -> bytes:
    """Compile WebAssembly text to a module's bytes."""
    return bytes(wasmtime.wat2wasm(text))


def limits(**changes: int) -> _core.InstanceLimits:
    """Instance limits for a test: small, but enough for an honest guest."""
    values = {
        "memory_bytes": 1 << 20,
        "table_entries": 100,
        "handles": 8,
        "deadline_ticks": 200,
        "effects": 8,
        "host_calls": 100,
        "lift_bytes": 1 << 16,
    }
    return _core.InstanceLimits(**(values | changes))


def interfaces() -> Interfaces:
    return Interfaces.parse([Source("test.wit", TEST_WIT)])


def extension(
    body: str,
    *,
    name: str = "guest",
    handlers: tuple[str, ...] = (),
    order: int = 100,
    imports: tuple[str, ...] = (HOST,),
    limits: Mapping[str, int] | None = None,
) -> Extension:
    """A checked extension whose module is ``body``; ``handlers`` are bare function names of the test events."""
    manifest: dict[str, Any] = {
        "spinrt": 1,
        "name": name,
        "version": "1.0.0",
        "module": "guest.wasm",
        "imports": list(imports),
        "handlers": [{"event": f"{EVENTS}#{handler}", "order": order} for handler in handlers],
        "limits": dict(limits or {}),
    }
    return check_extension(Manifest.parse(_yaml(manifest)), wat(f"(module {body})"), interfaces=interfaces())


def _yaml(content: object) -> str:
    import yaml

    return yaml.safe_dump(content)


def runtime(functions: Mapping[str, Closure] | None = None, *, events: tuple[str, ...] = ()) -> Runtime:
    """A runtime of the test interfaces that exports ``functions`` and defines ``events``."""
    made = Runtime(interfaces=interfaces())
    made.export(Functions(HOST, functions or {}))
    for event in events:
        made.define(f"{EVENTS}#{event}")
    return made


def granted() -> Policy:
    return Policy.granting(HOST)
