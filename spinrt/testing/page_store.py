"""What every `spinrt.storage.protocols.PageStore` must do: subclass `PageStoreConformance` and say how to make one.

::

    class TestMine(PageStoreConformance):
        def open(self, place: Path) -> PageStore:
            return MyPages(place)

``open`` of the same place gives the same store again, after the one before it was closed.
"""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

from spinrt.errors import CorruptRecord, NotFound, UsageError
from spinrt.storage.protocols import HOLE, PAGE_BYTES_MAX, Object, PageStore, Snapshot
from spinrt.storage.snapshot import seal
from spinrt.storage.tree import build, difference, pages, read, update, walk

PAGE = 512
LOG = b"0123456789abcdef"


def content(count: int, seed: int = 1, page_bytes: int = PAGE) -> list[bytes]:
    """Return so many pages that differ, some of which compress."""
    rng = random.Random(seed)
    return [rng.randbytes(page_bytes // 4) * 4 if n % 2 else rng.randbytes(page_bytes) for n in range(count)]


def store_object(store: PageStore, given: list[bytes], name: str = "thing") -> Object:
    return build(store, given, name=name, kind=9, page_bytes=PAGE)


def snapshot_of(*objects: Object, position: int = 100, parent: Snapshot | None = None, label: str = "") -> Snapshot:
    parent_id = None if parent is None else parent.identity
    return seal(
        parent=parent_id, log_identity=LOG, position=position, time_ns=position, objects=tuple(objects), label=label
    )


class PageStoreConformance:
    """The suite. Each test gets a store of its own in ``place``."""

    def open(self, place: Path) -> PageStore:
        raise NotImplementedError

    def test_put_gives_back_what_was_put(self, tmp_path: Path) -> None:
        """By its SHA-256, also from memory, after a sync, and in the form that it is stored in."""
        store = self.open(tmp_path)
        for page in (b"x", b"a" * PAGE_BYTES_MAX, random.Random(1).randbytes(PAGE_BYTES_MAX)):
            digest = store.put(page)
            assert digest == hashlib.sha256(page).digest() == store.put(page)
            assert store.get(digest) == page
            store.sync()
            assert store.get(digest) == page
            assert store.has([digest, HOLE]) == [True, False]
        store.close()

    def test_wrong_pages_are_refused(self, tmp_path: Path) -> None:
        """Empty, too long, or not of the digest that they come with; nothing is stored of them."""
        store = self.open(tmp_path)
        for wrong in (b"", bytes(PAGE_BYTES_MAX + 1)):
            with pytest.raises(UsageError):
                store.put(wrong)
        digest = hashlib.sha256(b"page").digest()
        for stored, compressed in ((b"other", False), (b"page", True), (b"", False), (b"(\xb5/\xfd", True)):
            with pytest.raises(CorruptRecord):
                store.put_stored(digest, stored, compressed)
        with pytest.raises(NotFound):
            store.get(digest)
        assert store.has([digest]) == [False]
        store.close()

    def test_stored_form_goes_from_store_to_store(self, tmp_path: Path) -> None:
        """`get_stored` of one is `put_stored` of another, and damage on the way is noticed."""
        one, other = self.open(tmp_path / "one"), self.open(tmp_path / "other")
        for page in content(6):
            digest = one.put(page)
            stored, compressed = one.get_stored(digest)
            for at in range(0, len(stored), 37):
                damaged = stored[:at] + bytes([stored[at] ^ 1]) + stored[at + 1 :]
                with pytest.raises(CorruptRecord):
                    other.put_stored(digest, damaged, compressed)
            other.put_stored(digest, stored, compressed)
            assert other.get(digest) == page
        one.close()
        other.close()

    def test_snapshots_survive_and_are_in_order(self, tmp_path: Path) -> None:
        """By position, then time; each as it was committed, with all its pages; committing again changes nothing."""
        store = self.open(tmp_path)
        given = content(300)
        thing = store_object(store, given)
        later = snapshot_of(thing, position=200, label="later")
        sooner = snapshot_of(update(store, thing, {7: given[8]}), position=100)
        store.commit(later)
        store.commit(sooner)
        store.commit(later)
        assert store.snapshots() == [sooner, later]
        store.close()

        store = self.open(tmp_path)
        assert store.snapshots() == [sooner, later]
        assert list(pages(store, store.snapshots()[1].objects[0])) == given
        assert read(store, store.snapshots()[0].objects[0], 7) == given[8]
        store.close()

    def test_snapshot_without_its_pages_is_refused(self, tmp_path: Path) -> None:
        """Whatever is missing: the root, a node, a page; and one whose id is not that of its content."""
        full, store = self.open(tmp_path / "full"), self.open(tmp_path / "store")
        thing = store_object(full, content(300))
        entries = list(walk(full, thing))
        for missing in (entries[0], entries[1], entries[-1]):
            for entry in entries:
                if entry.digest != missing.digest:
                    store.put(full.get(entry.digest))
            if missing is not entries[-1]:
                store.close()
                store = self.open(tmp_path / f"without{missing.level}-{missing.number}")
        for snapshot in (
            snapshot_of(thing._replace(root=hashlib.sha256(b"nothing").digest())),
            snapshot_of(thing)._replace(position=7),
        ):
            with pytest.raises(UsageError):
                full.commit(snapshot)
        assert full.snapshots() == []
        empty = self.open(tmp_path / "empty")
        with pytest.raises(UsageError):
            empty.commit(snapshot_of(thing))
        for entry in entries[:-1]:
            empty.put(full.get(entry.digest))
        with pytest.raises(UsageError):
            empty.commit(snapshot_of(thing))
        empty.put(full.get(entries[-1].digest))
        empty.commit(snapshot_of(thing))
        assert empty.snapshots() == [snapshot_of(thing)]
        for one in (full, store, empty):
            one.close()

    def test_object_that_lies_about_its_size_is_refused_or_damage(self, tmp_path: Path) -> None:
        """A root that is known, of an object of another size, is no object of this one."""
        store = self.open(tmp_path)
        thing = store_object(store, content(300))
        store.commit(snapshot_of(thing))
        for size in (thing.size + PAGE, thing.size - PAGE):
            with pytest.raises((UsageError, CorruptRecord)):
                store.commit(snapshot_of(thing._replace(size=size), position=7))
        assert len(store.snapshots()) == 1
        store.close()

    def test_delete_keeps_what_others_need(self, tmp_path: Path) -> None:
        """Any order of deleting leaves the rest whole."""
        for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2)):
            store = self.open(tmp_path / repr(order))
            given = content(300)
            thing = store_object(store, given)
            kept: list[Snapshot] = []
            expected: dict[bytes, list[bytes]] = {}
            for n in range(3):
                given = list(given)
                given[n * 50] = b"%d" % n * PAGE
                thing = update(store, thing, {n * 50: given[n * 50]})
                kept.append(snapshot_of(thing, position=n))
                expected[kept[-1].identity] = given
                store.commit(kept[-1])
            for index in order:
                gone = kept[index]
                store.delete(gone.identity)
                with pytest.raises(NotFound):
                    store.delete(gone.identity)
                del expected[gone.identity]
                for one in store.snapshots():
                    assert list(pages(store, one.objects[0])) == expected[one.identity]
            assert store.snapshots() == []
            store.close()

    def test_difference_names_what_the_other_lacks(self, tmp_path: Path) -> None:
        """What is named, put into a store that has the old snapshot, makes the new one whole."""
        source, target = self.open(tmp_path / "source"), self.open(tmp_path / "target")
        given = content(1000)
        old = store_object(source, given)
        for entry in walk(source, old):
            target.put_stored(entry.digest, *source.get_stored(entry.digest))
        target.commit(snapshot_of(old))
        new = update(source, old, {n: b"%03d" % n * 170 + b"ab" for n in (0, 500, 501, 999)})
        new = update(source, new, {1003: b"new!" * 128}, size=1004 * PAGE)
        named = list(difference(source, old, new))
        assert len(named) < 20
        for entry in named:
            target.put_stored(entry.digest, *source.get_stored(entry.digest))
        target.commit(snapshot_of(new, position=200))
        assert list(pages(target, new)) == list(pages(source, new))
        source.close()
        target.close()
