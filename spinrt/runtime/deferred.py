"""What runs later: asynchronous handlers, and raises made by `Event.raise_later`.

An asynchronous handler is queued when the raise that met it commits, as an effect of that raise; a raise that fails
queues nothing. Room is taken when the effect is promised, so that committing cannot fail: what is promised and not
yet dropped counts as waiting. `Runtime.run_pending` runs what waits, oldest first, each in a transaction of its own,
and looks again before: what was uninstalled or unloaded meanwhile does not run, nor what was to be passed a capability
that was revoked.

Source: docs/design/dispatch.md, "Asynchronous".
"""

from __future__ import annotations

import logging
import weakref
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from spinrt._core import Call
from spinrt.errors import QueueFull, SpinError
from spinrt.runtime.call import Transaction
from spinrt.runtime.capability import check_arguments
from spinrt.runtime.reference import Observer

if TYPE_CHECKING:
    from spinrt.runtime.binding import Binding
    from spinrt.runtime.event import Event

QUEUE_MAX: Final = 1024
"""How much may wait for one event, unless it says otherwise."""

_log = logging.getLogger("spinrt.runtime")


class Deferred(Protocol):
    """Something that waits."""

    @property
    def event(self) -> Event: ...
    def run(self) -> None: ...


class Pending:
    """What waits in one runtime, oldest first."""

    def __init__(self) -> None:
        self._waiting: deque[Deferred] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, deferred: Deferred) -> None:
        self._waiting.append(deferred)

    def run(self, count_max: int | None = None) -> int:
        """Run what waits now, at most ``count_max``; what that leaves to do waits for the next call.

        A failure is logged: nobody is there to be told. What is no `SpinError` (a mistake in a Python handler, an
        interrupt) goes to the caller; what it hit is done with, what is behind it waits on.

        Returns:
            How many were taken.
        """
        count = len(self._waiting) if count_max is None else min(count_max, len(self._waiting))
        taken = 0
        while taken < count and self._waiting:
            taken += 1
            deferred = self._waiting.popleft()
            deferred.event.queue.waiting -= 1
            try:
                deferred.run()
            except SpinError as error:
                _log.warning("event=%s deferred=failed code=%s reason=%r", deferred.event.name, error.code, str(error))
        return taken


class Queue:
    """The part of `Pending` that belongs to one event, and its bound."""

    def __init__(self, event: str, pending: Pending, count_max: int = QUEUE_MAX) -> None:
        self._event = event
        self._pending = pending
        self.count_max = count_max
        self.waiting = 0
        self._promised: weakref.WeakSet[DeferredHandler] = weakref.WeakSet()

    def check_room(self) -> None:
        """Refuse one more than may wait.

        Raises:
            QueueFull: No room.
        """
        if self.waiting + len(self._promised) >= self.count_max:
            raise QueueFull(
                f"event {self._event}: found {self.count_max} raises or handlers waiting, expected fewer",
                hint="call Runtime.run_pending more often, or give the event a higher queue_max",
            )

    def promise(self, deferred: DeferredHandler) -> None:
        """Keep room for one for as long as it exists."""
        self.check_room()
        self._promised.add(deferred)

    def add(self, deferred: Deferred) -> None:
        """Queue one for which there is room."""
        if isinstance(deferred, DeferredHandler):
            self._promised.discard(deferred)
        self.waiting += 1
        self._pending.add(deferred)


@dataclass(eq=False, slots=True, weakref_slot=True)
class DeferredHandler:
    """One handler that is to run once with these arguments: an effect, and then what is queued."""

    binding: Binding
    arguments: tuple[Any, ...]
    context: object

    @property
    def event(self) -> Event:
        return self.binding.event

    @property
    def name(self) -> str:
        return self.event.name

    def apply(self) -> None:
        """Queue it: the raise committed."""
        self.event.queue.add(self)

    def run(self) -> None:
        domain = self.binding.domain
        if not self.binding.installed or (domain is not None and not domain.is_running):
            return
        check_arguments(self.arguments, f"event {self.name}, later")
        with Transaction(self.context) as transaction:
            transaction.raise_(self, *self.arguments)
            transaction.commit()

    def walk(self, call: Call, arguments: tuple[Any, ...], observer: Observer | None = None) -> Any:
        """Run the handler, as a raise of it alone."""
        return self.event.walk_later(self.binding, call, arguments)


@dataclass(frozen=True, slots=True)
class DeferredRaise:
    """A whole raise, with what is installed when it runs."""

    event: Event
    arguments: tuple[Any, ...]
    context: object

    def run(self) -> None:
        check_arguments(self.arguments, f"event {self.event.name}, later")
        self.event.raise_in(self.context, *self.arguments)
