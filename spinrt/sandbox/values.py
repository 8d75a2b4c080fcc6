"""Values of WIT types as bytes, and back: nothing is lost, and nothing but a value of the type comes out.

Layout, little-endian, by type:

    bool, u8, s8            1 byte
    u16, s16                2
    u32, s32, f32           4 (floats: their bits)
    u64, s64, f64           8
    char                    u32
    string                  u32 length in bytes, UTF-8
    list<u8>                u32 length, bytes
    list                    u32 count, elements
    tuple, record           their members in order
    variant, option, result u32 case (option: 0 none, 1 some; result: 0 ok, 1 err), then what the case carries
    enum                    u32 case
    flags                   a byte for each: 0 or 1
    own, borrow             u32 number of the resource in a table beside

Source: docs/formats/crash-record.md.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

from spinrt.errors import CorruptRecord
from spinrt.sandbox.types import (
    BorrowType,
    Case,
    EnumType,
    Err,
    FlagsType,
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

DEPTH_MAX: Final = 64
_FORMATS: Final = {
    "bool": "<?",
    "u8": "<B",
    "s8": "<b",
    "u16": "<H",
    "s16": "<h",
    "u32": "<I",
    "s32": "<i",
    "u64": "<Q",
    "s64": "<q",
    "f32": "<f",
    "f64": "<d",
}
_BYTE: Final = Primitive("u8")

Number: TypeAlias = Callable[[Any, str], int]
"""Gives the number of a resource, from the object and its type ``interface#resource``."""
Find: TypeAlias = Callable[[int, str], Any]
"""The object of that number and type; raises `CorruptRecord` where there is none."""


def encode(type_: WitType, value: Any, number: Number) -> bytes:
    """Return a value as bytes.

    Args:
        type_: Its type, and the value has it: values that crossed the boundary do.
        number: Asked for each resource in it.
    """
    made = bytearray()
    _put(made, type_, value, number)
    return bytes(made)


def decode(type_: WitType, reader: ValueReader, find: Find) -> Any:
    """Read a value.

    Raises:
        CorruptRecord: The bytes are no value of the type.
    """
    return _take(reader, type_, find, 0)


class ValueReader:
    """Reads bytes of which nothing is believed.

    Args:
        data: The bytes.
        what: What they are, for errors.
    """

    def __init__(self, data: bytes, what: str) -> None:
        self._data, self._at, self._what = data, 0, what

    def failure(self, found: str, expected: str) -> CorruptRecord:
        """Return (not raise) the error for what stands here."""
        return CorruptRecord(f"{self._what}: byte {self._at}: found {found}, expected {expected}")

    def take(self, length: int) -> bytes:
        """Read so many bytes."""
        left = len(self._data) - self._at
        if length > left:
            raise self.failure(f"{left} bytes", f"{length}")
        self._at += length
        return self._data[self._at - length : self._at]

    def number(self, format_: str) -> Any:
        """Read one number of a format of ``struct``."""
        return struct.unpack(format_, self.take(struct.calcsize(format_)))[0]

    def u32(self) -> int:
        return int(self.number("<I"))

    def count(self) -> int:
        """Read how many elements follow: no more than there are bytes, as each takes one at least."""
        found = self.u32()
        if found > len(self._data) - self._at:
            raise self.failure(f"{found} elements", f"at most {len(self._data) - self._at}, the bytes that are left")
        return found

    def text(self) -> str:
        raw = self.take(self.u32())
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise self.failure("text that is not UTF-8", "UTF-8") from None

    def finish(self) -> None:
        """Check that all was read."""
        if self._at != len(self._data):
            raise self.failure(f"{len(self._data) - self._at} bytes more", "the end")


def put_text(made: bytearray, text: str) -> None:
    """Append a text: length in bytes, UTF-8."""
    raw = text.encode("utf-8", "surrogatepass")
    made += struct.pack("<I", len(raw)) + raw


