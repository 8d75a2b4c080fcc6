"""A module's code as one domain's limits need it: bounded in itself, so that instances can share a store.

The engine bounds a store, not an instance. What bounds an instance is therefore written into its module before it is
compiled (`spinrt.sandbox.rewrite`). A module is rewritten and compiled once for each pair of bounds.

Source: docs/design/rewrite.md; docs/design/dispatch.md, "Stores and instances".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from spinrt._core import Module
from spinrt.sandbox.manifest import Limits
from spinrt.sandbox.rewrite import Prepared, prepare
from spinrt.sandbox.symbols import Symbols

PAGE_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class Fitted:
    """A compiled module within bounds. One that is not movable needs a store of its own; ``reason`` says why."""

    module: Module
    movable: bool
    reason: str


class Fitting:
    """The code of one extension, and what was compiled of it.

    Args:
        name: Of the extension, for messages.
        code: The module as its author built it; the engine has validated it.
        module: The same, compiled.
    """

    __slots__ = ("_code", "_fitted", "_module", "_name", "_symbols")

    def __init__(self, name: str, code: bytes, module: Module) -> None:
        self._name, self._code, self._module = name, code, module
        self._fitted: dict[tuple[int, int], Fitted] = {}
        self._symbols: dict[tuple[int, int], Symbols] = {}

    @property
    def code(self) -> bytes:
        """The module as its author built it."""
        return self._code

    def rewritten(self, limits: Limits) -> bytes:
        """Return the code that runs within these limits, which backtraces tell of; written anew each time."""
        bounds = limits.memory_bytes // PAGE_BYTES, limits.table_entries
        return self._prepare(*bounds).code

    def symbols(self, limits: Limits) -> Symbols:
        """Return what is known of its functions, for backtraces within these limits; read once."""
        bounds = limits.memory_bytes // PAGE_BYTES, limits.table_entries
        found = self._symbols.get(bounds)
        if found is None:
            found = self._symbols[bounds] = Symbols(self._code, self.rewritten(limits), self._name)
        return found

    def fit(self, limits: Limits) -> Fitted:
        """Return the module within these limits of memory and tables.

        Raises:
            MemoryExceeded: It asks for more than they allow.
            ModuleError: It exports names that are the runtime's own.
        """
        bounds = limits.memory_bytes // PAGE_BYTES, limits.table_entries
        found = self._fitted.get(bounds)
        if found is None:
            found = self._fitted[bounds] = self._make(*bounds)
        return found

    def _make(self, pages: int, entries: int) -> Fitted:
        made = self._prepare(pages, entries)
        module = self._module if made.code == self._code else Module(made.code, self._name)
        return Fitted(module, made.movable, made.immovable_because)

    def _prepare(self, pages: int, entries: int) -> Prepared:
        name = f"extension {self._name}"
        return prepare(self._code, memory_pages_max=pages, table_entries_max=entries, name=name)
