"""Write an undo log into a module: before each change the code notes what was there.

The function bodies are rewritten by the core (`spinrt._core.BodyRewriter`). Here is what goes around them: memories for
the log, tables for references that were there, functions that write the rarer records, and what says where the log
begins. All of it comes behind what the module has, so that no index changes. The global that is set most moves into the
log's memory.

Source: docs/design/transactions.md, "The undo log of an instance" and "What is rewritten".
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from spinrt._core import (
    INSTRUCTION_SHAPES,
    INSTRUMENT_ACTIONS,
    INSTRUMENT_GLOBALS,
    INSTRUMENT_VALUES,
    BodyRewriter,
)
from spinrt.errors import MemoryExceeded, ModuleError, UsageError
from spinrt.sandbox import instrument_helpers as helpers
from spinrt.sandbox.binary import CoreModule, parse, section_bounds
from spinrt.sandbox.binary_opcodes import OPCODES, PREFIX_MISC, PREFIX_SIMD, refusal
from spinrt.sandbox.binary_reader import Reader, shown, unsigned
from spinrt.sandbox.binary_sections import (
    CODE,
    GLOBAL_KIND,
    MEMORY_KIND,
    TABLE_KIND,
    Export,
    FunctionType,
    Limits,
    TableType,
)
from spinrt.sandbox.binary_walk import REFERENCE_TYPES, VALUE_TYPES, Instruction, decode

LOG_EXPORT: Final = "spinrt:undo"
BYTES_EXPORT: Final = "spinrt:undo-bytes"
REFERENCE_EXPORTS: Final = {"funcref": "spinrt:undo-functions", "externref": "spinrt:undo-externs"}
TABLE_PREFIX: Final = "spinrt:table/"
STACK_POINTER: Final = "__stack_pointer"
GLOBAL_BASE: Final = "__global_base"
UNDO_BYTES_MAX: Final = 1 << 30

_PAGE_BYTES: Final = 65_536
_TYPE_BYTES: Final = {name: byte for byte, name in VALUE_TYPES.items()}
_NO_RESULT: Final = -64  # the type of a block without results, as a signed number
_SLOT_HEADS: Final = {"funcref": helpers.FUNCTIONS_HEAD, "externref": helpers.EXTERNS_HEAD}


@dataclass(frozen=True, slots=True)
class UndoLog:
    """What the host must know of a module's log.

    Attributes:
        base: Where the records begin; before it lie head, moved global, stamp and the flags of segments.
        size: Bytes of ``spinrt:undo``, and of ``spinrt:undo-bytes``.
        dead_below: Below this address nothing lives between calls, and stores need no record; 0: no dead stack.
        moved: Index of the global that lives in the log's memory, if any.
        moved_initial: What it begins with (unsigned).
        tables: Number and element type of each table that the code writes.
        globals: Number and value type of each global of which there may be records.
        countdown: Whether a fault campaign may set the countdown.
    """

    base: int
    size: int
    dead_below: int
    moved: int | None
    moved_initial: int
    tables: tuple[tuple[int, str], ...]
    globals: tuple[tuple[int, str], ...]
    countdown: bool


@dataclass(slots=True)
class Additions:
    """What comes behind what a module has, section by section; ``code`` is the whole payload of the code section."""

    types: list[FunctionType] = field(default_factory=list)
    functions: list[int] = field(default_factory=list)
    tables: list[TableType] = field(default_factory=list)
    memories: list[Limits] = field(default_factory=list)
    exports: list[Export] = field(default_factory=list)
    elements: list[bytes] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)
    code: bytes = b""


def instrument(module: CoreModule, undo_bytes: int, *, countdown: bool = False) -> tuple[UndoLog, Additions] | None:
    """Rewrite a module's code, and say what must be added to the module.

    Args:
        module: What the engine validated. Its memory is exported as ``memory``.
        undo_bytes: Least size of the log; rounded up to whole pages.
        countdown: Count down before each change, for a fault campaign.

    Returns:
        None for a module that nothing changes: neither its code nor what the host passes to it.

    Raises:
        MemoryExceeded: So many segments that the log has no room for a record.
        ModuleError: A construct that cannot be taken back, or malformed code.
        UsageError: `undo_bytes` is not 1 to `UNDO_BYTES_MAX`.
    """
    rewriting = _Rewriting.of(module, undo_bytes, countdown)
    return None if rewriting is None else rewriting.finish()


def original_offset(
    code: bytes, rewritten: bytes, offset: int, *, undo_bytes: int, countdown: bool = False
) -> int | None:
    """Return where in the original module an instruction of the rewritten one comes from.

    Args:
        code: The original.
        rewritten: What `spinrt.sandbox.rewrite.prepare` made of it with these options.
        offset: From the beginning of the rewritten module, as the engine tells of a frame.
        undo_bytes, countdown: As `instrument` was given them.

    Returns:
        Offset from the beginning of the original module; none for a place that is not in a function of the original.

    Raises:
        ModuleError, MemoryExceeded, UsageError: As `instrument`.

    Cost: The first question about a module surveys its code; then each writes one function again.
    """
    if rewritten == code or not undo_bytes:
        return _shifted(code, rewritten, offset)
    found = _surveyed(code, undo_bytes, countdown)
    if found is None:
        return _shifted(code, rewritten, offset)
    starts, ends = _bodies(rewritten)
    place = bisect_right(starts, offset) - 1
    if place < 0 or place >= len(found.module.bodies) or offset >= ends[place]:
        return None
    return found.bodies.original(place, offset - starts[place])


def _shifted(code: bytes, rewritten: bytes, offset: int) -> int | None:
    """The same where the code section is as it was, and only its place is another."""
    start, end = section_bounds(rewritten, CODE)
    if not start <= offset < end:
        return None
    return offset - start + section_bounds(code, CODE)[0]


@lru_cache(maxsize=8)
def _surveyed(code: bytes, undo_bytes: int, countdown: bool) -> _Rewriting | None:
    rewriting = _Rewriting.of(parse(code), undo_bytes, countdown)
    if rewriting is not None:
        rewriting.plan()
    return rewriting


@lru_cache(maxsize=8)
def _bodies(rewritten: bytes) -> tuple[list[int], list[int]]:
    """Where the function bodies of a rewritten module begin and end."""
    reader = Reader(rewritten, "module", *section_bounds(rewritten, CODE))
    starts, ends = [], []
    for _ in range(reader.count()):
        size = reader.u32()
        starts.append(reader.at)
        reader.skip(size)
        ends.append(reader.at)
    return starts, ends


@dataclass(slots=True)
class _Rewriting:
    """One module being rewritten."""

    module: CoreModule
    bodies: BodyRewriter
    pages: int
    countdown: bool
    moved: int | None
    dead_below: int
    added: Additions = field(default_factory=Additions)
    made: list[helpers.Helper] = field(default_factory=list)

    @classmethod
    def of(cls, module: CoreModule, undo_bytes: int, countdown: bool) -> _Rewriting | None:
        """Survey a module; none if nothing changes it."""
        if not 0 < undo_bytes <= UNDO_BYTES_MAX:
            raise UsageError(f"undo log: found {undo_bytes} bytes, expected 1 to {UNDO_BYTES_MAX}")
        bodies = BodyRewriter(
            module.code,
            shown(module.name),
            _OPCODES,
            _TYPES,
            _packed(bound for body in module.bodies for bound in body),
            (
                len(module.imported_functions),
                len(module.tables),
                len(module.globals),
                len(module.data),
                len(module.elements),
            ),
            refusal,
        )
        _check(module, bodies)
        if not bodies.first and not any(bodies.global_sets) and not _is_written_by_host(module):
            return None
        moved = _most_set(module, bodies.global_sets)
        return cls(module, bodies, -(-undo_bytes // _PAGE_BYTES), countdown, moved, _dead_below(module, moved))

    @property
    def log(self) -> int:
        """Index of the log's memory."""
        return len(self.module.memories)

    @property
    def base(self) -> int:
        flags = len(self.module.data) + len(self.module.elements)
        return -(-(helpers.FLAGS + flags) // helpers.RECORD_BYTES) * helpers.RECORD_BYTES

    @property
    def set_globals(self) -> list[tuple[int, str]]:
        """Globals of which records are written, with their types."""
        sets = enumerate(self.bodies.global_sets)
        return [(index, self.module.globals[index].value) for index, times in sets if times and index != self.moved]

    @property
    def written_tables(self) -> list[tuple[int, str]]:
        return [(index, self.module.tables[index].element) for index in sorted(self.bodies.written_tables)]

    def finish(self) -> tuple[UndoLog, Additions]:
        self.plan()
        own = self.bodies.rewrite()
        count = len(self.module.bodies) + len(self.made)
        self.added.code = unsigned(count) + own + b"".join(made.body() for made in self.made)
        self._begin_log()
        moved_initial = _initial(self.module, self.moved)
        log = UndoLog(
            base=self.base,
            size=self.pages * _PAGE_BYTES,
            dead_below=self.dead_below,
            moved=self.moved,
            moved_initial=moved_initial,
            tables=tuple(self.written_tables),
            globals=tuple(self.set_globals),
            countdown=self.countdown,
        )
        return log, self.added

    def plan(self) -> None:
        """Add memories, tables and helpers, and tell the core their indices."""
        if self.base + helpers.RECORD_BYTES > self.pages * _PAGE_BYTES:
            raise MemoryExceeded(
                f"module {shown(self.module.name)}: undo log of {self.pages * _PAGE_BYTES} bytes: "
                f"found {self.base} bytes for the flags of segments, expected room for records",
                hint="raise limits.undo_bytes",
            )
        self._add_memory(LOG_EXPORT)
        references = self._add_reference_tables()
        self.bodies.set_plan(
            undo=self.log,
            dead_below=self.dead_below,
            moved=-1 if self.moved is None else self.moved,
            helpers=self._plain_helpers(),
            globals_=self._plan_globals(references),
            tables=self._plan_tables(references),
            data=_chosen(len(self.module.data), self.bodies.dropped_data),
            elements=_chosen(len(self.module.elements), self.bodies.dropped_elements),
            signatures=self._signatures(),
        )

    def _add_memory(self, name: str) -> int:
        index = len(self.module.memories) + len(self.added.memories)
        self.added.memories.append(Limits(self.pages, self.pages))
        self.added.exports.append(Export(name, MEMORY_KIND, index))
        return index

    def _add_reference_tables(self) -> dict[str, int]:
        """Tables for references that were there; by element type."""
        needed = {value for _, value in (*self.written_tables, *self.set_globals) if value in REFERENCE_EXPORTS}
        slots = self.pages * _PAGE_BYTES // helpers.RECORD_BYTES
        found = {}
        for element in sorted(needed):
            found[element] = len(self.module.tables) + len(self.added.tables)
            self.added.tables.append(TableType(element, Limits(slots, slots)))
            self.added.exports.append(Export(REFERENCE_EXPORTS[element], TABLE_KIND, found[element]))
        return found

    def _plain_helpers(self) -> tuple[int, int, int, int]:
        """Helpers that are needed whatever their operand; -1 for those that are not."""
        first = self.bodies.first
        ticks = self._helper(helpers.tick(self.log)) if self.countdown else -1
        saves = -1
        if "bulk" in first or "memory-init" in first:
            saves = self._helper(helpers.save_bytes(self.log, self._add_memory(BYTES_EXPORT), self.dead_below))
        grows = self._helper(helpers.note_growth(self.log)) if "grow" in first else -1
        drops = self._helper(helpers.drop(self.log)) if "drop-data" in first or "drop-element" in first else -1
        return ticks, saves, grows, drops

    def _plan_globals(self, references: dict[str, int]) -> bytes:
        rows = [0, -1] * len(self.module.globals)
        for index, value in self.set_globals:
            known = value in INSTRUMENT_GLOBALS
            rows[2 * index] = INSTRUMENT_GLOBALS.index(value if known else "helper")
            if value == "v128":
                rows[2 * index + 1] = self._helper(helpers.save_vector(self.log, index))
            elif not known:
                keep = helpers.save_reference(self.log, index, references[value], _SLOT_HEADS[value])
                rows[2 * index + 1] = self._helper(keep)
        if self.moved is not None:
            rows[2 * self.moved] = INSTRUMENT_GLOBALS.index("moved")
        return _packed(rows)

    def _plan_tables(self, references: dict[str, int]) -> bytes:
        rows = [-1] * (3 * len(self.module.tables))
        empty = self._add_empty_elements()
        for index, element in self.written_tables:
            keep = helpers.save_entries(self.log, index, references[element], _SLOT_HEADS[element])
            rows[3 * index : 3 * index + 3] = self._helper(keep), empty.get(element, -1), INSTRUMENT_VALUES[element]
            self.added.exports.append(Export(f"{TABLE_PREFIX}{index}", TABLE_KIND, index))
        return _packed(rows)

    def _add_empty_elements(self) -> dict[str, int]:
        """Element segments without an entry, which stand for those that were dropped; by element type."""
        if not self.bodies.dropped_elements:
            return {}
        first = len(self.module.elements)
        elements = sorted({element for _, element in self.written_tables})
        self.added.elements += [bytes([5, _TYPE_BYTES[element], 0]) for element in elements]
        return {element: first + place for place, element in enumerate(elements)}

    def _helper(self, made: helpers.Helper) -> int:
        self.added.functions.append(self._type(FunctionType(("i32",) * made.parameters, ())))
        self.made.append(made)
        return len(self.module.functions) + len(self.made) - 1

    def _type(self, wanted: FunctionType) -> int:
        """The index of a type, which is added if the module does not have it."""
        if wanted in self.module.types:
            return self.module.types.index(wanted)
        if wanted not in self.added.types:
            self.added.types.append(wanted)
        return len(self.module.types) + self.added.types.index(wanted)

    def _signatures(self) -> bytes:
        own = self.module.functions[len(self.module.imported_functions) :]
        for function in own:
            if function >= len(self.module.types):
                raise self.module.failure(f"a use of type {function}", f"one of {len(self.module.types)}")
        known = {index: self._signature(self.module.types[index]) for index in set(own)}
        return _packed(number for index in own for number in known[index])

    def _signature(self, type: FunctionType) -> tuple[int, int]:
        """Number of parameters, and the type of a block that has the results."""
        if len(type.results) > 1:
            return len(type.parameters), self._type(FunctionType((), type.results))
        block = _TYPE_BYTES[type.results[0]] - 0x80 if type.results else _NO_RESULT
        return len(type.parameters), block

    def _begin_log(self) -> None:
        """Fill what lies before the flags: by an active segment, which is empty later."""
        moved, stamp = _initial(self.module, self.moved), 1 << helpers.STAMP_SHIFT
        content = struct.pack("<IIQ24xI", self.base, moved, stamp, self.dead_below)
        place = b"\2" + unsigned(self.log) + helpers.assemble("i32.const 0; end")
        self.added.data.append(place + unsigned(len(content)) + content)


def _is_written_by_host(module: CoreModule) -> bool:
    """Whether values may be put into its memory: results of what it calls, or arguments in room that it gives."""
    return bool(module.memories) and (
        bool(module.imports) or any(found.name == "cabi_realloc" for found in module.exports)
    )


def _packed(numbers: Iterable[int]) -> bytes:
    return array("q", numbers).tobytes()


def _chosen(count: int, indices: set[int]) -> bytes:
    return bytes(index in indices for index in range(count))


def _most_set(module: CoreModule, sets: list[int]) -> int | None:
    """The i32 global that is set most, of those that begin with a plain number."""
    first = len(module.globals) - len(module.own_globals)
    candidates = [
        (sets[index], -index)
        for index, found in enumerate(module.own_globals, first)
        if found.type.value == "i32" and found.initial.i32 is not None and sets[index]
    ]
    return -max(candidates)[1] if candidates else None


def _initial(module: CoreModule, index: int | None) -> int:
    """What a global of a plain number begins with, unsigned."""
    if index is None:
        return 0
    return (module.own_globals[index - len(module.globals) + len(module.own_globals)].initial.i32 or 0) & 0xFFFF_FFFF


def _dead_below(module: CoreModule, moved: int | None) -> int:
    """Where the stack ends, if the moved global is its pointer and nothing else lies below; else 0."""
    names = {found.name for found in module.exports if (found.kind, found.place) == (GLOBAL_KIND, moved)}
    if moved is None or STACK_POINTER not in (module.global_names.get(moved), *names):
        return 0
    top = _initial(module, moved)
    active = [found.address for found in module.data if not found.passive]
    lowest = active or [
        _initial(module, found.place)
        for found in module.exports
        if found.name == GLOBAL_BASE and found.kind == GLOBAL_KIND and not module.globals[found.place].mutable
    ]
    return top if lowest and all(address is not None and address >= top for address in lowest) else 0


def _check(module: CoreModule, bodies: BodyRewriter) -> None:
    """Refuse what nothing can take back."""
    if "table-grow" in bodies.first:
        raise _refused(module, bodies.first["table-grow"], "a table of fixed size (nothing can make one smaller)")
    tables = [place for action, place in bodies.first.items() if action.startswith("table-")]
    if tables and "grow" in bodies.first:
        because = "none in a module that grows its memory (references cannot be carried to a new instance)"
        raise _refused(module, min(tables), because)


def _refused(module: CoreModule, place: tuple[int, int], expected: str) -> ModuleError:
    function, offset = place
    found: Instruction = decode(Reader(module.code, module.name, offset))
    return ModuleError(
        f"module {shown(module.name)}: {module.describe(function, found)}: found with an undo log, expected {expected}",
        hint="build it without, or set limits.undo_bytes to 0: then a fault gives the extension a fresh instance",
    )


_ACTIONS: Final = {
    **dict.fromkeys(("else", "br", "br_if", "br_table"), "branch"),
    **dict.fromkeys(("block", "if"), "open"),
    "loop": "loop",
    "end": "end",
    "return": "return",
    "call": "call",
    "call_indirect": "call-indirect",
    "return_call": "tail-call",
    "return_call_indirect": "tail-call-indirect",
    "global.get": "global-get",
    "global.set": "global-set",
    **dict.fromkeys(("memory.copy", "memory.fill"), "bulk"),
    "memory.init": "memory-init",
    "memory.grow": "grow",
    "data.drop": "drop-data",
    "elem.drop": "drop-element",
    **{f"table.{what}": f"table-{what}" for what in ("set", "fill", "copy", "init", "grow")},
}
_PAGES: Final = {0: 0, PREFIX_MISC: 1, PREFIX_SIMD: 2}


def _store_row(name: str) -> tuple[int, int]:
    """Log2 of a store's bytes, and the local that takes its value."""
    value, _, store = name.partition(".")
    digits = store.removeprefix("store").removesuffix("_lane") or value[1:]
    return (int(digits) // 8).bit_length() - 1, INSTRUMENT_VALUES[value]


def _opcode_table() -> bytes:
    table = bytearray(3 * 256 * 4)
    for number, opcode in OPCODES.items():
        prefix, second = divmod(number, 0x100)
        row = 4 * (256 * _PAGES[prefix] + second)
        is_store = ".store" in opcode.name
        action = "store" if is_store else _ACTIONS.get(opcode.name, "copy")
        width, value = _store_row(opcode.name) if is_store else (0, 0)
        shape = INSTRUCTION_SHAPES.index(opcode.kind)
        table[row : row + 4] = bytes([shape, INSTRUMENT_ACTIONS.index(action), width, value])
    return bytes(table)


_OPCODES: Final = _opcode_table()
_TYPES: Final = bytes(2 if byte in REFERENCE_TYPES else byte in VALUE_TYPES for byte in range(256))
