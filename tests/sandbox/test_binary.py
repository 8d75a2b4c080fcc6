"""The reader and writer of core modules, against the engine's text compiler and against damage."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spinrt.errors import ModuleError
from spinrt.sandbox import binary_walk
from spinrt.sandbox.binary import HEADER, CoreModule, encode_section, parse, replace_sections
from spinrt.sandbox.binary_opcodes import (
    CALLS,
    FUNCTION_REFERENCES,
    GLOBAL_WRITES,
    INDIRECT_CALLS,
    MEMORY_GROWTH,
    MEMORY_WRITES,
    OPCODES,
    SEGMENT_DROPS,
    TABLE_WRITES,
    opcodes,
)
from spinrt.sandbox.binary_reader import Reader, named, shown, unsigned
from spinrt.sandbox.binary_sections import (
    CUSTOM,
    DATA,
    DATA_COUNT,
    EXPORT,
    START,
    TABLE,
    FunctionType,
    Limits,
    TableType,
)
from spinrt.sandbox.binary_walk import ALL, Instruction, may_hold, walk
from tests.guests import wat
from tests.sandbox.modules import SHIPPED, everything, mutated

INTERESTS = (
    MEMORY_WRITES,
    TABLE_WRITES | SEGMENT_DROPS,
    CALLS | INDIRECT_CALLS | GLOBAL_WRITES | MEMORY_GROWTH,
    FUNCTION_REFERENCES,
    opcodes("v128.*", "i64x2.*"),
    opcodes("block", "loop", "if", "else", "end", "br_table", "select"),
    frozenset[int](),
)

# What stands behind an instruction's name in the text format, by kind; single instructions may differ.
TEXT_BY_KIND = {
    "none": "", "index": "0", "two-indices": "0 0", "memory": "", "two-memories": "", "index-memory": "0",
    "memarg": "offset=300", "memarg-lane": "offset=5 1", "lane": "1", "block": "(result v128) end", "labels": "0 0 0",
    "types": "(result i64)", "reference": "extern", "s32": "-70000", "s64": "-70000000000", "four-bytes": "1.5",
    "eight-bytes": "-2.5", "sixteen-bytes": "",
}  # fmt: skip
TEXT_BY_NAME = {
    "call_indirect": "(type 0)",
    "return_call_indirect": "(type 0)",
    "if": "end",
    "loop": "(type 1) end",
    "v128.const": "i32x4 1 2 3 4",
    "i8x16.shuffle": "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15",
}
IMMEDIATES = {
    "block": (0x7B - 0x80,), "if": (0x40 - 0x80,), "loop": (1,), "br_table": (0, 0, 0), "select": (),
    "ref.null": (0x6F,), "i32.const": (-70000,), "i64.const": (-70000000000,), "f32.const": (0x3FC00000,),
    "f64.const": (0xC004000000000000,), "v128.const": (0x00000004_00000003_00000002_00000001,),
    "memory.init": (0, 0), "memory.copy": (0, 0), "call_indirect": (0, 0), "local.get": (0,),
    "i8x16.extract_lane_s": (1,),
}  # fmt: skip


def walked(code: bytes, interest: frozenset[int] = ALL) -> tuple[list[Instruction], str]:
    """All instructions up to the end or the error, and the error."""
    found: list[Instruction] = []
    try:
        for instruction in walk(Reader(code, "test"), interest):
            found.append(instruction)
    except ModuleError as error:
        return found, str(error)
    return found, ""


def encoded(opcode: int) -> tuple[str, bytes]:
    """An instruction's name, and its bytes as the engine's text compiler writes them."""
    name, kind = OPCODES[opcode]
    if name in ("else", "end"):
        return name, bytes([opcode])
    text = f"{name} {TEXT_BY_NAME.get(name, TEXT_BY_KIND[kind])}"
    module = parse(wat(f"(module (type (func)) (type (func (param i32))) (memory 1) (func (type 0) nop {text} nop))"))
    body = module.bodies[0]
    return name, module.code[body.start + 2 : body.end - 2]


@pytest.mark.parametrize("opcode", sorted(OPCODES), ids=lambda opcode: OPCODES[opcode].name)
def test_instruction_is_read_as_the_engine_writes_it(opcode: int) -> None:
    """Name, length and immediates of each instruction; passing over it ends at the same place."""
    name, code = encoded(opcode)
    found, error = walked(code)

    assert not error
    assert found[0].opcode == opcode
    assert found[-1].end == len(code)
    assert [i.name for i in found[1:]] == (["end"] if OPCODES[opcode].kind == "block" else [])
    if name in IMMEDIATES:
        assert found[0].immediates == (IMMEDIATES[name] if code != b"\x1c\x01\x7e" else (0x7E,))
    assert walked(code, ALL - {opcode, 0x0B}) == ([], "")
    assert walked(code + b"\x01", frozenset({0x01}))[0][-1].offset == len(code)
    assert may_hold(code, 0, len(code), frozenset({opcode}))


def test_table_of_opcodes_is_whole() -> None:
    """As many instructions as core 2.0 has, with two for tail calls; no name stands for two but select."""
    names = [opcode.name for opcode in OPCODES.values()]

    assert len([number for number in OPCODES if number >> 8 == 0xFD]) == 236
    assert len([number for number in OPCODES if number >> 8 == 0xFC]) == 18
    assert (
        len([number for number in OPCODES if number <= 0xFF]) == 172 + 5 + 6 + 2
    )  # 1.0, sign extension, references, tail calls
    assert sorted({name for name in names if names.count(name) > 1}) == ["select"]


@pytest.mark.parametrize(
    ("text", "construct"),
    [
        ("atomic.fence", "threads"),
        ("i32.atomic.store", "threads"),
        ("throw_ref", "exception handling"),
        ("try_table end", "exception handling"),
        ("call_ref 0", "typed function references"),
        ("ref.as_non_null", "typed function references"),
        ("ref.eq", "garbage collection"),
        ("struct.new 0", "garbage collection"),
        ("i8x16.relaxed_swizzle", "relaxed SIMD"),
        ("i64.add128", "wide arithmetic"),
        ("i32.load 1", "several memories"),
        ("memory.size 1", "several memories"),
        ("memory.copy 0 1", "several memories"),
        ("suspend 0", "stack switching"),
    ],
)
def test_instruction_of_another_proposal_is_refused(text: str, construct: str) -> None:
    """The error names offset and construct."""
    tag = "(tag)" if "suspend" in text else ""
    code = wat(f"(module (type (func)) (memory 1) (memory 1) {tag} (func (type 0) nop nop nop nop {text}))")
    _, error = walked(code[code.index(b"\x01\x01\x01\x01") : -1])

    assert construct in error
    assert re.search(r"offset 0x[1-9a-f]", error)


@pytest.mark.parametrize(
    ("text", "construct"),
    [
        ("(memory 1) (memory 1)", "2 memories"),
        ("(memory i64 1)", "memory64"),
        ("(memory 1 2 shared)", "threads"),
        ("(table i64 1 funcref)", "memory64"),
        ("(tag)", "exception handling"),
        ('(import "a" "b" (tag))', "exception handling"),
        ("(type (struct))", "garbage collection"),
        ("(rec (type (func)) (type (func)))", "garbage collection"),
        ("(global (ref null any) (ref.null any))", "type 0x6e"),
        ("(func (param (ref func)))", "type 0x64"),
        ("(func (param exnref))", "type 0x69"),
        ("(table 1 (ref null func) (ref.null func))", "type 0x40"),
        ("(memory 0) (memory 1) (data (memory 1) (i32.const 0))", "memory"),
    ],
)
def test_declaration_of_another_proposal_is_refused(text: str, construct: str) -> None:
    """Whatever the engine may be switched to, what this reader cannot rewrite does not pass."""
    with pytest.raises(ModuleError, match=construct):
        parse(wat(f"(module {text})"))


def test_module_with_every_section_is_read() -> None:
    """Each section's content, by hand."""
    module = parse(everything())

    assert module.types[:2] == (FunctionType(("i32", "i64"), ("f32", "f64")), FunctionType((), ()))
    assert [(found.module, found.name) for found in module.imported_functions] == [
        ("test:a/b@1.0.0", "first"),
        ("test:a/b@1.0.0", "second"),
    ]
    assert [module.function_type(place) for place in (0, 1, 2, 5)] == [
        FunctionType((), ()), FunctionType(("i32",), ("i32",)), FunctionType((), ()), FunctionType((), ()),
    ]  # fmt: skip
    assert module.tables == (TableType("funcref", Limits(3, 7)), TableType("externref", Limits(0, None)))
    assert module.memories == (Limits(1, 3),)
    assert module.globals == (("i32", True), ("i64", False), ("f64", True), ("funcref", False))
    assert [found.initial for found in module.own_globals] == [((), -5), ((), None), ((), None), ((3,), None)]
    assert module.start == 2
    assert [found.functions for found in module.elements] == [(0, 3), (2,), (5,), (), (4,)]
    assert [(found.passive, found.address, module.code[found.start : found.end]) for found in module.data] == [
        (False, 8, b"active"),
        (True, None, b"passive"),
    ]
    assert {found.name: (found.kind, found.place) for found in module.exports} == {
        "memory": (2, 0), "third": (0, 3), "walk": (0, 4), "first": (0, 0), "calls": (1, 0), "count": (3, 0),
    }  # fmt: skip
    assert module.global_names == dict(enumerate(["count", "fixed", "real", "target"]))
    assert module.function_names == dict(enumerate(["first", "second", "begin", "third", "walk", "indirect"]))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_module_is_walked_without_gaps(path: Path) -> None:
    """Each instruction begins where the last ended, and the last ends with the body."""
    module = parse(path.read_bytes())
    assert module.bodies
    for function, body in enumerate(module.bodies, len(module.imported_functions)):
        found = list(module.instructions(function))
        assert [i.end for i in found[:-1]] == [i.offset for i in found[1:]]
        assert (found[-1].name, found[-1].end) == ("end", body.end)
        for interest in INTERESTS:
            assert list(module.instructions(function, interest)) == [i for i in found if i.opcode in interest]


