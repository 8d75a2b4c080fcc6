"""Invariant: whatever the bytes, rewriting ends in a module or a `ModuleError`, and reads code as Python does."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinrt import _core
from spinrt.errors import InternalError, MemoryExceeded, ModuleError, SpinError
from spinrt.sandbox import instrument
from spinrt.sandbox.binary_opcodes import OPCODES, refusal
from spinrt.sandbox.binary_reader import Reader, signed, unsigned
from spinrt.sandbox.binary_sections import skip_locals
from spinrt.sandbox.binary_walk import Instruction, walk
from spinrt.sandbox.rewrite import prepare
from tests.guests import wat
from tests.sandbox.modules import mutated

COUNTS = (2, 2, 3, 2, 2)  # imported functions, tables, globals, data and element segments
OPENING = {"block", "loop", "if"}


def rewriter(code: bytes, bounds: tuple[int, int] | None = None) -> _core.BodyRewriter:
    """Survey one body; by default all of the bytes are it."""
    bodies = array("q", bounds or (0, len(code))).tobytes()
    return _core.BodyRewriter(code, "fuzzed", instrument._OPCODES, instrument._TYPES, bodies, COUNTS, refusal)


def planned(found: _core.BodyRewriter) -> _core.BodyRewriter:
    """With a plan in which everything is there."""
    found.set_plan(
        undo=1,
        dead_below=1024,
        moved=0,
        helpers=(10, 11, 12, 13),
        globals_=array("q", [1, -1, 6, 14, 4, -1]).tobytes(),
        tables=array("q", [15, 2, _core.INSTRUMENT_VALUES["funcref"]] * 2).tobytes(),
        data=b"\0\1",
        elements=b"\1\0",
        signatures=array("q", [1, -64]).tobytes(),
    )
    return found


def outcome_of_the_walk(code: bytes) -> int | None:
    """Where the walk in Python finds code malformed: encodings, blocks, indices. -1: somewhere; none: nowhere."""
    reader = Reader(code, "fuzzed")
    depth = 0
    try:
        skip_locals(reader)
        for found in walk(reader):
            if depth < 0:
                return found.offset
            depth += (found.name in OPENING) - (found.name == "end")
            if depth < 0 and found.end != len(code):
                return found.offset
            if not _known(found):
                return found.offset
    except ModuleError:
        return -1
    return None if depth == -1 else -1


def _known(found: Instruction) -> bool:
    imported, tables, globals_, data, elements = COUNTS
    first, second = (*found.immediates, 0, 0)[:2]
    bounds = {
        "call": (first, imported + 1),
        "return_call": (first, imported + 1),
        "global.get": (first, globals_),
        "global.set": (first, globals_),
        "memory.init": (first, data),
        "data.drop": (first, data),
        "elem.drop": (first, elements),
        "table.init": (first if first >= elements else elements - 1 + (second >= tables), elements),
        **{f"table.{what}": (first, tables) for what in ("set", "fill", "copy", "grow")},
    }
    index, count = bounds.get(found.name, (0, 1))
    return index < count


def encoded(found: tuple[int, list[int]]) -> bytes:
    """An instruction with immediates that fit its kind, if not its meaning."""
    number, values = found
    prefix, second = divmod(number, 0x100)
    head = bytes([prefix]) + unsigned(second) if prefix else bytes([number])
    one, other, third = values
    return head + {
        "none": b"",
        "index": unsigned(one % 4),
        "two-indices": unsigned(one % 3) + unsigned(other % 3),
        "memory": b"\0",
        "two-memories": b"\0\0",
        "index-memory": unsigned(one % 3) + b"\0",
        "memarg": unsigned(one % 5) + unsigned(other),
        "memarg-lane": unsigned(one % 5) + unsigned(other) + bytes([third % 16]),
        "lane": bytes([one % 16]),
        "block": bytes([0x40]),
        "labels": unsigned(2) + unsigned(one % 3) + unsigned(other % 3) + unsigned(0),
        "types": b"\1\x7f",
        "reference": b"\x70",
        "s32": signed(one - (1 << 31)),
        "s64": signed((one << 32 | other) - (1 << 63)),
        "four-bytes": one.to_bytes(4, "little"),
        "eight-bytes": (one << 32 | other).to_bytes(8, "little"),
        "sixteen-bytes": (one << 96 | other).to_bytes(16, "little"),
    }[OPCODES[number].kind]  # fmt: skip


NUMBERS = st.lists(st.integers(0, (1 << 32) - 1), min_size=3, max_size=3)
CODE = st.lists(st.tuples(st.sampled_from(sorted(OPCODES)), NUMBERS).map(encoded), max_size=30).map(b"".join)
LOCALS = st.sampled_from([b"\0", b"\1\3\x7f", b"\2\1\x7e\x80\1\x7b", b"\1\xff\xff\xff\xff\x0f\x7f"])


@settings(max_examples=400)
@given(LOCALS, CODE, st.integers(0, 3), st.just(b"") | st.binary(max_size=3), st.just(0) | st.integers(1, 40))
def test_code_is_read_as_the_walk_in_python_reads_it(
    locals_: bytes, code: bytes, ends: int, tail: bytes, cut: int
) -> None:
    """Instructions of every kind, blocks closed or not, cut short, with bytes behind."""
    whole = locals_ + code + b"\x0b" * ends + tail
    body = whole[: len(whole) - cut]
    expected = outcome_of_the_walk(body)
    try:
        found = planned(rewriter(body))
    except ModuleError as error:
        assert expected is not None
        assert "module fuzzed: offset 0x" in str(error)
        if expected >= 0:
            assert f"offset {expected:#x}:" in str(error)
        return
    assert expected is None
    try:
        made = found.rewrite()
    except ModuleError as error:
        assert "more locals than leave room" in str(error)
        return
    reader = Reader(made, "rewritten")
    content = reader.take(reader.u32())
    reader.finish("the body")
    assert all(0 <= found.original(0, place) <= len(body) for place in (0, len(content) // 2, len(content), 1 << 62))


@settings(max_examples=400)
@given(st.binary(max_size=60))
def test_any_bytes_are_code_or_damage(body: bytes) -> None:
    """Nothing but a name for what is wrong, and the same judgement as the walk's."""
    try:
        planned(rewriter(body)).rewrite()
    except ModuleError:
        assert outcome_of_the_walk(body) is not None
    else:
        assert outcome_of_the_walk(body) is None


