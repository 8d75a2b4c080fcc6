"""The binary format of core modules: read one into its sections and what they declare, write it again with some
changed.

`parse` reads what rewriting and judging a module needs. Instructions are read only when asked for, one body at a time
(`CoreModule.instructions`, `CoreModule.search`). `replace_sections` writes a module in which some sections are new
and all other bytes are as they were, names and other custom sections included.

The engine validated the module before: nothing here checks types, or an index that is not looked up. But bad input of
any kind ends in `ModuleError`, and reading takes time in proportion to the bytes.

Layout: magic ``00 61 73 6D``, version ``01 00 00 00``, then sections: id u8, length u32 (LEB128), payload. Ids 1 to
11 come at most once and in this order, 12 (data count) between 9 and 10; 0 (custom: a name, then anything) comes
anywhere.

Source: WebAssembly Core Specification 2.0, 5.5 "Modules". docs/design/rewrite.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

from spinrt.errors import ModuleError
from spinrt.sandbox.binary_reader import Reader, shown, unsigned
from spinrt.sandbox.binary_sections import (
    CODE,
    CUSTOM,
    DATA,
    DATA_COUNT,
    ELEMENT,
    EXPORT,
    FUNCTION,
    FUNCTION_KIND,
    GLOBAL,
    GLOBAL_KIND,
    IMPORT,
    MEMORY,
    MEMORY_KIND,
    READERS,
    START,
    TABLE,
    TABLE_KIND,
    TYPE,
    Body,
    Data,
    Element,
    Export,
    FunctionType,
    Global,
    GlobalType,
    Import,
    Limits,
    TableType,
    skip_locals,
)
from spinrt.sandbox.binary_walk import ALL, Instruction, may_hold, walk

HEADER: Final = b"\0asm\1\0\0\0"
_ORDER: Final = (TYPE, IMPORT, FUNCTION, TABLE, MEMORY, GLOBAL, EXPORT, START, ELEMENT, DATA_COUNT, CODE, DATA)
_RANK: Final = {section: rank for rank, section in enumerate(_ORDER)}
# Subsections of the name section.
_FUNCTION_NAMES: Final = 1
_GLOBAL_NAMES: Final = 7


class Section(NamedTuple):
    """Where a section lies: ``offset`` of its id, ``start`` and ``end`` of its payload."""

    id: int
    offset: int
    start: int
    end: int


@dataclass(frozen=True, eq=False)
class CoreModule:
    """What a module declares. All indices count imports first.

    ``functions`` are the indices of the functions' types; ``own_globals`` come behind imported ones in the index space.
    """

    code: bytes
    name: str
    sections: tuple[Section, ...]
    types: tuple[FunctionType, ...]
    imports: tuple[Import, ...]
    functions: tuple[int, ...]
    tables: tuple[TableType, ...]
    memories: tuple[Limits, ...]
    own_globals: tuple[Global, ...]
    exports: tuple[Export, ...]
    start: int | None
    elements: tuple[Element, ...]
    bodies: tuple[Body, ...]
    data: tuple[Data, ...]

    @cached_property
    def imported_functions(self) -> tuple[Import, ...]:
        return tuple(found for found in self.imports if found.kind == FUNCTION_KIND)

    @cached_property
    def globals(self) -> tuple[GlobalType, ...]:
        return (*_imported(self.imports, GLOBAL_KIND), *(found.type for found in self.own_globals))

    @cached_property
    def function_names(self) -> Mapping[int, str]:
        """Names of functions for people: from the name section (as far as it can be read), else from exports."""
        exported = {found.place: found.name for found in reversed(self.exports) if found.kind == FUNCTION_KIND}
        return exported | _read_name_section(self, _FUNCTION_NAMES)

    @cached_property
    def global_names(self) -> Mapping[int, str]:
        """The same of globals."""
        exported = {found.place: found.name for found in reversed(self.exports) if found.kind == GLOBAL_KIND}
        return exported | _read_name_section(self, _GLOBAL_NAMES)

    def failure(self, found: str, expected: str) -> ModuleError:
        """Return (not raise) the error for something about the module as a whole."""
        return ModuleError(f"module {shown(self.name)}: found {found}, expected {expected}")

    def describe(self, function: int, instruction: Instruction) -> str:
        """Return an instruction's place and name for people: ``function 12 (parse) at offset 0x1a3: i32.store``."""
        name = self.function_names.get(function)
        known = f" ({shown(name)})" if name else ""
        return f"function {function}{known} at offset {instruction.offset:#x}: {instruction.name}"

    def function_type(self, function: int) -> FunctionType:
        """Return a function's type.

        Raises:
            ModuleError: There is no such function or type.
        """
        if function >= len(self.functions) or self.functions[function] >= len(self.types):
            raise self.failure(
                f"a use of function {function}", f"one of {len(self.functions)}, of a type that is there"
            )
        return self.types[self.functions[function]]

    def instructions(self, function: int, interest: frozenset[int] = ALL) -> Iterator[Instruction]:
        """Give a function's instructions of interest in order; none for an imported function.

        Raises:
            ModuleError: While iterating: there is no such function, or its code is malformed.
        """
        self.function_type(function)
        place = function - len(self.imported_functions)
        if place >= 0:
            reader = Reader(self.code, self.name, *self.bodies[place])
            skip_locals(reader)
            yield from walk(reader, interest)

    def search(self, interest: frozenset[int]) -> Iterator[tuple[int, Instruction]]:
        """Give all instructions of interest with their functions; bodies that cannot hold any are not decoded.

        Raises:
            ModuleError: While iterating: code is malformed.
        """
        for function, body in enumerate(self.bodies, len(self.imported_functions)):
            if may_hold(self.code, *body, interest):
                for instruction in self.instructions(function, interest):
                    yield function, instruction


