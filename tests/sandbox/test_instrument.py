"""Instrumented modules: what is added, what stays, what is refused; and that what they did can be taken back."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
import wasmtime

from spinrt import _core
from spinrt.errors import MemoryExceeded, ModuleError, UsageError
from spinrt.sandbox.binary import parse, section_bounds
from spinrt.sandbox.binary_reader import Reader
from spinrt.sandbox.binary_sections import CODE, CUSTOM
from spinrt.sandbox.instrument import UNDO_BYTES_MAX, UndoLog, original_offset
from spinrt.sandbox.rewrite import Prepared, is_reserved, prepare
from tests.guests import wat
from tests.sandbox.modules import SHIPPED, everything
from tests.sandbox.random_modules import Generator
from tests.sandbox.undo_campaign import check
from tests.sandbox.undo_reference import Instance, engine

MEMORY = '(memory (export "memory") 1)'
OUT_OF_BOUNDS = f"trap {wasmtime.TrapCode.MEMORY_OUT_OF_BOUNDS}"


def made(text: str, *, undo_bytes: int = 1 << 16, countdown: bool = False, pages: int = 16) -> Prepared:
    return prepared(wat(f"(module {text})"), undo_bytes=undo_bytes, countdown=countdown, pages=pages)


def prepared(code: bytes, *, undo_bytes: int = 1 << 16, countdown: bool = False, pages: int = 16) -> Prepared:
    found = prepare(code, memory_pages_max=pages, table_entries_max=100, undo_bytes=undo_bytes, countdown=countdown)
    _core.Module(found.code)
    return found


def log_of(found: Prepared) -> UndoLog:
    assert found.log is not None
    return found.log


def bodies(code: bytes) -> list[bytes]:
    """Function bodies of a module that may have several memories."""
    reader = Reader(code, "module", *section_bounds(code, CODE))
    return [reader.take(reader.u32()) for _ in range(reader.count())]


# Random modules.


@pytest.mark.parametrize("seed", range(30))
def test_random_module_agrees_and_is_taken_back(seed: int) -> None:
    """Results, traps, memory, globals; the log at host calls; a fault before each change."""
    check(seed)


def test_random_modules_inject_faults() -> None:
    """The campaign is no empty one."""
    assert check(4) + check(5) > 10


# What is added, and what stays.


@pytest.mark.parametrize(
    "text",
    [
        "",
        MEMORY,
        f"{MEMORY} (func (param i32) (result i32) (i32.load (local.get 0)))",
        "(func unreachable)",
    ],
)
def test_code_that_changes_nothing_has_no_log(text: str) -> None:
    """It is what it is without."""
    found = made(text)

    assert found.log is None
    assert found.code == made(text, undo_bytes=0).code


def test_module_with_a_hidden_memory_has_its_log_and_memory_reached() -> None:
    """The host must be able to put it back. Where the name is something else's, it cannot, and there is no log."""
    text = '(memory 1) (func (export "f") (i32.store (i32.const 0) (i32.const 1)))'
    assert made(text).log is not None
    assert made(text).taken_back

    taken = text + ' (func (export "memory"))'
    assert made(taken).log is None
    assert not made(taken).taken_back


def test_functions_that_change_nothing_stay_byte_for_byte() -> None:
    """Also those with locals, blocks, loads, and calls of functions that do change something."""
    code = wat(
        f"""(module {MEMORY} (global (mut i32) (i32.const 0)) (global $other i32 (i32.const 3))
        (func $a (param i32) (result i32) (local i64 f32) (block (loop (br_if 0 (i32.load (local.get 0))))) (call $b))
        (func $b (result i32) (i32.store8 (i32.const 1) (i32.const 2)) (global.get $other))
        (func $c (result i32) (drop (call_indirect (result i32) (i32.const 0))) (return (global.get $other)))
        (func $d (result i32) (global.set 0 (i32.const 1)) (global.get 0)) (table 1 funcref))"""
    )
    before, after = bodies(code), bodies(prepared(code).code)

    assert [one == other for one, other in zip(before, after, strict=False)] == [True, False, True, False]
    assert len(after) == len(before)


