"""Which snapshot is the newest, when a data directory has those of several logs: after takeovers, and with branches."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from spinrt.mail.snapshot_operations import reading
from spinrt.mail.store.promote import promote, step_down
from spinrt.mail.store.snapshots import find_snapshot, newest_in
from spinrt.mail.store.store import Store
from spinrt.mail.store.views import Branch
from spinrt.storage.protocols import Snapshot
from spinrt.storage.snapshot import in_order, seal
from tests.mail.mirror_support import mirror_to
from tests.mail.store_support import USER, deliver, open_store, run, with_store


def of_log(log: int, position: int, time_ns: int) -> Snapshot:
    return seal(parent=None, log_identity=bytes([log]) * 16, position=position, time_ns=time_ns, objects=())


snapshots = st.lists(st.builds(of_log, st.integers(0, 3), st.integers(0, 50), st.integers(0, 50)), max_size=12)


@given(snapshots)
def test_one_log_is_in_the_order_of_its_positions(given: list[Snapshot]) -> None:
    """Whatever clocks said; and the order does not depend on the order in which they are given."""
    found = in_order(given)

    assert sorted(found) == sorted(given)
    assert found == in_order(given[::-1])
    for log in {one.log_identity for one in given}:
        own = [(one.position, one.time_ns) for one in found if one.log_identity == log]
        assert own == sorted(own)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1 << 60)), max_size=12))
def test_snapshots_of_several_logs_are_in_the_order_of_time(given: list[tuple[int, int]]) -> None:
    """As long as no clock went back: position ascends with time in each, from wherever it begins."""
    made = [of_log(log, (3 - log) * 1000 + number, number) for number, (log, _) in enumerate(given)]

    assert in_order(sorted(made, key=lambda one: one.identity)) == made


def test_newest_after_taking_over_and_going_back(tmp_path: Path) -> None:
    """Of a primary the last of its own log; of a mirror the one that came last; the list is the order of events."""
    old, new = tmp_path / "data", tmp_path / "mirror"
    came: list[bytes] = []

    async def first() -> None:
        store = open_store(tmp_path)
        await store.ensure_account(USER)
        await deliver(store, b"one", id_="1")
        await mirror_to(store, new)
        await store.close()

    async def go_on(path: Path, other: Path | None, id_: str) -> None:
        store = Store.open(path)
        await deliver(store, id_.encode(), id_=id_)
        if other is not None:
            await mirror_to(store, other)
        came.append((await store.snapshot()).identity)
        await store.close()

    run(first)
    promote(new)
    run(lambda: go_on(new, None, "2"))
    assert shown(new) == came[-1]
    step_down(old)
    run(lambda: go_on(new, old, "3"))
    assert shown(old) == shown(new) == came[-1]

    promote(old)
    run(lambda: go_on(old, None, "4"))
    assert shown(old) == came[-1]
    with reading(old) as pages:
        listed = [one.identity for one in pages.snapshots()]
        found = find_snapshot(old, pages.snapshots(), "newest")
    assert listed[-1] == found.identity == came[-1]
    assert listed.index(came[1]) < listed.index(came[2])

    step_down(new)
    run(lambda: go_on(old, new, "5"))
    assert shown(new) == shown(old) == came[-1]


def shown(directory: Path) -> bytes:
    with reading(directory) as pages:
        found = newest_in(directory, pages.snapshots())
    assert found is not None
    return found.identity


def test_a_branch_is_not_the_newest(tmp_path: Path) -> None:
    async def test(store: Store) -> None:
        own = await store.snapshot()
        branch = Branch.create(tmp_path / "data", store.snapshots.pages, own, "try")
        branch.snapshot(own.time_ns + 10**9)
        branch.close()

        assert len(store.snapshots.pages.snapshots()) == 2
        assert newest_in(tmp_path / "data", store.snapshots.pages.snapshots()) == own

    with_store(tmp_path, test)
