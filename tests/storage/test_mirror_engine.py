"""The two engines of the mirror, against doubles in memory: what arrives, what is sent, what is asked again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinrt.errors import CorruptRecord, PeerProtocolError, SpinError, StateError
from spinrt.storage.mirror import pipe
from spinrt.storage.mirror.source import changed_places
from spinrt.storage.protocols import HOLE
from spinrt.storage.tree import TreeReader, shape_of
from tests.storage.mirror_support import (
    PAGE_BYTES,
    MemoryBodies,
    MemoryPages,
    Primary,
    Secondary,
    content,
    digests_of,
    make_object,
    mirror,
)

PAGES = st.lists(st.sampled_from([b"\0", b"a", b"b", b"c"]), max_size=300)


def test_an_empty_mirror_gets_everything() -> None:
    primary, secondary = Primary(), Secondary()
    names = [primary.log.add(b"body %d" % number) for number in range(3000)]
    target = primary.snapshot({"index": content([b"%d" % n for n in range(10)] * 100), "configuration": b"x"}, names)

    sender = mirror(primary, secondary, target)

    assert secondary.contents(target.identity) == {
        "index": content([b"%d" % n for n in range(10)] * 100),
        "configuration": b"x",
    }
    assert secondary.log.bodies == primary.log.bodies
    assert secondary.standing().current == target.identity
    assert sender.traffic.pages_moved == len(digests_of(primary.pages, target)) == 11
    assert sender.traffic.bodies_moved == 3000


def test_an_update_sends_what_changed_alone() -> None:
    """What was written and deleted between two updates is in neither snapshot, and is not sent."""
    primary, secondary = Primary(), Secondary()
    kept = primary.log.add(b"kept")
    first = primary.snapshot({"index": content([b"a"] * 500)}, [kept])
    mirror(primary, secondary, first)
    primary.log.add(b"written and deleted" * 1000)
    fresh = primary.log.add(b"fresh")
    second = primary.snapshot({"index": content([b"a"] * 250 + [b"b"] + [b"a"] * 249)}, [kept, fresh])

    sender = mirror(primary, secondary, second)

    assert (sender.traffic.pages_offered, sender.traffic.pages_moved) == (1, 1)
    assert (sender.traffic.bodies_offered, sender.traffic.bodies_moved) == (1, 1)
    assert set(secondary.log.bodies) == {kept, fresh}
    assert sender.traffic.sent_bytes < 600


def test_nothing_new_sends_nothing() -> None:
    primary, secondary = Primary(), Secondary()
    target = primary.snapshot({"index": content([b"a"])})
    mirror(primary, secondary, target)

    sender = mirror(primary, secondary, target)

    assert not sender.moved
    assert sender.traffic.sent_bytes < 50


@given(st.lists(st.tuples(PAGES, st.integers(0, PAGE_BYTES - 1)), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_any_history_arrives(history: list[tuple[list[bytes], int]]) -> None:
    """Grown, shrunk, cut, with holes that come and go: each update makes the mirror what the source was."""
    primary, secondary = Primary(), Secondary()
    for number, (pages, cut) in enumerate(history):
        target = primary.snapshot({"index": content(pages, cut), "n": b"%d" % number}, position=number + 1)
        mirror(primary, secondary, target)
        assert secondary.contents(target.identity) == {"index": content(pages, cut), "n": b"%d" % number}


@given(PAGES, PAGES, st.integers(0, PAGE_BYTES - 1))
@settings(max_examples=100, deadline=None)
def test_changed_places_are_those_of_a_plain_comparison(before: list[bytes], after: list[bytes], cut: int) -> None:
    store = MemoryPages()
    old, new = make_object(store, "x", content(before, cut)), make_object(store, "x", content(after))
    reading, was = TreeReader(store, new), TreeReader(store, old)
    expected = [
        (number, digest)
        for number in range(shape_of(new.size, new.page_bytes).counts[0])
        if (digest := reading.digest(0, number)) != (was.digest(0, number) or HOLE)
    ]

    assert list(changed_places(store, old, new)) == expected


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_a_broken_connection_costs_nothing_twice(data: st.DataObject) -> None:
    """Cut at any byte, then again from the start: no page and no body is sent twice, and the result is whole."""
    primary, secondary = Primary(), Secondary()
    names = [primary.log.add(b"%d" % number) for number in range(20)]
    target = primary.snapshot({"index": content([b"%d" % n for n in range(10)] * 20)}, names)
    moved = 0
    for _ in range(3):
        sender, receiver = primary.sender(target), secondary.receiver()
        left = data.draw(st.integers(0, 3000))
        while left > 0 and not sender.done:
            sent = sender.produce(1)[:left]
            left -= len(sent)
            answer = receiver.receive(sent)
            if not sent and not answer:
                break
            sender.receive(answer)
        moved += receiver.traffic.pages_moved + receiver.traffic.bodies_moved
    if target.identity not in secondary.pages.committed:
        sender = mirror(primary, secondary, target)
        moved += sender.traffic.pages_moved + sender.traffic.bodies_moved

    assert moved == 10 + 20
    assert secondary.contents(target.identity)["index"] == content([b"%d" % n for n in range(10)] * 20)


def test_a_damaged_page_at_the_source_stops_the_update_and_harms_nothing() -> None:
    primary, secondary = Primary(), Secondary()
    first = primary.snapshot({"index": content([b"a", b"b"])})
    mirror(primary, secondary, first)
    second = primary.snapshot({"index": content([b"a", b"c", b"d"])}, position=first.position + 1)
    primary.pages.broken |= digests_of(primary.pages, second) - digests_of(primary.pages, first)

    with pytest.raises(CorruptRecord):
        mirror(primary, secondary, second)

    assert list(secondary.pages.committed) == [first.identity]
    assert secondary.standing().current == first.identity
    primary.pages.broken.clear()
    mirror(primary, secondary, second)
    assert secondary.standing().current == second.identity


def test_a_damaged_body_at_the_source_stops_the_update() -> None:
    primary, secondary = Primary(), Secondary()
    name = primary.log.add(b"a body")
    target = primary.snapshot({"index": b"a"}, [name])
    primary.log.bodies[name] = (*primary.log.bodies[name][:2], b"another", primary.log.bodies[name][3])

    with pytest.raises(CorruptRecord, match=f"body {name}"):
        mirror(primary, secondary, target)

    assert not secondary.pages.committed
    assert not secondary.log.bodies


def test_a_mirror_does_not_go_back_unless_it_is_told_to() -> None:
    """Another history from an earlier snapshot on is refused; after `resync` it is taken, and what was left is kept."""
    primary, secondary = Primary(), Secondary()
    shared = primary.snapshot({"index": content([b"a"])})
    mirror(primary, secondary, shared)
    left = primary.snapshot({"index": content([b"left"])}, position=shared.position + 1)
    mirror(primary, secondary, left)
    other = Primary(pages=MemoryPages(), log=MemoryBodies(1))
    mirror(primary, promoted := Secondary(pages=other.pages), shared)
    assert promoted.standing().current == shared.identity
    other.live[shared.identity] = frozenset()
    target = other.snapshot({"index": content([b"other"])})

    with pytest.raises(StateError, match="not of the source"):
        mirror(other, secondary, target)
    assert secondary.standing().current == left.identity
    secondary.book.write(replace(secondary.book.read(), resync=True))
    mirror(other, secondary, target)

    standing = secondary.standing()
    assert standing.current == target.identity
    assert standing.aside == (left.identity,)
    assert not standing.resync
    assert secondary.contents(left.identity) == {"index": content([b"left"])}


def test_an_older_snapshot_is_no_update() -> None:
    """A source that was set back, or a replayed update, does not take the mirror back."""
    primary, secondary = Primary(), Secondary()
    first = primary.snapshot({"index": content([b"a"])})
    second = primary.snapshot({"index": content([b"b"])}, position=first.position + 1)
    mirror(primary, secondary, first)
    mirror(primary, secondary, second)

    with pytest.raises(StateError, match="newer"):
        mirror(primary, secondary, first)


def test_two_logs_of_one_generation_do_not_mirror() -> None:
    primary, secondary = Primary(log=MemoryBodies(9)), Secondary()
    target = primary.snapshot({"index": b"a"})

    with pytest.raises(StateError, match="generation"):
        mirror(primary, secondary, target)


def test_an_update_larger_than_the_mirror_takes_is_refused() -> None:
    primary, secondary = Primary(), Secondary()
    target = primary.snapshot({"index": content([b"a", b"b", b"c"])})
    sender, receiver = primary.sender(target), secondary.receiver(claim=lambda: 2 * PAGE_BYTES)

    with pytest.raises(SpinError, match="larger"):
        pipe.run(sender, receiver)

    assert not secondary.pages.committed


def test_bytes_one_by_one_give_the_same() -> None:
    primary = Primary()
    target = primary.snapshot({"index": content([b"a", b"b"] * 70)}, [primary.log.add(b"body")])
    whole, single = Secondary(), Secondary()
    mirror(primary, whole, target)

    sender, receiver = primary.sender(target), single.receiver()
    while not sender.done:
        for byte in sender.produce():
            for answer in receiver.receive(bytes((byte,))):
                sender.receive(bytes((answer,)))

    assert single.pages.committed == whole.pages.committed
    assert single.log.bodies == whole.log.bodies


def test_what_the_mirror_says_late_is_refused() -> None:
    primary, secondary = Primary(), Secondary()
    sender = primary.sender(primary.snapshot({"index": b"a"}))
    welcome = secondary.receiver().receive(sender.produce())

    with pytest.raises(PeerProtocolError):
        for _ in range(10):
            sender.receive(welcome)
