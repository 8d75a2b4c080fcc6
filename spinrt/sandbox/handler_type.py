"""What type a handler of an event must have, or a guard; and how a type that is not the expected one differs.

A handler has its event's type, with a ``closure: u64`` in front of the parameters if one is given. A filter returns
what stands in for the arguments: the one parameter, or all of them as a tuple. A guard takes the parameters and
returns a bool.

Source: docs/design/dispatch.md, "Types".
"""

from __future__ import annotations

from itertools import zip_longest
from typing import Final

from spinrt.errors import UsageError
from spinrt.sandbox.types import Function, Parameter, Primitive, TupleType, WitType
from spinrt.sandbox.wit import bare_type, type_text

CLOSURE_MAX: Final = (1 << 64) - 1
_CLOSURE: Final = Parameter("closure", Primitive("u64"))


def handler_type(event: Function, *, closure: bool = False, filters: bool = False) -> Function:
    """Return the type that a handler of an event must have.

    Raises:
        UsageError: It is to filter an event without parameters.
    """
    if not (closure or filters):
        return event
    return Function(event.name, _parameters(event, closure), _filtered(event) if filters else event.result)


def guard_type(event: Function, *, closure: bool = False) -> Function:
    """Return the type that a guard of an event must have."""
    return Function(event.name, _parameters(event, closure), Primitive("bool"))


def _parameters(event: Function, closure: bool) -> tuple[Parameter, ...]:
    return (_CLOSURE, *event.parameters) if closure else event.parameters


def _filtered(event: Function) -> WitType:
    types = tuple(parameter.type for parameter in event.parameters)
    if not types:
        raise UsageError(f"event {event.name}: found a filter, expected none: it has no parameters to rewrite")
    return types[0] if len(types) == 1 else TupleType(types)


def difference(found: Function, expected: Function) -> str:
    """Say how two function types differ, or return an empty string; names of parameters do not count.

    What differs stands between asterisks: ``found func(u32, *string*) -> u32, expected func(u32, *u32*) -> u32``.
    """
    if found is expected or _equal(found, expected):
        return ""
    pairs = list(
        zip_longest(
            [parameter.type for parameter in found.parameters], [parameter.type for parameter in expected.parameters]
        )
    )
    results = (found.result, expected.result)
    differs = [not _same(*pair) for pair in pairs]
    texts = [_text([pair[side] for pair in pairs], differs, results[side], not _same(*results)) for side in (0, 1)]
    note = " (a type of the same name was defined differently)" if texts[0] == texts[1] else ""
    return f"found {texts[0]}, expected {texts[1]}{note}"


def _equal(found: Function, expected: Function) -> bool:
    if len(found.parameters) != len(expected.parameters) or not _same(found.result, expected.result):
        return False
    return all(_same(one.type, other.type) for one, other in zip(found.parameters, expected.parameters, strict=True))


def _same(one: WitType | None, other: WitType | None) -> bool:
    if isinstance(one, Primitive) and isinstance(other, Primitive):
        return one.name == other.name
    return one is other or bare_type(one) == bare_type(other)


def _text(types: list[WitType | None], differs: list[bool], result: WitType | None, result_differs: bool) -> str:
    parameters = ", ".join(_marked(type_, marked) for type_, marked in zip(types, differs, strict=True))
    if result is None and not result_differs:
        return f"func({parameters})"
    return f"func({parameters}) -> {_marked(result, result_differs)}"


def _marked(type_: WitType | None, marked: bool) -> str:
    text = "nothing" if type_ is None else type_text(type_)
    return f"*{text}*" if marked else text
