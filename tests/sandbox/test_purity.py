"""What may change something is found, wherever a call can get to; what cannot is let through."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from spinrt.errors import ModuleError
from spinrt.sandbox.binary import parse
from spinrt.sandbox.binary_opcodes import MEMORY_WRITES, OPCODES
from spinrt.sandbox.purity import guard_obstacle, impurity
from tests.guests import wat
from tests.sandbox.modules import SHIPPED, mutated
from tests.sandbox.test_binary import encoded

ADDRESS = "(i32.const 0)"


def nothing(module: str, name: str) -> bool:
    """No import is pure."""
    return False


def read_only(module: str, name: str) -> bool:
    """Imports named ``get…`` are pure."""
    return name.startswith("get")


def judged(body: str, rest: str = "") -> tuple[str | None, str | None]:
    """Impurity and obstacle of an export ``f`` whose body is given; ``rest`` stands in front of it in the module."""
    code = wat(
        f"""(module (type $plain (func)) (type $number (func (result i32)))
        (import "test:a/b@1.0.0" "get-it" (func $get)) (import "test:a/b@1.0.0" "put\\nit" (func $put))
        (memory (export "memory") 1) (table $t 4 funcref) (table $x 1 externref)
        (global $g (mut i32) (i32.const 0)) (global $r (mut funcref) (ref.null func))
        (global $v (mut v128) (v128.const i64x2 0 0)) (data "x") (elem funcref (ref.null func)) {rest}
        (func $f (export "f") {body}))"""
    )
    wasmtime.Module(wasmtime.Engine(), code)  # it is valid
    return impurity(code, "f", read_only), guard_obstacle(code, "f", read_only)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "unreachable",
        "(drop (i32.load (i32.const 0)))",
        "(drop (v128.load (i32.const 0)))",
        "(drop (memory.size)) (drop (table.size $t)) (drop (table.get $t (i32.const 0)))",
        "(drop (global.get $g)) (drop (global.get $r))",
        "(local i32) (local.set 0 (i32.const 54)) (drop (local.tee 0 (i32.const 0x36)))",  # 0x36 is i32.store
        "(loop (br 0))",
        "(call $get)",
        "(return_call $get)",
        "(call $f)",
        "(drop (ref.func $f))",
        "(drop (i32.const 0x3636)) (drop (i64.const 0x24242424)) (drop (f64.const 0x1.36363636p3))",
    ],
)
def test_function_that_only_reads_is_pure(body: str) -> None:
    """Reading, trapping, looping and calling what is pure change nothing. Bytes of constants are no instructions."""
    assert judged(body, "(elem declare func $f)") == (None, None)


RESTORED = [
    f"i32.store {ADDRESS} (i32.const 1)",
    f"i64.store32 offset=9 {ADDRESS} (i64.const 1)",
    f"f64.store {ADDRESS} (f64.const 1)",
    f"v128.store {ADDRESS} (v128.const i64x2 0 0)",
    f"v128.store16_lane 3 {ADDRESS} (v128.const i64x2 0 0)",
    f"memory.fill {ADDRESS} {ADDRESS} {ADDRESS}",
    f"memory.copy {ADDRESS} {ADDRESS} {ADDRESS}",
    f"memory.init 0 {ADDRESS} {ADDRESS} {ADDRESS}",
    "global.set $g (i32.const 1)",
]
LASTING = [
    f"table.set $t {ADDRESS} (ref.null func)",
    f"table.fill $t {ADDRESS} (ref.null func) {ADDRESS}",
    f"table.copy $t $t {ADDRESS} {ADDRESS} {ADDRESS}",
    f"table.init $t 0 {ADDRESS} {ADDRESS} {ADDRESS}",
    "data.drop 0",
    "elem.drop 0",
    "global.set $r (ref.null func)",
    "global.set $v (v128.const i64x2 0 0)",
    "call $put",
    "return_call $put",
]
GROWING = ["memory.grow (i32.const 0)", "table.grow $t (ref.null func) (i32.const 0)"]


@pytest.mark.parametrize("instruction", RESTORED)
def test_change_of_memory_or_number_global_can_be_taken_back(instruction: str) -> None:
    """Impure, but no obstacle: a guard of that kind runs with memory and globals saved."""
    reason, obstacle = judged(f"nop ({instruction})")
    name = instruction.partition(" ")[0]

    assert reason is not None
    assert re.fullmatch(rf"function 2 \(f\) at offset 0x[0-9a-f]+: {name}( \(global 0\))?", reason)
    assert obstacle is None


@pytest.mark.parametrize("instruction", LASTING + [f"drop ({growing})" for growing in GROWING])
def test_other_change_is_an_obstacle(instruction: str) -> None:
    """Impure, and nothing that saving memory could help."""
    reason, obstacle = judged(f"nop ({instruction})")
    name = re.sub(r"^drop \(", "", instruction).partition(" ")[0]

    assert reason is not None
    assert f": {name}" in reason
    assert obstacle == reason


@pytest.mark.parametrize("opcode", sorted(MEMORY_WRITES), ids=lambda opcode: OPCODES[opcode].name)
def test_every_store_is_known(opcode: int) -> None:
    """By the engine's own encoding of each: every instruction whose name says store, and the three in bulk."""
    name, _ = encoded(opcode)

    assert "store" in name or name in ("memory.copy", "memory.fill", "memory.init")
    assert len(MEMORY_WRITES) == 9 + 1 + 4 + 3


