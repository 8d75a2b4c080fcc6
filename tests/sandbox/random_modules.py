"""Random valid modules that change state in every way there is, as WebAssembly text, from a seed.

Each function is exported as ``f0``, ``f1`` … and ends: loops count in locals of their own, and a function calls only
those before it. Floats are only moved about, never computed with, since the engine may choose the bits of a NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

NUMBERS = ("i32", "i64", "f32", "f64", "v128")
REFERENCES = ("funcref", "externref")
BOTTOM = 1024  # the stack of modules that have one lies below
MEMORY_PAGES = 2
LOOPS_MAX = 3
CALLS_MAX = 2

_STORES = {
    "i32": ("i32.store", "i32.store8", "i32.store16"),
    "i64": ("i64.store", "i64.store8", "i64.store16", "i64.store32"),
    "f32": ("f32.store",),
    "f64": ("f64.store",),
    "v128": ("v128.store",),
}
_LOADS = {
    "i32": ("i32.load", "i32.load8_s", "i32.load16_u"),
    "i64": ("i64.load", "i64.load8_u", "i64.load32_s"),
    "f32": ("f32.load",),
    "f64": ("f64.load",),
    "v128": ("v128.load", "v128.load32_splat", "v128.load8x8_u", "v128.load64_zero"),
}
_PAIRS = {
    "i32": ("i32.add", "i32.sub", "i32.mul", "i32.xor", "i32.shl", "i32.div_u", "i32.rem_s"),
    "i64": ("i64.add", "i64.mul", "i64.or", "i64.rotl", "i64.div_s"),
    "f32": ("f32.copysign",),
    "f64": ("f64.copysign",),
    "v128": ("i32x4.add", "v128.xor", "i8x16.sub", "i8x16.swizzle"),
}
_SINGLES = {
    "i32": ("i32.clz (i32", "i32.wrap_i64 (i64", "i32.reinterpret_f32 (f32", "i32x4.extract_lane 2 (v128"),
    "i64": ("i64.extend_i32_u (i32", "i64.reinterpret_f64 (f64", "i64.popcnt (i64", "i64x2.extract_lane 1 (v128"),
    "f32": ("f32.reinterpret_i32 (i32", "f32.neg (f32", "f32x4.extract_lane 3 (v128"),
    "f64": ("f64.reinterpret_i64 (i64", "f64.abs (f64"),
    "v128": ("i8x16.splat (i32", "i64x2.splat (i64", "v128.not (v128", "f32x4.splat (f32"),
}


@dataclass(frozen=True)
class Function:
    """A function's type, and whether it calls nothing."""

    parameters: tuple[str, ...]
    results: tuple[str, ...]
    leaf: bool


@dataclass
class Scope:
    """One function being written: types of its locals, labels around, innermost last, and what it may still do.

    A label has the types that a jump to it takes; that of a loop has none, as a jump would go back.
    """

    function: Function
    locals: list[str]
    labels: list[tuple[str, ...] | None] = field(default_factory=list)
    loops: int = 0
    calls: int = CALLS_MAX


