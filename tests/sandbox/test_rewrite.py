"""Prepared modules behave as the originals did in a store of their own; only bounds and reach differ."""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from spinrt import _core
from spinrt.errors import MemoryExceeded, ModuleError, QuotaExceeded, SpinError
from spinrt.sandbox.binary import parse
from spinrt.sandbox.binary_sections import EXPORT, MEMORY, START, TABLE, Limits
from spinrt.sandbox.rewrite import TABLES_MAX, Prepared, is_reserved, prepare
from tests.guests import limits, wat
from tests.sandbox.modules import SHIPPED, everything, mutated

HANDLER = "spinrt:mail/delivery-events@1.0.0#deliver"


def prepared(text: str, *, pages: int = 16, entries: int = 100) -> Prepared:
    return prepare(wat(f"(module {text})"), memory_pages_max=pages, table_entries_max=entries)


class Running:
    """An instance in a store of its own, without any limiter; its imports do nothing."""

    def __init__(self, code: bytes) -> None:
        self.store = wasmtime.Store()
        module = wasmtime.Module(self.store.engine, code)
        imports = [self._import(found.type) for found in module.imports]
        self.exports = wasmtime.Instance(self.store, module, imports).exports(self.store)

    def _import(self, type: Any) -> wasmtime.Func:
        results = [0 for _ in type.results]
        return wasmtime.Func(self.store, type, lambda *_: results[0] if len(results) == 1 else results or None)

    def call(self, name: str, *arguments: Any) -> Any:
        """The result, or the reason of the trap in one line."""
        try:
            return self.exports[name](self.store, *arguments)
        except wasmtime.Trap as trap:
            return f"trap: {trap.trap_code}"

    def get(self, name: str) -> Any:
        return self.exports[name].value(self.store)

    def set(self, name: str, value: Any) -> None:
        self.exports[name].set_value(self.store, value)

    def memory(self) -> bytes:
        memory = self.exports["memory"]
        return bytes(memory.read(self.store, 0, memory.data_len(self.store)))

    def fill(self, data: bytes) -> None:
        """Make the memory hold exactly this."""
        memory = self.exports["memory"]
        missing = (len(data) - memory.data_len(self.store)) >> 16
        memory.grow(self.store, missing)
        memory.write(self.store, data, 0)


@pytest.mark.parametrize(
    ("declared", "quota", "expected"),
    [
        ("1", 16, (1, 16)),
        ("1 4", 16, (1, 4)),
        ("1 400", 16, (1, 16)),
        ("16", 16, (16, 16)),
        ("0", 0, (0, 0)),
        ("2 2", 16, (2, 2)),
        ("1 65536", 1 << 40, (1, 65536)),
        ("1", 1 << 40, (1, 65536)),
    ],
)
def test_memory_has_the_lower_of_wish_and_quota(declared: str, quota: int, expected: tuple[int, int]) -> None:
    """The maximum in the module, and what is told about it."""
    made = prepared(f'(memory (export "memory") {declared})', pages=quota)

    assert (made.memory_pages_min, made.memory_pages_max) == expected
    assert parse(made.code).memories == (Limits(*expected),)
    _core.Module(made.code)


def test_module_without_memory_stays_without() -> None:
    """Nothing to bound."""
    made = prepared("(func)", pages=0)

    assert (made.memory_pages_min, made.memory_pages_max, made.movable) == (0, 0, True)
    assert made.code == wat("(module (func))")


@pytest.mark.parametrize("pages", [0, 1, 2])
def test_memory_that_begins_too_large_is_refused(pages: int) -> None:
    """The error names what was found and what is expected."""
    with pytest.raises(MemoryExceeded, match=f"memory: found 3 pages of 64 KiB at least, expected at most {pages}"):
        prepared("(memory 3)", pages=pages)


def test_table_that_begins_too_large_is_refused() -> None:
    """As for memory; each table is looked at."""
    with pytest.raises(MemoryExceeded, match="table 1: found 11 entries at least, expected at most 10"):
        prepared("(table 1 funcref) (table 11 externref)", entries=10)
    assert issubclass(MemoryExceeded, QuotaExceeded)


