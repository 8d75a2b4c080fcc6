"""Calls as transactions: several raises whose effects are applied together, or not at all.

A `Transaction` owns one journal. Raises inside it append effects and see each other's; `commit` applies them in
order. What is left uncommitted when its ``with`` block ends is dropped.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from spinrt._core import Call
from spinrt.errors import StateError
from spinrt.runtime.capability import Effect

if TYPE_CHECKING:
    from spinrt.runtime.reference import Observer


class Raisable(Protocol):
    """What a transaction can raise: an `Event`, or a part of one."""

    @property
    def name(self) -> str: ...
    def walk(self, call: Call, arguments: tuple[Any, ...], observer: Observer | None = None) -> Any: ...


class Transaction:
    """One call into the runtime; not to be shared between threads.

    Args:
        context: What host functions find in ``call.context``; may be changed between raises.
        observer: Told of each handler that ran and for how long; costs a table walk for each handler.
    """

    __slots__ = ("_call", "_observer", "_open")

    def __init__(self, context: object = None, *, observer: Observer | None = None) -> None:
        self._call = Call("", context)
        self._observer = observer
        self._open = True

    @property
    def context(self) -> object:
        return self._call.context

    @context.setter
    def context(self, value: object) -> None:
        self._call.context = value

    @property
    def effects(self) -> list[Effect]:
        """The effects so far, in order; a copy."""
        return list(self._call.journal.effects)

    def raise_(self, event: Raisable, *arguments: Any) -> Any:
        """Raise an event inside this transaction and return its folded result; see `Event.raise_`.

        A raise that fails leaves no effects; those of earlier raises stay, and the transaction goes on.
        """
        if not self._open:
            raise StateError(f"transaction: found a raise of {event.name} after its end, expected none")
        effects = self._call.journal.effects
        mark = len(effects)
        try:
            return event.walk(self._call, arguments, self._observer)
        except BaseException:
            del effects[mark:]
            raise

    def commit(self) -> list[Effect]:
        """Apply all effects in order, end the transaction and return them."""
        if not self._open:
            raise StateError("transaction: it was committed or rolled back already")
        self._open = False
        self._call.journal.apply()
        return self.effects

    def rollback(self) -> None:
        """Drop all effects and end the transaction. Does nothing when it has ended."""
        if self._open:
            self._call.journal.roll_back(0)
        self._open = False

    def __enter__(self) -> Transaction:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.rollback()
