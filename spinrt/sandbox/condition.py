"""Declarative guards: what must be true of a field of an event's arguments. Written in manifests and in Python.

A field is named by the parameter and then by record fields: ``envelope.user``. What is compared, and so what the type
of the field may be:

| condition | holds when the value | types |
|---|---|---|
| `Equal` | is that value (None: an option that is not there) | bool, integers, f64, char, string, enum; options of
these |
| `Range` | is neither below ``low`` nor above ``high`` | integers, f64 |
| `Prefix` | begins with that text | string |

An f32 is not compared: the raiser's value and what a guest gets of it differ in their last bits.

Source: docs/design/dispatch.md, "An entry, as the dispatcher sees it"; docs/formats/manifest.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from spinrt.errors import UsageError
from spinrt.sandbox.abi import python_name
from spinrt.sandbox.types import EnumType, Function, OptionType, Primitive, RecordType, WitType
from spinrt.sandbox.wit import type_text


@dataclass(frozen=True, slots=True)
class Equal:
    field: str
    value: Any


@dataclass(frozen=True, slots=True)
class Range:
    """Both bounds are inclusive; None leaves a side open."""

    field: str
    low: Any = None
    high: Any = None


@dataclass(frozen=True, slots=True)
class Prefix:
    field: str
    prefix: str


Condition: TypeAlias = Equal | Range | Prefix
_INTEGER_BITS: Final = {f"{sign}{bits}": (sign, bits) for sign in "su" for bits in (8, 16, 32, 64)}
_EQUATED: Final = frozenset([*_INTEGER_BITS, "bool", "char", "string"])
_ORDERED: Final = frozenset([*_INTEGER_BITS, "f64"])


def find_field(condition: Condition, event: Function) -> tuple[int, ...]:
    """Return where a condition's field is: the position of a parameter, then of record fields.

    Raises:
        UsageError: There is no such field, it cannot be compared so, or it cannot have the condition's value.
    """
    path, type_ = _walk(condition.field, event)
    what = f"guard on {condition.field}"
    if isinstance(condition, Equal):
        _check_equated(type_, what)
        _check_value(type_, condition.value, what)
    elif isinstance(condition, Range):
        _check_range(type_, condition, what)
    elif type_ != Primitive("string"):
        raise UsageError(f"{what}: found the type {type_text(type_)}, expected string for a prefix")
    elif not isinstance(condition.prefix, str):
        raise UsageError(f"{what}: found {condition.prefix!r:.80}, expected text")
    return path


def _walk(field: str, event: Function) -> tuple[tuple[int, ...], WitType]:
    first, *rest = field.split(".")
    position, type_ = _find(
        first, [(one.name, one.type) for one in event.parameters], f"event {event.name}", "parameter"
    )
    path = [position]
    for name in rest:
        if not isinstance(type_, RecordType):
            raise UsageError(f"guard on {field}: found {name!r} in a {type_text(type_)}, expected it in a record")
        members = [(one.name, one.type) for one in type_.fields]
        position, type_ = _find(name, members, f"record {type_.name}", "field")
        path.append(position)
    return tuple(path), type_


def _find(name: str, members: list[tuple[str, WitType]], where: str, kind: str) -> tuple[int, WitType]:
    """Find a member by its WIT name, or as Python spells it."""
    for position, (known, type_) in enumerate(members):
        if name in (known, python_name(known)):
            return position, type_
    names = ", ".join(known for known, _ in members) or "none"
    raise UsageError(f"guard on {where}: found no {kind} {name!r}, expected one of {names}")


def _check_range(type_: WitType, condition: Range, what: str) -> None:
    if condition.low is None and condition.high is None:
        raise UsageError(f"{what}: found a range without bounds, expected at least one")
    if not isinstance(type_, Primitive) or type_.name not in _ORDERED:
        raise UsageError(f"{what}: found the type {type_text(type_)}, expected an integer or f64 for a range")
    for bound in (condition.low, condition.high):
        if bound is not None:
            _check_value(type_, bound, what)
    if condition.low is not None and condition.high is not None and condition.low > condition.high:
        raise UsageError(
            f"{what}: found the range {condition.low!r} to {condition.high!r}, expected the lower bound first"
        )


def _check_value(type_: WitType, value: object, what: str) -> None:
    if not _fits(type_, value):
        raise UsageError(f"{what}: found {value!r:.80}, expected {_expected(type_)}")


def _check_equated(type_: WitType, what: str) -> None:
    bare = type_.element if isinstance(type_, OptionType) else type_
    if not isinstance(bare, EnumType) and not (isinstance(bare, Primitive) and bare.name in _EQUATED):
        raise UsageError(f"{what}: found the type {type_text(type_)}, expected an integer, bool, char, string or enum")


def _expected(type_: WitType) -> str:
    """Say what a value of that type is."""
    if isinstance(type_, OptionType):
        return f"{_expected(type_.element)}, or none"
    if isinstance(type_, EnumType):
        return f"one of {', '.join(case.name for case in type_.cases)}"
    name = type_.name if isinstance(type_, Primitive) else ""
    if name in _INTEGER_BITS:
        low, high = _bounds(name)
        return f"an integer from {low} to {high}"
    return {"bool": "true or false", "char": "one character", "string": "text"}.get(name, "a number")


def _bounds(name: str) -> tuple[int, int]:
    sign, bits = _INTEGER_BITS[name]
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if sign == "s" else (0, (1 << bits) - 1)


def _fits(type_: WitType, value: object) -> bool:
    if isinstance(type_, OptionType):
        return value is None or _fits(type_.element, value)
    if isinstance(type_, EnumType):
        return value in [case.name for case in type_.cases]
    name = type_.name if isinstance(type_, Primitive) else ""
    if name == "bool":
        return isinstance(value, bool)
    if name in ("string", "char"):
        return isinstance(value, str) and (name == "string" or len(value) == 1)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if name == "f64":
        return not math.isnan(value)  # which nothing is below or above
    low, high = _bounds(name)
    return isinstance(value, int) and low <= value <= high


def condition_text(condition: Condition) -> str:
    """Return a condition for people: ``envelope.user equals 'alice'``."""
    match condition:
        case Equal(field, value):
            return f"{field} equals {value!r}"
        case Prefix(field, prefix):
            return f"{field} begins with {prefix!r}"
        case Range(field, low, high):
            bounds = [f"at least {low!r}"] * (low is not None) + [f"at most {high!r}"] * (high is not None)
            return f"{field} is {' and '.join(bounds) or 'there'}"
