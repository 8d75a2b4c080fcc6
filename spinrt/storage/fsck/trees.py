"""Checking that all that snapshots refer to is there: every node and page of their objects.

What lies below a node follows from its digest, its level and how many bytes it is about, so each node is looked at once
for each of these, and a node's equal pages once: a tree that names the same node in every place, and so describes
petabytes, costs what it has of its own.

Memory: a note for each node.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from spinrt.errors import CorruptRecord, NotFound
from spinrt.storage.protocols import FAN_OUT, HOLE, Object
from spinrt.storage.tree import Entry, Pages, TreeReader, read_node, read_page, shape_of, split

Broken = tuple[Entry, CorruptRecord | NotFound]
"""A node or page that is not there or not right, and what is said of it."""


class TreeCheck:
    """The objects of one page store, one after the other."""

    def __init__(self, store: Pages) -> None:
        self._store = store
        self._known: set[tuple[bytes, int, int, int]] = set()
        """Digest, level, bytes below and page size of the nodes that were looked at."""

    def broken(self, old: Object | None, new: Object) -> Iterator[Broken]:
        """Yield what is wrong below an object and was not looked at yet, parents before their children.

        Args:
            old: An object that was looked at: pages that it has in the same place are not read again.
        """
        fits = old is not None and old.page_bytes == new.page_bytes
        walk = _Walk(self._store, self._known, old if fits else None, new)
        yield from walk.below(new.depth, 0, new.root)


class _Walk:
    """One object."""

    def __init__(self, store: Pages, known: set[tuple[bytes, int, int, int]], old: Object | None, new: Object) -> None:
        self._store = store
        self._known = known
        self._item = new
        self._shape = shape_of(new.size, new.page_bytes)
        self._old = None if old is None else TreeReader(store, old)

    def below(self, level: int, number: int, digest: bytes) -> Iterator[Broken]:
        if digest == HOLE:
            return
        size = self._shape.bytes_below(level, number)
        try:
            if level == 0:
                read_page(self._store, self._item, number, digest, size)
                return
            key = (digest, level, size, self._item.page_bytes)
            if key in self._known:
                return
            self._known.add(key)
            digests = split(read_node(self._store, self._shape, level, number, digest))
        except (CorruptRecord, NotFound) as error:
            yield Entry(level, number, digest), error
            return
        children = enumerate(digests, number * FAN_OUT)
        for child, one in children if level > 1 else self._pages(children):
            yield from self.below(level - 1, child, one)

    def _pages(self, children: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
        """Those of a node's pages that must be read: each once, and not what was looked at in the old object."""
        seen = set()
        for number, digest in children:
            key = (digest, self._shape.page_size(number))
            if key not in seen and not self._was(number, *key):
                yield number, digest
            seen.add(key)

    def _was(self, number: int, digest: bytes, size: int) -> bool:
        if self._old is None or number >= self._old.shape.counts[0] or self._old.shape.page_size(number) != size:
            return False
        with suppress(CorruptRecord, NotFound):
            return self._old.digest(0, number) == digest
        return False