def test_there_are_shipped_modules() -> None:
    """Without them the test above would look at nothing."""
    assert len(SHIPPED) >= 3


PIECES = st.sampled_from([encoded(opcode)[1] for opcode in sorted(OPCODES)])


@settings(deadline=None)
@given(st.lists(PIECES | st.binary(max_size=6), max_size=30), st.sampled_from(INTERESTS))
@example([b"\x41\x80\x80\x80\x80\x80\x00"], INTERESTS[0])
@example([b"\xfd\x8b\x80\x00\x00\x00"], INTERESTS[0])  # v128.store in a long encoding
@example([b"\x28\x80\x00\x00", b"\x36\x80\x80\x00\x00"], INTERESTS[0])
@example([b"\x02\xff\x7f\x0b", b"\x02\xff\xff\xff\xff\x0f\x0b"], INTERESTS[5])
def test_walk_for_some_is_the_whole_walk_filtered(pieces: list[bytes], interest: frozenset[int]) -> None:
    """On any bytes: the same instructions and, where the bytes are no code, the same error. No false "holds none"."""
    code = b"".join(pieces)
    everything, error = walked(code)
    wanted = [instruction for instruction in everything if instruction.opcode in interest]

    assert walked(code, interest) == (wanted, error)
    assert may_hold(code, 0, len(code), interest) or not wanted


