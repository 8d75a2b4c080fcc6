"""The same raise, of one handler with one argument, by others: two that run WebAssembly, and two that run Python.

Each answers what our handler answers. Where a peer has a deadline, it is on, as ours is.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, Final

import wasmtime

from benchmarks.dispatch.fleet import ARGUMENTS, HANDLERS, assemble, handler_code
from benchmarks.timing import Subject, loop, statement_loop

WASMTIME_PY: Final = "wasmtime_py_call"
EXTISM: Final = "extism_call"
PLUGGY: Final = "pluggy_call"
LIST: Final = "python_list"
PACKAGES: Final = {EXTISM: "extism", PLUGGY: "pluggy"}
"""Those of the extra `bench`."""
NEVER_TICKS: Final = 1 << 60
DEADLINE_MS: Final = 60_000

# Extism passes bytes: 8 in, 8 out, in blocks of its own memory.
EXTISM_CODE: Final = """
(module
  (import "extism:host/env" "input_load_u64" (func $input (param i64) (result i64)))
  (import "extism:host/env" "alloc" (func $alloc (param i64) (result i64)))
  (import "extism:host/env" "store_u64" (func $store (param i64 i64)))
  (import "extism:host/env" "output_set" (func $output (param i64 i64)))
  (memory (export "memory") 1)
  (func (export "take1") (result i32)
    (local $at i64)
    (local.set $at (call $alloc (i64.const 8)))
    (call $store (local.get $at) (i64.sub (call $input (i64.const 0)) (i64.const 1)))
    (call $output (local.get $at) (i64.const 8))
    (i32.const 0)))
"""


def missing(name: str) -> str:
    """Why a peer cannot be measured; empty if it can."""
    package = PACKAGES.get(name)
    if package is None or find_spec(package) is not None:
        return ""
    return f"{package} is not installed; `make setup` installs it, and so does the extra `bench`"


def subjects(handlers: Sequence[int]) -> list[Subject]:
    """Every peer that is there; those that run Python also with as many handlers as the largest event."""
    made = [Subject(WASMTIME_PY, {}, loop(*_wasmtime_py(), *ARGUMENTS[1]))]
    if not missing(EXTISM):
        made.append(Subject(EXTISM, {}, loop(_extism(), "take1", (1).to_bytes(8, "little"))))
    for count in (handlers[0], handlers[-1]):
        if not missing(PLUGGY):
            hook = statement_loop("hook(first=first)", hook=_pluggy(count), first=1)
            made.append(Subject(PLUGGY, {"handlers": count}, hook))
        walk = "for function in functions:\n    result = function(first)"
        made.append(Subject(LIST, {"handlers": count}, statement_loop(walk, functions=_functions(count), first=1)))
    return made


def _wasmtime_py() -> tuple[Any, wasmtime.Store]:
    config = wasmtime.Config()
    config.epoch_interruption = True
    engine = wasmtime.Engine(config)
    store = wasmtime.Store(engine)
    store.set_epoch_deadline(NEVER_TICKS)
    instance = wasmtime.Instance(store, wasmtime.Module(engine, assemble(handler_code(0))), [])
    return instance.exports(store)[f"{HANDLERS}#take1"], store


def _extism() -> Callable[[str, bytes], bytes]:
    import extism

    code = base64.b64encode(assemble(EXTISM_CODE)).decode()
    plugin = extism.Plugin({"wasm": [{"data": code}], "timeout_ms": DEADLINE_MS}, functions=[])
    call: Callable[[str, bytes], bytes] = plugin.call
    if call("take1", (1).to_bytes(8, "little")) != bytes(8):
        raise RuntimeError("extism: the guest did not answer 0")
    return call


def _pluggy(count: int) -> Any:
    import pluggy

    class Hooks:
        @pluggy.HookspecMarker("bench")
        def take(self, first: int) -> None:
            """One argument."""

    class Plugin:
        @pluggy.HookimplMarker("bench")
        def take(self, first: int) -> int:
            return 0

    manager = pluggy.PluginManager("bench")
    manager.add_hookspecs(Hooks)
    for number in range(count):
        manager.register(Plugin(), f"plugin-{number}")
    return manager.hook.take


def _functions(count: int) -> list[Callable[[int], int]]:
    """As many functions, each an object of its own."""

    def make() -> Callable[[int], int]:
        def take(first: int) -> int:
            return 0

        return take

    return [make() for _ in range(count)]