def test_names_and_custom_sections_stay() -> None:
    """All of them, and the indices in them."""
    code = everything() + b"\0\5\4note"
    after = prepared(code).code

    def custom(data: bytes) -> list[bytes]:
        found = parse_sections(data)
        return [data[start:end] for id, start, end in found if id == CUSTOM]

    assert custom(after) == custom(code)
    assert len(custom(after)) == 2


def parse_sections(code: bytes) -> list[tuple[int, int, int]]:
    reader, found = Reader(code, "module", 8), []
    while reader.at < reader.end:
        id, size = reader.byte(), reader.u32()
        found.append((id, reader.at, reader.at + size))
        reader.skip(size)
    return found


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_extension_is_instrumented(path: Path) -> None:
    """Real C: a stack that is known to be dead between calls, still movable, links as before."""
    code = path.read_bytes()
    found = prepared(code, undo_bytes=4 << 20, pages=64)
    log = log_of(found)

    assert (found.movable, log.base % 16, log.moved, log.size) == (True, 0, 0, 4 << 20)
    assert log.dead_below == log.moved_initial == 16384
    assert found.mutable_globals == ()
    assert _core.Module(found.code).imports == _core.Module(code).imports
    added = set(_core.Module(found.code).exports) - set(_core.Module(code).exports)
    assert {"spinrt:undo"} <= added <= {"spinrt:undo", "spinrt:undo-bytes"}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_allocations_of_a_shipped_extension_are_taken_back(path: Path) -> None:
    """Its allocator runs as before, and each call can be taken back, growth included."""
    code = path.read_bytes()
    plain = Instance(prepared(code, undo_bytes=0, pages=64), lambda *_: 0)
    instance = Instance(prepared(code, countdown=True, undo_bytes=1 << 20, pages=64), lambda *_: 0)
    for size in (0, 1, 8, 5000, 100_000, -1):
        before = instance.state()
        instance.call("cabi_realloc", 0, 0, 8, size)
        growth = instance.roll_back()
        instance = instance if growth.pages is None else instance.remade(growth.pages)
        assert instance.state() == before
        assert instance.call("cabi_realloc", 0, 0, 8, size) == plain.call("cabi_realloc", 0, 0, 8, size)
        instance.commit()
    assert instance.memory() == plain.memory()


def test_log_begins_as_the_page_says() -> None:
    """Head, moved global, stamp, end of the dead stack; flags up to the base; sizes."""
    found = made(
        f"""{MEMORY} (global $__stack_pointer (mut i32) (i32.const 4096)) (data (i32.const 4096) "x") (data "y")
        (func (export "f") (global.set 0 (i32.const 1)) (memory.fill (i32.const 0) (i32.const 0) (i32.const 9)))""",
        undo_bytes=70_000,
    )
    instance = Instance(found)

    assert log_of(found) == UndoLog(80, 131072, 4096, 0, 4096, (), (), False)
    head = instance.read("spinrt:undo", 0, 64)
    assert struct.unpack_from("<II", head) == (80, 4096)
    assert struct.unpack_from("<I", head, 40) == (4096,)
    assert head[16:40] == bytes(24)
    assert len(instance.read("spinrt:undo-bytes")) == 131072


def test_first_stamp_is_one() -> None:
    """As the active segment has it, before anything was committed."""
    code = made(f'{MEMORY} (func (export "f") (i32.store (i32.const 0) (i32.const 0)))').code
    store = wasmtime.Store(engine())
    log = wasmtime.Instance(store, wasmtime.Module(engine(), code), []).exports(store)["spinrt:undo"]

    assert struct.unpack("<Q", log.read(store, 8, 16)) == (1 << 36,)


