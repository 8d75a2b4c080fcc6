"""Which snapshots are kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from spinrt.storage.schedule import Keep, kept

START = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = 3600 * 10**9


def ns(moment: datetime) -> int:
    return int(moment.timestamp()) * 10**9


def hourly(count: int) -> list[int]:
    """A snapshot at half past each hour."""
    return [ns(START + timedelta(hours=n, minutes=30)) for n in range(count)]


def test_a_year_of_hourly_snapshots() -> None:
    """So many of each kind, each the last one of its period, and nothing else."""
    times = hourly(24 * 365)
    found = sorted(kept(times, Keep(hourly=24, daily=7, weekly=4, monthly=12, yearly=2)))
    assert found[-24:] == times[-24:]
    rest = [datetime.fromtimestamp(one / 1e9, UTC) for one in found[:-24]]
    assert all((one.hour, one.minute) == (23, 30) for one in rest)
    days = [one.date() for one in rest]
    last = datetime.fromtimestamp(times[-1] / 1e9, UTC).date()
    # The day, the week and the month that are not over yet are stood for by the newest snapshot.
    assert days[-6:] == [last - timedelta(days=n) for n in range(6, 0, -1)]
    assert len([day for day in days if day.weekday() == 6 and (last - day).days < 28]) >= 3
    assert sum((day + timedelta(days=1)).day == 1 for day in days) >= 11
    assert len(found) <= 24 + 7 + 4 + 12 + 2


def test_gaps_do_not_count() -> None:
    """After a month in which nothing ran, the snapshots from before are still there."""
    times = hourly(48)
    later = ns(START + timedelta(days=40))
    found = kept([*times, later], Keep(hourly=3, daily=2, weekly=0, monthly=0, yearly=0))
    assert found == {later, *times[-2:]}


def test_only_the_newest_when_nothing_is_asked_for() -> None:
    """There is always one to start from."""
    assert kept(hourly(5), Keep(0, 0, 0, 0, 0)) == {hourly(5)[-1]}
    assert kept([], Keep()) == set()


COUNTS = st.integers(0, 6)
KEEPS = st.builds(Keep, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
TIMES = st.lists(st.integers(0, 3 * 365 * 24).map(lambda n: n * HOUR // 2), max_size=60)


@given(TIMES, KEEPS)
def test_thinning_out_each_time_is_thinning_out_once(times: list[int], keep: Keep) -> None:
    """And again changes nothing; the newest is always there; the counts are bounds."""
    step_by_step: set[int] = set()
    for time_ns in sorted(set(times)):
        step_by_step = kept([*step_by_step, time_ns], keep)
    found = kept(times, keep)
    assert step_by_step == found
    assert kept(found, keep) == found
    assert not times or max(times) in found
    assert len(found) <= max(1, keep.hourly + keep.daily + keep.weekly + keep.monthly + keep.yearly)