def test_offset_is_that_of_the_instruction() -> None:
    """In bytes from the start of the module, as disassemblers count."""
    code = wat(
        '(module (memory (export "memory") 1) (func (export "f") nop nop (i32.store (i32.const 1) (i32.const 2))))'
    )

    assert impurity(code, "f", nothing) == f"function 0 (f) at offset {code.index(bytes([0x36, 2, 0])):#x}: i32.store"


def test_import_that_is_not_pure_is_named_in_one_line() -> None:
    """The guest's author chose the name, line ends included; they are shown escaped."""
    reason, obstacle = judged("(call $put)")

    assert reason is not None
    assert reason.endswith("call (import test:a/b@1.0.0#put\\nit is not pure)")
    assert obstacle == reason


def test_export_that_is_an_import_is_judged_too() -> None:
    """There is no body to look at."""
    code = wat(
        '(module (import "a" "get" (func $get)) (import "a" "put" (func $put))'
        ' (export "g" (func $get)) (export "p" (func $put)))'
    )

    assert impurity(code, "g", read_only) is None
    assert impurity(code, "p", read_only) == "export p: import a#put is not pure"


STORE = f"(i32.store {ADDRESS} (i32.const 1))"


@pytest.mark.parametrize(
    ("body", "rest"),
    [
        ("(call $a)", f"(func $a (call $b)) (func $b (return_call $c)) (func $c {STORE})"),
        ("(return_call $a)", f"(func $a {STORE})"),
        (
            "(call_indirect $t (type $plain) (i32.const 0))",
            f"(elem (table $t) (i32.const 3) func $a) (func $a {STORE})",
        ),
        ("(return_call_indirect $t (type $plain) (i32.const 0))", f"(elem func $a) (func $a {STORE})"),
        ("(call_indirect $t (type $plain) (i32.const 0))", f"(elem declare func $a) (func $a {STORE})"),
        ("(call_indirect $t (type $plain) (i32.const 0))", f"(elem funcref (ref.func $a)) (func $a {STORE})"),
        ("(call_indirect $t (type $plain) (i32.const 0))", f"(global funcref (ref.func $a)) (func $a {STORE})"),
        (
            "(call_indirect $t (type $plain) (i32.const 0))",
            f'(export "a" (func $a)) (func $a {STORE}) (func (table.set $t (i32.const 0) (ref.func $a)))',
        ),
        # the same type under another index
        (
            "(call_indirect $t (type $plain) (i32.const 0))",
            f"(type $same (func)) (elem func $a) (func $a (type $same) {STORE})",
        ),
        ("(if (i32.const 0) (then (block (loop (br_if 0 (i32.const 0)) (call $a)))))", f"(func $a {STORE})"),
        ("(return) (call $a)", f"(func $a {STORE})"),
    ],
)
def test_change_is_found_through_any_call(body: str, rest: str) -> None:
    """Directly, by tail calls, through tables; also where a condition or a return stands before it."""
    reason, _ = judged(body, rest)

    assert reason is not None
    assert reason.endswith("i32.store")
    assert "(f)" not in reason


