"""Power lost, devices that fail or are full, and damage, at every step and in every byte of a page store."""

from __future__ import annotations

import contextlib
import errno
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinrt.errors import CorruptRecord, DeviceFailed, DeviceFull, NotFound, StorageError, UsageError
from spinrt.storage.pack import Gap
from spinrt.storage.page_table import TABLE_NAME
from spinrt.storage.pages import LocalPages
from spinrt.storage.protocols import HOLE, Snapshot
from spinrt.storage.tree import build, pages, split_node, update, walk
from spinrt.testing.device import CrashDevice, FaultDevice, PowerLost
from spinrt.testing.page_store import PAGE, content, snapshot_of, store_object

Contents = dict[bytes, list[bytes]]


def open_pages(directory: Path, device: object) -> LocalPages:
    return LocalPages.open(directory, device, pack_bytes_max=6000, unused_keep_s=0, clock_s=lambda: 1e9)  # type: ignore[arg-type]


class Work:
    """Commits and deletes at random; remembers what was promised."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.committed: Contents = {}
        self.unsure: set[bytes] = set()
        """Being committed or deleted when it ended: they may be there or not, but not half."""
        self.contents: Contents = {}

    def run(self, store: LocalPages) -> None:
        given = content(20, seed=self.rng.randrange(100))
        thing = store_object(store, given)
        for n in range(3):
            changed = {self.rng.randrange(20): self.rng.randbytes(PAGE) for _ in range(3)}
            given = [changed.get(number, page) for number, page in enumerate(given)]
            thing = update(store, thing, changed)
            snapshot = snapshot_of(thing, position=n)
            self.contents[snapshot.identity] = given
            self._unsurely(snapshot.identity, lambda: store.commit(snapshot))  # noqa: B023
            self.committed[snapshot.identity] = given
            if n:
                # Not the one that the next is made from: nothing unreferred to is kept here.
                victim = self.rng.choice(sorted(self.committed.keys() - {snapshot.identity}))
                del self.committed[victim]
                self._unsurely(victim, lambda: store.delete(victim))  # noqa: B023

    def _unsurely(self, identity: bytes, action: Callable[[], None]) -> None:
        self.unsure.add(identity)
        action()
        self.unsure.discard(identity)

    def check(self, store: LocalPages, context: object) -> None:
        """All that was promised is there and whole; nothing else is visible."""
        found = {one.identity: one for one in store.snapshots()}
        assert self.committed.keys() - self.unsure <= found.keys() <= self.committed.keys() | self.unsure, context
        for identity, snapshot in found.items():
            assert list(pages(store, snapshot.objects[0])) == self.contents[identity], context
        assert not store.damaged, context
        check_counts(store)


def check_counts(store: LocalPages) -> None:
    """What is counted is what is reachable; counts are those of their definition; so is what is live in packs."""
    table = store._usable()
    rows = {digest: (place, leaves, nodes) for digest, place, leaves, nodes in table.rows(limit=10**6)}
    counted = {digest for digest, (_, leaves, nodes) in rows.items() if leaves + nodes}
    roots, nodes_at = reachable(store)
    live: dict[int, int] = {}
    for digest in counted:
        place = rows[digest][0]
        live[place.pack] = live.get(place.pack, 0) + place.entry_bytes
    expected: Counter[tuple[bytes, bool]] = Counter(roots)
    for digest, (level, slots) in nodes_at.items():
        base = table.base_of(digest)
        base_slots = nodes_at[base][1] if base is not None else []
        for index, child in enumerate(slots):
            if child != HOLE and (index >= len(base_slots) or base_slots[index] != child):
                expected[child, level > 1] += 1
    found = {(digest, False): leaves for digest, (_, leaves, _) in rows.items() if leaves}
    found |= {(digest, True): nodes for digest, (_, _, nodes) in rows.items() if nodes}
    assert found == expected
    pages_of_nodes = {child for level, slots in nodes_at.values() if level == 1 for child in slots}
    assert counted == ({digest for digest, _ in roots} | set(nodes_at) | pages_of_nodes) - {HOLE}
    assert {row.number: row.live for row in table.packs() if row.live} == live


def reachable(store: LocalPages) -> tuple[list[tuple[bytes, bool]], dict[bytes, tuple[int, list[bytes]]]]:
    """Roots (digest, whether it is a node), one for each reference; and every node with its level and slots."""
    roots: list[tuple[bytes, bool]] = []
    nodes: dict[bytes, tuple[int, list[bytes]]] = {}
    for snapshot in store.snapshots():
        roots.append((snapshot.identity, False))
        for item in snapshot.objects:
            if item.root != HOLE:
                roots.append((item.root, item.depth > 0))
            for entry in walk(store, item):
                if entry.level:
                    slots = split_node(store.get(entry.digest), entry.level, entry.digest)
                    nodes[entry.digest] = (entry.level, slots)
    return roots, nodes


@pytest.mark.parametrize(("seed", "table"), [(0, "kept"), (1, "lost"), (2, "old")])
def test_crash_at_every_step_leaves_whole_snapshots(tmp_path: Path, seed: int, table: str) -> None:
    """Whatever becomes of the derived table: kept, lost, or one from before."""
    step, finished = 1, False
    while not finished:
        directory = tmp_path / str(step)
        device, work = CrashDevice(seed, crash_at=step), Work(seed)
        with contextlib.suppress(PowerLost):
            store = open_pages(directory, device)
            if table == "old":
                shutil.copy(directory / TABLE_NAME, tmp_path / "old")
            work.run(store)
            finished = True
        with contextlib.suppress(PowerLost):
            store.close()
        device = device.crash()
        set_table(directory, tmp_path, table)

        recovered = open_pages(directory, device)

        work.check(recovered, f"seed {seed}, step {step}, table {table}")
        again = Work(seed + 1)
        again.run(recovered)
        recovered.close()
        step += 1
    assert step > 20


def set_table(directory: Path, spare: Path, table: str) -> None:
    if table != "kept":
        for suffix in ("", "-wal", "-shm"):
            (directory / (TABLE_NAME + suffix)).unlink(missing_ok=True)
    if table == "old" and (spare / "old").exists():
        shutil.copy(spare / "old", directory / TABLE_NAME)


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_failure_at_every_step_is_told_and_passes(tmp_path: Path, error: int) -> None:
    """The step fails with an error of ours, what was committed stays, and the same store goes on."""
    expected = DeviceFull if error == errno.ENOSPC else DeviceFailed
    step, failed = 1, True
    while failed:
        failed = False
        device = FaultDevice(CrashDevice(1), fail_at=step, error=error)
        work = Work(1)
        try:
            store = open_pages(tmp_path / str(step), device)
        except expected:
            failed = True
            store = open_pages(tmp_path / str(step), device)
        else:
            try:
                work.run(store)
            except StorageError as found:
                failed = True
                assert type(found) is expected
        device.heal()
        store.close()
        store = open_pages(tmp_path / str(step), device)
        work.check(store, f"step {step}")
        Work(2).run(store)
        store.close()
        step += 1
    assert step > 20


def test_same_store_goes_on_after_a_full_device(tmp_path: Path) -> None:
    """What was not synced is forgotten and refused at commit; put again, it is there."""
    device = FaultDevice(CrashDevice(1))
    store = open_pages(tmp_path, device)
    thing = store_object(store, content(5))
    device.fail_at, device.error = device.step_count + 1, errno.ENOSPC
    with pytest.raises(DeviceFull):
        store.sync()
    device.heal()
    with pytest.raises(UsageError, match="not there"):
        store.commit(snapshot_of(thing))
    assert store_object(store, content(5)) == thing
    store.commit(snapshot_of(thing))
    store.close()
    store = open_pages(tmp_path, device)
    assert list(pages(store, store.snapshots()[0].objects[0])) == content(5)


def filled(directory: Path, device: CrashDevice) -> tuple[Snapshot, list[bytes]]:
    store = LocalPages.open(directory, device, clock_s=lambda: 1e9)
    given = content(9)
    snapshot = snapshot_of(store_object(store, given), label="kept")
    store.commit(snapshot)
    store.close()
    return snapshot, given


def test_every_flipped_byte_is_found_and_named(tmp_path: Path) -> None:
    """In packs and in snapshots, with and without the table: never a wrong page, never a silent loss."""
    device = CrashDevice(1)
    snapshot, given = filled(tmp_path / "kept", device)
    for name in device.list():
        for offset in range(0, device.open(name).size(), 29):
            for table in ("kept", "lost"):
                directory = tmp_path / f"{name}-{offset}-{table}"
                if table == "kept":
                    shutil.copytree(tmp_path / "kept", directory)
                device.flip(name, offset, 0x10)
                assert_damage_is_told(directory, device, name, (snapshot, given))
                if name.endswith(".pack"):
                    device.flip(name, offset, 0x10)
                shutil.rmtree(directory)


def assert_damage_is_told(
    directory: Path, device: CrashDevice, name: str, expected: tuple[Snapshot, list[bytes]]
) -> None:
    store = LocalPages.open(directory, device, clock_s=lambda: 1e9)
    told = [str(error) for found, error in store.damaged.items() if name in found] + store.repaired
    told += [name for number, pack in store.packs() for found in store.walk_pack(number) if is_bad(found)]
    for one in store.snapshots():
        try:
            assert list(pages(store, one.objects[0])) == expected[1]
        except (CorruptRecord, NotFound) as error:
            told.append(str(error))
    store.close()
    assert any(name in line for line in told), told


def is_bad(found: object) -> bool:
    return isinstance(found, Gap) or not found.whole  # type: ignore[attr-defined]


def test_damaged_page_is_replaced(tmp_path: Path) -> None:
    """`replace` with the stored form from elsewhere; from then on it is read from there, with a new table too."""
    device, spare = CrashDevice(1), LocalPages.open(tmp_path / "spare")
    snapshot, given = filled(tmp_path / "it", device)
    for page in given:
        spare.put(page)
    (name,) = (one for one in device.list() if one.endswith(".pack"))
    device.flip(name, 64 + 52 + 1)
    store = LocalPages.open(tmp_path / "it", device)
    with pytest.raises(CorruptRecord, match=f"{name}, offset 64"):
        list(pages(store, snapshot.objects[0]))
    digest = next(found.header.digest for found in store.walk_pack(1) if not found.whole)  # type: ignore[union-attr]

    store.replace(digest, *spare.get_stored(digest))

    assert list(pages(store, snapshot.objects[0])) == given
    check_counts(store)
    store.close()
    store = LocalPages.open(tmp_path / "it", device, rebuild=True)
    assert list(pages(store, snapshot.objects[0])) == given
    store.close()


def test_page_that_was_found_damaged_is_stored_anew_by_the_next_put(tmp_path: Path) -> None:
    """It is not there for whoever asks; what puts it, as content or as stored elsewhere, makes it whole."""
    for stored_elsewhere in (False, True):
        path = tmp_path / str(stored_elsewhere)
        device, spare = CrashDevice(1), LocalPages.open(path / "spare")
        snapshot, given = filled(path / "it", device)
        (name,) = (one for one in device.list() if one.endswith(".pack"))
        device.flip(name, 64 + 52 + 1)
        store = LocalPages.open(path / "it", device)
        (digest,) = (found.header.digest for found in store.walk_pack(1) if not found.whole)  # type: ignore[union-attr]
        content_ = next(page for page in given if spare.put(page) == digest)
        assert store.has([digest]) == [True]
        assert store.put(content_) == digest  # nobody knows yet
        with pytest.raises(CorruptRecord):
            store.get(digest)

        assert store.unreadable == {digest}
        assert store.has([digest]) == [False]
        if stored_elsewhere:
            store.put_stored(digest, *spare.get_stored(digest))
        else:
            assert store.put(content_) == digest

        assert store.get(digest) == content_
        assert not store.unreadable
        assert list(pages(store, snapshot.objects[0])) == given
        check_counts(store)
        store.close()
        spare.close()
        store = LocalPages.open(path / "it", device, rebuild=True)
        assert list(pages(store, snapshot.objects[0])) == given
        store.close()


def test_repaired_node_is_counted_before_anything_is_deleted(tmp_path: Path) -> None:
    """A node that could not be read when it was counted: what lies below it stays, whatever is deleted after."""
    device, spare = CrashDevice(1), LocalPages.open(tmp_path / "spare")
    given = content(300)
    thing = store_object(spare, given)
    store = LocalPages.open(tmp_path / "it", device, unused_keep_s=0, clock_s=lambda: 1e9)
    assert store_object(store, given) == thing
    changed = update(store, thing, {299: b"x" * PAGE})
    store.commit(snapshot_of(thing))
    store.commit(snapshot_of(changed, position=200))
    (name,) = (one for one in device.list() if one.endswith(".pack"))
    node = next(entry.digest for entry in walk(store, thing) if entry.level == 1)
    offset = store._find(node).offset
    store.close()
    device.flip(name, offset + 100)
    store = LocalPages.open(tmp_path / "it", device, rebuild=True, unused_keep_s=0, clock_s=lambda: 1e9)
    assert store.damaged
    store.close()
    store = LocalPages.open(tmp_path / "it", device, unused_keep_s=0, clock_s=lambda: 1e9)

    store.replace(node, *spare.get_stored(node))
    store.delete(store.snapshots()[1].identity)
    store.compact()

    assert list(pages(store, thing)) == given
    store.close()
    store = LocalPages.open(tmp_path / "it", device, unused_keep_s=0, clock_s=lambda: 1e9)
    assert not store.damaged
    assert list(pages(store, thing)) == given
    check_counts(store)
    store.close()


def test_damaged_snapshot_is_written_anew_from_its_page(tmp_path: Path) -> None:
    """Named when it is only looked at, repaired when the store is opened for good; also without the table."""
    for table in ("kept", "lost"):
        device = CrashDevice(1)
        snapshot, _ = filled(tmp_path / table, device)
        (name,) = (one for one in device.list() if one.endswith(".snap"))
        before = bytes(device.names[name].content)
        device.flip(name, 90)
        if table == "kept":
            reading = LocalPages.open(tmp_path / table, device, read_only=True)
            assert (reading.snapshots(), list(reading.damaged)) == ([snapshot], [name])
            reading.close()
        store = LocalPages.open(tmp_path / table, device, rebuild=table == "lost")
        assert (store.snapshots(), store.damaged, store.repaired) == ([snapshot], {}, [name])
        assert bytes(device.names[name].content) == before
        store.close()


def test_packs_are_rewritten_when_mostly_dead(tmp_path: Path) -> None:
    """Deleting gives room back, keeps what others need, and a second look finds nothing to do."""
    device = CrashDevice(1)
    store = LocalPages.open(tmp_path, device, pack_bytes_max=20_000, unused_keep_s=0, clock_s=lambda: 1e9)
    big, small = content(400, seed=1), content(5, seed=2)
    first = snapshot_of(store_object(store, big), store_object(store, small, "small"))
    store.commit(first)
    second = snapshot_of(store_object(store, small, "small"), position=200)
    store.commit(second)
    before = sum(len(inode.content) for inode in device.names.values())

    store.delete(first.identity)

    after = sum(len(inode.content) for inode in device.names.values())
    assert after < before / 8
    assert list(pages(store, second.objects[0])) == small
    assert store.compact() == 0
    check_counts(store)
    store.close()


def test_pages_in_the_making_survive_a_deletion(tmp_path: Path) -> None:
    """What was put and is not referred to yet stays for a while, though the pack around it is rewritten."""
    now = [1e9]
    store = LocalPages.open(tmp_path, pack_bytes_max=20_000, unused_keep_s=3600, clock_s=lambda: now[0])
    old = snapshot_of(store_object(store, content(400, seed=1)))
    store.commit(old)
    making = content(30, seed=2)
    thing = store_object(store, making)
    now[0] += 1800
    store.delete(old.identity)
    store.commit(snapshot_of(thing, position=7))
    assert list(pages(store, thing)) == making
    store.delete(store.snapshots()[0].identity)
    now[0] += 7200
    store.compact()
    with pytest.raises((NotFound, CorruptRecord)):
        list(pages(store, thing))
    store.close()


def test_known_page_put_again_is_kept_as_if_new(tmp_path: Path) -> None:
    """A page whose last snapshot goes, between its second put and the commit, is still there."""
    now = [1e9]
    store = LocalPages.open(tmp_path, pack_bytes_max=20_000, unused_keep_s=3600, clock_s=lambda: now[0])
    given = content(100)
    old = snapshot_of(store_object(store, given))
    store.commit(old)
    now[0] += 100_000
    thing = store_object(store, given)
    store.delete(old.identity)
    store.compact()
    store.commit(snapshot_of(thing, position=3))
    assert list(pages(store, thing)) == given
    store.close()


def test_second_process_reads_beside_the_first(tmp_path: Path) -> None:
    """Read-only sees snapshots as they come and go, in packs as they are begun and rewritten."""
    store = LocalPages.open(tmp_path, pack_bytes_max=20_000, unused_keep_s=0)
    first = snapshot_of(store_object(store, content(100, seed=1)))
    store.commit(first)
    reading = LocalPages.open(tmp_path, read_only=True)
    second = snapshot_of(store_object(store, content(100, seed=2)), position=200)
    store.commit(second)
    assert reading.snapshots() == [first, second]
    assert list(pages(reading, second.objects[0])) == content(100, seed=2)
    store.delete(first.identity)
    assert reading.snapshots() == [second]
    assert list(pages(reading, second.objects[0])) == content(100, seed=2)
    for change in (lambda: reading.put(b"new"), lambda: reading.delete(second.identity)):
        with pytest.raises(UsageError, match="read-only"):
            change()
    reading.close()
    store.close()


SIZES = st.sampled_from([1, 2, 127, 128, 129, 300, 128 * 3])


class Lineages:
    """Objects that grow, shrink, change, go back and share pages; snapshots of them that come and go in any order."""

    def __init__(self, store: LocalPages, rng: random.Random) -> None:
        self.store = store
        self.rng = rng
        self.kept: list[Snapshot] = []
        self.position = 0

    def commit(self, parent: int, changes: int, size: int) -> None:
        rng, store = self.rng, self.store
        before = self.kept[parent % len(self.kept)] if self.kept else None
        if before is None:
            thing = build(store, [b"%03d " % n * 16 for n in range(size)], name="thing", kind=9, page_bytes=64)
        else:
            numbers = {rng.randrange(size) for _ in range(changes)}
            changed = {n: b"%03d " % rng.randrange(20) * 16 for n in numbers}
            thing = update(store, before.objects[0], changed, size=size * 64)
        self.position += 1
        made = snapshot_of(thing, position=self.position, parent=before if rng.random() < 0.8 else None)
        store.commit(made)
        self.kept.append(made)

    def delete(self, which: int) -> None:
        if self.kept:
            self.store.delete(self.kept.pop(which % len(self.kept)).identity)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 999),
    st.lists(st.one_of(st.tuples(st.integers(0, 9), st.integers(0, 4), SIZES), st.integers(0, 9)), max_size=14),
)
def test_counts_are_right_after_any_history(seed: int, steps: list[tuple[int, int, int] | int]) -> None:
    """Branches, objects that change their depth, pages that come back; and at the end nothing is left."""
    with tempfile.TemporaryDirectory() as directory:
        store = LocalPages.open(Path(directory), CrashDevice(1), unused_keep_s=0, clock_s=lambda: 1e9)
        lineages = Lineages(store, random.Random(seed))
        for step in steps:
            if isinstance(step, int):
                lineages.delete(step)
            else:
                lineages.commit(*step)
            check_counts(store)
        while lineages.kept:
            lineages.delete(0)
            check_counts(store)
        assert not any(leaves + nodes for _, _, leaves, nodes in store._usable().rows())
        store.close()