def test_too_many_tables_are_refused() -> None:
    """Each may be as large as the quota, so their number is bounded too."""
    prepared("(table 1 funcref)" * TABLES_MAX)
    with pytest.raises(MemoryExceeded, match=f"found {TABLES_MAX + 1} tables, expected at most {TABLES_MAX}"):
        prepared("(table 1 funcref)" * (TABLES_MAX + 1))


def test_growth_ends_at_the_quota() -> None:
    """Where a store's limiter would have said no, the module now says it itself."""
    made = prepared(
        """(memory (export "memory") 1) (table $t 2 funcref) (table $u 1 5 externref)
        (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
        (func (export "t") (param i32) (result i32) (table.grow $t (ref.null func) (local.get 0)))
        (func (export "u") (param i32) (result i32) (table.grow $u (ref.null extern) (local.get 0)))""",
        pages=3,
        entries=10,
    )
    running = Running(made.code)

    assert [running.call("grow", count) for count in (3, 1, 2, 1, 0, 1)] == [-1, 1, -1, 2, 3, -1]
    assert [running.call("t", count) for count in (9, 8, 1)] == [-1, 2, -1]
    assert [running.call("u", count) for count in (5, 4, 1)] == [-1, 1, -1]


def test_mutable_globals_are_exported_under_their_index() -> None:
    """Of every type; those that a host can carry over are listed with their letters."""
    made = prepared(
        """(global i32 (i32.const 1)) (global $a (mut i32) (i32.const 2)) (global (mut i64) (i64.const 3))
        (global (mut f32) (f32.const 4)) (global (mut f64) (f64.const 5)) (global (mut v128) (v128.const i64x2 6 7))
        (global (mut funcref) (ref.null func)) (global (mut externref) (ref.null extern))
        (export "named" (global $a))"""
    )

    assert made.mutable_globals == (
        ("spinrt:global/1", "i"),
        ("spinrt:global/2", "l"),
        ("spinrt:global/3", "f"),
        ("spinrt:global/4", "d"),
    )
    kinds = _core.Module(made.code).exports
    assert set(kinds) == {"named", *(f"spinrt:global/{index}" for index in range(1, 8))}
    running = Running(made.code)
    running.set("spinrt:global/1", 9)
    assert running.get("named") == 9
    assert [running.get(name) for name, _ in made.mutable_globals[1:]] == [3, 4.0, 5.0]


def test_start_is_exported_and_not_run() -> None:
    """Instantiating runs nothing of the guest; calling ``spinrt:start`` is what starting was."""
    text = """(memory (export "memory") 1) (global (mut i32) (i32.const 1)) (data (i32.const 0) "ab")
        (func $begin (global.set 0 (i32.const 7)) (i32.store8 (i32.const 1) (i32.const 99)))
        (func (export "value") (result i32) (global.get 0)) (start $begin)"""
    made = prepared(text)
    running, original = Running(made.code), Running(wat(f"(module {text})"))

    assert made.start
    assert running.call("value") == 1
    assert running.memory()[:2] == b"ab"
    running.call("spinrt:start")
    assert running.call("value") == original.call("value") == 7
    assert running.memory() == original.memory()


def test_start_that_traps_or_is_imported_is_exported_all_the_same() -> None:
    """Its trap comes when it is called, and an import can be a start function."""
    trapping = prepared("(func $begin unreachable) (start $begin)")
    imported = prepared('(import "a" "b" (func $begin)) (start $begin)')

    assert "trap" in Running(trapping.code).call("spinrt:start")
    assert Running(imported.code).call("spinrt:start") is None


def test_module_without_start_has_none() -> None:
    """No such export appears."""
    made = prepared('(func (export "f"))')

    assert not made.start
    assert list(_core.Module(made.code).exports) == ["f"]