def test_walk_passes_its_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """More instructions in a row than one match takes."""
    code = b"\x01" * (3 * binary_walk._STEP) + b"\x36\x02\x00" + b"\x01" * (2 * binary_walk._STEP + 1)

    found, error = walked(code, MEMORY_WRITES)

    assert not error
    assert [(i.name, i.offset) for i in found] == [("i32.store", 3 * binary_walk._STEP)]


def read_all(code: bytes) -> CoreModule:
    """Everything that can be asked of a module."""
    module = parse(code)
    for interest in INTERESTS:
        list(module.search(interest))
    for function in range(len(module.functions)):
        list(module.instructions(function))
        module.describe(function, Instruction(0, 1, 0, ()))
    return module


@settings(deadline=None)
@given(mutated())
def test_damaged_module_is_read_or_refused(code: bytes) -> None:
    """Nothing but ModuleError comes out, and what is read can be written again."""
    try:
        module = read_all(code)
    except ModuleError as error:
        assert "found" in str(error)
    else:
        assert replace_sections(module, {}) == code


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_arbitrary_sections_are_read_or_refused(junk: bytes) -> None:
    """Bytes behind a valid head."""
    with contextlib.suppress(ModuleError):
        read_all(HEADER + junk)


@pytest.mark.parametrize("id", range(1, 13))
@settings(deadline=None)
@given(st.data())
def test_arbitrary_section_of_a_kind_is_read_or_refused(id: int, data: st.DataObject) -> None:
    """Bytes as the payload of each section."""
    payload = data.draw(st.binary(max_size=60))
    with contextlib.suppress(ModuleError):
        read_all(HEADER + encode_section(id, payload))


def test_every_prefix_is_refused() -> None:
    """A module that is cut anywhere inside a section is an error; between sections it may be a smaller one."""
    code = everything()
    ends = {section.end for section in parse(code).sections} | {len(HEADER)}
    for end in range(len(code)):
        if end not in ends:
            with pytest.raises(ModuleError):
                parse(code[:end])


