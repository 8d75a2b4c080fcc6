"""Callees in this process: in C, in Python, as an extension of spinrt and of others, and a system call."""

from __future__ import annotations

import base64
import functools
import importlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, TypeAlias

import wasmtime

from benchmarks.dispatch.fleet import ARGUMENTS, Fleet, Shape, assemble
from benchmarks.ipc.native import module_path, work
from benchmarks.ipc.subject import Scale, Subject, in_batches
from benchmarks.ipc.work import NUMBER, SIZES, check, payload
from benchmarks.timing import Measure, loop
from spinrt import _core
from spinrt.runtime.binding import DomainExport
from spinrt.runtime.event import Event, OnFault
from spinrt.runtime.policy import Policy
from spinrt.runtime.runtime import Runtime
from spinrt.sandbox.build import build_extension
from spinrt.sandbox.loader import Extension, load_extension
from spinrt.sandbox.manifest import Limits
from spinrt.sandbox.wit import Interfaces, Source, shipped

GUEST: Final = Path(__file__).parent / "guest"
CALLS: Final = "bench:ipc/calls@1.0.0"
NATIVE: Final = "native_call"
RAISE: Final = "spinrt_raise"
"""The one that is judged: as ``spinrt bench dispatch`` has it, one handler that answers a number, one argument."""
PYTHON: Final = "python_call"
FROM_C: Final = "spinrt_from_cython"
FROM_PYTHON: Final = "spinrt_from_python"
EXPORT: Final = "spinrt_export"
"""The same function of the extension called without an event."""
GETPID: Final = "getpid"
WASMTIME_PY: Final = "wasmtime_py"
EXTISM: Final = "extism"
SUBINTERPRETER: Final = "subinterpreter"
PLUGGY: Final = "pluggy"
YES, NO = "yes", "no"
Call: TypeAlias = Callable[[Any], Any]
"""Given the payload, or the number where there is none; answers as all must."""
_NEVER_TICKS: Final = 1 << 60
_DEADLINE_MS: Final = 60_000

# Extism's own way for a guest to read what it was given: by words, from the memory that Extism keeps it in.
_EXTISM_CODE: Final = """
(module
  (import "extism:host/env" "input_length" (func $length (result i64)))
  (import "extism:host/env" "input_load_u64" (func $input (param i64) (result i64)))
  (import "extism:host/env" "alloc" (func $alloc (param i64) (result i64)))
  (import "extism:host/env" "store_u64" (func $store (param i64 i64)))
  (import "extism:host/env" "output_set" (func $output (param i64 i64)))
  (memory (export "memory") 1)
  (func $answer (param $word i64)
    (local $at i64)
    (local.set $at (call $alloc (i64.const 8)))
    (call $store (local.get $at) (local.get $word))
    (call $output (local.get $at) (i64.const 8)))
  (func (export "nothing") (result i32) (call $answer (call $input (i64.const 0))) (i32.const 0))
  (func (export "checksum") (result i32)
    (local $at i64) (local $end i64) (local $sum i64) (local $sums i64)
    (local.set $end (call $length))
    (loop $next
      (local.set $sum (i64.add (local.get $sum) (call $input (local.get $at))))
      (local.set $sums (i64.add (local.get $sums) (local.get $sum)))
      (local.set $at (i64.add (local.get $at) (i64.const 8)))
      (br_if $next (i64.lt_u (local.get $at) (local.get $end))))
    (call $answer (i64.add (local.get $sum) (i64.mul (i64.const 3) (local.get $sums))))
    (i32.const 0)))
"""


@dataclass(frozen=True, slots=True)
class Guest:
    """The callee as an extension: what spinrt loads, and the module as the compiler made it."""

    extension: Extension
    code: bytes


def build() -> Guest:
    """Compile the guest by the toolchain of ``spinrt build``.

    Raises:
        BuildError: There is no compiler, or it fails.
    """
    text = (GUEST / "calls.wit").read_text(encoding="utf-8")
    known = Interfaces.parse([Source("calls.wit", text)], known=shipped())
    with tempfile.TemporaryDirectory(prefix="spinrt-bench-") as out:
        made = build_extension(GUEST, Path(out), interfaces=known, flags=["-O2"])
        extension = load_extension(made, interfaces=known)
        return Guest(extension, (made / extension.manifest.module).read_bytes())


