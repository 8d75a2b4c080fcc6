"""What an update is read from: the snapshots, pages and bodies of a data directory.

Finding what a mirror lacks costs what changed: maps are compared by digests, and names of bodies come from who knows
which table lists them (`Names`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeAlias

from spinrt.storage.log_reads import GENERATION_SHIFT
from spinrt.storage.mirror.frames import StoredBody
from spinrt.storage.mirror.sender import PagePlace
from spinrt.storage.protocols import HOLE, Object, PageStore, Snapshot
from spinrt.storage.snapshot import encode_snapshot
from spinrt.storage.tree import difference, shape_of

Names: TypeAlias = Callable[[PageStore, Snapshot | None, Snapshot], Iterator[int]]
"""Returns the names of the bodies that a snapshot needs and its base (none: no base) did not, ascending."""


class SourceLog(Protocol):
    """What an update needs of the source's log."""

    @property
    def identity(self) -> bytes: ...

    @property
    def start(self) -> int: ...

    def stored_body(self, name: int) -> tuple[int, int, bytes, bytes]: ...


class StoreSource:
    """One update of a page store and a log. Implements ``sender.Source``.

    Args:
        target: The snapshot to send; it must stay until the update is over.
    """

    def __init__(self, pages: PageStore, log: SourceLog, target: Snapshot, names: Names) -> None:
        self.target = target
        self.generation = log.start >> GENERATION_SHIFT
        self.log_identity = log.identity
        self.base: Snapshot | None = None
        """What `choose_base` gave."""
        self._pages = pages
        self._log = log
        self._names = names

    def encoded(self) -> bytes:
        return encode_snapshot(self.target)

    def choose_base(self, known: Sequence[bytes]) -> Snapshot | None:
        here = {one.identity: one for one in self._pages.snapshots()}
        self.base = next((here[identity] for identity in known if identity in here), None)
        return self.base

    def pages(self, base: Snapshot | None) -> Iterator[PagePlace]:
        before = {item.name: item for item in base.objects} if base is not None else {}
        for index, item in enumerate(self.target.objects):
            for number, digest in changed_places(self._pages, before.get(item.name), item):
                yield PagePlace(index, number, digest)

    def bodies(self, base: Snapshot | None) -> Iterator[int]:
        return self._names(self._pages, base, self.target)

    def page(self, digest: bytes) -> tuple[bytes, bool]:
        return self._pages.get_stored(digest)

    def body(self, name: int) -> StoredBody:
        return StoredBody(*self._log.stored_body(name))


def changed_places(store: PageStore, old: Object | None, new: Object) -> Iterator[tuple[int, bytes]]:
    """Yield number and digest of the pages of ``new`` that ``old`` has not in that place, ascending; also new holes.

    Cost: what differs.
    """
    if old is None or old.page_bytes != new.page_bytes:
        yield from _pages_of(store, None, new)
        return
    count = shape_of(new.size, new.page_bytes).counts[0]
    here = _pages_of(store, old, new)
    place = next(here, None)
    for number, _ in _pages_of(store, new, old):  # what was there: where nothing is now, it became a hole
        while place is not None and place[0] < number:
            yield place
            place = next(here, None)
        if place is not None and place[0] == number:
            yield place
            place = next(here, None)
        elif number < count:
            yield number, HOLE
    while place is not None:
        yield place
        place = next(here, None)


def _pages_of(store: PageStore, old: Object | None, new: Object) -> Iterator[tuple[int, bytes]]:
    return ((number, digest) for level, number, digest in difference(store, old, new) if level == 0)