@pytest.mark.parametrize("id", [1, 2, 3, 4, 5, 6, 7, 9, 10, 11])
def test_vector_longer_than_its_section_is_refused_at_once(id: int) -> None:
    """Four thousand million elements in no bytes do not keep anybody busy."""
    with pytest.raises(ModuleError, match="4294967295 elements"):
        parse(HEADER + encode_section(id, unsigned(0xFFFFFFFF)))


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        (encode_section(3, b"\0") + encode_section(1, b"\0"), "too late"),
        (encode_section(1, b"\0") + encode_section(1, b"\0"), "again"),
        (encode_section(12, b"\0") + encode_section(9, b"\0"), "too late"),
        (encode_section(14, b"\0"), "id 14"),
        (encode_section(1, b"\0\0"), "1 bytes more"),
        (encode_section(1, b"\1\x60\0\0") + encode_section(3, b"\1\0"), "0 function bodies"),
        (encode_section(12, b"\2") + encode_section(11, b"\0"), "0 data segments"),
        (encode_section(5, b"\1\1\2\1"), "limits 2 to 1"),
        (encode_section(5, b"\1\0\x81\x80\x04"), "65537"),
        (encode_section(7, b"\1\1\xff\0\0"), "UTF-8"),
        (encode_section(6, b"\1\x7f\2\x41\0\x0b"), "mutability 0x02"),
        (encode_section(6, b"\1\x7f\0\x20\0\x0b"), "local.get, expected a constant"),
        (encode_section(9, b"\1\x08"), "form 0x8"),
    ],
)
def test_malformed_section_is_refused_with_reason(sections: bytes, reason: str) -> None:
    """The error says what was found."""
    with pytest.raises(ModuleError, match=reason):
        parse(HEADER + sections)


@settings(deadline=None)
@given(st.integers(0, 0xFFFFFFFF), st.integers(0, 3))
def test_unsigned_integer_comes_back(value: int, padding: int) -> None:
    """Also in an encoding that is longer than needed, up to five bytes."""
    plain = unsigned(value)
    long = plain[:-1] + (bytes([plain[-1] | 0x80]) + b"\x80" * padding + b"\x00") if padding else plain

    assert Reader(plain, "test").u32() == value
    if len(long) <= 5:
        assert Reader(long, "test").u32() == value
    else:
        with pytest.raises(ModuleError):
            Reader(long, "test").u32()


@settings(deadline=None)
@given(st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(-(1 << 34), 1 << 34))
def test_signed_integer_is_read_as_the_engine_writes_it(value: int) -> None:
    """i64.const for any value; 32 bits take it when it fits."""
    module = parse(wat(f"(module (func i64.const {value}))"))
    found = next(module.instructions(0))
    reader = Reader(module.code, "test", found.offset + 1, found.end)

    assert found.immediates == (value,)
    if -(1 << 31) <= value < 1 << 31:
        assert reader.signed(32) == value
    else:
        with pytest.raises(ModuleError, match="at most 32 bits"):
            reader.signed(32)


def test_custom_sections_and_untouched_sections_stay() -> None:
    """Replacing, adding and removing sections leaves every other byte."""
    custom = encode_section(CUSTOM, named("note") + b"\0anything\xff")
    code = everything()
    cut = next(section.end for section in parse(code).sections if section.id == TABLE)
    code = HEADER + custom + code[len(HEADER) : cut] + custom + code[cut:] + custom
    module = parse(code)
    before = {section.id: code[section.start : section.end] for section in module.sections if section.id != CUSTOM}

    changed = parse(replace_sections(module, {START: None, EXPORT: b"\0"}))

    after = {
        section.id: changed.code[section.start : section.end] for section in changed.sections if section.id != CUSTOM
    }
    assert after == {id: payload for id, payload in before.items() if id != START} | {EXPORT: b"\0"}
    assert changed.code.count(custom) == 3
    assert changed.function_names == module.function_names
    back = replace_sections(changed, {START: before[START], EXPORT: before[EXPORT]})
    assert {section.id for section in parse(back).sections} == {section.id for section in module.sections}
    assert parse(back).start == module.start


def test_added_section_goes_where_it_must() -> None:
    """Data count lies between elements and code, whatever its id; removing what is not there changes nothing."""
    module = parse(everything())
    without = parse(replace_sections(module, {DATA_COUNT: None, DATA: None}))
    whole = {section.id: module.code[section.start : section.end] for section in module.sections}

    assert replace_sections(without, {DATA_COUNT: whole[DATA_COUNT], DATA: whole[DATA]}) == module.code
    assert replace_sections(without, {DATA: None}) == without.code


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_damaged_name_section_names_fewer(junk: bytes) -> None:
    """The engine never looks at it, so it is no reason to refuse a module."""
    plain = wat('(module (func (export "run")))')
    names = parse(plain + encode_section(CUSTOM, named("name") + junk)).function_names

    assert isinstance(names.get(0), str)


def test_names_in_messages_are_one_short_line() -> None:
    """A module's author chooses its names; they do not get to write lines of their own."""
    assert shown("parse") == "parse"
    assert shown("größe") == "größe"
    assert "\n" not in shown("a\nERROR forged")
    assert "\x1b" not in shown("\x1b[2J")
    assert len(shown("x" * 10_000)) <= 80
