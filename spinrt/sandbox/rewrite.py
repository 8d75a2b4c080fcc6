"""Make a validated module ready for a store that it shares with others.

The engine's limiter counts a store as a whole, so what bounds one module is written into it: the maxima of its memory
and tables. What a move to a fresh store must carry over is made reachable: mutable globals are exported. And
instantiating runs nothing: the start function is exported in place of being started, so that a copy of a live
instance can be made. And what the code changes can be taken back, if there is to be an undo log
(`spinrt.sandbox.instrument`).

Names, indices and custom sections stay as they are; without an undo log, so do function bodies, and offsets in debug
information, which count from the start of the code. A module that needs none of this is returned as it came.

Source: docs/design/rewrite.md; docs/design/transactions.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from spinrt._core import GLOBAL_EXPORT, START_EXPORT
from spinrt.errors import MemoryExceeded
from spinrt.sandbox.binary import CoreModule, encode_limits, extended, parse, replace_sections
from spinrt.sandbox.binary_opcodes import SEGMENT_DROPS, TABLE_WRITES
from spinrt.sandbox.binary_reader import named, shown, unsigned
from spinrt.sandbox.binary_sections import (
    CODE,
    DATA,
    DATA_COUNT,
    ELEMENT,
    ENTRIES_MAX,
    EXPORT,
    FUNCTION,
    FUNCTION_KIND,
    GLOBAL_KIND,
    KIND_NAMES,
    MEMORY,
    MEMORY_KIND,
    PAGES_MAX,
    REFERENCES,
    START,
    TABLE,
    TYPE,
    Export,
    Limits,
    TableType,
    encode_type,
)
from spinrt.sandbox.instrument import (
    BYTES_EXPORT,
    LOG_EXPORT,
    REFERENCE_EXPORTS,
    TABLE_PREFIX,
    Additions,
    UndoLog,
    instrument,
)

GLOBAL_PREFIX: Final = GLOBAL_EXPORT
START_NAME: Final = START_EXPORT
MEMORY_NAME: Final = "memory"
_RESERVED: Final = frozenset({START_NAME, LOG_EXPORT, BYTES_EXPORT, *REFERENCE_EXPORTS.values()})

TABLES_MAX: Final = 8
"""Tables of one module; each may have as many entries as the quota says."""

LETTERS: Final = {"i32": "i", "i64": "l", "f32": "f", "f64": "d"}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A module that is bounded by itself and whose state can be reached.

    Attributes:
        code: The module.
        start: Its start function is exported as ``spinrt:start``, of no parameters and results; call it once, first.
        mutable_globals: Export name and letter (i, l, f, d as in signatures) of each mutable global of a number type,
            in order of index. Those of other types are exported too, but not listed: their modules are not movable.
            The one that the undo log has moved is neither.
        movable: Memory, mutable globals and pages, and with an undo log what lies before its base, are the whole
            state: an instance can be made anew from them.
        immovable_because: Why not, for people; empty when movable.
        memory_pages_min: Pages of 64 KiB it begins with; 0 without a memory.
        memory_pages_max: Pages it can grow to.
        log: Its undo log; none if it was not to have one, if nothing changes it, or if its memory cannot be reached.
        taken_back: What a call changed can be taken back, or no call can change anything.
    """

    code: bytes
    start: bool
    mutable_globals: tuple[tuple[str, str], ...]
    movable: bool
    immovable_because: str
    memory_pages_min: int
    memory_pages_max: int
    log: UndoLog | None = None
    taken_back: bool = False


def prepare(
    code: bytes,
    *,
    memory_pages_max: int,
    table_entries_max: int,
    undo_bytes: int = 0,
    countdown: bool = False,
    name: str = "module",
) -> Prepared:
    """Rewrite a module that the engine validated.

    Args:
        code: The module.
        memory_pages_max: Quota of its memory, in pages of 64 KiB.
        table_entries_max: Quota of each of its tables, in entries.
        undo_bytes: Size of its undo log, rounded up to whole pages; 0 for none.
        countdown: With an undo log, count down before each change, for a fault campaign.
        name: What to call it in errors.

    Raises:
        MemoryExceeded: Its memory or a table begins larger than the quota, or it has more than `TABLES_MAX` tables.
        ModuleError: It is not what spinrt takes, imports something else than functions, exports a reserved name, or
            does what an undo log cannot take back.
        UsageError: `undo_bytes` is above `spinrt.sandbox.instrument.UNDO_BYTES_MAX`.
    """
    module = parse(code, name)
    _check_imports(module)
    _check_exports(module)
    memories = _clamped_memories(module, min(memory_pages_max, PAGES_MAX))
    tables = _clamped_tables(module, min(table_entries_max, ENTRIES_MAX))
    reached = exports_memory(module) or _may_export_memory(module)
    made = instrument(module, undo_bytes, countdown=countdown) if undo_bytes and reached else None
    log, added = made or (None, Additions())
    globals_ = [found for found in _mutable_globals(module) if log is None or found[0] != log.moved]
    because = _immovable_because(module, log)
    memory = memories[0] if memories else Limits(0, 0)
    return Prepared(
        code=replace_sections(module, _changes(module, memories, tables, globals_, added)),
        start=module.start is not None,
        mutable_globals=tuple((global_name(index), LETTERS[value]) for index, value in globals_ if value in LETTERS),
        movable=not because,
        immovable_because=because,
        memory_pages_min=memory.minimum,
        memory_pages_max=memory.maximum or 0,
        log=log,
        taken_back=bool(undo_bytes) and reached,
    )


