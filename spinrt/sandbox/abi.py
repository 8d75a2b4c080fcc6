"""WIT types to plans: how values cross between Python and guest memory.

This module owns the mapping from ``spinrt.sandbox.types`` to the plans of ``spinrt._core``; the plans themselves own
layout and checks. Python values: int, float and bool; a one-character ``str`` for char; ``str``; ``bytes`` for
``list<u8>``; ``list`` for other lists; ``None`` or the value for option; ``Ok`` or ``Err`` for result; a tuple for
tuple; a named tuple for a record (`record_class`); ``str`` for an enum; ``frozenset`` of names for flags; ``(case,
payload)`` for a variant; the host's own object for a resource.

Source: docs/design/spine.md, "sandbox".
"""

from __future__ import annotations

import keyword
from collections import namedtuple
from collections.abc import Callable
from functools import cache
from typing import Any

from spinrt import _core
from spinrt.sandbox.types import (
    BorrowType,
    EnumType,
    Err,
    FlagsType,
    Function,
    ListType,
    Ok,
    OptionType,
    OwnType,
    Primitive,
    RecordType,
    ResourceType,
    ResultType,
    TupleType,
    VariantType,
    WitType,
)

_BYTE = Primitive("u8")
METHOD = "[method]"
"""What the name of a method begins with in a core module: ``[method]message.size``."""


def python_name(wit_name: str) -> str:
    """Turn ``file-into`` into ``file_into``; a Python keyword gets an underscore behind it."""
    name = wit_name.replace("-", "_")
    return f"{name}_" if keyword.iskeyword(name) else name


@cache
def record_class(record: RecordType) -> type[tuple[Any, ...]]:
    """Return the named tuple class that values of this record type are lifted into."""
    title = "".join(part.capitalize() for part in record.name.split("-"))
    return namedtuple(title, [python_name(field.name) for field in record.fields])


def resource_name(resource: ResourceType) -> str:
    """Return the name under which the core compares resource types."""
    return f"{resource.interface}#{resource.name}"


@cache
def plan_type(type_: WitType) -> _core.Plan:
    """Return the plan of a type; equal types share one.

    Raises:
        UsageError: The type has no layout (a list of empty records).
    """
    return _PLANNERS[type(type_)](type_)


@cache
def plan_function(interface_id: str, function: Function) -> _core.FunctionPlan:
    """Return the plan of a function of that interface."""
    parameters = tuple(plan_type(parameter.type) for parameter in function.parameters)
    if function.name.startswith(METHOD):
        parameters = (_plan_receiver(function), *parameters[1:])
    result = None if function.result is None else plan_type(function.result)
    names = tuple(parameter.name for parameter in function.parameters)
    return _core.FunctionPlan(f"{interface_id}#{function.name}", parameters, result, names)


def right_of(function_name: str) -> str:
    """Return the right that calling a method takes: ``size`` for ``[method]message.size``."""
    return function_name.partition(".")[2]


def _plan_receiver(function: Function) -> _core.Plan:
    """The plan of a method's ``self``: a capability there must carry the right to call it."""
    receiver = function.parameters[0].type
    assert isinstance(receiver, BorrowType)
    return _core.HandlePlan(resource_name(receiver.resource), False, right_of(function.name))


def _plan_list(type_: ListType) -> _core.Plan:
    if type_.element == _BYTE:
        return _core.BytesPlan()
    return _core.ListPlan(plan_type(type_.element))


def _plan_result(type_: ResultType) -> _core.Plan:
    ok, err = (None if case is None else plan_type(case) for case in (type_.ok, type_.err))
    return _core.ResultPlan(ok, err, Ok, Err)


def _plan_record(type_: RecordType) -> _core.Plan:
    return _core.RecordPlan(type_.name, tuple(plan_type(field.type) for field in type_.fields), record_class(type_))


def _plan_tuple(type_: TupleType) -> _core.Plan:
    return _core.RecordPlan("tuple", tuple(plan_type(element) for element in type_.elements))


def _plan_variant(type_: VariantType) -> _core.Plan:
    payloads = tuple(None if case.type is None else plan_type(case.type) for case in type_.cases)
    return _core.VariantPlan(type_.name, tuple(case.name for case in type_.cases), payloads)


_PLANNERS: dict[type, Callable[[Any], _core.Plan]] = {
    Primitive: lambda type_: _core.StringPlan() if type_.name == "string" else _core.ScalarPlan(type_.name),
    ListType: _plan_list,
    OptionType: lambda type_: _core.OptionPlan(plan_type(type_.element)),
    ResultType: _plan_result,
    TupleType: _plan_tuple,
    RecordType: _plan_record,
    VariantType: _plan_variant,
    EnumType: lambda type_: _core.EnumPlan(type_.name, tuple(case.name for case in type_.cases)),
    FlagsType: lambda type_: _core.FlagsPlan(type_.name, tuple(flag.name for flag in type_.flags)),
    OwnType: lambda type_: _core.HandlePlan(resource_name(type_.resource), True),
    BorrowType: lambda type_: _core.HandlePlan(resource_name(type_.resource), False),
}
