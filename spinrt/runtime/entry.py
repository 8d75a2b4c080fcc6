"""What the dispatcher sees of an event: one flat entry for each binding, and the guards that stand in front of it.

Nothing here is chosen by a person: `Event` makes an entry from a `Binding`, and the tiers read it. The classes are the
core's.

Source: docs/design/dispatch.md, "An entry, as the dispatcher sees it".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from spinrt._core import NO_CLOSURE, CallGuard, Entry, EqualGuard, Export, PrefixGuard, RangeGuard

__all__ = [
    "EFFECTS_MAX_HOST",
    "NO_CLOSURE",
    "CallGuard",
    "Enqueue",
    "Entry",
    "EntryGuard",
    "EqualGuard",
    "Handler",
    "PrefixGuard",
    "RangeGuard",
]

EFFECTS_MAX_HOST: Final = 0xFFFFFFFF
"""Room for effects of a handler in Python."""

Handler: TypeAlias = Export | Callable[..., Any]
"""Called as ``handler(call[, closure], *arguments)``."""

EntryGuard: TypeAlias = EqualGuard | RangeGuard | PrefixGuard | CallGuard
Enqueue: TypeAlias = Callable[[Any, Entry, tuple[Any, ...]], None]
"""Called as ``enqueue(call, entry, arguments)`` instead of an asynchronous handler."""
