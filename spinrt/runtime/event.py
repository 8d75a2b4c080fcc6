"""Events: names with a type that handlers are installed on.

Handlers run in ascending order of their number, in order of installation where numbers are equal. Each change builds
a new immutable table and swaps one reference, so a raise walks the handlers that were installed when it began.

Source: docs/design/spine.md, "runtime"; Pardyak and Bershad, "Dynamic Binding for an Extensible System" (OSDI'96).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from time import perf_counter_ns
from typing import Any, TypeAlias

from spinrt._core import Call, Export, Table
from spinrt.errors import HandlerFailed, NoHandler, RevokedArgument, SpinError, StateError, UsageError
from spinrt.runtime.call import Transaction
from spinrt.runtime.domain import Domain
from spinrt.runtime.fold import Fold, check_case, default_fold
from spinrt.runtime.stores import Stores
from spinrt.sandbox.types import EnumType, Function

_NO_DEFAULT = object()
EFFECTS_MAX_HOST = 0xFFFFFFFF

Observer: TypeAlias = Callable[[Domain | None, int], None]
"""Called after each handler with its domain (none: a host handler) and the nanoseconds that it took."""


class OnFault(Enum):
    """What a raise does when a handler fails."""

    SKIP = "skip"
    """Go on without it (fail open)."""
    REFUSE = "refuse"
    """Fail with `HandlerFailed` (fail closed)."""


@dataclass(frozen=True, slots=True)
class Binding:
    """One handler on one event: an export of a domain, or a Python callable ``handler(call, *arguments)``."""

    handler: Export | Callable[..., Any]
    domain: Domain | None
    order: int


class Event:
    """A named, typed event; made by `Runtime.define`.

    Args:
        name: ``interface#function``.
        function: Its WIT type.
        fold: How results become one; by the result's type when none is given.
        default: The result when no handler ran.
        on_fault: What to do when a handler fails.
        stores: Those of the runtime that it belongs to, told of each raise; its own by default.
    """

    def __init__(
        self,
        name: str,
        function: Function,
        *,
        fold: Fold | None = None,
        default: Any = _NO_DEFAULT,
        on_fault: OnFault = OnFault.SKIP,
        stores: Stores | None = None,
    ) -> None:
        self.name = name
        self._stores = stores or Stores()
        self.function = function
        self.on_fault = on_fault
        self._fold = fold or default_fold(function.result)
        if default is not _NO_DEFAULT and isinstance(function.result, EnumType):
            check_case(function.result, default, f"event {name}: default")
        self._default = default
        self._bindings: tuple[Binding, ...] = ()
        self._table = Table()

    @property
    def bindings(self) -> tuple[Binding, ...]:
        """The installed handlers, in the order in which they run."""
        return self._bindings

    @property
    def table(self) -> Table:
        """The dispatch table of the installed handlers, for raisers written in Cython and for benchmarks."""
        return self._table

    def install(self, handler: Domain | Callable[..., Any], *, order: int = 100) -> Binding:
        """Install a domain's export of this event's name, or a Python callable.

        Raises:
            UsageError: The domain exports no handler of this event.
        """
        binding = self._binding(handler, order)
        self._swap(tuple(sorted((*self._bindings, binding), key=lambda one: one.order)))
        return binding

    def uninstall(self, binding: Binding | Domain) -> None:
        """Remove one binding, or all of a domain.

        Raises:
            StateError: It is not installed.
        """
        kept = tuple(one for one in self._bindings if binding not in (one, one.domain))
        if len(kept) == len(self._bindings):
            raise StateError(f"event {self.name}: found no such binding to uninstall")
        self._swap(kept)

    def raise_(self, *arguments: Any, context: object = None) -> Any:
        """Run the handlers, apply their effects and return the folded result.

        Args:
            arguments: One for each parameter of the event's type.
            context: What host functions find in ``call.context``.

        Raises:
            NoHandler: A result is due, no handler ran and the event has no default.
            HandlerFailed: A handler failed and the event is not one that skips; nothing was applied.
            UsageError: An argument does not have its parameter's type; nothing ran.
        """
        with Transaction(context) as transaction:
            result = transaction.raise_(self, *arguments)
            transaction.commit()
            return result

    def walk(self, call: Call, arguments: tuple[Any, ...], observer: Observer | None = None) -> Any:
        """Run the handlers inside a call whose journal somebody else commits."""
        if len(arguments) != len(self.function.parameters):
            raise UsageError(
                f"event {self.name}: found {len(arguments)} arguments, expected {len(self.function.parameters)}"
            )
        outer, call.event = call.event, self.name
        stores = self._stores
        stores.depth += 1
        try:
            if observer is None:
                results = self._table.walk(call, arguments, self._note_fault)
            else:
                results = self._walk_observed(call, arguments, observer)
        finally:
            call.event = outer
            stores.depth -= 1
            if stores.waiting and not stores.depth:
                stores.run_waiting()
        if results:
            return self._fold(results)
        return self._no_result()

    def _walk_observed(self, call: Call, arguments: tuple[Any, ...], observer: Observer) -> list[Any]:
        """Walk a table of one handler after the other: the same results and effects, with the time of each."""
        results: list[Any] = []
        for binding in self._bindings:
            table = _table_of((binding,))
            started = perf_counter_ns()
            try:
                results += table.walk(call, arguments, self._note_fault)
            finally:
                observer(binding.domain, perf_counter_ns() - started)
        return results

    def _no_result(self) -> Any:
        if self._default is not _NO_DEFAULT:
            return self._default
        if self.function.result is None:
            return None
        raise NoHandler(
            f"event {self.name}: a result is due and no handler ran", hint="install a handler, or define a default"
        )

    def _note_fault(self, domain: Domain | None, error: BaseException) -> None:
        """A handler failed: the walk goes on when this returns."""
        if type(error) in (UsageError, RevokedArgument):  # the raiser's mistake: nothing ran
            raise error
        if not isinstance(error, SpinError):  # KeyboardInterrupt and the like: nobody's fault, and not ours to keep
            if domain is not None:
                domain.restore()
            return
        if domain is not None:
            domain.note_fault(error)
        if self.on_fault is OnFault.REFUSE:
            who = domain.name if domain else "a host handler"
            raise HandlerFailed(f"event {self.name}: {who} failed: {error}") from error

    def _binding(self, handler: Domain | Callable[..., Any], order: int) -> Binding:
        if not isinstance(handler, Domain):
            return Binding(handler, None, order)
        export = handler.exports.get(self.name)
        if export is None:
            raise UsageError(
                f"event {self.name}: domain {handler.name} exports no handler of it", hint="see its manifest"
            )
        return Binding(export, handler, order)

    def _swap(self, bindings: tuple[Binding, ...]) -> None:
        self._bindings = bindings
        self._table = _table_of(bindings)


def _table_of(bindings: tuple[Binding, ...]) -> Table:
    return Table(
        tuple(one.handler for one in bindings),
        tuple(one.domain for one in bindings),
        tuple(one.domain.limits.effects if one.domain else EFFECTS_MAX_HOST for one in bindings),
    )
