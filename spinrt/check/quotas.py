"""Faults by limits: the extension gets less than it needs, down to almost nothing.

What a guest does when a limit is met is its own affair: it may fail, or find its way. Either way nothing may be left of
it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from spinrt.check.faults import Gate
from spinrt.check.inputs import Input
from spinrt.check.rehearsal import Rehearsal, Rig

VALUES_MAX: Final = 24
"""Limits that are tried of one kind."""

_PAGE_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class QuotaFaults:
    """One limit, and which lower ones are tried.

    Attributes:
        name: In verdicts; stable.
        limit: Of `Limits`.
        lower: The lower limits, told from an ordinary run; in any order.
    """

    name: str
    limit: str
    lower: Callable[[Rehearsal], Sequence[int]]

    def limits(self, usual: Rig, given: Input, bound: int) -> list[int]:
        """Return the limits to try: each one if there are few of them, else some that are spread evenly."""
        found = sorted(self.lower(Rehearsal(usual, given)))
        count = min(len(found), VALUES_MAX, bound)
        return [found[number * len(found) // count] for number in range(count)]


def _host_calls(rehearsal: Rehearsal) -> Sequence[int]:
    gate = rehearsal.rig.domain.quotas
    assert isinstance(gate, Gate)
    gate.open()
    rehearsal.run()
    rehearsal.left_behind()
    return range(1, gate.calls)


def _memory_bytes(rehearsal: Rehearsal) -> Sequence[int]:
    """As much as it has at rest, so that it cannot grow, and a little more."""
    return [rehearsal.rig.instance.memory_size + pages * _PAGE_BYTES for pages in range(3)]


QUOTAS: Final = (
    QuotaFaults("host-calls", "host_calls", _host_calls),
    QuotaFaults("effects", "effects", lambda rehearsal: range(1, len(rehearsal.plain.effects))),
    QuotaFaults("lift-bytes", "lift_bytes", lambda rehearsal: [1 << bit for bit in range(14)]),
    QuotaFaults("handles", "handles", lambda rehearsal: range(1, 4)),
    QuotaFaults("memory", "memory_bytes", _memory_bytes),
)
"""In the order in which they are tried."""
