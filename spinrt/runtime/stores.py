"""Where the instances of one runtime are made, and what waits until no raise is on the stack.

A raise runs what was installed when it began. What takes something away from under it (an instance that goes, an import
that gets another exporter) is therefore given to `Stores.when_idle`, which does it at once, or when the outermost
raise has ended. All domains and events of a runtime share one `Stores`; a domain made without a runtime has its own.

Source: docs/design/dispatch.md, "Invariants" 2 and "Stores and instances".
"""

from __future__ import annotations

import logging
import os
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from spinrt._core import DropFunction, HostFunction, Instance, InstanceLimits, Module, Store
from spinrt.clock import Clock, SystemClock
from spinrt.runtime.owner import Owner

if TYPE_CHECKING:
    from spinrt.runtime.event import Event

Import: TypeAlias = HostFunction | DropFunction

_log = logging.getLogger("spinrt.runtime")
_all_stores: weakref.WeakSet[Stores] = weakref.WeakSet()


class Stores:
    """The instances of one runtime.

    Attributes:
        depth: Raises on the stack that `Event.walk` counts; flat ones show in ``shared.running``.
        waiting: What is to be done then, in order.
        shared: The store of all instances but those that cannot be moved.
        owner: The thread and process that they belong to.
        events: Those that belong to it.
        is_foreign: This process is a forked child of the owner: nothing may be raised here.
        clock: For rates and for the moments that errors name; the machine's by default.
    """

    __slots__ = ("__weakref__", "clock", "depth", "events", "is_foreign", "owner", "shared", "waiting")

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or SystemClock()
        self.depth = 0
        self.is_foreign = False
        self.waiting: deque[Callable[[], None]] = deque()
        self.owner = Owner()
        self.shared = Store()
        self.shared.on_idle = self.run_if_idle
        self.events: weakref.WeakSet[Event] = weakref.WeakSet()
        _all_stores.add(self)

    def instantiate(self, module: Module, imports: tuple[Import, ...], limits: InstanceLimits, name: str) -> Instance:
        """Make an instance: the only place that does.

        Raises:
            LinkError, ExtensionError: See `Instance`.
        """
        return Instance(module, imports, limits, name)

    def when_idle(self, action: Callable[[], None]) -> None:
        """Do it now, or when the outermost raise ends. It must not fail."""
        self.waiting.append(action)
        self.run_if_idle()

    def run_if_idle(self) -> None:
        """Do what waits, unless a raise is on the stack.

        What goes wrong is our mistake: it is logged, and the raise that ended keeps its result.
        """
        if self.depth:
            return
        if self.shared.running:
            self.shared.wake_when_idle()
            return
        while self.waiting:
            try:
                self.waiting.popleft()()
            except Exception:
                _log.exception("event=idle-action-failed")


def _mark_foreign() -> None:
    """In a forked child: flags, and no tables, so that no raise has to ask the system which process it is in."""
    for stores in _all_stores:
        stores.is_foreign = True
        for event in stores.events:
            event.dispatcher.table = None


os.register_at_fork(after_in_child=_mark_foreign)