@dataclass(frozen=True, slots=True)
class Callee:
    """The guest at work: size of the payload → an event that it handles, and the export that handles it."""

    events: Mapping[int, Event]
    exports: Mapping[int, Call]


def callee(guest: Guest, transactional: str) -> Callee:
    """Load the guest with an undo log or without, in a runtime of its own."""
    limits = Limits() if transactional == YES else replace(Limits(), undo_bytes=0)
    runtime = Runtime(interfaces=guest.extension.interfaces)
    manifest = replace(guest.extension.manifest, limits=limits)
    domain = runtime.create(replace(guest.extension, manifest=manifest), Policy.granting(limits=limits))
    domain.initialize()
    names = {size: f"{CALLS}#{'checksum' if size else 'nothing'}" for size in SIZES}
    events = {name: runtime.define(name, on_fault=OnFault.REFUSE) for name in dict.fromkeys(names.values())}
    for name, event in events.items():
        event.install(DomainExport(domain, name))
    exports = {size: functools.partial(domain.exports[name], None) for size, name in names.items()}
    return Callee({size: events[name] for size, name in names.items()}, exports)


def judged_raise() -> Measure:
    """Raise from Cython, as ``spinrt bench dispatch`` does."""
    shape = Shape(1, 1)
    event = Fleet([shape]).event(shape)
    return lambda calls: _core.time_raise(event.dispatcher, ARGUMENTS[1], calls)


def raising(event: Event, size: int) -> Measure:
    """Raise from compiled code: scalars without Python in between, a payload through the event's Python face."""
    if size:
        data = payload(size)
        return lambda calls: work().time_python(event.raise_, data, calls)
    return lambda calls: _core.time_raise(event.dispatcher, (NUMBER,), calls)


def native(size: int) -> Measure:
    """Call in C through a pointer."""
    data = payload(size)
    return lambda calls: work().time_native(data, calls)


def subjects(scale: Scale, guest: Guest) -> tuple[list[Subject], dict[str, str]]:
    """Every callee with every size, each seen to answer what it must; and those that are missing, with the reason."""
    made = [
        in_batches(GETPID, {}, work().time_getpid, scale),
        in_batches(RAISE, {}, judged_raise(), scale),
    ]
    made += [in_batches(NATIVE, {"bytes": size}, native(size), scale) for size in SIZES]
    for transactional in (YES, NO):
        made += _spinrt(scale, guest, transactional)
    skipped = {}
    for name, peer in PEERS.items():
        calls = peer(guest)
        if isinstance(calls, str):
            skipped[name] = calls
        else:
            made += [_peer(name, size, call, scale) for size, call in zip(SIZES, calls, strict=True)]
    return made, skipped


def _spinrt(scale: Scale, guest: Guest, transactional: str) -> list[Subject]:
    made = []
    loaded = callee(guest, transactional)
    for size, event in loaded.events.items():
        params = {"bytes": size, "transactional": transactional}
        argument = payload(size) if size else NUMBER
        export = loaded.exports[size]
        check(FROM_PYTHON, size, event.raise_(argument))
        check(EXPORT, size, export(argument))
        made.append(in_batches(FROM_C, params, raising(event, size), scale))
        made.append(in_batches(FROM_PYTHON, params, loop(event.raise_, argument), scale))
        made.append(in_batches(EXPORT, params, loop(export, argument), scale))
    return made


def _peer(name: str, size: int, call: Call, scale: Scale) -> Subject:
    argument = payload(size) if size else NUMBER
    check(name, size, call(argument))
    return in_batches(name, {"bytes": size}, loop(call, argument), scale)


def _nothing(number: int) -> int:
    return number


def _python(guest: Guest) -> Sequence[Call]:
    checksum = work().checksum

    def answer(data: bytes) -> int:
        return checksum(data)

    return [answer if size else _nothing for size in SIZES]


