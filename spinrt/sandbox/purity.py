"""Can a call of this exported function change anything? Answered from the code, before it runs.

The call graph is walked from the export: direct calls; for a call through a table, every function of the called type
that an element segment, an initial value or a ``ref.func`` anywhere in the module refers to. What may be reached
counts as reached, whatever the conditions on the way, so an answer of "nothing" can be trusted and an answer of
"something" may be too careful.

Neither endless loops nor traps are changes. What the Canonical ABI calls around a function (``cabi_realloc``,
``cabi_post_…``) is an export of its own: ask for it too.

Source: docs/design/rewrite.md.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, TypeAlias

from spinrt.sandbox.binary import CoreModule, parse
from spinrt.sandbox.binary_opcodes import (
    CALLS,
    FUNCTION_REFERENCES,
    GLOBAL_WRITES,
    INDIRECT_CALLS,
    MEMORY_GROWTH,
    MEMORY_WRITES,
    SEGMENT_DROPS,
    TABLE_WRITES,
)
from spinrt.sandbox.binary_reader import shown
from spinrt.sandbox.binary_sections import FUNCTION_KIND, FunctionType
from spinrt.sandbox.binary_walk import Instruction
from spinrt.sandbox.rewrite import LETTERS, exports_memory

PureImports: TypeAlias = Callable[[str, str], bool]
"""Told an import's module and name, says whether calling it changes nothing."""

_IRREVERSIBLE: Final = MEMORY_GROWTH | TABLE_WRITES | SEGMENT_DROPS
_CHANGES: Final = _IRREVERSIBLE | MEMORY_WRITES | GLOBAL_WRITES
CHANGE_KINDS: Final = {
    "stores": MEMORY_WRITES,
    "globals": GLOBAL_WRITES,
    "growth": MEMORY_GROWTH,
    "tables": TABLE_WRITES,
    "segments": SEGMENT_DROPS,
}
_ANY_CALL: Final = CALLS | INDIRECT_CALLS


def impurity(module: bytes | CoreModule, export: str, pure_imports: PureImports) -> str | None:
    """Return why a call may change something, or none when it cannot.

    Stores to the shadow stack, and moving its pointer, count as changes like any other.

    Returns:
        For people: ``function 12 (parse) at offset 0x1a3: i32.store``.

    Raises:
        ModuleError: There is no such function, or the module is malformed.
    """
    return _Search(_parsed(module), pure_imports, _CHANGES).run(export)


def guard_obstacle(module: bytes | CoreModule, export: str, pure_imports: PureImports) -> str | None:
    """Return what a guard may do that putting back memory and number globals does not take back, or none.

    That is growing memory, writing tables, dropping segments, calling an import that is not pure, writing a global of
    vectors or references, and writing to a memory that is not exported.

    Returns, Raises: As `impurity`.
    """
    parsed = _parsed(module)
    unreachable = frozenset() if exports_memory(parsed) else MEMORY_WRITES
    return _Search(parsed, pure_imports, _IRREVERSIBLE | unreachable, numbers_may_change=True).run(export)


@dataclass(frozen=True, slots=True)
class Reach:
    """What calls of some exports may come to, whatever the conditions on the way.

    Attributes:
        functions: Own functions that may run.
        imports: (module, name) of the imports that may be called.
        changes: Kind of change (`CHANGE_KINDS`) → instructions of that kind in these functions.
    """

    functions: int
    imports: frozenset[tuple[str, str]]
    changes: Mapping[str, int]


def reach(module: bytes | CoreModule, exports: Iterable[str]) -> Reach:
    """Return what calls of these exports may come to together.

    Raises:
        ModuleError: There is no such function, or the module is malformed.
    """
    parsed = _parsed(module)
    imports: set[tuple[str, str]] = set()

    def note(interface: str, function: str) -> bool:
        imports.add((interface, function))
        return True

    search = _Count(parsed, note, _CHANGES, numbers_may_change=True)
    for export in exports:
        search.run(export)
    own = sum(function >= len(parsed.imported_functions) for function in search.seen)
    return Reach(own, frozenset(imports), dict(search.changes))