@pytest.mark.parametrize("name", ["spinrt:start", "spinrt:global/0", "spinrt:global/", "spinrt:global/x#y"])
@pytest.mark.parametrize("item", ["(func $f)", "(global $f (mut i32) (i32.const 0))"])
def test_reserved_export_is_refused(name: str, item: str) -> None:
    """A guest cannot pass something of its own for what preparing exports."""
    kind = "global" if "global" in item else "func"
    with pytest.raises(ModuleError, match="found an export"):
        prepared(f'{item} (export "{name}" ({kind} $f))')


@pytest.mark.parametrize("name", [HANDLER, f"cabi_post_{HANDLER}", "spinrt:starting/x@1.0.0#y", "spinrt:globals"])
def test_names_of_handlers_stay_legal(name: str) -> None:
    """Only the reserved names are refused, not what begins with ``spinrt:``."""
    made = prepared(f'(func (export "{name}"))')

    assert not is_reserved(name)
    assert name in _core.Module(made.code).exports


@pytest.mark.parametrize(
    "item",
    ["(memory 1)", "(table 1 funcref)", "(global i32)", "(global (mut i32))"],
)
def test_import_of_state_is_refused(item: str) -> None:
    """What belongs to somebody else cannot be bounded or moved."""
    with pytest.raises(ModuleError, match="env#thing, expected imports of functions only"):
        prepared(f'(import "env" "thing" {item})')


def test_several_memories_are_refused() -> None:
    """The rest of spinrt knows one."""
    with pytest.raises(ModuleError, match="2 memories, expected one"):
        prepared("(memory 1) (memory 1)")


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("", ""),
        ('(memory (export "memory") 1)', ""),
        ("(memory 1)", ""),
        (
            '(memory 1) (export "mem" (memory 0)) (func (export "memory"))',
            "it exports something else than its memory as memory",
        ),
        ("(global (mut v128) (v128.const i64x2 0 0))", "mutable global 0 holds a vector"),
        ("(global i32 (i32.const 0)) (global (mut funcref) (ref.null func))", "mutable global 1 holds a reference"),
        ("(global (mut externref) (ref.null extern))", "mutable global 0 holds a reference"),
        ("(global v128 (v128.const i64x2 0 0)) (global funcref (ref.null func))", ""),
        ("(func $f (table.set 0 (i32.const 0) (ref.null func)))", r"function 0 \(f\) at offset 0x\w+: table.set"),
        ("(func (drop (table.grow 0 (ref.null func) (i32.const 1))))", "table.grow"),
        ("(func (table.fill 0 (i32.const 0) (ref.null func) (i32.const 1)))", "table.fill"),
        ("(func (table.copy 0 0 (i32.const 0) (i32.const 0) (i32.const 1)))", "table.copy"),
        ("(elem func) (func (table.init 0 0 (i32.const 0) (i32.const 0) (i32.const 0)))", "table.init"),
        ("(elem func) (func (elem.drop 0))", "elem.drop"),
        ('(data "x") (func (data.drop 0))', "data.drop"),
        (
            '(memory (export "memory") 1) (data "x") (func (memory.init 0 (i32.const 0) (i32.const 0) (i32.const 1)))',
            "",
        ),
        ('(memory (export "memory") 1) (func (memory.copy (i32.const 0) (i32.const 0) (i32.const 1)))', ""),
        ('(memory (export "memory") 1) (func (drop (memory.grow (i32.const 0))))', ""),
        ("(func (drop (table.get 0 (i32.const 38))) (drop (table.size 0)))", ""),  # 38 is the byte of table.set
    ],
)
def test_what_cannot_be_moved_is_known(text: str, because: str) -> None:
    """A module is movable when memory and number globals are all that can change."""
    made = prepared(f"(table 1 funcref) {text}")

    assert made.movable == (because == "")
    assert re.search(because, made.immovable_because) if because else made.immovable_because == ""
    _core.Module(made.code)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_extension_is_prepared(path: Path) -> None:
    """Real C: movable, one stack pointer to carry over, all else as it was; it links as before."""
    code = path.read_bytes()
    made = prepare(code, memory_pages_max=128, table_entries_max=1024, name=path.stem)
    before, after = _core.Module(code), _core.Module(made.code)

    assert (made.movable, made.start, made.memory_pages_max) == (True, False, 128)
    assert made.mutable_globals == (("spinrt:global/0", "i"),)
    assert after.imports == before.imports
    assert after.exports == before.exports | {"spinrt:global/0": ("global", "")}
    assert sections(made.code, without={MEMORY, EXPORT}) == sections(code, without={MEMORY, EXPORT})
    one, other = Running(code), Running(made.code)
    for size in (0, 1, 8, 5000, 200_000, -1):
        assert one.call("cabi_realloc", 0, 0, 8, size) == other.call("cabi_realloc", 0, 0, 8, size)
    assert one.memory() == other.memory()
    assert one.get("__stack_pointer") == other.get("spinrt:global/0")


