"""Walk the instructions of a function body, and find those of interest quickly.

A walk is told which opcodes it is for. Everything else is passed over by one compiled pattern, at the speed of the
pattern matcher, in bounded steps; what the pattern does not take (an instruction of interest, a long encoding, a
table of labels, damage) is decoded by `decode`, one instruction at a time. The pattern takes nothing that `decode`
would refuse, so a walk for some opcodes gives exactly what a walk for all gives, filtered.

A walk reads encodings, not types: blocks are not matched with their ends and indices are not looked up. That is the
engine's validation, which comes first.

Source: WebAssembly Core Specification 2.0, 5.4 "Instructions".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Final, NamedTuple

from spinrt.sandbox.binary_opcodes import OPCODES, PREFIX_MISC, PREFIX_SIMD, refusal
from spinrt.sandbox.binary_reader import Reader

ALL: Final = frozenset(OPCODES)

VALUE_TYPES: Final = {
    0x7F: "i32",
    0x7E: "i64",
    0x7D: "f32",
    0x7C: "f64",
    0x7B: "v128",
    0x70: "funcref",
    0x6F: "externref",
}
REFERENCE_TYPES: Final = frozenset({0x70, 0x6F})
_EMPTY_BLOCK: Final = 0x40

# Instructions passed over by one match: bounds what the matcher remembers.
_STEP: Final = 4096


class Instruction(NamedTuple):
    """One instruction: where it begins and ends in the module, opcode, and immediates in the order of the binary.

    Floats and vectors are their bits as an unsigned integer; block types are the type index, or the type's byte - 0x80.
    """

    offset: int
    end: int
    opcode: int
    immediates: tuple[int, ...]

    @property
    def name(self) -> str:
        return OPCODES[self.opcode].name


def decode(reader: Reader) -> Instruction:
    """Read one instruction.

    Raises:
        ModuleError: It is cut short or malformed, or belongs to a proposal that spinrt refuses.
    """
    start = reader.at
    opcode = reader.byte()
    if opcode in (PREFIX_MISC, PREFIX_SIMD):
        opcode = opcode << 8 | _second(reader, opcode, start)
    known = OPCODES.get(opcode)
    if known is None:
        raise reader.failure(f"{refusal(opcode)} (opcode {opcode:#04x})", "an instruction of WebAssembly 2.0", start)
    immediates = _READ[known.kind](reader)
    return Instruction(start, reader.at, opcode, immediates)


def walk(reader: Reader, interest: frozenset[int] = ALL) -> Iterator[Instruction]:
    """Give the instructions of interest from the reader's place to its end, in order.

    Raises:
        ModuleError: While iterating, as `decode`.
    """
    skip = _skipper(interest)
    while True:
        passed = skip.match(reader.code, reader.at, reader.end)
        step = reader.at
        reader.at = passed.end() if passed else reader.at
        if reader.at >= reader.end:
            return
        if reader.at - step >= _STEP:  # it may have stopped for its bound alone
            continue
        instruction = decode(reader)
        if instruction.opcode in interest:
            yield instruction


def may_hold(code: bytes, start: int, end: int, interest: frozenset[int]) -> bool:
    """Tell whether instructions of interest may be among these bytes; never wrong when it says no."""
    return _finder(interest).search(code, start, end) is not None


def _second(reader: Reader, prefix: int, start: int) -> int:
    second = reader.u32()
    if second > 0xFF:
        what = "relaxed SIMD" if prefix == PREFIX_SIMD else "an unknown instruction"
        raise reader.failure(f"{what} (opcode {prefix:#04x} {second:#x})", "an instruction of WebAssembly 2.0", start)
    return second


def _none(reader: Reader) -> tuple[int, ...]:
    return ()


def _index(reader: Reader) -> tuple[int, ...]:
    return (reader.u32(),)


def _two_indices(reader: Reader) -> tuple[int, ...]:
    return (reader.u32(), reader.u32())


def _memory(reader: Reader) -> tuple[int, ...]:
    start = reader.at
    if reader.u32():
        raise reader.failure("several memories", "memory 0", start)
    return (0,)


def _memory_argument(reader: Reader) -> tuple[int, ...]:
    start = reader.at
    align = reader.u32()
    if align >= 0x40:  # the bit that announces a memory's index
        raise reader.failure("several memories or an impossible alignment", "memory 0", start)
    return (align, reader.u32())


def _block(reader: Reader) -> tuple[int, ...]:
    start = reader.at
    first = reader.byte()
    if first in VALUE_TYPES or first == _EMPTY_BLOCK:
        return (first - 0x80,)
    reader.at = start
    index = reader.signed(33)
    if index < 0:
        raise reader.failure("an unknown block type", "a value type or the index of a type", start)
    return (index,)


def _labels(reader: Reader) -> tuple[int, ...]:
    return (*reader.numbers(), reader.u32())


def value_type(reader: Reader) -> str:
    """Read a value type and return its name."""
    start = reader.at
    found = reader.byte()
    if found not in VALUE_TYPES:
        raise reader.failure(f"type {found:#04x}", f"one of {', '.join(VALUE_TYPES.values())}", start)
    return VALUE_TYPES[found]


def _types(reader: Reader) -> tuple[int, ...]:
    found = []
    for _ in range(reader.count()):
        value_type(reader)
        found.append(reader.code[reader.at - 1])
    return tuple(found)


def _reference(reader: Reader) -> tuple[int, ...]:
    start = reader.at
    found = reader.byte()
    if found not in REFERENCE_TYPES:
        raise reader.failure(f"type {found:#04x}", "funcref or externref", start)
    return (found,)


def _signed(bits: int) -> Callable[[Reader], tuple[int, ...]]:
    return lambda reader: (reader.signed(bits),)


def _raw(length: int) -> Callable[[Reader], tuple[int, ...]]:
    return lambda reader: (int.from_bytes(reader.take(length), "little"),)


# Kinds of immediates, as the table of opcodes names them.
_READ: Final[dict[str, Callable[[Reader], tuple[int, ...]]]] = {
    "none": _none,
    "index": _index,
    "two-indices": _two_indices,
    "memory": _memory,
    "two-memories": lambda reader: _memory(reader) + _memory(reader),
    "index-memory": lambda reader: _index(reader) + _memory(reader),
    "memarg": _memory_argument,
    "memarg-lane": lambda reader: (*_memory_argument(reader), reader.byte()),
    "lane": _raw(1),
    "block": _block,
    "labels": _labels,
    "types": _types,
    "reference": _reference,
    "s32": _signed(32),
    "s64": _signed(64),
    "four-bytes": _raw(4),
    "eight-bytes": _raw(8),
    "sixteen-bytes": _raw(16),
}

_U32: Final = rb"(?:[\x80-\xff]{0,3}[\x00-\x7f]|[\x80-\xff]{4}[\x00-\x0f])"
# The same kinds as patterns, frequent ones first, as far as one can say them; none accepts what its reader refuses.
_PATTERN: Final[dict[str, bytes]] = {
    "index": _U32,
    "none": rb"",
    "s32": rb"(?:[\x80-\xff]{0,3}[\x00-\x7f]|[\x80-\xff]{4}[\x00-\x07\x78-\x7f])",
    "memarg": rb"[\x00-\x3f]" + _U32,
    "block": rb"(?:[\x40\x6f\x70\x7b-\x7f]|[\x80-\xff]{0,3}[\x00-\x3f])",
    "s64": rb"(?:[\x80-\xff]{0,8}[\x00-\x7f]|[\x80-\xff]{9}[\x00\x7f])",
    "two-indices": _U32 + _U32,
    "four-bytes": rb".{4}",
    "eight-bytes": rb".{8}",
    "lane": rb".",
    "memarg-lane": rb"[\x00-\x3f]" + _U32 + rb".",
    "sixteen-bytes": rb".{16}",
    "memory": rb"\x00",
    "two-memories": rb"\x00\x00",
    "index-memory": _U32 + rb"\x00",
    "reference": rb"[\x6f\x70]",
}


@cache
def _skipper(interest: frozenset[int]) -> re.Pattern[bytes]:
    """The pattern that takes up to `_STEP` instructions, none of interest, each opcode in its shortest encoding."""
    return re.compile(b"(?:%b){0,%d}" % (pattern_of(ALL - interest), _STEP), re.DOTALL)


def pattern_of(opcodes: frozenset[int]) -> bytes:
    """Return a pattern (for `re.DOTALL`) of any one instruction of these, as far as `_PATTERN` can say it."""
    parts = [
        head + _class(seconds) + tail + immediates
        for kind, immediates in _PATTERN.items()
        for head, tail, seconds in _encodings([number for number in sorted(opcodes) if OPCODES[number].kind == kind])
        if seconds
    ]
    return b"|".join(parts) or b"(?!)"


def _encodings(numbers: list[int]) -> Iterator[tuple[bytes, bytes, list[int]]]:
    """Opcodes by encoding: what stands before and behind the byte that tells them apart, and these bytes."""
    yield b"", b"", [number for number in numbers if number <= 0xFF]
    for prefix in (PREFIX_MISC, PREFIX_SIMD):
        seconds = [number & 0xFF for number in numbers if number >> 8 == prefix]
        yield re.escape(bytes([prefix])), b"", [second for second in seconds if second < 0x80]
        yield re.escape(bytes([prefix])), rb"\x01", [second for second in seconds if second >= 0x80]


@cache
def _finder(interest: frozenset[int]) -> re.Pattern[bytes]:
    """A pattern for how one of interest can begin: its byte, or its prefix and the second's low seven bits."""
    plain = [number for number in interest if number <= 0xFF]
    parts = [_class(plain)] if plain else []
    for prefix in (PREFIX_MISC, PREFIX_SIMD):
        seconds = {number & 0x7F for number in interest if number >> 8 == prefix}
        if seconds:
            parts.append(re.escape(bytes([prefix])) + _class([s | top for s in seconds for top in (0, 0x80)]))
    return re.compile(b"|".join(parts) or b"(?!)")


def _class(values: list[int]) -> bytes:
    return b"[%b]" % b"".join(b"\\x%02x" % value for value in sorted(values))