def _wasmtime_py(guest: Guest) -> Sequence[Call]:
    """The same module through the engine's Python package, deadlines compiled in, payloads by its own `write`."""
    config = wasmtime.Config()
    config.epoch_interruption = True
    store = wasmtime.Store(wasmtime.Engine(config))
    store.set_epoch_deadline(_NEVER_TICKS)
    exports: Any = wasmtime.Instance(store, wasmtime.Module(store.engine, guest.code), []).exports(store)
    nothing, checksum = (exports[f"{CALLS}#{name}"] for name in ("nothing", "checksum"))
    memory, room = exports["memory"], exports["cabi_realloc"]
    done = exports.get(f"cabi_post_{CALLS}#checksum")

    def answer(data: bytes) -> int:
        pointer = room(store, 0, 0, 1, len(data))
        memory.write(store, data, pointer)
        found = int(checksum(store, pointer, len(data))) % (1 << 64)
        if done is not None:
            done(store, found)
        return found

    return [answer if size else lambda number: nothing(store, number) for size in SIZES]


def _missing(package: str) -> str:
    return f"{package} is not installed; `make setup` installs it, and so does the extra `bench`"


def _extism(guest: Guest) -> Sequence[Call] | str:
    if find_spec("extism") is None:
        return _missing("extism")
    import extism

    code = base64.b64encode(assemble(_EXTISM_CODE)).decode()
    call = extism.Plugin({"wasm": [{"data": code}], "timeout_ms": _DEADLINE_MS}, functions=[]).call

    def nothing(number: int) -> int:
        return int.from_bytes(call("nothing", number.to_bytes(8, "little")), "little")

    def answer(data: bytes) -> int:
        return int.from_bytes(call("checksum", data), "little")

    return [answer if size else nothing for size in SIZES]


def _pluggy(guest: Guest) -> Sequence[Call] | str:
    if find_spec("pluggy") is None:
        return _missing("pluggy")
    import pluggy

    checksum = work().checksum

    class Hooks:
        @pluggy.HookspecMarker("bench")
        def answer(self, data: Any) -> None:
            """The number, or the payload."""

    class Plugin:
        @pluggy.HookimplMarker("bench")
        def answer(self, data: Any) -> int:
            return checksum(data) if isinstance(data, bytes) else int(data)

    manager = pluggy.PluginManager("bench")
    manager.add_hookspecs(Hooks)
    manager.register(Plugin())
    hook = manager.hook.answer
    return [lambda data: hook(data=data)[0] for _ in SIZES]


def _subinterpreter(guest: Guest) -> Sequence[Call] | str:
    """An interpreter of its own in this process; payloads go in as shared bytes, answers come back by a channel."""
    try:
        interpreters: Any = importlib.import_module("_xxsubinterpreters")
        answers = interpreters.channel_create()
    except (ImportError, AttributeError):
        return "this Python has no _xxsubinterpreters with channels, as 3.8 to 3.11 have"
    there = interpreters.create()
    interpreters.run_string(there, _SUBINTERPRETER_START.format(path=str(module_path()), answers=int(answers)))

    def call(code: str) -> Call:
        def answer(data: Any) -> int:
            interpreters.run_string(there, code, shared={"data": data})
            return int.from_bytes(interpreters.channel_recv(answers), "little")

        return answer

    return [call("send(checksum(data))" if size else "send(data)") for size in SIZES]


_SUBINTERPRETER_START: Final = """
import importlib.machinery, importlib.util, _xxsubinterpreters
loader = importlib.machinery.ExtensionFileLoader("ipcwork", {path!r})
module = importlib.util.module_from_spec(importlib.util.spec_from_file_location("ipcwork", {path!r}, loader=loader))
loader.exec_module(module)
checksum = module.checksum
def send(number):
    _xxsubinterpreters.channel_send({answers}, number.to_bytes(8, "little"))
"""

PEERS: Final[dict[str, Callable[[Guest], Sequence[Call] | str]]] = {
    PYTHON: _python,
    WASMTIME_PY: _wasmtime_py,
    EXTISM: _extism,
    SUBINTERPRETER: _subinterpreter,
    PLUGGY: _pluggy,
}
"""Row → what makes its calls, one for each size; or says why it cannot."""
