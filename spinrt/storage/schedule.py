"""Which snapshots to keep: the last one of each of the last so many hours, days, weeks, months and years.

Periods are those of UTC; a week begins on Monday. Periods without a snapshot do not count, so nothing is lost while
nothing runs. Thinning out after each new snapshot keeps the same ones as thinning out once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Final

_HOUR_S: Final = 3600
_DAY_S: Final = 24 * _HOUR_S
_EPOCH_WEEKDAY: Final = 3
"""1970-01-01 was a Thursday."""
_NS: Final = 1_000_000_000
DAY_NS: Final = _DAY_S * _NS


@dataclass(frozen=True, slots=True)
class Keep:
    """How many periods of each kind; the newest snapshot is kept anyway."""

    hourly: int = 24
    daily: int = 7
    weekly: int = 4
    monthly: int = 12
    yearly: int = 0


def _month(seconds: int) -> int:
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.year * 12 + moment.month


_PERIODS: Final[dict[str, Callable[[int], int]]] = {
    "hourly": lambda seconds: seconds // _HOUR_S,
    "daily": lambda seconds: seconds // _DAY_S,
    "weekly": lambda seconds: (seconds // _DAY_S + _EPOCH_WEEKDAY) // 7,
    "monthly": _month,
    "yearly": lambda seconds: datetime.fromtimestamp(seconds, UTC).year,
}


def kept(times_ns: Iterable[int], keep: Keep) -> set[int]:
    """Return those of the times (nanoseconds since 1970-01-01 UTC) whose snapshots are kept."""
    newest_first = sorted(set(times_ns), reverse=True)
    found = set(newest_first[:1])
    for item in fields(keep):
        found |= _last_of_each(newest_first, _PERIODS[item.name], getattr(keep, item.name))
    return found


def _last_of_each(newest_first: list[int], period: Callable[[int], int], count: int) -> set[int]:
    last: dict[int, int] = {}
    for time_ns in newest_first:
        if len(last) >= count:
            # The period of the last one taken may have more snapshots, all older than it: none of them is kept.
            break
        last.setdefault(period(time_ns // _NS), time_ns)
    return set(last.values())
