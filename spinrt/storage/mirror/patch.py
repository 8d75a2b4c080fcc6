"""The map of an object, made at the mirror from the map that it has and the digests that are offered.

The nodes of a map are never sent: for scattered changes they are as long as the pages themselves.
"""

from __future__ import annotations

from typing import Final

from spinrt.errors import PeerProtocolError
from spinrt.storage.protocols import HOLE, Object, PageStore
from spinrt.storage.tree import shape_of, update_digests

GATHERED_MAX: Final = 65_536
"""Changed pages that are gathered before they go into the map; each time costs one node of every level."""


class Patch:
    """One object under way: feed `set` in ascending order, then `finish`."""

    def __init__(self, store: PageStore, old: Object | None, target: Object) -> None:
        self._store = store
        self._target = target
        self._shape = shape_of(target.size, target.page_bytes)
        empty = target._replace(size=0, depth=0, root=HOLE)
        self._object = empty if old is None else target._replace(size=old.size, depth=old.depth, root=old.root)
        self._last_number = -1
        self._gathered: list[tuple[int, bytes, int]] = []

    def set(self, number: int, digest: bytes) -> None:
        """Put a page in its place. Raises PeerProtocolError: not behind the last one, or behind the object's end."""
        if not self._last_number < number < self._shape.counts[0]:
            raise PeerProtocolError(
                f"mirror: object {self._target.name!r}: page {number} after {self._last_number},"
                f" it has {self._shape.counts[0]}"
            )
        self._last_number = number
        self._gathered.append((number, digest, self._shape.page_size(number)))
        if len(self._gathered) >= GATHERED_MAX:
            self._apply()

    def finish(self) -> bytes:
        """Return the root of the object as it came out. Raises StorageError."""
        if self._gathered or self._object.size != self._target.size:
            self._apply()
        return self._object.root

    def _apply(self) -> None:
        self._object = update_digests(self._store, self._object, self._gathered, self._target.size)
        self._gathered = []
