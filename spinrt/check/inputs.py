"""Arguments for handlers, made from WIT types: ordinary ones, ones at the bounds of their types, hostile ones.

Everything follows from a seed. Values are such as ``spinrt.sandbox.abi`` lowers; surrogates cannot occur in them, since
they occur in no WIT string or char.

Source: docs/design/check.md, "Inputs".
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from spinrt.sandbox.abi import record_class, resource_name
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
    ResultType,
    TupleType,
    VariantType,
    WitType,
)

Resources: TypeAlias = Mapping[str, Sequence[Any]]
"""``interface#resource`` → objects that may be passed as one; of others, a plain object is."""

LONG_TEXT: Final = 4096
LONG_BYTES: Final = 65_536
LONG_LIST: Final = 256
DEPTH_MAX: Final = 8
"""Nested lists at the bounds are short below this depth, so that their size stays bounded."""
EDGES_MAX: Final = 64

_BITS: Final = {"8": 8, "16": 16, "32": 32, "64": 64}
_FLOATS: Final = {
    "f32": (0.0, -0.0, 1.5, math.inf, -math.inf, math.nan, 2.0**-149, (2 - 2.0**-23) * 2.0**127),
    "f64": (0.0, -0.0, 1.5, math.inf, -math.inf, math.nan, 5e-324, sys.float_info.max),
}
_CHARACTERS: Final = ("a", "\0", "\x7f", "\u0301", "\ud7ff", "\ue000", "\ufffe", "\U0010ffff")
_TEXTS: Final = (
    "",
    "\0",
    "a\0b",
    "line\r\nInjected: yes\r\n",
    "e\u0301" * 100,
    "\u202egpj.exe",
    "\ufeffmark",
    "\U0010ffff" * 50,
    "%n%s${x}'\";--",
    "../../etc/passwd",
    "*",
    "x" * 255,
    "x" * 256,
    "y" * LONG_TEXT,
    "é" * LONG_TEXT,
)
_BYTES: Final = (b"", b"\0", b"\xff", bytes(range(256)), b"\xc3\x28\xed\xa0\x80", b"z" * LONG_BYTES)
_WORDS: Final = ("alice", "bob@example.org", "INBOX", "lists/dev", "hello world", "Zürich", "$Label1", "2026-11-21")


@dataclass(frozen=True, slots=True)
class Input:
    """One set of arguments; ``label`` says what is special about them."""

    label: str
    arguments: tuple[Any, ...]


def inputs(function: Function, *, seed: int, count: int, resources: Resources | None = None) -> list[Input]:
    """Return arguments for a function, the first ordinary, no more than ``count``.

    Args:
        function: Its type.
        seed: The same seed gives the same inputs.
        count: At least 1. Where there are more with one parameter, or one field of one, at an edge, the seed chooses.
        resources: What to pass as resources.
    """
    made = Values(random.Random(f"{seed}/{function.name}"), resources or {})
    types = [parameter.type for parameter in function.parameters]
    ordinary = Input("ordinary", tuple(made.ordinary(type_) for type_ in types))
    special = list(_special(made, function, types))
    made.random.shuffle(special)
    chosen = [ordinary, *special][:count]
    while types and len(chosen) < count:
        chosen.append(Input(f"ordinary {len(chosen)}", tuple(made.ordinary(type_) for type_ in types)))
    return chosen


def _special(made: Values, function: Function, types: Sequence[WitType]) -> Iterator[Input]:
    for place, parameter in enumerate(function.parameters):
        for label, value in made.variations(parameter.type, parameter.name):
            values = [made.ordinary(type_) for type_ in types]
            values[place] = value
            yield Input(label, tuple(values))
    columns = [made.edges(type_) for type_ in types]
    for number in range(max((len(column) for column in columns), default=0)):
        yield Input(f"all at edge {number}", tuple(column[number % len(column)] for column in columns))


def resources_of(type_: OwnType | BorrowType, resources: Resources) -> Sequence[Any]:
    """Return what may be passed as that resource; at least one object."""
    return resources.get(resource_name(type_.resource)) or (object(),)


class Values:
    """Makes values of WIT types.

    Args:
        source: Where chance comes from.
        resources: What to pass as resources.
    """

    def __init__(self, source: random.Random, resources: Resources) -> None:
        self.random = source
        self._resources = resources

    def ordinary(self, type_: WitType) -> Any:
        """Return a value such as a handler meets every day."""
        return _ORDINARY[type(type_)](self, type_)

    def edges(self, type_: WitType, depth: int = 0) -> list[Any]:
        """Return values at the bounds of a type, and hostile ones; at least one, at most `EDGES_MAX`."""
        return list(_EDGES[type(type_)](self, type_, depth))[:EDGES_MAX]

    def variations(self, type_: WitType, name: str) -> Iterator[tuple[str, Any]]:
        """Yield values that are at an edge in one place, each with a label: of a record, one field at a time."""
        if not isinstance(type_, RecordType):
            for number, value in enumerate(self.edges(type_)):
                yield f"{name} at edge {number}", value
            return
        for place, field in enumerate(type_.fields):
            for label, value in self.variations(field.type, f"{name}.{field.name}"):
                values = [self.ordinary(other.type) for other in type_.fields]
                values[place] = value
                yield label, record_class(type_)(*values)

    def resource(self, type_: OwnType | BorrowType) -> Sequence[Any]:
        """Return what may be passed as that resource."""
        return resources_of(type_, self._resources)