class Generator:
    """Writes one module."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.chance = self.random.random
        self.grows = self.chance() < 0.35
        self.tables = [] if self.grows or self.chance() < 0.5 else [self._pick(REFERENCES) for _ in range(2)]
        self.globals = [self._pick((*NUMBERS, "i32", "i32")) for _ in range(self.random.randint(1, 5))]
        if not self.grows and self.chance() < 0.3:
            self.globals.append(self._pick(REFERENCES))
        self.has_stack = self.chance() < 0.4
        self.data = [self.chance() < 0.6 for _ in range(self.random.randint(1, 3))]  # whether passive
        self.elements = [self._pick(REFERENCES) for _ in range(2)] if self.tables else []
        self.functions: list[Function] = []

    def module(self) -> str:
        """The whole text."""
        parts = [
            '(import "host" "note" (func $note (param i32) (result i32)))',
            f'(memory (export "memory") 1 {MEMORY_PAGES if self.grows else 1})',
            "(type $leaf (func (param i32) (result i32)))",
            "(table $calls 4 funcref)",
            "(elem (table $calls) (i32.const 0) func $f0 $f1 $note)",
            *(f"(table {self.random.randint(2, 6)} {element})" for element in self.tables),
            *self._globals(),
        ]
        own = [self._function(index) for index in range(self.random.randint(3, 7))]
        return f"(module {' '.join(parts)} {' '.join(self._segments())} {' '.join(own)} {self._start()})"

    def _pick(self, choices: tuple[str, ...] | list[str]) -> str:
        return self.random.choice(choices)

    def _globals(self) -> list[str]:
        stack = [f"(global $__stack_pointer (mut i32) (i32.const {BOTTOM}))"] if self.has_stack else []
        named = [f"(global $g{index} (mut {type}) {self._constant(type)})" for index, type in enumerate(self.globals)]
        return [*stack, *named]

    def _segments(self) -> list[str]:
        data = [
            f'(data {"" if passive else f"(i32.const {BOTTOM + 8 * index})"} "segment {index}")'
            for index, passive in enumerate(self.data)
        ]
        functions = "(ref.func $f0) (ref.null func) (ref.func $f1)"
        elements = [
            f"(elem $e{index} {type} {functions if type == 'funcref' else '(ref.null extern) (ref.null extern)'})"
            for index, type in enumerate(self.elements)
        ]
        return [*data, *elements]

    def _start(self) -> str:
        if self.chance() < 0.7:
            return ""
        store = f"(i64.store (i32.const {BOTTOM + 40}) (i64.const 77))"
        return f"(func $begin {store} {self._global_set('i32')}) (start $begin)"

    def _global_set(self, type: str) -> str:
        found = [index for index, known in enumerate(self.globals) if known == type]
        return f"(global.set $g{found[0]} {self._constant(type)})" if found else ""

    def _function(self, index: int) -> str:
        leaf = index < 2
        parameters = ("i32",) if leaf else self._types(3)
        made = Function(parameters, ("i32",) if leaf else self._types(3), leaf)
        scope = Scope(made, [*parameters, *self._types(4), *NUMBERS])
        local = " ".join(scope.locals[len(parameters) :] + ["i32"] * LOOPS_MAX)
        body = " ".join(self._statement(scope, 3) for _ in range(self.random.randint(2, 7)))
        text = (
            f'(func $f{index} (export "f{index}") (param {" ".join(parameters)}) (result {" ".join(made.results)})'
            f" (local {local}) {self._enter()} {body} {self._last(scope)})"
        )
        self.functions.append(made)
        return text

    def _types(self, most: int) -> tuple[str, ...]:
        return tuple(self._pick(NUMBERS[:4]) for _ in range(self.random.randint(0, most)))

    def _enter(self) -> str:
        """Move the stack pointer as compilers do, and use what it gives."""
        if not self.has_stack or self.chance() < 0.3:
            return ""
        size = self._pick(["16", "64", "900"])
        return (
            f"(global.set $__stack_pointer (i32.sub (global.get $__stack_pointer) (i32.const {size})))"
            " (i64.store offset=8 (global.get $__stack_pointer) (i64.const -1))"
        )

    def _last(self, scope: Scope) -> str:
        """Results; or, in their place, another function's."""
        leave = ""
        if self.has_stack and self.chance() < 0.8:
            leave = f"(global.set $__stack_pointer (i32.const {BOTTOM}))"
        if not scope.function.leaf and self.chance() < 0.4:
            tail = self._tail_call(scope)
            if tail:
                return f"{leave} {tail}"
        return f"{leave} {self._values(scope, scope.function.results)}"

    def _tail_call(self, scope: Scope) -> str:
        if scope.function.results == ("i32",) and self.chance() < 0.5:
            entry = f"(i32.and {self.expression(scope, 'i32', 1)} (i32.const 3))"
            return f"(return_call_indirect $calls (type $leaf) {self.expression(scope, 'i32', 1)} {entry})"
        for index, other in enumerate(self.functions):
            if other.results == scope.function.results:
                return f"(return_call $f{index} {self._values(scope, other.parameters)})"
        return ""

    # Statements leave nothing on the stack.

    def _statement(self, scope: Scope, depth: int) -> str:
        choices: list[Callable[[Scope, int], str]] = [
            *[self._store] * 6,
            *[self._set_global] * 3,
            *[self._set_local] * 2,
            self._lane,
            self._bulk,
            self._init,
            self._drop,
            self._call,
            self._note,
            *([self._write_table] * 3 if self.tables else []),
            *([self._grow] if self.grows else []),
            *([self._block, self._loop, self._loop, self._if, self._leave, self._many] if depth else []),
        ]
        return self.random.choice(choices)(scope, max(depth - 1, 0))

    def _address(self, scope: Scope, size: int = 16) -> str:
        """Mostly within one page, sometimes near the end of memory, rarely anywhere."""
        kind = self.chance()
        if kind < 0.15:
            return f"(i32.const {65536 - self.random.randint(0, size + 2)})"
        if kind < 0.17:
            return self.expression(scope, "i32", 1)
        if kind < 0.35 and self.has_stack:
            return f"(i32.and {self.expression(scope, 'i32', 1)} (i32.const {2 * BOTTOM - 1}))"
        return f"(i32.and {self.expression(scope, 'i32', 1)} (i32.const 0x3ff8))"

    def _offset(self) -> str:
        kind = self.chance()
        if kind < 0.6:
            return ""
        if kind < 0.97:
            return f"offset={self.random.choice([1, 4, 12, 200, BOTTOM - 3, 5000])}"
        return f"offset={self.random.choice([0xFFFF_FFFF, 0xFFFF_FFF8, 65536])}"

    def _store(self, scope: Scope, depth: int) -> str:
        type = self._pick(NUMBERS)
        value = self.expression(scope, type, min(depth, 2))
        return f"({self._pick(_STORES[type])} {self._offset()} {self._address(scope)} {value})"

    def _lane(self, scope: Scope, depth: int) -> str:
        bits = self.random.choice([8, 16, 32, 64])
        lane = self.random.randrange(128 // bits)
        value = self.expression(scope, "v128", 1)
        return f"(v128.store{bits}_lane {self._offset()} {lane} {self._address(scope)} {value})"

    def _set_global(self, scope: Scope, depth: int) -> str:
        index = self.random.randrange(len(self.globals))
        type = self.globals[index]
        value = self._reference(type) if type in REFERENCES else self.expression(scope, type, depth)
        return f"(global.set $g{index} {value})"

    def _set_local(self, scope: Scope, depth: int) -> str:
        index = self.random.randrange(len(scope.locals))
        return f"(local.set {index} {self.expression(scope, scope.locals[index], depth + 1)})"

    def _length(self, most: int) -> str:
        return f"(i32.const {self.random.choice([0, 1, 3, 8, most, most + 1])})"

    def _bulk(self, scope: Scope, depth: int) -> str:
        if self.chance() < 0.5:
            return f"(memory.fill {self._address(scope)} {self.expression(scope, 'i32', 1)} {self._length(300)})"
        return f"(memory.copy {self._address(scope)} {self._address(scope)} {self._length(300)})"

    def _init(self, scope: Scope, depth: int) -> str:
        index = self.random.randrange(len(self.data))
        source = f"(i32.const {self.random.choice([0, 0, 2])})"
        return f"(memory.init {index} {self._address(scope)} {source} {self._length(5)})"

    def _drop(self, scope: Scope, depth: int) -> str:
        if self.elements and self.chance() < 0.5:
            return f"(elem.drop $e{self.random.randrange(len(self.elements))})"
        return f"(data.drop {self.random.randrange(len(self.data))})"

    def _grow(self, scope: Scope, depth: int) -> str:
        return f"(drop (memory.grow (i32.const {self.random.choice([0, 1, 1, 9])})))"

    def _reference(self, type: str) -> str:
        if type == "externref":
            return "(ref.null extern)"
        return self._pick(["(ref.null func)", "(ref.func $f0)", "(ref.func $f1)", "(ref.func $note)"])

    def _write_table(self, scope: Scope, depth: int) -> str:
        """Tables are numbered behind ``$calls``, which is written too."""
        tables = ["funcref", *self.tables]
        table = self.random.randrange(len(tables))
        entry = f"(i32.const {self.random.choice([0, 0, 1, 1, 2, 3, 9])})"
        same = [index for index, type in enumerate(tables) if type == tables[table]]
        elements = [index for index, type in enumerate(self.elements) if type == tables[table]]
        choices = [
            f"(table.set {table} {entry} {self._reference(tables[table])})",
            f"(table.fill {table} {entry} {self._reference(tables[table])} {self._length(2)})",
            f"(table.copy {table} {self.random.choice(same)} {entry} (i32.const 0) {self._length(2)})",
            *(f"(table.init {table} $e{index} {entry} (i32.const 0) {self._length(2)})" for index in elements),
        ]
        return self._pick(choices)

    def _note(self, scope: Scope, depth: int) -> str:
        return f"(drop (call $note {self.expression(scope, 'i32', 1)}))"

    def _call(self, scope: Scope, depth: int) -> str:
        if scope.function.leaf or scope.calls == 0:
            return "(nop)"
        scope.calls -= 1
        if self.chance() < 0.3:
            entry = f"(i32.and {self.expression(scope, 'i32', 1)} (i32.const 3))"
            return f"(drop (call_indirect $calls (type $leaf) {self.expression(scope, 'i32', 1)} {entry}))"
        index = self.random.randrange(len(self.functions))
        called = self.functions[index]
        return f"(call $f{index} {self._values(scope, called.parameters)}) {'drop ' * len(called.results)}"

    def _body(self, scope: Scope, depth: int, label: tuple[str, ...] | None) -> str:
        scope.labels.append(label)
        body = " ".join(self._statement(scope, depth) for _ in range(self.random.randint(1, 3)))
        scope.labels.pop()
        return body

    def _block(self, scope: Scope, depth: int) -> str:
        return f"(block {self._body(scope, depth, ())})"

    def _many(self, scope: Scope, depth: int) -> str:
        """A block of several results, which may be left early with them."""
        types = ("i32", "i64", "v128")
        values = self._values(scope, types)
        early = f"{values} {self.expression(scope, 'i32', 1)} br_if 0 drop drop drop"
        body = self._body(scope, depth, types)
        return f"block (result {' '.join(types)}) {early} {body} {values} end drop drop drop"

    def _loop(self, scope: Scope, depth: int) -> str:
        if scope.loops == LOOPS_MAX:
            return "(nop)"
        counter = len(scope.locals) + scope.loops
        scope.loops += 1
        body = self._body(scope, depth, None)
        turns = self.random.randint(1, 3)
        return (
            f"(local.set {counter} (i32.const {turns})) (loop {body}"
            f" (br_if 0 (local.tee {counter} (i32.sub (local.get {counter}) (i32.const 1)))))"
        )

    def _if(self, scope: Scope, depth: int) -> str:
        condition = self.expression(scope, "i32", 1)
        other = f"(else {self._body(scope, depth, ())})" if self.chance() < 0.5 else ""
        return f"(if {condition} (then {self._body(scope, depth, ())}) {other})"

    def _leave(self, scope: Scope, depth: int) -> str:
        """A return, a jump forward or a trap, mostly under a condition; what comes behind it may be dead."""
        if self.chance() < 0.15:
            return self._away(scope)
        condition = f"(i32.eqz (i32.and {self.expression(scope, 'i32', 1)} (i32.const 7)))"
        scope.labels.append(())
        away = self._away(scope)
        scope.labels.pop()
        return f"(if {condition} (then {away}))"

    def _away(self, scope: Scope) -> str:
        kind = self.chance()
        if kind < 0.2:
            return "(unreachable)"
        if kind < 0.5:
            return f"(return {self._values(scope, scope.function.results)})"
        around = [*reversed(scope.labels), scope.function.results]
        forward = [(depth, types) for depth, types in enumerate(around) if types is not None]
        if kind < 0.7:
            empty = [str(depth) for depth, types in forward if not types]
            if empty:
                return f"(br_table {' '.join(empty)} {self.expression(scope, 'i32', 1)})"
        depth, types = self.random.choice(forward)
        return f"(br {depth} {self._values(scope, types)})"

    def _values(self, scope: Scope, types: tuple[str, ...]) -> str:
        return " ".join(self.expression(scope, type, 1) for type in types)

    # Expressions leave one value.

    def expression(self, scope: Scope, type: str, depth: int) -> str:
        known = [index for index, found in enumerate(scope.locals) if found == type]
        if depth <= 0 or self.chance() < 0.3:
            return f"(local.get {self.random.choice(known)})" if known and self.chance() < 0.7 else self._constant(type)
        kind = self.chance()
        if kind < 0.3:
            left, right = (self.expression(scope, type, depth - 1) for _ in range(2))
            return f"({self._pick(_PAIRS[type])} {left} {right})"
        if kind < 0.5:
            name, _, operand = self._pick(_SINGLES[type]).partition(" (")
            return f"({name} {self.expression(scope, operand, depth - 1)})"
        if kind < 0.75:
            return f"({self._pick(_LOADS[type])} {self._offset()} {self._address(scope)})"
        return self._choice(scope, type, depth)

    def _choice(self, scope: Scope, type: str, depth: int) -> str:
        same = [index for index, found in enumerate(self.globals) if found == type]
        if same and self.chance() < 0.5:
            return f"(global.get $g{self.random.choice(same)})"
        condition, left, right = (self.expression(scope, found, depth - 1) for found in ("i32", type, type))
        if self.chance() < 0.5:
            return f"(select {left} {right} {condition})"
        scope.labels.append((type,))
        before = self._store(scope, 0)
        scope.labels.pop()
        return f"(if (result {type}) {condition} (then {before} {left}) (else {right}))"

    def _constant(self, type: str) -> str:
        if type in REFERENCES:
            return f"(ref.null {type.removesuffix('ref')})"
        if type == "v128":
            return f"(v128.const i64x2 {self.random.getrandbits(64)} {self.random.getrandbits(64)})"
        if type in ("f32", "f64"):
            return f"({type}.const {self._pick(['0', '-0.0', '1.5', 'nan:0x200001', '-inf', '3e7'])})"
        small = self.random.choice([0, 1, 2, 7, 8, 255, 1020, 4096, -1, 65535])
        return f"({type}.const {small if self.chance() < 0.8 else self.random.getrandbits(31)})"
