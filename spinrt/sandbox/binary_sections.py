"""What the sections of a core module declare, and how each is read.

One function reads the payload of each section and returns its values; where sections lie and how they fit together is
``binary``'s. Constant expressions are read for the functions that they refer to, and for a plain ``i32.const``.

Source: WebAssembly Core Specification 2.0, 5.3 "Types" and 5.5 "Modules".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeVar

from spinrt.sandbox.binary_opcodes import opcodes
from spinrt.sandbox.binary_reader import Reader, unsigned
from spinrt.sandbox.binary_walk import VALUE_TYPES, decode, pattern_of, value_type

CUSTOM, TYPE, IMPORT, FUNCTION, TABLE, MEMORY, GLOBAL, EXPORT, START, ELEMENT, CODE, DATA, DATA_COUNT = range(13)
FUNCTION_KIND, TABLE_KIND, MEMORY_KIND, GLOBAL_KIND = range(4)
KIND_NAMES: Final = ("function", "table", "memory", "global")
REFERENCES: Final = ("funcref", "externref")

PAGES_MAX: Final = 1 << 16
ENTRIES_MAX: Final = (1 << 32) - 1
_FUNCTION_TYPE: Final = 0x60
_TYPE_BYTES: Final = {name: byte for byte, name in VALUE_TYPES.items()}
_CONSTANT: Final = opcodes(
    *("i32.const", "i64.const", "f32.const", "f64.const", "v128.const", "global.get", "ref.null", "ref.func", "end"),
    *("i32.add", "i32.sub", "i32.mul", "i64.add", "i64.sub", "i64.mul"),
)
_I32_CONST: Final = 0x41
# The common case: one number, or another global.
_PLAIN_CONSTANT: Final = re.compile(
    b"(?:%b)%c" % (pattern_of(opcodes("i32.const", "i64.const", "f32.const", "f64.const", "global.get")), 0x0B),
    re.DOTALL,
)

_T = TypeVar("_T")


class FunctionType(NamedTuple):
    """Names of value types: i32, i64, f32, f64, v128, funcref, externref."""

    parameters: tuple[str, ...]
    results: tuple[str, ...]


class Limits(NamedTuple):
    """Of a memory in pages of 64 KiB, of a table in entries. Without a maximum, `maximum` is none."""

    minimum: int
    maximum: int | None


class TableType(NamedTuple):
    """A table of funcref or externref."""

    element: str
    limits: Limits


class GlobalType(NamedTuple):
    """A global's value type, and whether ``global.set`` may write it."""

    value: str
    mutable: bool


class Constant(NamedTuple):
    """A constant expression: the functions that it refers to, and its value if it is a plain ``i32.const``."""

    functions: tuple[int, ...]
    i32: int | None


_PLAIN: Final = Constant((), None)


class Global(NamedTuple):
    """A global of the module's own."""

    type: GlobalType
    initial: Constant


class Import(NamedTuple):
    """``kind`` indexes `KIND_NAMES`; ``type`` is the index of a function's type, else what is declared."""

    module: str
    name: str
    kind: int
    type: int | TableType | Limits | GlobalType


class Export(NamedTuple):
    """``place`` is the index in the index space of ``kind``."""

    name: str
    kind: int
    place: int


class Element(NamedTuple):
    """An element segment of any mode: the functions that it names, without its null entries."""

    functions: tuple[int, ...]


class Body(NamedTuple):
    """Where a function's locals and code lie."""

    start: int
    end: int


class Data(NamedTuple):
    """A data segment: where its bytes lie; and where an active one puts them (unsigned), if that is a plain number."""

    passive: bool
    start: int
    end: int
    address: int | None


def _vector(read: Callable[[Reader], _T]) -> Callable[[Reader], tuple[_T, ...]]:
    return lambda reader: tuple([read(reader) for _ in range(reader.count())])


def _read_function_type(reader: Reader) -> FunctionType:
    start = reader.at
    form = reader.byte()
    if form != _FUNCTION_TYPE:
        raise reader.failure(f"a type of form {form:#04x} (garbage collection)", "a function type", start)
    return FunctionType(_value_types(reader), _value_types(reader))


def encode_type(type: FunctionType) -> bytes:
    """Encode a function's type."""
    parts = (unsigned(len(values)) + bytes(_TYPE_BYTES[value] for value in values) for values in type)
    return bytes([_FUNCTION_TYPE]) + b"".join(parts)


def _value_types(reader: Reader) -> tuple[str, ...]:
    count, start = reader.count(), reader.at
    try:
        return tuple([VALUE_TYPES[found] for found in reader.take(count)])
    except KeyError:
        reader.at = start
        return tuple([value_type(reader) for _ in range(count)])  # raises the error, with its place


def _read_limits(reader: Reader, most: int, unit: str) -> Limits:
    start = reader.at
    form = reader.byte()
    if form > 1:
        raise reader.failure(f"limits of form {form:#04x} (threads, memory64 or page sizes)", "plain limits", start)
    minimum = reader.u32()
    maximum = reader.u32() if form else None
    if not minimum <= (most if maximum is None else maximum) <= most:
        raise reader.failure(f"limits {minimum} to {maximum}", f"a minimum, then a maximum up to {most} {unit}", start)
    return Limits(minimum, maximum)


