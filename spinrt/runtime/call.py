"""Calls as transactions: several raises that happen together, or not at all.

Raises inside a `Transaction` see each other's effects; `commit` applies these in order and makes permanent what
extensions changed in themselves. What is not committed when its ``with`` block ends is taken back: effects are
dropped, and memory, globals, tables and handles are what they were. One that begins while an extension's handler runs
is part of that handler's transaction, which decides; a handler in Python begins one of its own.

Source: docs/design/transactions.md.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from spinrt._core import Call, running_call
from spinrt.errors import DefaultDue, StateError
from spinrt.runtime.capability import Effect

if TYPE_CHECKING:
    from spinrt.runtime.reference import Observer


class Raisable(Protocol):
    """What a transaction can raise: an `Event`, or a part of one."""

    @property
    def name(self) -> str: ...
    def walk(self, call: Call, arguments: tuple[Any, ...], observer: Observer | None = None) -> Any: ...


class Transaction:
    """One call into the runtime; not to be shared between threads, and to be ended before anything else is raised.

    Extensions that ran in it are held until it ends: other raises that reach them are refused.

    Args:
        context: What host functions find in ``call.context``; may be changed between raises.
        observer: Told of each handler that ran and for how long; costs a table walk for each handler.
    """

    __slots__ = ("_call", "_observer", "_open")

    def __init__(self, context: object = None, *, observer: Observer | None = None) -> None:
        self._call = Call("", context, running_call())
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
        return self._call.effects

    def raise_(self, event: Raisable, *arguments: Any) -> Any:
        """Raise an event inside this transaction and return its folded result; see `Event.raise_`.

        A raise that fails leaves nothing behind; what earlier raises did stays, and the transaction goes on.
        """
        if not self._open:
            raise StateError(f"transaction: found a raise of {event.name} after its end, expected none")
        before = self._call.savepoint()
        try:
            return event.walk(self._call, arguments, self._observer)
        except DefaultDue as due:
            self._call.roll_back(before)
            return due.answer.of(self._call, arguments, [])
        except BaseException:
            self._call.roll_back(before)
            raise

    def commit(self) -> list[Effect]:
        """Keep what extensions changed, apply all effects in order, end the transaction and return the effects."""
        if not self._open:
            raise StateError("transaction: it was committed or rolled back already")
        self._open = False
        self._call.commit()
        return self.effects

    def rollback(self) -> None:
        """Take everything back and end the transaction. Does nothing when it has ended."""
        if self._open:
            self._call.roll_back()
        self._open = False

    def __enter__(self) -> Transaction:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.rollback()