@pytest.mark.parametrize(
    ("text", "moved"),
    [
        ("(global (mut i32) (i32.const 0)) (global (mut i32) (i32.const 9))", 1),
        ("(global (mut i64) (i64.const 0)) (global (mut i32) (i32.const 9))", 1),
        ("(global (mut i32) (i32.const 0)) (global (mut i32) (i32.add (i32.const 1) (i32.const 1)))", 0),
        ("(global (mut i64) (i64.const 0)) (global (mut f32) (f32.const 9))", None),
    ],
)
def test_global_that_is_set_most_is_moved(text: str, moved: int | None) -> None:
    """If it is an i32 that begins with a plain number; it is not exported, and its value is right."""
    types = ["i64" if "i64" in text else "i32", "f32" if "f32" in text else "i32"]
    once, twice = (f"(global.set {index} ({type}.const 5))" for index, type in enumerate(types))
    found = made(f'{text} (func (export "f") {once} {twice} {twice}) (func (export "g") (result i32) (i32.const 1))')
    instance = Instance(found)
    instance.call("f")

    assert log_of(found).moved == moved
    assert {f"spinrt:global/{index}" for index in (0, 1) if index != moved} <= set(instance.types)
    assert f"spinrt:global/{moved}" not in instance.types
    assert instance.moved() == (0 if moved is None else 5)


STACK = "(global $__stack_pointer (mut i32) (i32.const 1024))"


@pytest.mark.parametrize(
    ("text", "dead_below"),
    [
        (f'{STACK} (data (i32.const 1024) "x")', 1024),
        (f'{STACK} (data (i32.const 1023) "x")', 0),
        (f'{STACK} (data (i32.const 2000) "x") (data (i32.const 0) "y")', 0),
        (f'{STACK} (data "x")', 0),
        (STACK, 0),
        (f'{STACK.replace("__stack_pointer", "sp")} (data (i32.const 1024) "x")', 0),
        ('(global (export "__stack_pointer") (mut i32) (i32.const 64)) (data (i32.const 64) "x")', 64),
        ('(global $sp (export "__stack_pointer") (mut i32) (i32.const 64)) (data (i32.const 64) "x")', 64),
        (f'{STACK} (global (export "__global_base") i32 (i32.const 1024))', 1024),
        (f'{STACK} (global (export "__global_base") i32 (i32.const 1023))', 0),
        (f'{STACK} (global (export "__global_base") (mut i32) (i32.const 1024))', 0),
        (f'{STACK} (data (offset (i32.add (i32.const 1000) (i32.const 24))) "x")', 0),
    ],
)
def test_dead_stack_is_known_only_where_it_is_sure(text: str, dead_below: int) -> None:
    """The name, and nothing below the pointer's first value."""
    assert log_of(made(f"{MEMORY} {text} (func (global.set 0 (i32.const 0)))")).dead_below == dead_below


STORES = {
    "i32.store8": ("(i32.const -1)", 1),
    "i32.store16": ("(i32.const -1)", 2),
    "i32.store": ("(i32.const -1)", 4),
    "f64.store": ("(f64.const 1.7)", 8),
    "v128.store": ("(v128.const i64x2 -1 -1)", 16),
    "fill": ("", 5),
}


@pytest.mark.parametrize("address", range(1016, 1030))
@pytest.mark.parametrize("store", [*STORES])
@pytest.mark.parametrize("offset", [0, 3])
def test_store_across_the_end_of_the_stack_is_recorded(store: str, address: int, offset: int) -> None:
    """What lies above is put back to the byte, and what lies wholly below leaves no record."""
    value, size = STORES[store]
    do = f"({store} offset={offset} (local.get 0) {value})"
    if store == "fill":
        do = f"(memory.fill (i32.add (local.get 0) (i32.const {offset})) (i32.const 7) (i32.const 5))"
    found = made(
        f"""{MEMORY} (global $__stack_pointer (mut i32) (i32.const 1024)) (data (i32.const 1024) "0123456789abcdef")
        (func (export "f") (param i32) (global.set 0 (global.get 0)) {do})"""
    )
    instance = Instance(found)
    before = instance.state()
    instance.call("f", address)
    records = len(instance.records())

    assert records == (0 if address + offset + size <= 1024 else 2 if store == "v128.store" else 1)
    instance.roll_back()
    assert instance.state() == before


