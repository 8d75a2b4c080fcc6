"""Backtraces for people: from a function's index and an offset to a name and a line.

Names come from the module's name section, else from its exports; lines from its debug information (`dwarf`). Both are
what its author wrote. Where they are missing or make no sense, the numbers remain.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from spinrt.errors import ModuleError, SpinError
from spinrt.sandbox.binary import CoreModule, parse
from spinrt.sandbox.binary_reader import Reader, shown
from spinrt.sandbox.binary_sections import CODE, CUSTOM
from spinrt.sandbox.dwarf import Lines
from spinrt.sandbox.instrument import original_offset

STUB: Final = "spinrt:stub"
"""Name of the module that walks handlers; its frames are the runtime's own."""
_DEBUG: Final = frozenset({".debug_line", ".debug_line_str", ".debug_str"})


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a backtrace.

    Attributes:
        function: Index of the function, imports first.
        name: Of the function, or empty.
        offset: From the start of the module as its author built it; -1 where that is not known.
        file, line: Of the source; empty and 0 where they are not known.
    """

    function: int
    name: str
    offset: int
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        name = shown(self.name) if self.name else f"function {self.function}"
        where = f" at {shown(self.file)}:{self.line}" if self.line else ""
        return f"{name}{where} ({self.function}+{self.offset:#x})" if self.offset >= 0 else f"{name}{where}"


class Symbols:
    """What is known of one module's functions.

    Args:
        code: The module as its author built it.
        compiled: The module that ran, of which offsets are told.
        name: Of the extension, for messages.
        undo_bytes: Of the undo log that it was compiled with; 0: none.
    """

    def __init__(self, code: bytes, compiled: bytes, name: str, *, undo_bytes: int = 0) -> None:
        self._code, self._compiled, self._name, self._undo_bytes = code, compiled, name, undo_bytes

    @cached_property
    def _module(self) -> CoreModule:
        return parse(self._code, self._name)

    @cached_property
    def _lines(self) -> Lines:
        start, end = _code_section(self._module)
        return Lines(_custom_sections(self._module), end - start)

    def frames(self, raw: Iterable[tuple[str, int, int]]) -> list[Frame]:
        """Return the frames of a `Trace` with names and lines, the runtime's own left out."""
        return [self.frame(function, offset) for module, function, offset in raw if module != STUB]

    def frame(self, function: int, offset: int) -> Frame:
        """Return one frame; ``offset`` counts from the start of the module that ran."""
        try:
            original = original_offset(self._code, self._compiled, offset, undo_bytes=self._undo_bytes)
            name = self._module.function_names.get(function, "")
            if original is None:
                return Frame(function, name, -1)
            place = self._lines.find(original - _code_section(self._module)[0])
        except SpinError:
            return Frame(function, "", -1)
        return Frame(function, name, original, *(place or ("", 0)))


def _code_section(module: CoreModule) -> tuple[int, int]:
    """Where the payload of the code section lies."""
    found = next((section for section in module.sections if section.id == CODE), None)
    return (0, 0) if found is None else (found.start, found.end)


def _custom_sections(module: CoreModule) -> dict[str, bytes]:
    """The debug sections; of two of a name the first."""
    found: dict[str, bytes] = {}
    for section in module.sections:
        if section.id != CUSTOM:
            continue
        reader = Reader(module.code, module.name, section.start, section.end)
        try:
            name = reader.text()
        except ModuleError:
            continue
        if name in _DEBUG:
            found.setdefault(name, reader.code[reader.at : section.end])
    return found
