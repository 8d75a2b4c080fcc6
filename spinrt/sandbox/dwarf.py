"""Source lines of a module, from the line number programs in its custom section ``.debug_line``.

Versions 2 to 5 of DWARF, 32 bits, as clang, zig and rustc write them for WebAssembly; addresses count from the start
of the code section's payload. What is read was written by a stranger: anything wrong with a unit ends that unit, and
no more is read than `SECTION_BYTES_MAX`; every loop takes a byte at each turn.

Source: DWARF Debugging Information Format 5, 6.2; "DWARF for WebAssembly" (yurydelendik.github.io/webassembly-dwarf).
"""

from __future__ import annotations

import posixpath
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

SECTION_BYTES_MAX: Final = 8 << 20
TEXT_BYTES_MAX: Final = 1024
_PATH, _DIRECTORY = 1, 2
_COPY, _ADVANCE_PC, _ADVANCE_LINE, _SET_FILE, _CONST_ADD_PC, _FIXED_ADVANCE_PC = 1, 2, 3, 4, 8, 9
_END_SEQUENCE, _SET_ADDRESS = 1, 2
_SIZED: Final = {0x0B: 1, 0x05: 2, 0x06: 4, 0x07: 8, 0x1E: 16}
"""Forms of a fixed size: data1, data2, data4, data8, data16."""


class Place(NamedTuple):
    """A line of a source file; lines count from 1."""

    file: str
    line: int


class _Wrong(Exception):
    """The bytes are no line number program that this reader knows."""


class Lines:
    """Which line an address belongs to.

    Args:
        sections: The module's custom sections ``.debug_line``, ``.debug_line_str`` and ``.debug_str``, as far as it
            has them.
        code_bytes: Size of the code section's payload: what lies outside of it was removed by the linker.
    """

    def __init__(self, sections: Mapping[str, bytes], code_bytes: int) -> None:
        rows: list[tuple[int, str, int]] = []
        cursor = _Cursor(sections.get(".debug_line", b"")[:SECTION_BYTES_MAX])
        while cursor.left >= 4:
            try:
                unit = cursor.inner(cursor.number(4))
            except _Wrong:
                break
            try:
                rows += _Program(unit, sections, code_bytes).rows()
            except (_Wrong, UnicodeDecodeError):
                continue
        rows.sort(key=lambda row: row[0])
        self._rows = rows
        self._starts = [row[0] for row in rows]

    def find(self, address: int) -> Place | None:
        """Return the line of the instruction at an address; none where nothing is known."""
        place = bisect_right(self._starts, address) - 1
        if place < 0 or not self._rows[place][2]:
            return None
        return Place(*self._rows[place][1:])