def _put(made: bytearray, type_: WitType, value: Any, number: Number) -> None:
    match type_:
        case Primitive(name):
            _put_primitive(made, name, value)
        case ListType(element) if element == _BYTE:
            made += struct.pack("<I", len(value)) + bytes(value)
        case ListType(element):
            made += struct.pack("<I", len(value))
            _put_all(made, [element] * len(value), value, number)
        case TupleType(elements):
            _put_all(made, elements, value, number)
        case RecordType():
            _put_all(made, [field.type for field in type_.fields], value, number)
        case OptionType(element):
            _put_case(made, 0 if value is None else 1, None if value is None else element, value, number)
        case ResultType(ok, err):
            _put_case(made, int(isinstance(value, Err)), err if isinstance(value, Err) else ok, value.value, number)
        case VariantType():
            case_ = _case_of(type_.cases, value[0])
            _put_case(made, case_, type_.cases[case_].type, value[1], number)
        case EnumType():
            made += struct.pack("<I", _case_of(type_.cases, value))
        case FlagsType():
            made += bytes(flag.name in value for flag in type_.flags)
        case OwnType(resource) | BorrowType(resource):
            made += struct.pack("<I", number(value, f"{resource.interface}#{resource.name}"))


def _put_primitive(made: bytearray, name: str, value: Any) -> None:
    if name == "string":
        put_text(made, value)
    elif name == "char":
        made += struct.pack("<I", ord(value))
    else:
        made += struct.pack(_FORMATS[name], value)


def _put_all(made: bytearray, types: Iterable[WitType], values: Iterable[Any], number: Number) -> None:
    for type_, value in zip(types, values, strict=True):
        _put(made, type_, value, number)


def _put_case(made: bytearray, case_: int, type_: WitType | None, value: Any, number: Number) -> None:
    made += struct.pack("<I", case_)
    if type_ is not None:
        _put(made, type_, value, number)


def _case_of(cases: tuple[Case, ...], name: str) -> int:
    return next(position for position, case_ in enumerate(cases) if case_.name == name)


def _take(reader: ValueReader, type_: WitType, find: Find, depth: int) -> Any:
    if depth > DEPTH_MAX:
        raise reader.failure("values nested deeper", f"at most {DEPTH_MAX} levels")
    below = depth + 1
    match type_:
        case Primitive(name):
            return _take_primitive(reader, name)
        case ListType(element) if element == _BYTE:
            return reader.take(reader.u32())
        case ListType(element):
            return [_take(reader, element, find, below) for _ in range(reader.count())]
        case TupleType(elements):
            return tuple(_take(reader, element, find, below) for element in elements)
        case RecordType():
            return tuple(_take(reader, field.type, find, below) for field in type_.fields)
        case OptionType(element):
            return _take(reader, element, find, below) if _take_case(reader, 2) else None
        case ResultType(ok, err):
            case_ = _take_case(reader, 2)
            kind = err if case_ else ok
            return (Err if case_ else Ok)(None if kind is None else _take(reader, kind, find, below))
        case VariantType():
            chosen = type_.cases[_take_case(reader, len(type_.cases))]
            return chosen.name, None if chosen.type is None else _take(reader, chosen.type, find, below)
        case EnumType():
            return type_.cases[_take_case(reader, len(type_.cases))].name
        case FlagsType():
            return frozenset(flag.name for flag in type_.flags if _take_bool(reader))
        case OwnType(resource) | BorrowType(resource):
            return find(reader.u32(), f"{resource.interface}#{resource.name}")


def _take_primitive(reader: ValueReader, name: str) -> Any:
    if name == "string":
        return reader.text()
    if name == "bool":
        return _take_bool(reader)
    if name != "char":
        return reader.number(_FORMATS[name])
    code = reader.u32()
    if code > 0x10FFFF or 0xD800 <= code < 0xE000:
        raise reader.failure(f"character {code:#x}", "a Unicode scalar value")
    return chr(code)


def _take_bool(reader: ValueReader) -> bool:
    found = int(reader.number("<B"))
    if found > 1:
        raise reader.failure(f"{found}", "0 or 1")
    return bool(found)


def _take_case(reader: ValueReader, count: int) -> int:
    found = reader.u32()
    if found >= count:
        raise reader.failure(f"case {found}", f"one below {count}")
    return found