def test_function_without_a_frame_does_not_ask_about_the_stack() -> None:
    """It records its stores wherever they go."""
    found = made(
        f"""{MEMORY} {STACK} (data (i32.const 1024) "x") (func (global.set 0 (i32.const 1)))
        (func (export "f") (i64.store (i32.const 100) (i64.const 1)))"""
    )
    instance = Instance(found)
    instance.call("f")

    assert instance.records() == [(3, 100, 0)]


def test_few_bytes_are_recorded_as_words() -> None:
    """Unless the words would reach beyond the memory; what lies behind the bytes is put back as it was, too."""
    found = made(
        f"""{MEMORY} (data (i32.const 8) "0123456789abcdefghijklmnopqrstuvwxyz")
        (func (export "f") (param i32 i32) (memory.fill (local.get 0) (i32.const 1) (local.get 1))
          (i32.store8 (i32.add (local.get 0) (local.get 1)) (i32.const 2)))"""
    )
    instance = Instance(found)
    before = instance.state()
    for count, words in ((0, 0), (1, 1), (8, 1), (9, 2), (17, 3), (25, 4), (32, 4), (33, 1)):
        instance.call("f", 9, count)
        kinds = [record.kind for record in instance.records()]
        assert kinds == ([4] if count in (0, 33) else [3] * words) + [0]
        instance.roll_back()
        assert instance.state() == before
    assert instance.call("f", 65_520, 10) is None
    assert [record.kind for record in instance.records()] == [4, 0]
    instance.roll_back()
    assert instance.state() == before


# The log is bounded.


def test_full_log_ends_the_call_and_is_taken_back() -> None:
    """Whether the head is in memory or in a local; the room is all used."""
    found = made(
        f"""{MEMORY} (func (export "l") (param i32) (loop $l (i32.store8 (local.get 0) (i32.const 1))
          (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
        (func $r (export "r") (param i32) (i32.store8 (local.get 0) (i32.const 1))
          (call $r (i32.sub (local.get 0) (i32.const 1))))"""
    )
    instance = Instance(found)
    before = instance.state()
    most = (65536 - log_of(found).base) // 16
    for name in ("l", "r"):
        assert instance.call(name, 65535) == OUT_OF_BOUNDS
        assert len(instance.records()) == most
        instance.roll_back()
        assert instance.state() == before
    assert instance.call("l", most) is None


def test_bulk_operation_that_does_not_fit_is_told() -> None:
    """By what the head of its bytes was to become; one that the guest got wrong is not."""
    found = made(
        """(memory (export "memory") 2) (func (export "f") (param i32 i32)
        (memory.fill (local.get 0) (i32.const 1) (local.get 1)))"""
    )
    instance = Instance(found)
    before = instance.state()

    def heads() -> tuple[int, int]:
        one, other = struct.unpack("<I8xI", instance.read("spinrt:undo", 16, 32))
        return one, other

    assert instance.call("f", 0, 60_000) is None
    assert heads() == (60_000, 60_000)
    assert instance.call("f", 0, 6000) == OUT_OF_BOUNDS
    assert heads() == (60_000, 66_000)
    instance.roll_back()
    assert instance.state() == before
    assert instance.call("f", 131_072, 10) == OUT_OF_BOUNDS
    assert heads() == (0, 10)


@pytest.mark.parametrize("undo_bytes", [-1, UNDO_BYTES_MAX + 1])
def test_size_of_the_log_is_checked(undo_bytes: int) -> None:
    """Above the bound its head could go round."""
    with pytest.raises(UsageError, match="undo log: found"):
        made(f"{MEMORY} (func (i32.store (i32.const 0) (i32.const 0)))", undo_bytes=undo_bytes)