class _Cursor:
    """Reads little-endian numbers, strings and LEB128 within bounds."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, length: int) -> bytes:
        if length > self.left:
            raise _Wrong
        self._at += length
        return self._data[self._at - length : self._at]

    def inner(self, length: int) -> _Cursor:
        return _Cursor(self.take(length))

    def number(self, length: int, *, signed: bool = False) -> int:
        return int.from_bytes(self.take(length), "little", signed=signed)

    def leb(self, *, signed: bool = False) -> int:
        value = shift = 0
        while True:
            byte = self.number(1)
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift >= 70:
                raise _Wrong
        return value - (1 << shift) if signed and byte & 0x40 else value

    def text(self) -> str:
        end = self._data.find(b"\0", self._at, self._at + TEXT_BYTES_MAX)
        if end < 0:
            raise _Wrong
        found = self._data[self._at : end]
        self._at = end + 1
        return found.decode("utf-8", "replace")


@dataclass(slots=True)
class _State:
    """Registers of the line number machine."""

    address: int = 0
    file: int = 1
    line: int = 1


class _Program:
    """One unit: its header, and the program behind it."""

    def __init__(self, unit: _Cursor, sections: Mapping[str, bytes], code_bytes: int) -> None:
        self._sections, self._code_bytes = sections, code_bytes
        self._version = unit.number(2)
        if not 2 <= self._version <= 5:
            raise _Wrong
        if self._version == 5:
            unit.take(2)  # sizes of addresses and of segment selectors
        header = unit.inner(unit.number(4))
        self._code = unit
        self._instruction_bytes = header.number(1)
        if self._version >= 4:
            header.take(1)  # operations of an instruction: one here
        header.take(1)  # whether a row begins a statement, at first
        self._line_base = header.number(1, signed=True)
        self._line_range = header.number(1)
        self._opcode_base = header.number(1)
        if not self._line_range or not self._opcode_base:
            raise _Wrong
        self._operand_counts = header.take(self._opcode_base - 1)
        self._files = self._new_files(header) if self._version == 5 else self._old_files(header)

    # ------------------------------------------------------------------------------------------------------- header

    def _old_files(self, header: _Cursor) -> list[str]:
        """Directories and files end with an empty name; both count from 1, directory 0 being the compiler's own."""
        directories = [""]
        while name := header.text():
            directories.append(name)
        files = [""]
        while name := header.text():
            directory = header.leb()
            header.leb(), header.leb()  # time and size
            files.append(_joined(directories, directory, name))
        return files

    def _new_files(self, header: _Cursor) -> list[str]:
        directories = [name for name, _ in self._entries(header)]
        return [_joined(directories, directory, name) for name, directory in self._entries(header)]

    def _entries(self, header: _Cursor) -> list[tuple[str, int]]:
        """A table of version 5: it says itself of what each entry consists."""
        format_ = [(header.leb(), header.leb()) for _ in range(header.number(1))]
        count = header.leb()
        if count > header.left or (count and not format_):
            raise _Wrong
        return [self._entry(header, format_) for _ in range(count)]

    def _entry(self, header: _Cursor, format_: list[tuple[int, int]]) -> tuple[str, int]:
        before = header.left
        name, directory = "", 0
        for content, form in format_:
            value = self._value(header, form)
            if content == _PATH and isinstance(value, str):
                name = value
            elif content == _DIRECTORY and isinstance(value, int):
                directory = value
        if header.left == before:
            raise _Wrong
        return name, directory

    def _value(self, header: _Cursor, form: int) -> str | int:
        if form == 0x08:
            return header.text()
        if form in (0x1F, 0x0E):
            texts = self._sections.get(".debug_line_str" if form == 0x1F else ".debug_str", b"")
            at = header.number(4)
            if at >= len(texts):
                raise _Wrong
            return _Cursor(texts[at : at + TEXT_BYTES_MAX + 1]).text()
        if form == 0x0F:
            return header.leb()
        if form == 0x09:
            header.take(header.leb())
            return 0
        if form not in _SIZED:
            raise _Wrong
        return header.number(_SIZED[form])

    # ------------------------------------------------------------------------------------------------------ program

    def rows(self) -> list[tuple[int, str, int]]:
        """Run the program: (address, file, line) of each row, line 0 where a sequence ends."""
        made: list[tuple[int, str, int]] = []
        sequence: list[tuple[int, str, int]] = []
        state = _State()
        while self._code.left:
            opcode = self._code.number(1)
            if opcode >= self._opcode_base:
                self._special(state, opcode - self._opcode_base)
                sequence.append(self._row(state))
            elif opcode == _COPY:
                sequence.append(self._row(state))
            elif opcode == 0:
                if self._extended(state):
                    sequence.append((state.address, "", 0))
                    made += self._kept(sequence)
                    sequence, state = [], _State()
            else:
                self._standard(state, opcode)
        return made

    def _kept(self, sequence: list[tuple[int, str, int]]) -> list[tuple[int, str, int]]:
        """Nothing of a function that the linker removed: it leaves an address where no code can be."""
        first, last = sequence[0][0], sequence[-1][0]
        return sequence if 0 < first <= last <= self._code_bytes else []

    def _row(self, state: _State) -> tuple[int, str, int]:
        known = 0 <= state.file < len(self._files)
        return state.address, self._files[state.file] if known else "", max(0, state.line)

    def _special(self, state: _State, adjusted: int) -> None:
        state.address += adjusted // self._line_range * self._instruction_bytes
        state.line += self._line_base + adjusted % self._line_range

    def _standard(self, state: _State, opcode: int) -> None:
        code = self._code
        if opcode == _ADVANCE_PC:
            state.address += code.leb() * self._instruction_bytes
        elif opcode == _ADVANCE_LINE:
            state.line += code.leb(signed=True)
        elif opcode == _SET_FILE:
            state.file = code.leb()
        elif opcode == _CONST_ADD_PC:
            state.address += (255 - self._opcode_base) // self._line_range * self._instruction_bytes
        elif opcode == _FIXED_ADVANCE_PC:
            state.address += code.number(2)
        else:
            for _ in range(self._operand_counts[opcode - 1]):
                code.leb()

    def _extended(self, state: _State) -> bool:
        """Whether the sequence ends."""
        operation = self._code.inner(self._code.leb())
        if not operation.left:
            raise _Wrong
        kind = operation.number(1)
        if kind == _SET_ADDRESS:
            state.address = operation.number(min(8, operation.left))
        return kind == _END_SEQUENCE


def _joined(directories: list[str], directory: int, name: str) -> str:
    inside = directories[directory] if 0 <= directory < len(directories) else ""
    return posixpath.join(inside, name)