def sections(code: bytes, *, without: AbstractSet[int]) -> list[tuple[int, bytes]]:
    return [(found.id, code[found.start : found.end]) for found in parse(code).sections if found.id not in without]


def test_everything_but_bounds_and_exports_stays() -> None:
    """A module with every section, names included."""
    code = everything()
    made = prepare(code, memory_pages_max=2, table_entries_max=5)
    changed = {MEMORY, TABLE, EXPORT, START}

    assert sections(made.code, without=changed) == sections(code, without=changed)
    assert parse(made.code).tables == (("funcref", (3, 5)), ("externref", (0, 5)))
    assert parse(made.code).function_names == parse(code).function_names
    assert parse(made.code).exports[:-3] == parse(code).exports
    added = [found.name for found in parse(made.code).exports[-3:]]
    assert added == ["spinrt:global/0", "spinrt:global/2", "spinrt:start"]
    assert made == prepare(code, memory_pages_max=2, table_entries_max=5)


def test_prepared_module_is_not_prepared_again() -> None:
    """Its reserved exports could be a guest's forgery."""
    made = prepare(everything(), memory_pages_max=2, table_entries_max=5)
    with pytest.raises(ModuleError, match="spinrt:global/0"):
        prepare(made.code, memory_pages_max=2, table_entries_max=5)


def test_instance_is_copied_by_what_preparing_makes_reachable() -> None:
    """Run an instance, make a second, hand over memory and globals: from then on both answer alike."""
    made = prepared(
        """(memory (export "memory") 1) (table 2 funcref) (elem (i32.const 0) $up $down) (type $step (func))
        (global $a (mut i32) (i32.const 0)) (global $b (mut i64) (i64.const 1)) (global $c (mut f64) (f64.const 0.5))
        (func $begin (global.set $a (i32.const 100)))
        (func $up (global.set $a (i32.add (global.get $a) (i32.const 1))))
        (func $down (global.set $b (i64.mul (global.get $b) (i64.const 3))))
        (func (export "step") (param i32) (result i32)
          (call_indirect (type $step) (i32.and (local.get 0) (i32.const 1)))
          (i32.store (i32.mul (local.get 0) (i32.const 4)) (global.get $a))
          (if (i32.eq (local.get 0) (i32.const 5)) (then (drop (memory.grow (i32.const 1)))))
          (i32.add (i32.wrap_i64 (global.get $b)) (i32.load (i32.const 8))))
        (start $begin)"""
    )
    live = Running(made.code)
    live.call("spinrt:start")
    for step in range(8):
        live.call("step", step)
    copy = Running(made.code)
    copy.fill(live.memory())
    for name, _ in made.mutable_globals:
        copy.set(name, live.get(name))

    for step in (1, 2, 3, 5, 8):
        assert copy.call("step", step) == live.call("step", step)
    assert copy.memory() == live.memory()


NUMBERS = {"i32": "i32.const 7", "i64": "i64.const 7", "f32": "f32.const 7", "f64": "f64.const 7"}