def global_name(index: int) -> str:
    """Return the name that a mutable global is exported under."""
    return f"{GLOBAL_PREFIX}{index}"


def is_reserved(name: str) -> bool:
    """Tell whether only a prepared module may export that name. Handlers (``spinrt:mail/…#…``) are not meant."""
    return name in _RESERVED or name.startswith((GLOBAL_PREFIX, TABLE_PREFIX))


def exports_memory(module: CoreModule) -> bool:
    """Tell whether the module's memory can be reached from outside, or there is none."""
    return not module.memories or any(
        found.kind == MEMORY_KIND and found.name == MEMORY_NAME for found in module.exports
    )


def _may_export_memory(module: CoreModule) -> bool:
    """Tell whether a memory that the module hides can be exported as every other one is."""
    return all(found.name != MEMORY_NAME for found in module.exports)


def _check_imports(module: CoreModule) -> None:
    for found in module.imports:
        if found.kind != FUNCTION_KIND:
            what = f"an import of a {KIND_NAMES[found.kind]}, {shown(found.module)}#{shown(found.name)}"
            raise module.failure(what, "imports of functions only")


def _check_exports(module: CoreModule) -> None:
    for found in module.exports:
        if is_reserved(found.name):
            raise module.failure(
                f"an export {shown(found.name)!r}",
                f"no name that begins with {GLOBAL_PREFIX} or {TABLE_PREFIX}, nor {', '.join(sorted(_RESERVED))}",
            )


def _clamped(module: CoreModule, what: str, limits: Limits, quota: int, unit: str) -> Limits:
    if limits.minimum > quota:
        raise MemoryExceeded(
            f"module {shown(module.name)}: {what}: found {limits.minimum} {unit} at least, expected at most {quota}",
            hint="build it smaller, or raise its limits in manifest and policy",
        )
    return Limits(limits.minimum, quota if limits.maximum is None else min(limits.maximum, quota))


def _clamped_memories(module: CoreModule, quota: int) -> list[Limits]:
    return [_clamped(module, "memory", limits, quota, "pages of 64 KiB") for limits in module.memories]


def _clamped_tables(module: CoreModule, quota: int) -> list[TableType]:
    if len(module.tables) > TABLES_MAX:
        raise MemoryExceeded(
            f"module {shown(module.name)}: found {len(module.tables)} tables, expected at most {TABLES_MAX}"
        )
    return [
        TableType(table.element, _clamped(module, f"table {place}", table.limits, quota, "entries"))
        for place, table in enumerate(module.tables)
    ]


def _mutable_globals(module: CoreModule) -> list[tuple[int, str]]:
    return [(index, found.value) for index, found in enumerate(module.globals) if found.mutable]


def _changes(
    module: CoreModule,
    memories: Sequence[Limits],
    tables: Sequence[TableType],
    globals_: Sequence[tuple[int, str]],
    added: Additions,
) -> dict[int, bytes | None]:
    """Payloads of the sections that must change."""
    changes: dict[int, bytes | None] = _added_sections(module, added)
    if (*memories, *added.memories) != module.memories:
        changes[MEMORY] = _payload([encode_limits(limits) for limits in (*memories, *added.memories)])
    if (*tables, *added.tables) != module.tables:
        changes[TABLE] = _payload([_encode_table(table) for table in (*tables, *added.tables)])
    exports = [Export(global_name(index), GLOBAL_KIND, index) for index, _ in globals_] + added.exports
    if not exports_memory(module) and _may_export_memory(module):
        exports.append(Export(MEMORY_NAME, MEMORY_KIND, 0))
    if module.start is not None:
        changes[START] = None
        exports.append(Export(START_NAME, FUNCTION_KIND, module.start))
    if exports:
        changes[EXPORT] = extended(module, EXPORT, [_encode_export(*found) for found in exports])
    return changes


def _added_sections(module: CoreModule, added: Additions) -> dict[int, bytes | None]:
    """Payloads of the sections that an undo log alone changes."""
    entries = {
        TYPE: [encode_type(found) for found in added.types],
        FUNCTION: [unsigned(index) for index in added.functions],
        ELEMENT: added.elements,
        DATA: added.data,
    }
    changes: dict[int, bytes | None] = {id: extended(module, id, found) for id, found in entries.items() if found}
    if added.code:
        changes[CODE] = added.code
    if added.data and any(section.id == DATA_COUNT for section in module.sections):
        changes[DATA_COUNT] = unsigned(len(module.data) + len(added.data))
    return changes


def _payload(entries: Sequence[bytes]) -> bytes:
    return unsigned(len(entries)) + b"".join(entries)


def _encode_table(table: TableType) -> bytes:
    return (b"\x6f" if table.element == "externref" else b"\x70") + encode_limits(table.limits)


def _encode_export(name: str, kind: int, index: int) -> bytes:
    return named(name) + bytes([kind]) + unsigned(index)


def _immovable_because(module: CoreModule, log: UndoLog | None) -> str:
    """What a fresh instance with the same memory and globals (and flags of segments) would not have, or nothing."""
    if not exports_memory(module) and not _may_export_memory(module):
        return f"it exports something else than its memory as {MEMORY_NAME}"
    for index, value in _mutable_globals(module):
        if value not in LETTERS:
            what = "a reference" if value in REFERENCES else "a vector"
            return f"mutable global {index} holds {what} ({value})"
    if log is not None and not log.tables:
        return ""
    found = next(module.search(TABLE_WRITES if log else TABLE_WRITES | SEGMENT_DROPS), None)
    return "" if found is None else module.describe(*found)