def parse(code: bytes, name: str = "module") -> CoreModule:
    """Read a core module, not its instructions.

    Args:
        code: What the engine validated.
        name: What to call it in errors.

    Raises:
        ModuleError: Not a core module of WebAssembly 2.0: damaged, or of a proposal that spinrt refuses.
    """
    sections = tuple(_read_sections(Reader(code, name)))
    read = {section.id: _read_section(code, name, section) for section in sections}
    imports: tuple[Import, ...] = read.get(IMPORT, ())
    module = CoreModule(
        code,
        name,
        sections,
        types=read.get(TYPE, ()),
        imports=imports,
        functions=_imported(imports, FUNCTION_KIND) + read.get(FUNCTION, ()),
        tables=_imported(imports, TABLE_KIND) + read.get(TABLE, ()),
        memories=_imported(imports, MEMORY_KIND) + read.get(MEMORY, ()),
        own_globals=read.get(GLOBAL, ()),
        exports=read.get(EXPORT, ()),
        start=read.get(START),
        elements=read.get(ELEMENT, ()),
        bodies=read.get(CODE, ()),
        data=read.get(DATA, ()),
    )
    _check_counts(module, len(read.get(FUNCTION, ())), read.get(DATA_COUNT))
    return module


def section_bounds(code: bytes, id: int) -> tuple[int, int]:
    """Return where a section's payload begins and ends; for one that is not there, the end of the module twice.

    Raises:
        ModuleError: The module is damaged.
    """
    found = (section for section in _read_sections(Reader(code, "module")) if section.id == id)
    return next(((section.start, section.end) for section in found), (len(code), len(code)))


def extended(module: CoreModule, id: int, entries: Sequence[bytes]) -> bytes:
    """Return the payload of a section that is a vector, with entries behind those that it has."""
    section = next((found for found in module.sections if found.id == id), None)
    if section is None:
        return unsigned(len(entries)) + b"".join(entries)
    reader = Reader(module.code, module.name, section.start, section.end)
    count = reader.count()
    return unsigned(count + len(entries)) + module.code[reader.at : section.end] + b"".join(entries)


