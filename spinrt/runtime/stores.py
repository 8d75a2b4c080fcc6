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
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from spinrt._core import DropFunction, Export, HostFunction, Instance, InstanceLimits, Raises, Store
from spinrt.clock import Clock, SystemClock
from spinrt.errors import SpinError
from spinrt.runtime.owner import Owner
from spinrt.sandbox.fitted import Fitted

if TYPE_CHECKING:
    from spinrt.runtime.domain import Domain
    from spinrt.runtime.event import Event

Import: TypeAlias = HostFunction | DropFunction | Export

DEAD_MAX: Final = 64
DEAD_BYTES_MAX: Final = 64 << 20
"""Memory of dead instances that may wait: a guest that fills its memory and faults, again and again, holds no more."""

_log = logging.getLogger("spinrt.runtime")
_all_stores: weakref.WeakSet[Stores] = weakref.WeakSet()


class CrashTaker(Protocol):
    """Who records faults; see `spinrt.runtime.crash_keeper`."""

    def take(self, domain: Domain, event: str, error: SpinError) -> None:
        """Record a fault, or not; must not raise."""
        ...


class Stores:
    """The instances of one runtime.

    Attributes:
        waiting: What is to be done when no raise is on the stack, in order.
        raises: Those on the stack that go through the walk; flat ones show in ``shared.running``.
        shared: The store of all instances but those that cannot be moved.
        owner: The thread and process that they belong to.
        events: Those that belong to it.
        dead_max: So many dead instances may be in the shared store, or as many as live ones, before it is collected.
        dead_bytes_max: So much memory they may hold.
        is_foreign: This process is a forked child of the owner: nothing may be raised here.
        clock: For rates and for the moments that errors name; the machine's by default.
        crashes: Who records faults where the policy asks for it, if anybody.
    """

    __slots__ = (
        "__weakref__",
        "_collecting",
        "clock",
        "crashes",
        "dead_bytes_max",
        "dead_max",
        "events",
        "is_foreign",
        "owner",
        "raises",
        "shared",
        "waiting",
    )

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or SystemClock()
        self.crashes: CrashTaker | None = None
        self.is_foreign = False
        self.waiting: deque[Callable[[], None]] = deque()
        self.raises = Raises(self.waiting, self.run_if_idle)
        self.owner = Owner()
        self.shared = Store()
        self.shared.on_idle = self.run_if_idle
        self.dead_max, self.dead_bytes_max = DEAD_MAX, DEAD_BYTES_MAX
        self._collecting = False
        self.events: weakref.WeakSet[Event] = weakref.WeakSet()
        _all_stores.add(self)

    def instantiate(
        self, fitted: Fitted, imports: Callable[[Store], tuple[Import, ...]], limits: InstanceLimits, name: str
    ) -> Instance:
        """Make an instance: the only place that does. What cannot be moved gets a store that goes with it.

        Args:
            imports: What serves the module's imports in the store that the instance gets.

        Raises:
            LinkError, ExtensionError: See `Instance`.
        """
        self.collect_soon()
        store = self.shared if fitted.movable else Store()  # the module is bounded in itself
        return Instance(fitted.module, imports(store), limits, name, store, taken_back=fitted.taken_back)

    def collect_soon(self) -> None:
        """When enough is dead, move the living to a fresh store between two raises: each is moved for one that died."""
        enough = (
            self.shared.dead >= max(self.dead_max, self.shared.live) or self.shared.dead_bytes > self.dead_bytes_max
        )
        if enough and not self._collecting:
            self._collecting = True
            self.when_idle(self.collect)

    def collect(self) -> None:
        """Let go of all that is dead in the shared store. When that fails, everything stays where it is."""
        self._collecting = False
        try:
            self.shared.collect()
            self.dead_max, self.dead_bytes_max = DEAD_MAX, DEAD_BYTES_MAX
        except SpinError as error:
            self.dead_max, self.dead_bytes_max = 2 * self.shared.dead, 2 * self.shared.dead_bytes
            _log.error("event=collect-failed code=%s dead=%d reason=%r", error.code, self.shared.dead, str(error))

    def when_idle(self, action: Callable[[], None]) -> None:
        """Do it now, or when the outermost raise ends. It must not fail."""
        self.waiting.append(action)
        self.run_if_idle()

    def run_if_idle(self) -> None:
        """Do what waits, unless a raise is on the stack.

        What goes wrong is our mistake: it is logged, and the raise that ended keeps its result.
        """
        if self.raises.depth:
            self.collect_soon()  # the raise that ends looks only whether something waits
            return
        if self.shared.running:
            self.shared.wake_when_idle()
            return
        while self.waiting:
            try:
                self.waiting.popleft()()
            except Exception:
                _log.exception("event=idle-action-failed")
        self.collect_soon()


def _mark_foreign() -> None:
    """In a forked child: flags, and no tables, so that no raise has to ask the system which process it is in."""
    for stores in _all_stores:
        stores.is_foreign = True
        for event in stores.events:
            event.dispatcher.table = None


os.register_at_fork(after_in_child=_mark_foreign)