@pytest.mark.parametrize(
    ("body", "rest"),
    [
        ("", f"(func $a {STORE})"),
        ("(call_indirect $t (type $plain) (i32.const 0))", f"(func $a {STORE})"),
        (
            "(call_indirect $t (type $plain) (i32.const 0))",
            f"(elem func $a $b) (func $a) (func $b (result i32) {STORE} (i32.const 1))",
        ),
        ("(drop (ref.func $a))", f"(elem declare func $a) (func $a {STORE})"),
        ("(call $a)", "(func $a (call $b)) (func $b (call $a))"),
    ],
)
def test_change_out_of_reach_does_not_count(body: str, rest: str) -> None:
    """Other exports, functions of other types, functions that are only named."""
    assert judged(body, rest)[0] is None


def test_indirect_call_of_an_import_is_judged() -> None:
    """A table may hold an import."""
    for name, wanted in (("$get", None), ("$put", "is not pure")):
        reason, obstacle = judged(
            "(call_indirect $t (type $plain) (i32.const 0))", f"(elem (table $t) (i32.const 0) func {name})"
        )
        assert (reason is None) == (obstacle is None) == (wanted is None)
        assert wanted is None or wanted in str(reason)


@pytest.mark.parametrize("item", ["(table $i 1 funcref)", "(global $i funcref)"])
def test_indirect_call_where_functions_come_from_outside_is_impure(item: str) -> None:
    """Nobody here knows what an imported table holds."""
    code = wat(
        f'(module (import "a" "b" {item}) (table 1 funcref) (type $t (func))'
        ' (func (export "f") (call_indirect (type $t) (i32.const 0))))'
    )

    assert "imported" in str(impurity(code, "f", read_only))
    assert "imported" in str(guard_obstacle(code, "f", read_only))


def test_store_to_memory_that_nobody_reaches_is_an_obstacle() -> None:
    """What is not exported cannot be saved."""
    code = wat(f'(module (memory 1) (func (export "f") {STORE}))')

    assert str(guard_obstacle(code, "f", nothing)).endswith("i32.store")


def test_many_indirect_calls_and_targets_take_linear_time() -> None:
    """Two thousand calls of a type that two thousand functions have: each function is looked at once."""
    count = 2000
    code = wat(
        f"(module (table 1 funcref) (type $t (func)) {'(func (type $t))' * count}"
        f" (elem func {' '.join(map(str, range(count)))})"
        f' (func (export "f") {"(call_indirect (type $t) (i32.const 0))" * count}))'
    )
    asked = parse(code)
    looked_at: list[int] = []
    original = type(asked).instructions

    class Counting(type(asked)):  # type: ignore[misc]
        def instructions(self, function: int, *rest: object) -> object:
            looked_at.append(function)
            return original(self, function, *rest)

    object.__setattr__(asked, "__class__", Counting)

    assert impurity(asked, "f", nothing) is None
    assert sorted(looked_at) == list(range(count + 1))


@pytest.mark.parametrize("name", ["g", "memory", "", "f\n"])
def test_export_that_is_not_there_is_an_error(name: str) -> None:
    """A memory is no function."""
    with pytest.raises(ModuleError, match="no function exported as"):
        impurity(wat('(module (memory (export "memory") 1) (func (export "f")))'), name, nothing)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_handlers_and_allocators_are_impure(path: Path) -> None:
    """Real C moves its stack pointer; it does nothing that could not be taken back but call and grow memory."""
    module = parse(path.read_bytes())
    handlers = [found.name for found in module.exports if "#" in found.name or found.name == "cabi_realloc"]
    assert len(handlers) >= 2
    for name in handlers:
        reason = impurity(module, name, nothing)
        assert reason is None or re.fullmatch(r"function \d+( \(.+\))? at offset 0x[0-9a-f]+: .+", reason)
        obstacle = guard_obstacle(module, name, lambda *_: True)
        assert obstacle is None or obstacle.endswith("memory.grow")
    assert impurity(module, "cabi_realloc", nothing) is not None


