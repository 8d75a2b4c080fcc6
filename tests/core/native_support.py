"""A guest that passes a call on to one import, so that a native function and its closure can be compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from spinrt import _core
from spinrt._core import Call, Export, FunctionPlan, HostFunction, Instance
from spinrt.errors import SpinError
from spinrt.sandbox.abi import plan_function
from spinrt.sandbox.loader import find_function
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
    letters, _, given = plan.export_signature.partition(":")
    parameters = "".join(f" (param {CORE_TYPES[letter]})" for letter in letters)
    result = f" (result {CORE_TYPES[given]})" if given else ""
    in_memory = plan.import_signature != plan.export_signature
    imported = f"{parameters} (param i32)" if in_memory else f"{parameters}{result}"
    forwarded = "".join(f" (local.get {position})" for position in range(len(letters)))
    call = (
        f"(call $f{forwarded} (i32.const {RESULT_AT})) (i32.const {RESULT_AT})"
        if in_memory
        else f"(call $f{forwarded})"
    )
    module = _core.Module(
        wat(f'(module (import "h" "f" (func $f{imported})) {BUMP} (func (export "pass"){parameters}{result} {call}))')
    )
    return Instance(module, (HostFunction(plan, closure),), limits(**changes), "guest")


@dataclass(frozen=True)
class Seen:
    """What a guest and its raiser saw of one call."""

    answer: Any
    error: type[Exception] | None
    effects: list[Any]


def seen(guest: Instance, plan: FunctionPlan, call: Call | None, *arguments: Any) -> Seen:
    """Call ``pass`` and tell everything that a difference could show in."""
    answer, error = None, None
    try:
        answer = Export(guest, "pass", plan)(call, *arguments)
    except SpinError as failure:
        error = type(failure)
    effects = [] if call is None else list(call.journal.effects)
    return Seen(answer, error, effects)
