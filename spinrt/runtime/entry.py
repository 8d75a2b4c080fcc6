"""What the dispatcher sees of an event: one flat entry for each binding, and the guards that stand in front of it.

Nothing here is chosen by a person: `Event` makes an entry from a `Binding`, and the tiers read it.

Source: docs/design/dispatch.md, "An entry, as the dispatcher sees it".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from spinrt._core import Export

NO_CLOSURE: Final = object()
"""Stands for: no closure is passed. (None is a closure like any other.)"""

EFFECTS_MAX_HOST: Final = 0xFFFFFFFF
"""Room for effects of a handler in Python."""

Handler: TypeAlias = Export | Callable[..., Any]
"""Called as ``handler(call[, closure], *arguments)``."""


@dataclass(frozen=True, slots=True)
class EqualGuard:
    """Holds when the value at ``path`` is ``value``, and of its type.

    A path is a parameter's position, then positions of record fields. No guard holds for a value that is not there.
    """

    path: tuple[int, ...]
    value: Any


@dataclass(frozen=True, slots=True)
class RangeGuard:
    """Holds when the number at ``path`` is neither below ``low`` nor above ``high``; None leaves a side open."""

    path: tuple[int, ...]
    low: Any
    high: Any


@dataclass(frozen=True, slots=True)
class PrefixGuard:
    """Holds when the text at ``path`` begins with ``prefix``."""

    path: tuple[int, ...]
    prefix: str


@dataclass(frozen=True, slots=True)
class CallGuard:
    """Holds when ``handler(call[, closure], *arguments)`` answers true; ``domain`` is whose it is, None the host's."""

    handler: Handler
    domain: Any
    closure: Any = NO_CLOSURE


EntryGuard: TypeAlias = EqualGuard | RangeGuard | PrefixGuard | CallGuard
Enqueue: TypeAlias = Callable[[Any, "Entry", tuple[Any, ...]], None]
"""Called as ``enqueue(call, entry, arguments)`` instead of an asynchronous handler."""


class Entry:
    """One binding, flat; immutable but for its counters.

    Args:
        handler: What runs.
        domain: Whose it is; None: the host's.
        effects_max: How many effects it may add to the journal in one raise.
        closure: What it gets in front of the arguments; `NO_CLOSURE`: nothing.
        guards: All must hold; imposed ones come first.
        filters: Its result is the arguments for those behind it.
        cancels: When it ran, those behind it do not.
        enqueue: The handler is asynchronous, and this is called instead.
        quantum_ticks: The handler is ephemeral, and is ended then; 0: it is not.

    Attributes:
        raises: How often it ran, or was queued.
        guarded: How often a guard held it back.
        faults: How often it failed.
        ended: How often its quantum ended it.
    """

    __slots__ = (
        "cancels",
        "closure",
        "domain",
        "effects_max",
        "ended",
        "enqueue",
        "faults",
        "filters",
        "guarded",
        "guards",
        "handler",
        "quantum_ticks",
        "raises",
    )

    def __init__(
        self,
        handler: Handler,
        domain: Any = None,
        effects_max: int = EFFECTS_MAX_HOST,
        *,
        closure: Any = NO_CLOSURE,
        guards: tuple[EntryGuard, ...] = (),
        filters: bool = False,
        cancels: bool = False,
        enqueue: Enqueue | None = None,
        quantum_ticks: int = 0,
    ) -> None:
        self.handler = handler
        self.domain = domain
        self.effects_max = effects_max
        self.closure = closure
        self.guards = guards
        self.filters = filters
        self.cancels = cancels
        self.enqueue = enqueue
        self.quantum_ticks = quantum_ticks
        self.raises = self.guarded = self.faults = self.ended = 0