def replace_sections(module: CoreModule, payloads: Mapping[int, bytes | None]) -> bytes:
    """Return the module's bytes with sections replaced, added or removed, and all others as they are.

    Args:
        module: What to change.
        payloads: By section id, not custom: a new payload, or none to remove the section. A section that is added goes
            behind the last one that must come before it.
    """
    if not payloads:
        return module.code
    parts = [(-1, HEADER)]
    parts += [
        (_RANK.get(section.id, -1), _section_bytes(module.code, section, payloads)) for section in module.sections
    ]
    present = {section.id for section in module.sections}
    for id in sorted(payloads.keys() - present, key=_RANK.__getitem__):
        if (payload := payloads[id]) is not None:
            place = max((place for place, (rank, _) in enumerate(parts) if 0 <= rank < _RANK[id]), default=0)
            parts.insert(place + 1, (_RANK[id], encode_section(id, payload)))
    return b"".join(part for _, part in parts)


def encode_section(id: int, payload: bytes) -> bytes:
    """Encode a section with its head."""
    return bytes([id]) + unsigned(len(payload)) + payload


def encode_limits(limits: Limits) -> bytes:
    """Encode the limits of a memory or table."""
    if limits.maximum is None:
        return b"\0" + unsigned(limits.minimum)
    return b"\1" + unsigned(limits.minimum) + unsigned(limits.maximum)


def _section_bytes(code: bytes, section: Section, payloads: Mapping[int, bytes | None]) -> bytes:
    if section.id not in payloads:
        return code[section.offset : section.end]
    payload = payloads[section.id]
    return b"" if payload is None else encode_section(section.id, payload)


def _read_sections(reader: Reader) -> Iterator[Section]:
    if reader.code[:8] != HEADER:
        raise reader.failure(f"the head {reader.code[:8].hex(' ') or 'of an empty file'}", HEADER.hex(" "))
    reader.at = len(HEADER)
    rank = -1
    while reader.at < reader.end:
        offset = reader.at
        id = reader.byte()
        if id != CUSTOM:
            rank = _next_rank(reader, id, rank)
        size = reader.u32()
        start = reader.at
        reader.skip(size)
        yield Section(id, offset, start, reader.at)


def _next_rank(reader: Reader, id: int, rank: int) -> int:
    if id not in _RANK:
        what = "a tag section (exception handling)" if id == 13 else f"a section of id {id}"
        raise reader.failure(what, "ids 0 to 12", reader.at - 1)
    if _RANK[id] <= rank:
        raise reader.failure(f"section {id} again or too late", "each once and in order", reader.at - 1)
    return _RANK[id]


def _read_section(code: bytes, name: str, section: Section) -> Any:
    reader = Reader(code, name, section.start, section.end)
    if section.id == CUSTOM:
        return reader.text()
    values = READERS[section.id](reader)
    if reader.at != reader.end:
        raise reader.failure(f"{reader.end - reader.at} bytes more in section {section.id}", "its end")
    return values


def _imported(imports: tuple[Import, ...], kind: int) -> tuple[Any, ...]:
    return tuple(found.type for found in imports if found.kind == kind)


def _check_counts(module: CoreModule, function_count: int, data_count: int | None) -> None:
    """Check what spans several sections."""
    if len(module.bodies) != function_count:
        raise module.failure(f"{len(module.bodies)} function bodies", f"the {function_count} that are declared")
    if data_count not in (None, len(module.data)):
        raise module.failure(f"{len(module.data)} data segments", f"the {data_count} that are declared")
    if len(module.memories) > 1:
        raise module.failure(f"{len(module.memories)} memories", "one at most")


def _read_name_section(module: CoreModule, subsection: int) -> dict[int, str]:
    """The engine does not look at custom sections, so one may hold anything: what can be read is taken."""
    names: dict[int, str] = {}
    for section in module.sections:
        reader = Reader(module.code, module.name, section.start, section.end)
        if section.id == CUSTOM and reader.text() == "name":
            try:
                _read_names(reader, subsection, names)
            except ModuleError:
                continue
    return names


def _read_names(reader: Reader, subsection: int, names: dict[int, str]) -> None:
    """Read the subsections (id u8, length u32, payload); the one asked for is a vector of index and name."""
    while reader.at < reader.end:
        id, size = reader.byte(), reader.u32()
        start = reader.at
        reader.skip(size)
        if id == subsection:
            part = Reader(reader.code, reader.name, start, reader.at)
            for _ in range(part.count()):
                index, name = part.u32(), part.text()
                names[index] = name