@st.composite
def modules(draw: st.DrawFn) -> str:
    """A valid module with whatever preparing looks at, and functions that show what happens."""
    most = draw(st.none() | st.integers(2, 40))
    parts = [f'(memory (export "memory") {draw(st.integers(0, 2))} {"" if most is None else most})']
    for _ in range(draw(st.integers(0, 3))):
        least = draw(st.integers(0, 5))
        most = draw(st.none() | st.integers(least, 30))
        parts.append(f"(table {least} {'' if most is None else most} funcref)")
    globals_ = draw(st.lists(st.tuples(st.sampled_from(sorted(NUMBERS)), st.booleans()), max_size=4))
    for place, (type, mutable) in enumerate(globals_):
        parts.append(f"(global {f'(mut {type})' if mutable else type} ({NUMBERS[type]}))")
        parts.append(f'(func (export "get{place}") (result {type}) (global.get {place}))')
        if mutable:
            more = f"({type}.add (global.get {place}) ({NUMBERS[type]}))"
            parts.append(f'(func (export "set{place}") (global.set {place} {more}))')
    parts.append('(func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))')
    parts.append('(func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0)))')
    parts.append('(func (export "store") (param i32 i32) (i32.store8 (local.get 0) (local.get 1)))')
    if draw(st.booleans()):
        parts.append("(func $begin (drop (memory.grow (i32.const 1))) (i32.store8 (i32.const 1) (i32.const 5)))")
        parts.append("(start $begin)")
    return f"(module {' '.join(parts)})"


CALLS = st.lists(
    st.tuples(st.just("grow"), st.integers(0, 5))
    | st.tuples(st.just("load"), st.integers(0, 1 << 18))
    | st.tuples(st.just("store"), st.integers(0, 1 << 18), st.integers(0, 255))
    | st.tuples(st.sampled_from([f"{what}{place}" for what in ("get", "set") for place in range(4)])),
    max_size=12,
)


@settings(deadline=None)
@given(modules(), CALLS)
def test_prepared_module_agrees_with_the_original(text: str, calls: list[tuple[Any, ...]]) -> None:
    """Below the quota: the same results, traps, globals and memory for any calls."""
    code = wat(text)
    made = prepare(code, memory_pages_max=65536, table_entries_max=1 << 20)
    try:
        original: Running | None = Running(code)
    except wasmtime.Trap:  # the start function failed; prepared, that comes later
        original = None
    running = Running(made.code)
    started = running.call("spinrt:start") if made.start else None

    assert (original is None) == (started is not None)
    if original is not None:
        for name, *arguments in calls:
            if name in original.exports:
                assert running.call(name, *arguments) == original.call(name, *arguments)
        assert running.memory() == original.memory()


@settings(deadline=None)
@given(mutated(), st.integers(0, 70_000), st.integers(0, 2000))
def test_damaged_module_is_prepared_or_refused(code: bytes, pages: int, entries: int) -> None:
    """Only errors with a name; what the engine took before, it takes prepared."""
    try:
        made = prepare(code, memory_pages_max=pages, table_entries_max=entries)
    except (ModuleError, MemoryExceeded):
        return
    try:
        _core.Module(code)
    except SpinError:
        return
    _core.Module(made.code)
    assert made.memory_pages_max <= pages
    assert all((table.limits.maximum or 0) <= entries for table in parse(made.code).tables)


def test_core_runs_a_prepared_module_under_its_own_bounds() -> None:
    """The instance's limiter is generous; the module is not."""
    grow_it = '(func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))'
    made = prepared(f'(memory (export "memory") 1) {grow_it}', pages=2)
    u32 = _core.ScalarPlan("u32")
    instance = _core.Instance(_core.Module(made.code), (), limits(memory_bytes=64 << 20), "bounded")
    grow = _core.Export(instance, "grow", _core.FunctionPlan("grow", (u32,), u32))

    assert [grow(None, count) for count in (2, 1, 1)] == [0xFFFFFFFF, 1, 0xFFFFFFFF]
