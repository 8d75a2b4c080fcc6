"""What a raise answers: the results of its handlers folded into one, or the default where there are none.

Source: docs/design/dispatch.md, "The walk", 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from spinrt._core import Call
from spinrt.errors import NoHandler, UsageError
from spinrt.runtime.binding import DomainExport, Resolved, resolve
from spinrt.runtime.domain import Domain
from spinrt.runtime.entry import NO_CLOSURE, Entry
from spinrt.runtime.fold import Fold, check_case, default_fold, fold_type, named_fold
from spinrt.runtime.signature import check_resolved
from spinrt.sandbox.handler_type import handler_type
from spinrt.sandbox.types import EnumType, Function

if TYPE_CHECKING:
    from spinrt.runtime.reference import OnFailure
    from spinrt.runtime.tables import Kind, Table

NO_DEFAULT: Final = object()
"""Stands for: no default. (None is a value like any other.)"""

FoldSource: TypeAlias = Fold | str | DomainExport | None


@dataclass(frozen=True, slots=True)
class Default:
    """What is answered where there are no results: a value, or what the handler in ``table`` says."""

    value: Any = NO_DEFAULT
    table: Table | None = None
    domain: Domain | None = None


@dataclass(frozen=True, slots=True)
class Folding:
    """How results become one: by a callable, or by the export in ``table``."""

    fold: Fold
    table: Table | None = None
    domain: Domain | None = None


class Answer:
    """How one event answers.

    Args:
        event: Its name.
        function: Its type.
        kind: The class of its tables.
        on_fault: Told of handlers that fail.
    """

    __slots__ = ("_event", "_function", "_kind", "_on_fault", "default", "folding")

    def __init__(self, event: str, function: Function, kind: Kind, on_fault: OnFailure) -> None:
        self._event = event
        self._function = function
        self._kind = kind
        self._on_fault = on_fault
        self.default = Default()
        self.folding = Folding(default_fold(function.result))

    def of(self, call: Call, arguments: tuple[Any, ...], results: list[Any]) -> Any:
        """Return the answer; ``results`` are those of the handlers that ran, in order.

        Raises:
            NoHandler: A result is due, there is none, and neither is a default.
        """
        folding = self.folding
        if results and folding.table is not None:
            results = folding.table.walk(call, (results,), self._on_fault)
            if results:
                return results[0]
        return folding.fold(results) if results else self._without(call, arguments)

    @property
    def is_plain(self) -> bool:
        """Whether an answer needs nothing but the results: no handler folds, and none stands in."""
        return self.folding.table is None and self.default.table is None

    def _without(self, call: Call, arguments: tuple[Any, ...]) -> Any:
        default = self.default
        if default.table is not None:
            results = default.table.walk(call, arguments, self._on_fault)
            if results:
                return results[0]
        return self.nothing()

    def nothing(self) -> Any:
        """What a raise without results answers where no handler stands in: the default's value.

        Raises:
            NoHandler: A result is due, and there is none.
        """
        if self.default.value is not NO_DEFAULT:
            return self.default.value
        if self._function.result is None:
            return None
        raise NoHandler(
            f"event {self._event}: a result is due and no handler ran", hint="install a handler, or define a default"
        )

    def checked_default(self, default: Any) -> Default:
        """Check what is to be the default: a value, or a handler.

        Raises:
            UsageError, SignatureMismatch: It cannot be.
        """
        if default is NO_DEFAULT:
            return Default()
        if isinstance(default, Domain | DomainExport) or callable(default):
            what = f"event {self._event}: default"
            resolved = resolve(default, self._event, what=what)
            check_resolved(resolved, self._function, handler_type, closure=NO_CLOSURE, what=what)
            return Default(table=self._table_of(resolved), domain=resolved.domain)
        if isinstance(self._function.result, EnumType):
            check_case(self._function.result, default, f"event {self._event}: default")
        return Default(default)

    def checked_fold(self, fold: FoldSource) -> Folding:
        """Check what is to fold.

        Raises:
            UsageError, SignatureMismatch: It cannot.
        """
        result = self._function.result
        if fold is None:
            return Folding(default_fold(result))
        what = f"event {self._event}"
        if isinstance(fold, str):
            try:
                return Folding(named_fold(fold, result))
            except UsageError as error:
                raise UsageError(f"{what}: {error}") from None
        if not isinstance(fold, DomainExport):
            if not callable(fold):
                raise UsageError(f"{what}: fold: found {fold!r:.80}, expected a name, a callable or an export")
            return Folding(fold)
        resolved = resolve(fold, "", what=f"{what}: fold")
        check_resolved(resolved, fold_type(result), handler_type, closure=NO_CLOSURE, what=f"{what}: fold")
        return Folding(default_fold(result), self._table_of(resolved), resolved.domain)

    def drop(self, domain: Domain) -> None:
        """A domain is gone: what it answered, nobody does; what it folded, the usual fold does."""
        if self.default.domain is domain:
            self.default = Default()
        if self.folding.domain is domain:
            self.folding = Folding(default_fold(self._function.result))

    def _table_of(self, resolved: Resolved) -> Table:
        return self._kind([Entry(resolved.handler, resolved.domain, resolved.effects_max)])
