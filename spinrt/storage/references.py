"""Counting what refers to a page: snapshots to the roots of their objects, live nodes to what lies below them.

Counting a snapshot touches its roots, and goes below a node only when the node was referred to by nothing before: so
the cost is what no other snapshot has. Taking it back is the same the other way round.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import Final

from spinrt.errors import CorruptRecord, NotFound, UsageError
from spinrt.storage.page_table import PageTable
from spinrt.storage.protocols import FAN_OUT, HOLE, Object, Snapshot
from spinrt.storage.tree import Pages, Shape, TreeReader, read_node, shape_of, split

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

    def add(self, snapshot: Snapshot) -> None:
        """Count a snapshot's references.

        Raises:
            UsageError: A page of it is not there.
            CorruptRecord: A node of it is none, or cannot be read.
        """
        self._change(snapshot, +1)

    def remove(self, snapshot: Snapshot) -> None:
        """Take a snapshot's references back."""
        self._change(snapshot, -1)

    def _change(self, snapshot: Snapshot, change: int) -> None:
        for item in snapshot.objects:
            if item.root != HOLE:
                shape = shape_of(item.size, item.page_bytes)
                if change > 0 and self._strict:
                    self._check_root(item)
                self._refer(shape, shape.depth, 0, item.root, change)
        self._refer(shape_of(1, 1), 0, 0, snapshot.identity, change)  # its own page
        self._table.change_live(self._live)
        self._live.clear()

    def _check_root(self, item: Object) -> None:
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

    def _refer(self, shape: Shape, level: int, number: int, digest: bytes, change: int) -> None:
        found = self._table.count(digest, change, node=level > 0)
        if found is None:
            if self._strict:
                raise _missing(digest)
            self.missing += 1
            return
        as_this, together, place = found
        first = change > 0
        if together == (1 if first else 0):
            self._live[place.pack] += place.entry_bytes if first else -place.entry_bytes
        if level > 0 and as_this == (1 if first else 0):
            self._below(shape, level, number, digest, change)

    def _below(self, shape: Shape, level: int, number: int, digest: bytes, change: int) -> None:
        try:
            below = split(read_node(self._store, shape, level, number, digest))
        except (CorruptRecord, NotFound) as error:
            if self._strict:
                raise
            # What lies below stays counted as it is: it takes room until the table is built anew, and is not lost.
            _trace.warning("references: %s", error)
            self.missing += 1
            return
        for index, child in enumerate(below):
            if child != HOLE:
                self._refer(shape, level - 1, number * FAN_OUT + index, child, change)


def _missing(digest: bytes) -> UsageError:
    return UsageError(f"page store commit: page {digest.hex()} is not there", hint="put it before the snapshot")