def test_flags_that_leave_no_room_are_refused() -> None:
    """A log of one page, and more segments than it has bytes."""
    many = '(data "")' * 65_600
    with pytest.raises(MemoryExceeded, match="found 65664 bytes for the flags of segments"):
        made(f"{MEMORY} {many} (func (data.drop 0))")
    made(f"{MEMORY} {many} (func (data.drop 0))", undo_bytes=65_537)


# What is refused.


@pytest.mark.parametrize(
    ("text", "because"),
    [
        (
            '(table 1 funcref) (func $f (export "f") (drop (table.grow 0 (ref.null func) (i32.const 1))))',
            r"function 0 \(f\) at offset 0x\w+: table.grow: found with an undo log, expected a table of fixed size",
        ),
        (
            f"{MEMORY} (table 1 funcref) (func $g (drop (memory.grow (i32.const 0))))"
            "(func $t (table.set 0 (i32.const 0) (ref.null func)))",
            r"function 1 \(t\) at offset 0x\w+: table.set: found .*, expected none in a module that grows",
        ),
    ],
)
def test_what_cannot_be_taken_back_is_refused(text: str, because: str) -> None:
    """By place and construct; without an undo log it is taken."""
    with pytest.raises(ModuleError, match=because) as caught:
        made(text)
    assert "limits.undo_bytes" in (caught.value.hint or "")
    made(text, undo_bytes=0)


@pytest.mark.parametrize(
    "name", ["spinrt:undo", "spinrt:undo-bytes", "spinrt:undo-functions", "spinrt:undo-externs", "spinrt:table/0"]
)
def test_names_of_the_log_are_reserved(name: str) -> None:
    """With a log or without; those of interfaces are not."""
    for undo_bytes in (0, 65536):
        with pytest.raises(ModuleError, match="found an export"):
            made(f'(memory (export "{name}") 1)', undo_bytes=undo_bytes)
    assert not is_reserved("spinrt:undo/events@1.0.0#after-replay")


def test_function_with_too_many_locals_is_refused() -> None:
    """The engine's bound, less what the sequences need."""
    locals_ = "i64 " * 49_995
    with pytest.raises(ModuleError, match="found more locals than leave room for ours"):
        made(f"{MEMORY} (func (local {locals_}) (i32.store (i32.const 0) (i32.const 0)))")
    made(f"{MEMORY} (func (local {locals_})) (func (i32.store (i32.const 0) (i32.const 0)))")


# Segments, tables, references.


def test_dropped_segment_is_dropped_again_in_a_copy() -> None:
    """The flags are the state; a module that drops data is movable with a log."""
    found = made(
        f"""{MEMORY} (data "abc") (data (i32.const 100) "x")
        (func (export "drop") (data.drop 0))
        (func (export "init") (param i32) (memory.init 0 (i32.const 0) (i32.const 0) (local.get 0)))
        (func (export "active") (param i32) (memory.init 1 (i32.const 0) (i32.const 0) (local.get 0)))"""
    )
    instance = Instance(found)

    assert found.movable
    assert [instance.call("active", size) for size in (0, 1)] == [None, OUT_OF_BOUNDS]
    assert instance.call("init", 3) is None
    assert instance.memory()[:3] == b"abc"
    instance.commit()
    instance.call("drop")
    assert [instance.call("init", size) for size in (0, 1)] == [None, OUT_OF_BOUNDS]
    copy = instance.remade(1)
    assert [copy.call("init", size) for size in (0, 1)] == [None, OUT_OF_BOUNDS]
    copy.roll_back()
    instance.roll_back()
    assert (instance.call("init", 3), copy.call("init", 1)) == (None, OUT_OF_BOUNDS)


def test_modules_that_write_tables_are_not_movable() -> None:
    """What is in a table cannot be carried over."""
    found = made('(table 2 funcref) (func (export "f") (table.set 0 (i32.const 1) (ref.null func)))')

    assert (found.movable, log_of(found).tables) == (False, ((0, "funcref"),))