def _read_memory_type(reader: Reader) -> Limits:
    return _read_limits(reader, PAGES_MAX, "pages")


def _read_table_type(reader: Reader) -> TableType:
    start = reader.at
    element = value_type(reader)
    if element not in REFERENCES:
        raise reader.failure(f"a table of {element}", "funcref or externref", start)
    return TableType(element, _read_limits(reader, ENTRIES_MAX, "entries"))


def _read_global_type(reader: Reader) -> GlobalType:
    value, mutable = value_type(reader), reader.byte()
    if mutable > 1:
        raise reader.failure(f"mutability {mutable:#04x}", "0 or 1", reader.at - 1)
    return GlobalType(value, bool(mutable))


def _read_global(reader: Reader) -> Global:
    return Global(_read_global_type(reader), _read_constant(reader))


def _read_import(reader: Reader) -> Import:
    module, name, kind = reader.text(), reader.text(), _read_kind(reader)
    return Import(module, name, kind, _IMPORTED[kind](reader))


_IMPORTED: Final[tuple[Callable[[Reader], Any], ...]] = (
    Reader.u32,
    _read_table_type,
    _read_memory_type,
    _read_global_type,
)


def _read_export(reader: Reader) -> Export:
    return Export(reader.text(), _read_kind(reader), reader.u32())


def _read_kind(reader: Reader) -> int:
    kind = reader.byte()
    if kind >= len(KIND_NAMES):
        what = "a tag (exception handling)" if kind == 4 else f"kind {kind:#04x}"
        raise reader.failure(what, f"one of {', '.join(KIND_NAMES)}", reader.at - 1)
    return kind


def _read_constant(reader: Reader) -> Constant:
    start = reader.at
    plain = _PLAIN_CONSTANT.match(reader.code, reader.at, reader.end)
    if plain:
        reader.at = plain.end()
        return _PLAIN if reader.code[start] != _I32_CONST else Constant((), _plain_value(reader, start))
    functions: list[int] = []
    while True:
        found = decode(reader)
        if found.opcode not in _CONSTANT:
            raise reader.failure(found.name, "a constant expression", found.offset)
        if found.name == "end":
            return Constant(tuple(functions), None)
        if found.name == "ref.func":
            functions.append(found.immediates[0])


def _plain_value(reader: Reader, start: int) -> int:
    """The number of an ``i32.const`` that has been passed over."""
    return Reader(reader.code, reader.name, start + 1, reader.at).signed(32)


def _read_element(reader: Reader) -> Element:
    """Flags: 1 passive or declarative; 2 declarative, or with a table's index; 4 expressions in place of indices."""
    start = reader.at
    flags = reader.u32()
    if flags > 7:
        raise reader.failure(f"an element segment of form {flags:#x}", "0 to 7", start)
    if not flags & 1:
        if flags & 2:
            reader.u32()
        _read_constant(reader)
    if flags & 3:
        _read_element_kind(reader, expressions=bool(flags & 4))
    if flags & 4:
        return Element(tuple([function for entry in _constants(reader) for function in entry.functions]))
    return Element(reader.numbers())


_constants = _vector(_read_constant)


def _read_element_kind(reader: Reader, *, expressions: bool) -> None:
    start = reader.at
    if expressions and value_type(reader) not in REFERENCES:
        raise reader.failure("elements of a number", "funcref or externref", start)
    if not expressions and (kind := reader.byte()):
        raise reader.failure(f"elements of kind {kind:#04x}", "functions", start)


def _read_body(reader: Reader) -> Body:
    size = reader.u32()
    start = reader.at
    reader.skip(size)
    return Body(start, reader.at)


def _read_data(reader: Reader) -> Data:
    start = reader.at
    form = reader.u32()
    if form > 2 or (form == 2 and reader.u32()):
        raise reader.failure("a data segment of another form or memory", "memory 0", start)
    offset = None if form == 1 else _read_constant(reader).i32
    size = reader.u32()
    place = reader.at
    reader.skip(size)
    return Data(form == 1, place, reader.at, None if offset is None else offset & 0xFFFF_FFFF)


def skip_locals(reader: Reader) -> None:
    """Pass over the declaration of a function's locals."""
    for _ in range(reader.count()):
        reader.u32()
        value_type(reader)


# Reads the payload of each section; a custom one is left alone behind its name.
READERS: Final[Mapping[int, Callable[[Reader], Any]]] = {
    TYPE: _vector(_read_function_type),
    IMPORT: _vector(_read_import),
    FUNCTION: Reader.numbers,
    TABLE: _vector(_read_table_type),
    MEMORY: _vector(_read_memory_type),
    GLOBAL: _vector(_read_global),
    EXPORT: _vector(_read_export),
    START: Reader.u32,
    ELEMENT: _vector(_read_element),
    CODE: _vector(_read_body),
    DATA: _vector(_read_data),
    DATA_COUNT: Reader.u32,
}
