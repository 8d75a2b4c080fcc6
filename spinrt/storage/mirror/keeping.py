"""Which snapshots of a mirror are due to go. Nothing that a source says decides it: times are those of arrival.

A source that went bad can send as many updates as it likes, with any times and labels. By arrival they all fall into
the periods in which they came, so what came before is thinned out by the schedule alone; within the running period the
first of the day stays as well as the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from spinrt.storage.mirror.book import Standing
from spinrt.storage.protocols import Snapshot
from spinrt.storage.schedule import DAY_NS, Keep, kept

LABELLED_MAX: Final = 256
"""So many with a label stay, those that came first; of more the schedule decides."""
GRACE_DAYS: Final = 3
"""Of so many days the first snapshot stays, whatever the schedule says: who notices within two days that what comes is
worthless has one from before."""


def due(snapshots: Sequence[Snapshot], standing: Standing, keep: Keep) -> list[Snapshot]:
    """Return those of a mirror's snapshots (in order) that go, the oldest first.

    The current one, the one before it and those set aside stay in any case.
    """
    mine = sorted((one for one in snapshots if one.identity not in standing.aside), key=standing.arrival)
    times = kept(map(standing.arrival, mine), keep)
    stay = {standing.current, standing.previous, *_labelled(mine), *_first_of_days(mine, standing)}
    return [one for one in mine if not (one.identity in stay or standing.arrival(one) in times)]


def _labelled(mine: Sequence[Snapshot]) -> list[bytes]:
    return [one.identity for one in mine if one.label][:LABELLED_MAX]


def _first_of_days(mine: Sequence[Snapshot], standing: Standing) -> list[bytes]:
    first: dict[int, bytes] = {}
    for one in mine:
        first.setdefault(standing.arrival(one) // DAY_NS, one.identity)
    return list(first.values())[-GRACE_DAYS:]