# Functions made of these; the second says whether it changes what lasts, the third whether it is an obstacle.
STATEMENTS = [
    ("(drop (i32.load (i32.const 8)))", False, False),
    ("(local.set 0 (i32.const 3))", False, False),
    ("(drop (table.get $t (i32.const 0)))", False, False),
    ("(drop (memory.size))", False, False),
    ("(i32.store8 (i32.const 9) (i32.const 77))", True, False),
    ("(v128.store (i32.const 32) (v128.const i64x2 5 6))", True, False),
    ("(memory.fill (i32.const 64) (i32.const 3) (i32.const 9))", True, False),
    ("(global.set $g (i32.const 41))", True, False),
    ("(drop (memory.grow (i32.const 1)))", True, True),
    ("(table.set $t (i32.const 7) (ref.func $f0))", True, True),
    ("(drop (table.grow $t (ref.null func) (i32.const 1)))", True, True),
]
FUNCTIONS = 5


@st.composite
def programs(draw: st.DrawFn) -> tuple[list[list[str]], list[tuple[bool, bool]]]:
    """Statements of each function, and what each reaches by itself; calls go to later functions, so that they end."""
    bodies: list[list[str]] = []
    effects = [(False, False)] * FUNCTIONS
    for place in reversed(range(FUNCTIONS)):
        body, changes, lasts = [], False, False
        for _ in range(draw(st.integers(0, 3))):
            callee = draw(st.integers(0, FUNCTIONS * 3))
            if place < callee < FUNCTIONS:
                form = draw(
                    st.sampled_from(
                        ["(call $f{})", "(if (i32.const 1) (then (call $f{})))", "(block (return_call $f{}))"]
                    )
                )
                statement, (one, other) = form.format(callee), effects[callee]
            else:
                statement, one, other = draw(st.sampled_from(STATEMENTS[:4] if callee % 2 else STATEMENTS))
            body.append(statement)
            changes, lasts = changes or one, lasts or other
        bodies.insert(0, body)
        effects[place] = (changes, lasts)
    return bodies, effects


def state(instance: wasmtime.Instance, store: wasmtime.Store) -> tuple[object, ...]:
    exports = instance.exports(store)
    memory, table, number = exports["memory"], exports["t"], exports["g"]
    assert isinstance(memory, wasmtime.Memory)
    assert isinstance(table, wasmtime.Table)
    assert isinstance(number, wasmtime.Global)
    entries = [table.get(store, place) is None for place in range(table.size(store))]
    return bytes(memory.read(store, 0, memory.data_len(store))), entries, number.value(store)


@settings(deadline=None)
@given(programs())
def test_judgement_agrees_with_what_happens(program: tuple[list[list[str]], list[tuple[bool, bool]]]) -> None:
    """By construction of the program, exactly; by running it in the engine, never pure when something changed."""
    bodies, effects = program
    functions = "".join(
        f'(func $f{place} (export "f{place}") (local i32) {" ".join(body)})' for place, body in enumerate(bodies)
    )
    code = wat(
        '(module (memory (export "memory") 1) (table $t (export "t") 8 funcref)'
        f' (global $g (export "g") (mut i32) (i32.const 0)) (elem declare func $f0) {functions})'
    )
    for place, (changes, lasts) in enumerate(effects):
        assert (impurity(code, f"f{place}", nothing) is not None) == changes
        assert (guard_obstacle(code, f"f{place}", nothing) is not None) == lasts
        store = wasmtime.Store()
        instance = wasmtime.Instance(store, wasmtime.Module(store.engine, code), [])
        before = state(instance, store)
        instance.exports(store)[f"f{place}"](store)  # type: ignore[operator]
        assert changes or state(instance, store) == before


@settings(deadline=None)
@given(mutated(), st.sampled_from(["walk", "third", "cabi_realloc", "spinrt:mail/delivery-events@1.0.0#deliver"]))
def test_damaged_module_is_judged_or_refused(code: bytes, export: str) -> None:
    """Indices that point nowhere included."""
    with contextlib.suppress(ModuleError):
        impurity(code, export, nothing)
    with contextlib.suppress(ModuleError):
        impurity(code, export, lambda *_: True)
    with contextlib.suppress(ModuleError):
        guard_obstacle(code, export, lambda *_: True)