# ------------------------------------------------------------------------------------------------------------ ordinary


def _ordinary_primitive(made: Values, type_: Primitive) -> Any:
    chance, name = made.random, type_.name
    match name:
        case "bool":
            return chance.random() < 0.5
        case "char":
            return chance.choice("abcxyz é")
        case "string":
            return " ".join(chance.choices(_WORDS, k=chance.randint(1, 2)))
        case "f32" | "f64":
            return float(chance.randint(-1000, 1000)) / 4
        case _:
            return chance.randint(0, 100)


def _ordinary_list(made: Values, type_: ListType) -> Any:
    count = made.random.randint(0, 3)
    if type_.element == Primitive("u8"):
        return made.random.randbytes(8 * count)
    return [made.ordinary(type_.element) for _ in range(count)]


def _ordinary_result(made: Values, type_: ResultType) -> Any:
    case, kind = (Ok, type_.ok) if made.random.random() < 0.7 else (Err, type_.err)
    return case() if kind is None else case(made.ordinary(kind))


def _ordinary_variant(made: Values, type_: VariantType) -> Any:
    case = made.random.choice(type_.cases)
    return case.name, None if case.type is None else made.ordinary(case.type)


_ORDINARY: Final[dict[type, Callable[[Values, Any], Any]]] = {
    Primitive: _ordinary_primitive,
    ListType: _ordinary_list,
    OptionType: lambda made, type_: made.ordinary(type_.element) if made.random.random() < 0.5 else None,
    ResultType: _ordinary_result,
    TupleType: lambda made, type_: tuple(made.ordinary(element) for element in type_.elements),
    RecordType: lambda made, type_: record_class(type_)(*(made.ordinary(field.type) for field in type_.fields)),
    VariantType: _ordinary_variant,
    EnumType: lambda made, type_: made.random.choice(type_.cases).name,
    FlagsType: lambda made, type_: frozenset(flag.name for flag in type_.flags if made.random.random() < 0.5),
    OwnType: lambda made, type_: made.resource(type_)[0],
    BorrowType: lambda made, type_: made.resource(type_)[0],
}


# --------------------------------------------------------------------------------------------------------------- edges


def _primitive_edges(made: Values, type_: Primitive, depth: int) -> Sequence[Any]:
    name = type_.name
    if name == "bool":
        return (False, True)
    if name == "char":
        return _CHARACTERS
    if name == "string":
        return _TEXTS if depth == 0 else _TEXTS[:10]
    if name in _FLOATS:
        return _FLOATS[name]
    bits = _BITS[name[1:]]
    if name[0] == "u":
        return (0, 1, (1 << bits - 1) - 1, 1 << bits - 1, (1 << bits) - 1)
    return (0, 1, -1, (1 << bits - 1) - 1, -(1 << bits - 1))


def _list_edges(made: Values, type_: ListType, depth: int) -> Sequence[Any]:
    if type_.element == Primitive("u8"):
        return _BYTES if depth == 0 else _BYTES[:5]
    if depth >= DEPTH_MAX:
        return ([],)
    inner = made.edges(type_.element, depth + 1)
    long = LONG_LIST >> 3 * depth or 1
    return ([], inner[:1], inner, [made.ordinary(type_.element) for _ in range(long)], [inner[-1]] * long)


def _result_edges(made: Values, type_: ResultType, depth: int) -> Iterator[Any]:
    for case, kind in ((Ok, type_.ok), (Err, type_.err)):
        yield from [case()] if kind is None else map(case, made.edges(kind, depth + 1))


def _product_edges(made: Values, types: Sequence[WitType], depth: int) -> Iterator[tuple[Any, ...]]:
    """All parts at an edge at once; as many as the part with most edges has."""
    columns = [made.edges(type_, depth) for type_ in types]
    for number in range(max((len(column) for column in columns), default=1)):
        yield tuple(column[number % len(column)] for column in columns)


def _variant_edges(made: Values, type_: VariantType, depth: int) -> Iterator[Any]:
    for case in type_.cases:
        payloads = (None,) if case.type is None else made.edges(case.type, depth + 1)
        yield from ((case.name, payload) for payload in payloads[:8])


def _flags_edges(made: Values, type_: FlagsType, depth: int) -> Iterator[Any]:
    names = [flag.name for flag in type_.flags]
    yield frozenset()
    yield frozenset(names)
    yield from (frozenset([name]) for name in names)


_EDGES: Final[dict[type, Callable[[Values, Any, int], Any]]] = {
    Primitive: _primitive_edges,
    ListType: _list_edges,
    OptionType: lambda made, type_, depth: [None, *made.edges(type_.element, depth)],
    ResultType: _result_edges,
    TupleType: lambda made, type_, depth: _product_edges(made, type_.elements, depth),
    RecordType: lambda made, type_, depth: [
        record_class(type_)(*values)
        for values in _product_edges(made, [field.type for field in type_.fields], depth)
    ],
    VariantType: _variant_edges,
    EnumType: lambda made, type_, depth: [case.name for case in type_.cases],
    FlagsType: _flags_edges,
    OwnType: lambda made, type_, depth: made.resource(type_),
    BorrowType: lambda made, type_, depth: made.resource(type_),
}  # fmt: skip