@given(st.binary(max_size=30), st.integers(-5, 40), st.integers(-5, 40))
def test_bounds_of_a_body_are_checked(code: bytes, start: int, end: int) -> None:
    """They never lead outside of the module."""
    if 0 <= start <= end <= len(code):
        return
    with pytest.raises(InternalError, match="outside of the code"):
        rewriter(code, (start, end))


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"\0\xfb\0\x0b", r"offset 0x1: found garbage collection \(opcode 0xfb\)"),
        (b"\0\xfe\x10\0\0\x0b", r"offset 0x1: found threads \(opcode 0xfe\)"),
        (b"\0\xfd\x80\x02\x0b", r"offset 0x1: found .* \(opcode 0xfd 0x100\)"),
        (b"\0\xfc\x13\x0b", r"found wide arithmetic \(opcode 0xfc 0x13\)"),
        (b"\0\x28\x42\1\0\x0b", "offset 0x2: found several memories or an impossible alignment, expected memory 0"),
        (b"\0\x41\xff\xff\xff\xff\x2f\x0b", "offset 0x2: found a larger integer"),
        (b"\0\x02\x40\x0b", "found the end, expected more bytes"),
        (b"\0\x0b\x0b", "offset 0x1: found the end of a function's blocks, expected it with the last byte"),
        (b"\0\x10\x05\x0b", "offset 0x1: found an index of something that is not there"),
        (b"\5\x0b", "found a vector that is longer than the code"),
        (b"\0\x1c\1\x40\x0b", "offset 0x3: found an unknown type"),
    ],
)
def test_damage_is_told_by_place_and_construct(body: bytes, found: str) -> None:
    """And by function."""
    with pytest.raises(ModuleError, match=found + r".*in function 2\)"):
        rewriter(body)


def test_plan_of_another_size_is_refused() -> None:
    """Its tables are looked into by index."""
    with pytest.raises(InternalError, match="found tables of"):
        rewriter(b"\0\x0b").set_plan(
            undo=1,
            dead_below=0,
            moved=-1,
            helpers=(-1, -1, -1, -1),
            globals_=b"",
            tables=b"",
            data=b"",
            elements=b"",
            signatures=b"",
        )


@settings(max_examples=300)
@given(mutated(), st.booleans())
def test_damaged_module_is_instrumented_or_refused(code: bytes, countdown: bool) -> None:
    """Only errors with a name; what the engine took before, it takes with a log."""
    try:
        made = prepare(code, memory_pages_max=100, table_entries_max=1000, undo_bytes=1 << 16, countdown=countdown)
    except (ModuleError, MemoryExceeded):
        return
    try:
        _core.Module(code)
    except SpinError:
        return
    _core.Module(made.code)


def test_deep_blocks_are_followed() -> None:
    """A hundred thousand, each in the one before."""
    depth = 100_000
    code = b"\0" + b"\x02\x40" * depth + b"\x0b" * depth + b"\x0b"

    assert planned(rewriter(code)).rewrite()[-len(code) :] == code


def test_chain_of_calls_is_followed_in_time() -> None:
    """Each function calls the next, and only the last writes: all of them may write a record while they run."""
    count = 3000
    calls = " ".join(f"(func $f{index} (call $f{index + 1}))" for index in range(count))
    module = f'(memory (export "memory") 1) {calls} (func $f{count} (i32.store (i32.const 0) (i32.const 0)))'
    looping = '(func (export "l") (loop (i32.store (i32.const 0) (i32.const 0)) (call $f0)))'
    made = prepare(wat(f"(module {module} {looping})"), memory_pages_max=1, table_entries_max=0, undo_bytes=1 << 16)

    _core.Module(made.code)
