"""Values of WIT types as bytes: what is written is read again, and nothing else is."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinrt.errors import CorruptRecord
from spinrt.sandbox.types import (
    BorrowType,
    Case,
    EnumType,
    Err,
    Field,
    FlagsType,
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
from spinrt.sandbox.values import ValueReader, decode, encode

INTEGERS = {"u8": (0, 8), "s8": (1, 8), "u16": (0, 16), "s16": (1, 16), "u32": (0, 32), "s32": (1, 32)}
INTEGERS |= {"u64": (0, 64), "s64": (1, 64)}
THING = ResourceType("thing", "test:a/b@1.0.0")
OBJECTS = [object() for _ in range(4)]


def number(target: Any, type_: str) -> int:
    assert type_ == "test:a/b@1.0.0#thing"
    return OBJECTS.index(target)


def find(place: int, type_: str) -> Any:
    assert type_ == "test:a/b@1.0.0#thing"
    if place >= len(OBJECTS):
        raise CorruptRecord("no such thing")
    return OBJECTS[place]


def primitives() -> st.SearchStrategy[WitType]:
    names = [*INTEGERS, "bool", "f32", "f64", "char", "string"]
    return st.sampled_from([Primitive(name) for name in names])


def extend(inner: st.SearchStrategy[WitType]) -> st.SearchStrategy[WitType]:
    few = st.lists(inner, min_size=1, max_size=3)
    maybe = st.none() | inner
    return st.one_of(
        inner.map(ListType),
        # an option of an option has no value of its own in Python
        inner.filter(lambda type_: not isinstance(type_, OptionType)).map(OptionType),
        few.map(lambda types: TupleType(tuple(types))),
        few.map(lambda types: RecordType("r", tuple(Field(f"f{n}", type_) for n, type_ in enumerate(types)))),
        st.lists(maybe, min_size=1, max_size=3).map(
            lambda types: VariantType("v", tuple(Case(f"c{n}", type_) for n, type_ in enumerate(types)))
        ),
        st.tuples(maybe, maybe).map(lambda pair: ResultType(*pair)),
    )


LEAVES: st.SearchStrategy[WitType] = primitives() | st.sampled_from(
    [
        EnumType("e", (Case("a"), Case("b"), Case("c"))),
        FlagsType("g", (Case("x"), Case("y"), Case("z"))),
        OwnType(THING),
        BorrowType(THING),
    ]
)
TYPES = st.recursive(LEAVES, extend, max_leaves=8)


def values(type_: WitType) -> st.SearchStrategy[Any]:
    match type_:
        case Primitive(name) if name in INTEGERS:
            signed, bits = INTEGERS[name]
            return st.integers(-(1 << bits - 1), (1 << bits - 1) - 1) if signed else st.integers(0, (1 << bits) - 1)
        case Primitive("bool"):
            return st.booleans()
        case Primitive("f32"):
            return st.floats(width=32)
        case Primitive("f64"):
            return st.floats()
        case Primitive("char"):
            return st.characters(exclude_categories=["Cs"])
        case Primitive(_):
            return st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
        case ListType(Primitive("u8")):
            return st.binary(max_size=5)
        case ListType(element):
            return st.lists(values(element), max_size=3)
        case OptionType(element):
            return st.none() | values(element)
        case TupleType(elements):
            return st.tuples(*map(values, elements))
        case RecordType():
            return st.tuples(*(values(field.type) for field in type_.fields))
        case VariantType():
            return st.one_of(
                *(
                    st.tuples(st.just(case.name), st.none() if case.type is None else values(case.type))
                    for case in type_.cases
                )
            )
        case ResultType(ok, err):
            return carried(ok).map(Ok) | carried(err).map(Err)
        case EnumType():
            return st.sampled_from([case.name for case in type_.cases])
        case FlagsType():
            return st.frozensets(st.sampled_from([flag.name for flag in type_.flags]))
        case _:
            return st.sampled_from(OBJECTS)


def carried(type_: WitType | None) -> st.SearchStrategy[Any]:
    return st.none() if type_ is None else values(type_)


@given(st.data())
def test_what_is_written_is_read_again(data: st.DataObject) -> None:
    """For any type and any value of it, and the bytes are the same when written once more."""
    type_ = data.draw(TYPES)
    value = data.draw(values(type_))
    written = encode(type_, value, number)
    reader = ValueReader(written, "test")
    read = decode(type_, reader, find)
    reader.finish()
    assert encode(type_, read, number) == written
    if not _has_nan(value):
        assert read == value


def _has_nan(value: Any) -> bool:
    if isinstance(value, float):
        return math.isnan(value)
    if isinstance(value, Ok | Err):
        return _has_nan(value.value)
    return isinstance(value, tuple | list) and any(map(_has_nan, value))


@given(TYPES, st.binary(max_size=64))
def test_any_bytes_are_a_value_or_an_error(type_: WitType, data: bytes) -> None:
    """Never anything but `CorruptRecord`; and what is read has the type, so that it can be written."""
    reader = ValueReader(data, "test")
    try:
        value = decode(type_, reader, find)
    except CorruptRecord:
        return
    encode(type_, value, number)


def test_bits_of_floats_stay() -> None:
    """A NaN keeps its payload."""
    odd = struct.unpack("<d", struct.pack("<Q", 0x7FF8_0000_0000_1234))[0]
    assert encode(Primitive("f64"), odd, number) == struct.pack("<Q", 0x7FF8_0000_0000_1234)


@pytest.mark.parametrize(
    ("type_", "data", "said"),
    [
        (Primitive("bool"), b"\2", "found 2, expected 0 or 1"),
        (Primitive("char"), struct.pack("<I", 0xD800), "expected a Unicode scalar value"),
        (Primitive("string"), struct.pack("<I", 9) + b"ab", "found 2 bytes, expected 9"),
        (Primitive("string"), struct.pack("<I", 1) + b"\xff", "not UTF-8"),
        (ListType(Primitive("u32")), struct.pack("<I", 1 << 31), "elements, expected at most"),
        (EnumType("e", (Case("a"),)), struct.pack("<I", 1), "found case 1, expected one below 1"),
    ],
)
def test_what_is_no_value_is_named(type_: WitType, data: bytes, said: str) -> None:
    """With the place."""
    with pytest.raises(CorruptRecord, match=said):
        decode(type_, ValueReader(data, "test"), find)
