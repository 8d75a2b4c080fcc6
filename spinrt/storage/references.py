"""Counting what refers to a page, at the price of what changed.

A node of a new snapshot is mostly the node that was in its place: counting every digest in it would cost 128 times what
changed. So a node is counted against its *base*, a live node of the same level, and *owns* only those of its digests
that the base has not in the same slot:

    count(page) = roots of snapshots that are it
                  + over all live nodes X: slots i with X[i] = page and base(X)[i] != page

A node is live while its count is not zero. What a live node refers to, it owns, or its base refers to it in the same
slot; bases are live and form no cycle, so something live owns it: a page with count zero is referred to by nothing.
When a node dies, those that were counted against it are counted against its own base instead, and what changes by that
is counted: again only slots that differ.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from spinrt.errors import CorruptRecord, NotFound, UsageError
from spinrt.storage.background import breathe
from spinrt.storage.page_table import PageTable
from spinrt.storage.protocols import FAN_OUT, HOLE, Object, Snapshot
from spinrt.storage.snapshot import decode_snapshot, in_order
from spinrt.storage.tree import Pages, Shape, TreeReader, read_node, shape_of, split, split_node

_trace: Final = logging.getLogger("spinrt.storage")


class References:
    """One change of the counts, inside a transaction of the table."""

    def __init__(self, table: PageTable, store: Pages, *, strict: bool) -> None:
        """``strict``: what is not there, or cannot be read, is an error; else it is passed over."""
        self._table = table
        self._store = store
        self._strict = strict
        self._live: dict[int, int] = defaultdict(int)
        self.missing = 0
        """Pages that were not there, if not strict."""

    # --------------------------------------------------------------------------------------------------------- add

    def add(self, snapshot: Snapshot, before: Snapshot | None = None) -> None:
        """Count a snapshot's references; cheap where it is like ``before``, which is counted already.

        Raises:
            UsageError: A page of it is not there.
            CorruptRecord: A node of it is none, or cannot be read.
        """
        bases = {item.name: item for item in before.objects} if before is not None else {}
        for item in snapshot.objects:
            if item.root != HOLE:
                self._add_object(item, bases.get(item.name))
        self._count_one(snapshot.identity, +1, node=False)
        self._save_live()

    def _add_object(self, item: Object, base: Object | None) -> None:
        if self._strict:
            self._check_edge(item)
        shape = shape_of(item.size, item.page_bytes)
        reader = None if base is None or base.root == HOLE else TreeReader(self._store, base)
        self._add(shape, shape.depth, 0, item.root, reader)

    def _check_edge(self, item: Object) -> None:
        """The root may be known already, of an object of another size: its right edge must fit this one too."""
        try:
            reader = TreeReader(self._store, item)
            last = reader.shape.counts[0] - 1
            if last < 0:
                raise CorruptRecord(f"object {item.name!r}: has a root and no page")
            reader.page(last)
        except NotFound as error:
            raise UsageError(
                f"page store commit: object {item.name!r}: a page of it is not there: {error}", hint="put it first"
            ) from error

    def _add(self, shape: Shape, level: int, number: int, digest: bytes, bases: TreeReader | None) -> None:
        if self._count_one(digest, +1, node=level > 0) == 1 and level > 0:
            self._add_below(shape, level, number, digest, bases)

    def _add_below(self, shape: Shape, level: int, number: int, digest: bytes, bases: TreeReader | None) -> None:
        """A node became live: find what to count it against, and count what it owns."""
        try:
            below = split(read_node(self._store, shape, level, number, digest))
        except (CorruptRecord, NotFound) as error:
            if self._strict:
                raise
            self._pass_over(error)
            return
        base, base_slots = self._base(bases, level, number, digest)
        if base is not None:
            self._table.set_base(digest, base)
        for index in _differing(below, base_slots):
            if below[index] != HOLE:
                self._add(shape, level - 1, number * FAN_OUT + index, below[index], bases)

    def _base(
        self, bases: TreeReader | None, level: int, number: int, digest: bytes
    ) -> tuple[bytes | None, list[bytes]]:
        try:
            base = None if bases is None else bases.digest(level, number)
            if base is None or base in (HOLE, digest) or not self._table.is_live_node(base):
                return None, []
            return base, split_node(self._store.get(base), level, base)
        except (CorruptRecord, NotFound):
            return None, []

    # ------------------------------------------------------------------------------------------------------ remove

    def remove(self, snapshot: Snapshot) -> None:
        """Take a snapshot's references back."""
        for item in snapshot.objects:
            if item.root != HOLE:
                self._drop(shape_of(item.size, item.page_bytes).depth, item.root)
        self._count_one(snapshot.identity, -1, node=False)
        self._save_live()

    def _drop(self, level: int, digest: bytes) -> None:
        if self._count_one(digest, -1, node=level > 0) == 0 and level > 0:
            self._die(level, digest)

    def _die(self, level: int, digest: bytes) -> None:
        """A node is live no more: count what it owned back, and what was counted against it anew."""
        base = self._table.base_of(digest)
        dependents = self._table.dependents(digest)
        self._table.set_base(digest, None)
        try:
            slots = split_node(self._store.get(digest), level, digest)
            base_slots = [] if base is None else split_node(self._store.get(base), level, base)
        except (CorruptRecord, NotFound) as error:
            # What it owned stays counted: it takes room until the table is built anew, and is not lost.
            self._pass_over(error)
            for dependent in dependents:
                self._stand_alone(level, dependent)
            return
        freed = [slots[index] for index in _differing(slots, base_slots) if slots[index] != HOLE]
        for dependent in dependents:
            freed += self._rebase(level, dependent, slots, base, base_slots)
        for child in freed:  # after all that is owned now was counted: nothing dies in between
            self._drop(level - 1, child)

    def _rebase(
        self, level: int, digest: bytes, old: list[bytes], base: bytes | None, new: list[bytes]
    ) -> Iterator[bytes]:
        """Count a node against another base; return what it does not own any more."""
        try:
            slots = split_node(self._store.get(digest), level, digest)
        except (CorruptRecord, NotFound) as error:
            self._pass_over(error)
            return iter(())
        self._table.set_base(digest, base)
        owned, owns = set(_differing(slots, old)), set(_differing(slots, new))
        for index in owns - owned:
            if slots[index] != HOLE:
                self._count_one(slots[index], +1, node=level > 1)
        return iter([slots[index] for index in owned - owns if slots[index] != HOLE])

    def _stand_alone(self, level: int, digest: bytes) -> None:
        """Count all that a node refers to, as its base cannot be read: too much rather than too little."""
        self._table.set_base(digest, None)
        try:
            slots = split_node(self._store.get(digest), level, digest)
        except (CorruptRecord, NotFound) as error:
            self._pass_over(error)
            return
        for child in slots:
            if child != HOLE:
                self._count_one(child, +1, node=level > 1)

    # ------------------------------------------------------------------------------------------------------- count

    def _count_one(self, digest: bytes, change: int, *, node: bool) -> int:
        """Change one count; return what it is now, or minus one when there is no such page."""
        breathe()
        found = self._table.count(digest, change, node=node)
        if found is None:
            if self._strict:
                raise UsageError(f"page store commit: page {digest.hex()} is not there", hint="put it first")
            self.missing += 1
            return -1
        as_this, together, place = found
        if together == (1 if change > 0 else 0):
            self._live[place.pack] += place.entry_bytes if change > 0 else -place.entry_bytes
        return as_this

    def _save_live(self) -> None:
        self._table.change_live(self._live)
        self._live.clear()

    def _pass_over(self, error: Exception) -> None:
        _trace.warning("references: %s", error)
        self.missing += 1


