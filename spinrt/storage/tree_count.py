"""Counting in the maps of objects, each node once, however many places it stands in.

A few kilobytes can describe an object of petabytes: every child of every node is the same one. Whoever counts its pages
one by one never ends; what lies below a node follows from its digest, its level and how many bytes it is about.

Memory: a number for each node that is met, or for each pair of nodes.
"""

from __future__ import annotations

from spinrt.storage.protocols import FAN_OUT, HOLE, Object
from spinrt.storage.tree import Pages, Shape, children_before, fitted_root, read_node, shape_of, split


def held_bytes(store: Pages, item: Object) -> int:
    """Return the bytes of an object's pages that are no holes: the room that it takes. Raises as ``PageStore.get``.

    Cost: its nodes.
    """
    shape = shape_of(item.size, item.page_bytes)
    known: dict[tuple[bytes, int, int], int] = {}

    def held(level: int, number: int, digest: bytes) -> int:
        size = shape.bytes_below(level, number)
        if level == 0 or digest == HOLE:
            return 0 if digest == HOLE else size
        key = (digest, level, size)
        if key not in known:
            below = enumerate(split(read_node(store, shape, level, number, digest)), number * FAN_OUT)
            known[key] = sum(held(level - 1, child, one) for child, one in below)
        return known[key]

    return held(shape.depth, 0, item.root) if item.size else 0


def changed_count(store: Pages, old: Object | None, new: Object) -> int:
    """Return how many pages of ``new`` are not what ``old`` has there. Raises as ``PageStore.get``.

    Pages that became holes are among them. What ``old`` has and ``new`` does not is not, nor is a hole behind its end.

    Cost: the nodes that differ.
    """
    if old is None or old.page_bytes != new.page_bytes or not new.size:
        return shape_of(new.size, new.page_bytes).counts[0]
    shape = shape_of(new.size, new.page_bytes)
    counting = _Changed(store, shape_of(old.size, old.page_bytes), shape)
    return counting.below(shape.depth, 0, new.root, fitted_root(store, old, shape.depth))


class _Changed:
    """Counts what differs from an old object in the same place."""

    def __init__(self, store: Pages, old_shape: Shape, shape: Shape) -> None:
        self._store = store
        self._old_shape = old_shape
        self._shape = shape
        self._known: dict[tuple[object, ...], int] = {}

    def below(self, level: int, number: int, digest: bytes, old: bytes) -> int:
        higher = level > self._old_shape.depth
        if digest == old and not higher:
            return 0
        if level == 0:
            return 1
        old_bytes = max(self._old_shape.bytes_below(level, number), 0)
        key = (digest, old, level, self._shape.bytes_below(level, number), old_bytes, higher and number == 0)
        if key not in self._known:
            self._known[key] = self._children(level, number, digest, old)
        return self._known[key]

    def _children(self, level: int, number: int, digest: bytes, old: bytes) -> int:
        now = split(read_node(self._store, self._shape, level, number, digest))
        before = children_before(self._store, self._old_shape, level, number, old)
        before += [HOLE] * (len(now) - len(before))
        higher = level > self._old_shape.depth
        return sum(
            self.below(level - 1, number * FAN_OUT + index, child, was)
            for index, (child, was) in enumerate(zip(now, before, strict=False))
            if child != was or higher
        )