def _parsed(module: bytes | CoreModule) -> CoreModule:
    return module if isinstance(module, CoreModule) else parse(module)


@dataclass(eq=False)
class _Search:
    """One walk over the functions that a call may reach; each, and each type called indirectly, is looked at once."""

    module: CoreModule
    pure_imports: PureImports
    forbidden: frozenset[int]
    numbers_may_change: bool = False
    waiting: deque[int] = field(default_factory=deque)
    seen: set[int] = field(default_factory=set)
    seen_types: set[FunctionType] = field(default_factory=set)

    def run(self, export: str) -> str | None:
        """Return the first thing found that is forbidden."""
        reason = self._reach([self._exported(export)])
        if reason is not None:
            return f"export {shown(export)}: {reason}"
        interest = self.forbidden | GLOBAL_WRITES | _ANY_CALL
        while self.waiting:
            function = self.waiting.popleft()
            for instruction in self.module.instructions(function, interest):
                reason = self._judge(instruction)
                if reason is not None:
                    return self.module.describe(function, instruction) + (f" ({reason})" if reason else "")
        return None

    def _exported(self, name: str) -> int:
        for found in self.module.exports:
            if found.name == name and found.kind == FUNCTION_KIND:
                return found.place
        raise self.module.failure(f"no function exported as {shown(name)!r}", "one")

    def _judge(self, instruction: Instruction) -> str | None:
        """Return none to go on; else what to add to the instruction's name, which may be nothing."""
        if instruction.opcode in CALLS:
            return self._reach(instruction.immediates)
        if instruction.opcode in INDIRECT_CALLS:
            return self._reach_type(instruction.immediates[0])
        if instruction.opcode in GLOBAL_WRITES:
            return self._judge_global(instruction.immediates[0])
        return ""

    def _judge_global(self, index: int) -> str | None:
        if index >= len(self.module.globals):
            raise self.module.failure(f"a write of global {index}", f"one of {len(self.module.globals)}")
        if self.numbers_may_change and self.module.globals[index].value in LETTERS:
            return None
        return f"global {index}"

    def _reach(self, functions: Iterable[int]) -> str | None:
        """Take note of functions that may run; return what is wrong with one that is an import."""
        for function in functions:
            if function in self.seen:
                continue
            self.seen.add(function)
            if function >= len(self.module.imported_functions):
                self.waiting.append(function)
                continue
            found = self.module.imported_functions[function]
            if not self.pure_imports(found.module, found.name):
                return f"import {shown(found.module)}#{shown(found.name)} is not pure"
        return None

    def _reach_type(self, index: int) -> str | None:
        if any(found.kind != FUNCTION_KIND for found in self.module.imports):
            return "its table may hold what was imported"
        if index >= len(self.module.types):
            raise self.module.failure(f"a call of type {index}", f"one of {len(self.module.types)}")
        called = self.module.types[index]
        if called in self.seen_types:
            return None
        self.seen_types.add(called)
        return self._reach(function for function in self._referred if self.module.function_type(function) == called)

    @cached_property
    def _referred(self) -> list[int]:
        return sorted(set(_references(self.module)))


@dataclass(eq=False)
class _Count(_Search):
    """Goes on behind every change, and counts it."""

    changes: Counter[str] = field(default_factory=Counter)

    def _judge(self, instruction: Instruction) -> str | None:
        if instruction.opcode in _ANY_CALL:
            return super()._judge(instruction)
        self.changes.update(kind for kind, opcodes in CHANGE_KINDS.items() if instruction.opcode in opcodes)
        return None


def _references(module: CoreModule) -> Iterator[int]:
    """Every function that a table can come to hold."""
    for segment in module.elements:
        yield from segment.functions
    for found in module.own_globals:
        yield from found.initial.functions
    for _, instruction in module.search(FUNCTION_REFERENCES):
        yield from instruction.immediates
