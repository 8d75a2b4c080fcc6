"""The tiers: which class of table an event walks (docs/design/dispatch.md, "Tiers").

Tier 1 and tier 2 walk the same table of the core; at tier 2 the dispatcher takes flat raises to the stub.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeAlias

from spinrt import _core
from spinrt._core import Call
from spinrt.errors import UsageError
from spinrt.runtime.entry import Entry
from spinrt.runtime.reference import OnFailure, ReferenceTable

TIER_VARIABLE: Final = "SPINRT_TIER"


class Table(Protocol):
    """The entries of an event in their order, immutable."""

    @property
    def entries(self) -> tuple[Entry, ...]: ...
    def append(self, entry: Entry) -> Any: ...
    def walk(self, call: Call, arguments: tuple[Any, ...], on_fault: OnFailure) -> list[Any]: ...


Kind: TypeAlias = Callable[[Sequence[Entry]], Table]
Publish: TypeAlias = Callable[[Table | None], None]

TIERS: Final[dict[int, Kind]] = {0: ReferenceTable, 1: _core.Table, 2: _core.Table}
"""Tables by tier: 0 is the reference, the highest the fastest there is."""


def default_tier() -> int:
    """The highest tier, unless the environment variable ``SPINRT_TIER`` names another.

    Raises:
        UsageError: It names none.
    """
    found = os.environ.get(TIER_VARIABLE, "")
    if found and not (found.isdigit() and int(found) in TIERS):
        raise UsageError(f"{TIER_VARIABLE}: found {found!r:.40}, expected one of {', '.join(map(str, TIERS))}")
    return int(found) if found else max(TIERS)
