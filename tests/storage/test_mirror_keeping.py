"""Which of a mirror's snapshots go: by when they came, and never by what they say."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from spinrt.storage.mirror.book import Standing, decode_standing, encode_standing
from spinrt.storage.mirror.keeping import GRACE_DAYS, LABELLED_MAX, due
from spinrt.storage.protocols import Snapshot
from spinrt.storage.schedule import DAY_NS, Keep
from spinrt.storage.snapshot import in_order, seal

NOTHING = Keep(hourly=0, daily=0, weekly=0, monthly=0)
START_NS = 20_000 * DAY_NS


class Shelf:
    """A mirror's snapshots and book, thinned out after each update."""

    def __init__(self, keep: Keep) -> None:
        self.keep = keep
        self.snapshots: dict[bytes, Snapshot] = {}
        self.standing = Standing()
        self._position = 0

    def take(self, arrived_ns: int, time_ns: int, label: str = "") -> bytes:
        self._position += 1
        made = seal(
            parent=None, log_identity=bytes(16), position=self._position, time_ns=time_ns, objects=(), label=label
        )
        self.snapshots[made.identity] = made
        arrived = self.standing.arrived | {made.identity: arrived_ns}
        self.standing = replace(self.standing.advanced(made.identity), arrived=arrived, updated_ns=arrived_ns)
        for one in due(in_order(self.snapshots.values()), self.standing.settled(set(self.snapshots)), self.keep):
            del self.snapshots[one.identity]
        self.standing = self.standing.settled(set(self.snapshots))
        return made.identity

    def arrivals(self) -> list[int]:
        return sorted(map(self.standing.arrival, self.snapshots.values()))


steps = st.lists(st.integers(1, 2 * DAY_NS), min_size=1, max_size=30)
said = st.lists(st.tuples(st.integers(0, 2 * START_NS), st.sampled_from(["", "", "label"])), min_size=30, max_size=30)
keeps = st.builds(Keep, *[st.integers(0, 3)] * 4)


@given(steps, said, keeps)
def test_what_a_snapshot_says_of_its_time_decides_nothing(
    steps: list[int], said: list[tuple[int, str]], keep: Keep
) -> None:
    honest, lying = Shelf(keep), Shelf(keep)
    now_ns = START_NS
    for step, (time_ns, label) in zip(steps, said, strict=False):
        now_ns += step
        honest.take(now_ns, now_ns, label)
        lying.take(now_ns, time_ns, label)

        assert lying.arrivals() == honest.arrivals()


@given(st.lists(st.integers(0, DAY_NS), max_size=20), st.lists(st.integers(0, DAY_NS), max_size=40), said, keeps)
@settings(max_examples=200)
def test_for_two_days_there_is_one_from_before(
    before: list[int], after: list[int], said: list[tuple[int, str]], keep: Keep
) -> None:
    """However many come after some moment, whatever they say: until two days later one from before it is there."""
    shelf, now_ns = Shelf(keep), START_NS
    for step in [0, *before]:
        now_ns += step
        shelf.take(now_ns, now_ns)
    bad_ns = now_ns
    for number, step in enumerate(after):
        now_ns += step
        if now_ns > bad_ns + (GRACE_DAYS - 1) * DAY_NS:
            break
        shelf.take(now_ns, *said[number % len(said)])

        assert shelf.arrivals()[0] <= bad_ns


def test_labels_are_bounded_and_the_first_stay() -> None:
    shelf = Shelf(NOTHING)
    first = [shelf.take(START_NS + number, START_NS, f"label {number}") for number in range(LABELLED_MAX)]
    last = [shelf.take(START_NS + LABELLED_MAX + number, START_NS, f"more {number}") for number in range(50)]

    assert set(first) <= set(shelf.snapshots)
    assert set(shelf.snapshots) - set(first) == set(last[-2:]), "the current one and the one before it"


def test_when_they_came_is_in_the_book() -> None:
    standing = Standing(arrived={b"a" * 32: 7, b"b" * 32: 9}, updated_ns=9)

    assert decode_standing(encode_standing(standing), "book") == standing
    assert standing.settled({b"a" * 32}).arrived == {b"a" * 32: 7}


def test_what_came_before_the_book_knew_is_no_younger_than_the_last_update() -> None:
    one = seal(parent=None, log_identity=bytes(16), position=1, time_ns=START_NS, objects=())

    assert Standing().arrival(one) == START_NS
    assert Standing(updated_ns=START_NS - 5).arrival(one) == START_NS - 5
    assert Standing(updated_ns=START_NS + 5).arrival(one) == START_NS
