"""Bindings: one handler on one event, and how it is installed there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from spinrt._core import TICK_NS
from spinrt.errors import StateError, UsageError
from spinrt.runtime.domain import Domain
from spinrt.runtime.entry import EFFECTS_MAX_HOST, NO_CLOSURE, Entry, Handler
from spinrt.runtime.order import Place

if TYPE_CHECKING:
    from spinrt.runtime.event import Event
    from spinrt.runtime.guard import Guard


class Mode(Enum):
    """When a handler runs; see also `Ephemeral`."""

    SYNC = "sync"
    """In the raise."""
    ASYNC = "async"
    """Later, in a transaction of its own: when the raise has committed and `Runtime.run_pending` is called."""


SYNC: Final = Mode.SYNC
ASYNC: Final = Mode.ASYNC


@dataclass(frozen=True, slots=True)
class Ephemeral:
    """In the raise, and ended after ``quantum_ms`` milliseconds, which is no fault; for handlers of domains."""

    quantum_ms: int

    @property
    def quantum_ticks(self) -> int:
        return max(1, self.quantum_ms * 1_000_000 // TICK_NS)


@dataclass(frozen=True, slots=True)
class DomainExport:
    """An export of a domain by its name, where a handler, a guard or a fold is expected."""

    domain: Domain
    name: str


HandlerSource: TypeAlias = Domain | DomainExport | Callable[..., Any]
"""What can be installed; a domain alone stands for its export of the event's name."""


class Resolved(NamedTuple):
    """A handler that can be called, whose it is, and what to call it in messages; ``export`` is none in Python."""

    handler: Handler
    domain: Domain | None
    export: str | None

    @property
    def effects_max(self) -> int:
        return self.domain.limits.effects if self.domain else EFFECTS_MAX_HOST

    def __str__(self) -> str:
        if self.domain is not None:
            return f"domain {self.domain.name}, export {self.export}"
        return f"handler {callable_name(self.handler)}"


def resolve(source: HandlerSource, default_export: str, *, what: str) -> Resolved:
    """Find what runs.

    Args:
        source: A domain, an export of one, or a Python callable.
        default_export: The export that a domain alone stands for.
        what: Who asks, in messages.

    Raises:
        UsageError: The domain exports no such thing, or this is no handler.
        StateError: The domain does not run.
    """
    if isinstance(source, Domain):
        source = DomainExport(source, default_export)
    if not isinstance(source, DomainExport):
        if not callable(source):
            raise UsageError(f"{what}: found {source!r:.80}, expected a domain, an export of one, or a callable")
        return Resolved(source, None, None)
    domain, name = source.domain, source.name
    if not domain.is_running:
        raise StateError(f"{what}: domain {domain.name} is {domain.state.value}, expected it to be initialised")
    export = domain.exports.get(name)
    if export is None:
        raise UsageError(
            f"{what}: domain {domain.name} exports no {name}, expected one of {', '.join(domain.exports) or 'nothing'}",
            hint="its manifest must name it: a handler's event or `export`, a `guard`, or an interface under `exports`",
        )
    return Resolved(export, domain, name)


class Options(NamedTuple):
    """How a handler is installed; `Event.install` says what each means."""

    order: int = 100
    places: tuple[Place, ...] = ()
    guards: tuple[Guard, ...] = ()
    closure: Any = NO_CLOSURE
    filters: bool = False
    cancels: bool = False
    mode: Mode | Ephemeral = SYNC


class Counts(NamedTuple):
    """How often a binding ran (or was queued), was held back, failed, and was ended by its quantum.

    Held back by a guard that was asked: those that an index passes over are not counted.
    """

    raises: int = 0
    guarded: int = 0
    faults: int = 0
    ended: int = 0


_NO_COUNTS: Final = Counts()


@dataclass(frozen=True, slots=True)
class Imposed:
    """A guard that somebody put in front of a binding."""

    guard: Guard
    by: Domain | str | None


class Binding:
    """One handler on one event; made by `Event.install`. It is itself, and equals nothing else.

    Attributes:
        event: The event.
        handler: An export of a domain, or a Python callable ``handler(call[, closure], *arguments)``.
        domain: Whose export it is; none for a callable.
        by: Who installed it.
        options: How.
        imposed: Guards that others put in front of it, the newest first.
        installed: Whether raises that begin now run it.
        sequence: Counts installations on one event.
        entry: What the dispatcher runs.
        later: What `Runtime.run_pending` runs, for an asynchronous one.
    """

    __slots__ = (
        "_before",
        "by",
        "domain",
        "entry",
        "event",
        "export",
        "handler",
        "imposed",
        "installed",
        "later",
        "options",
        "sequence",
    )

    entry: Entry

    def __init__(
        self, event: Event, resolved: Resolved, options: Options, *, by: Domain | str | None, sequence: int
    ) -> None:
        self.event = event
        self.handler = resolved.handler
        self.domain = resolved.domain
        self.export = resolved.export
        self.by = by
        self.options = options
        self.sequence = sequence
        self.imposed: tuple[Imposed, ...] = ()
        self.installed = False
        self.later: Entry | None = None
        self._before = _NO_COUNTS

    @property
    def order(self) -> int:
        return self.options.order

    @property
    def places(self) -> tuple[Place, ...]:
        return self.options.places

    @property
    def owner_name(self) -> str:
        """The name by which `Before` and `After` find it: of its domain, else of whoever installed it."""
        if self.domain is not None:
            return self.domain.name
        return self.by if isinstance(self.by, str) else ""

    @property
    def guards(self) -> tuple[Guard, ...]:
        """All guards: imposed ones, then its own; conditions on fields are asked before those that run code."""
        return (*(imposed.guard for imposed in self.imposed), *self.options.guards)

    @property
    def counts(self) -> Counts:
        """What happened to it so far, what ran later included."""
        entry, later = self.entry, self.later
        return Counts(
            self._before.raises + entry.raises,
            self._before.guarded + entry.guarded,
            self._before.faults + entry.faults + (later.faults if later else 0),
            self._before.ended + entry.ended,
        )

    def replace_entry(self, entry: Entry, later: Entry | None) -> None:
        """Run these from the next raise on, and keep what was counted (not what a raise under way still counts)."""
        self._before = self.counts
        self.entry, self.later = entry, later

    def __str__(self) -> str:
        who = self.domain.name if self.domain else callable_name(self.handler)
        return f"{who} (order {self.order})"

    def __repr__(self) -> str:
        return f"<Binding {self} on {self.event.name}{'' if self.installed else ', not installed'}>"


def callable_name(handler: Any) -> str:
    """What to call a Python callable in messages."""
    return str(getattr(handler, "__qualname__", type(handler).__qualname__))
