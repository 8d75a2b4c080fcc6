"""A guest that passes a call on to one import, so that a native function and its closure can be compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from spinrt._core import Call, Entry, Export, FunctionPlan, HostFunction, Instance, Module, NativeFunction, Table
from spinrt.sandbox.abi import plan_function
from spinrt.sandbox.promised import find_function
from spinrt.sandbox.wit import shipped
from tests.guests import BUMP, limits, wat

CORE_TYPES = {"i": "i32", "l": "i64"}
RESULT_AT = 64


def plan_of(name: str) -> FunctionPlan:
    """The plan of a function of the shipped interfaces, named ``interface#function``."""
    interface, function = find_function(shipped(), name)
    return plan_function(interface.id, function)


def forwarder(plan: FunctionPlan, closure: Callable[..., Any], **changes: int) -> Instance:
    """An instance whose export ``pass`` calls its one import with its own arguments, and gives back the result."""
    return Instance(_module(plan), (HostFunction(plan, closure),), limits(**changes), "guest")


@cache
def _module(plan: FunctionPlan) -> Module:
    letters, _, given = plan.export_signature.partition(":")
    parameters = "".join(f" (param {CORE_TYPES[letter]})" for letter in letters)
    result = f" (result {CORE_TYPES[given]})" if given else ""
    in_memory = plan.import_signature != plan.export_signature
    imported = f"{parameters} (param i32)" if in_memory else f"{parameters}{result}"
    place = f"(i32.const {RESULT_AT})" if in_memory else ""
    forwarded = " ".join([*(f"(local.get {position})" for position in range(len(letters))), place])
    body = f"(call $f {forwarded}) {place}"
    return Module(
        wat(f'(module (import "h" "f" (func $f{imported})) {BUMP} (func (export "pass"){parameters}{result} {body}))')
    )


@dataclass(frozen=True)
class Seen:
    """What a guest and its raiser saw of one call."""

    answers: list[Any]
    error: type[Exception] | None
    effects: list[Any]


def seen(
    guest: Instance, plan: FunctionPlan, call: Call | None, *arguments: Any, effects_max: int = 8, calls: int = 1
) -> Seen:
    """Raise an event whose handlers are ``pass``, so many times over, and tell all that a difference could show in."""
    errors: list[type[Exception]] = []
    handler = Export(guest, "pass", plan)
    running = call or Call()
    table = Table((Entry(lambda _, *given: [handler(call, *given) for _ in range(calls)], None, effects_max),))
    answers = table.walk(running, arguments, lambda _, error: errors.append(type(error)))
    return Seen(answers[0] if answers else [], errors[0] if errors else None, list(running.journal.effects))


def same(plan: FunctionPlan, native: NativeFunction, *arguments: Any, **options: Any) -> Seen:
    """What comes of a call, which is the same by the native function and by its closure."""
    make, changes = options.pop("call", lambda: None), options.pop("limits", {})
    as_given = options.pop("as_given", plan)
    found = [
        seen(forwarder(plan, served, **changes), as_given, make(), *arguments, **options)
        for served in (native, native.closure)
    ]
    assert found[0] == found[1]
    return found[0]
