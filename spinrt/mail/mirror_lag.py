"""How far a target is behind: from the oldest change that it does not have, as the log tells it.

Not from its last snapshot: a mail system where nothing happens for an hour, and then something, is a moment behind.
Bytes of messages that were given up lie in the log, too, and bodies that retention moved; neither is a change.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

from spinrt.errors import StorageError
from spinrt.mail.store.changes import is_change
from spinrt.storage.log import Log
from spinrt.storage.record import HEADER_BYTES, KIND_MAX


class Oldest(NamedTuple):
    """A change: its record's position in the log, and its time in nanoseconds since 1970-01-01 UTC."""

    position: int
    time_ns: int


@dataclass(slots=True)
class _Look:
    """What was found for one target. There is nothing between ``covered`` and ``reached`` but what ``oldest`` says."""

    covered: int
    reached: int
    oldest: Oldest | None = None


class Waiting:
    """Looks for the oldest change behind what each target covers. Each header is read once while a target stands still.

    Any thread, one at a time.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self._looks: dict[str, _Look] = {}

    def oldest(self, target: str, covered: int, snapshot_ns: int) -> Oldest | None:
        """Return the oldest durable change at or behind a position; none when there is none.

        Args:
            covered: How far the target's snapshot reaches in the log.
            snapshot_ns: Its time, which is the answer's when damage hides what follows.
        """
        look = self._looks.get(target)
        if look is None or look.covered != covered:
            look = self._looks[target] = _Look(covered, covered)
        if look.oldest is None:
            try:
                self._look_on(look)
            except StorageError:
                return Oldest(look.reached, snapshot_ns)
        return look.oldest

    def _look_on(self, look: _Look) -> None:
        with closing(self._log.headers_since(look.reached)) as headers:
            for header in headers:
                if is_change(header.kind & KIND_MAX):
                    look.oldest = Oldest(header.position, header.time_ns)
                    return
                look.reached = header.position + HEADER_BYTES + header.length