def most_like(snapshot: Snapshot, among: dict[bytes, Snapshot]) -> Snapshot | None:
    """Return the snapshot that this one is most like: its parent, or the last of the same log, or any."""
    if snapshot.parent in among:
        return among[snapshot.parent]
    others = [one for one in among.values() if one.log_identity == snapshot.log_identity] or list(among.values())
    return next(reversed(in_order(others)), None)


def recount(expected: PageTable, found: PageTable, store: Pages) -> None:
    """Set the counts in ``expected`` to what those in ``found`` must be: by the snapshots that are counted there, each
    node against the base that it has there. A base that is not live, or leads back to the node, counts as none.

    Memory: a digest for each node.

    Raises:
        CorruptRecord: ``found`` has a snapshot that is none.
    """
    snapshots = [decode_snapshot(stored, identity.hex()) for identity, stored in found.counted().items()]
    with expected.transaction():
        expected.reset_counts()
        live = _live_nodes(store, snapshots)
        for digest, base in _bases(found, live).items():
            slots = _slots(store, digest, live[digest])
            base_slots = [] if base is None else _slots(store, base, live[digest])
            for index in _differing(slots, base_slots):
                expected.count(slots[index], +1, node=live[digest] > 1)
        for snapshot in snapshots:
            expected.count(snapshot.identity, +1, node=False)
            for item in snapshot.objects:
                expected.count(item.root, +1, node=item.depth > 0)


def _live_nodes(store: Pages, snapshots: list[Snapshot]) -> dict[bytes, int]:
    """Return the nodes of snapshots and their levels."""
    waiting = [(item.root, item.depth) for snapshot in snapshots for item in snapshot.objects]
    live: dict[bytes, int] = {}
    while waiting:
        digest, level = waiting.pop()
        if level > 0 and digest != HOLE and digest not in live:
            live[digest] = level
            if level > 1:
                waiting += [(child, level - 1) for child in _slots(store, digest, level)]
    return live


def _bases(found: PageTable, live: dict[bytes, int]) -> dict[bytes, bytes | None]:
    """Return the base of each node; none where it is none that can be."""
    bases = {digest: found.base_of(digest) for digest in live}
    sound: set[bytes] = set()
    for digest in live:
        path: list[bytes] = []
        at: bytes | None = digest
        while at is not None and at not in sound:
            base = bases[at]
            path.append(at)
            if base is not None and (live.get(base) != live[at] or base in path):
                bases[at] = base = None
            at = base
        sound.update(path)
    return bases


def _slots(store: Pages, digest: bytes, level: int) -> list[bytes]:
    """Return the digests of a node; none of one that cannot be read."""
    try:
        return split_node(store.get(digest), level, digest)
    except (CorruptRecord, NotFound):
        return []


def _differing(slots: list[bytes], base: list[bytes]) -> list[int]:
    """Return the slots that the base has not, or not so."""
    shared = min(len(slots), len(base))
    return [index for index in range(shared) if slots[index] != base[index]] + list(range(shared, len(slots)))