def test_references_of_a_host_come_back() -> None:
    """A table and a global of externref."""
    found = made(
        """(table 2 externref) (global (mut externref) (ref.null extern))
        (func (export "put") (param externref)
          (table.fill 0 (i32.const 0) (local.get 0) (i32.const 2)) (global.set 0 (local.get 0)))"""
    )
    instance = Instance(found)
    instance.call("put", "first")
    instance.commit()
    before = instance.state()
    instance.call("put", "second")
    instance.call("put", "third")

    assert instance.state() != before
    assert len(instance.records()) == 6
    instance.roll_back()
    assert instance.state() == before
    assert before.tables == {0: ["first", "first"]}


# Places in the original.


def frames(code: bytes, name: str, *arguments: Any) -> list[tuple[int, int]]:
    """Function and offset in the module of each frame of a trap."""
    store = wasmtime.Store(engine())
    module = wasmtime.Module(engine(), code)
    imports = [wasmtime.Func(store, found.type, lambda *_: 1) for found in module.imports]
    exports = wasmtime.Instance(store, module, imports).exports(store)
    with pytest.raises(wasmtime.Trap) as caught:
        exports[name](store, *arguments)
    return [(frame.func_index, frame.module_offset) for frame in caught.value.frames]


TRAPPING = f"""(module $traps {MEMORY} (global $__stack_pointer (mut i32) (i32.const 64)) (data (i32.const 64) "x")
  (func $deep (param i32) (local i64) (i64.store (i32.const 80) (i64.const 1)) (i32.store (local.get 0) (i32.const 3)))
  (func $middle (param i32) (global.set 0 (i32.const 5))
    (loop $l (i32.store8 (i32.const 90) (i32.const 1)) (call $deep (local.get 0))
      (br_if $l (i32.load (i32.const 99)))))
  (func (export "store") (param i32) (nop) (call $middle (local.get 0)) (i32.store8 (i32.const 99) (i32.const 1)))
  (func (export "divide") (param i32) (memory.fill (i32.const 0) (i32.const 1) (i32.const 2))
    (drop (i32.div_s (i32.const 1) (local.get 0))))
  (func (export "plain") (param i32) unreachable))"""


@pytest.mark.parametrize(("name", "argument"), [("store", -1), ("store", 65533), ("divide", 0), ("plain", 0)])
@pytest.mark.parametrize("undo_bytes", [0, 65536])
def test_place_of_a_fault_is_told_in_the_original(name: str, argument: int, undo_bytes: int) -> None:
    """Each frame of a backtrace, byte for byte where the original has it."""
    code = wat(TRAPPING)
    after = prepared(code, undo_bytes=undo_bytes).code
    found = [
        (function, original_offset(code, after, offset, undo_bytes=undo_bytes))
        for function, offset in frames(after, name, argument)
    ]

    assert found == frames(code, name, argument)


def test_places_outside_of_functions_have_no_original() -> None:
    """Helpers, other sections, and beyond."""
    code = wat(TRAPPING)
    after = prepared(code).code
    _, end = section_bounds(after, CODE)

    for place in (0, 9, end - 2, end, 1 << 40):
        assert original_offset(code, after, place, undo_bytes=65536) is None


@pytest.mark.parametrize("seed", range(0, 30, 7))
def test_places_follow_each_other(seed: int) -> None:
    """Whatever the place in a rewritten body: an instruction of the same function, in order, and none is lost."""
    code = bytes(wasmtime.wat2wasm(Generator(seed).module()))
    after = prepared(code, countdown=True).code
    module = parse(code)
    reader = Reader(after, "module", *section_bounds(after, CODE))
    reader.count()
    for function, body in enumerate(module.bodies, len(module.imported_functions)):
        size = reader.u32()
        places = range(reader.at, reader.at + size)
        reader.skip(size)
        found = [original_offset(code, after, place, undo_bytes=65536, countdown=True) or 0 for place in places]
        begins = {instruction.offset for instruction in module.instructions(function)}
        assert found == sorted(found)
        assert begins <= set(found) <= begins | set(range(body.start, min(begins)))
