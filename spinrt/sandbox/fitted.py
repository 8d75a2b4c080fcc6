"""A module's code as one domain's limits need it: bounded in itself, so that instances can share a store.

The engine bounds a store, not an instance. What bounds an instance is therefore written into its module before it is
compiled (`spinrt.sandbox.rewrite`). A module is rewritten and compiled once for each pair of bounds.

Source: docs/design/rewrite.md; docs/design/dispatch.md, "Stores and instances".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from spinrt._core import Module
from spinrt.sandbox.cache import compile_module
from spinrt.sandbox.manifest import Limits
from spinrt.sandbox.rewrite import Prepared, prepare
from spinrt.sandbox.symbols import Symbols

PAGE_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class Fitted:
    """A compiled module within bounds. One that is not movable needs a store of its own; ``reason`` says why.

    ``taken_back``: after a call that failed an instance is what it was before; else it has to be replaced.
    """

    module: Module
    movable: bool
    reason: str
    taken_back: bool


class _Bounds(NamedTuple):
    """What code is written for."""

    pages: int
    entries: int
    undo_bytes: int


class Fitting:
    """The code of one extension, and what was compiled of it.

    Args:
        name: Of the extension, for messages.
        code: The module as its author built it; the engine has validated it.
        module: The same, compiled.
        countdown: Let the code count down before each change, for a fault campaign (`spinrt.check`).
    """

    __slots__ = ("_code", "_countdown", "_fitted", "_module", "_name", "_symbols")

    def __init__(self, name: str, code: bytes, module: Module, *, countdown: bool = False) -> None:
        self._name, self._code, self._module = name, code, module
        self._countdown = countdown
        self._fitted: dict[_Bounds, Fitted] = {}
        self._symbols: dict[_Bounds, Symbols] = {}

    @property
    def code(self) -> bytes:
        """The module as its author built it."""
        return self._code

    def symbols(self, limits: Limits) -> Symbols:
        """Return what is known of its functions, for backtraces within these limits; its code is written anew once."""
        bounds = _bounds(limits)
        found = self._symbols.get(bounds)
        if found is None:
            compiled = self._prepare(bounds).code
            found = self._symbols[bounds] = Symbols(self._code, compiled, self._name, undo_bytes=bounds.undo_bytes)
        return found

    def fit(self, limits: Limits) -> Fitted:
        """Return the module within these limits of memory and tables, with an undo log of that size.

        Raises:
            MemoryExceeded: It asks for more than they allow.
            ModuleError: It exports names that are the runtime's own.
        """
        bounds = _bounds(limits)
        found = self._fitted.get(bounds)
        if found is None:
            found = self._fitted[bounds] = self._make(bounds)
        return found

    def _make(self, bounds: _Bounds) -> Fitted:
        made = self._prepare(bounds)
        module = self._module if made.code == self._code else compile_module(made.code, self._name)
        return Fitted(module, made.movable, made.immovable_because, made.taken_back)

    def _prepare(self, bounds: _Bounds) -> Prepared:
        return prepare(
            self._code,
            memory_pages_max=bounds.pages,
            table_entries_max=bounds.entries,
            undo_bytes=bounds.undo_bytes,
            countdown=self._countdown,
            name=f"extension {self._name}",
        )


def _bounds(limits: Limits) -> _Bounds:
    return _Bounds(limits.memory_bytes // PAGE_BYTES, limits.table_entries, limits.undo_bytes)
