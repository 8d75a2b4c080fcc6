"""What of the log a snapshot of the mail index needs: the names in its table ``bodies``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from spinrt.errors import CorruptRecord
from spinrt.storage.mirror.source import changed_places
from spinrt.storage.protocols import Object, PageStore, Snapshot
from spinrt.storage.rows import Read, keys, leaves, new_keys, table_root
from spinrt.storage.snapshot import KIND_INDEX
from spinrt.storage.tree import TreeReader, shape_of

TABLE: Final = "bodies"


def body_names(store: PageStore, base: Snapshot | None, target: Snapshot) -> Iterator[int]:
    """Yield the names of the bodies that the target's index needs and the base's (none: no base) did not, ascending.

    Cost: the pages of the table that changed, and its inner pages.

    Raises:
        CorruptRecord: There is no index in the target, or a page of it is damaged.
    """
    now, before = _index_of(target), None if base is None else _index_of(base)
    if now is None:
        raise CorruptRecord(f"snapshot {target.identity.hex()[:12]}: has no mail index")
    read = _reader(store, now)
    if before is None or before.page_bytes != now.page_bytes:
        return keys(read, leaves(read, table_root(read, TABLE)))
    read_before = _reader(store, before)
    changed = _Changed(store, before, now)
    return new_keys(read, table_root(read, TABLE), read_before, table_root(read_before, TABLE), changed)


class _Changed:
    """Numbers of the pages that are not the same in two indexes, counted as SQLite does, from 1: a bit for each."""

    def __init__(self, store: PageStore, before: Object, now: Object) -> None:
        self._count = shape_of(now.size, now.page_bytes).counts[0]
        self._bits = bytearray(self._count // 8 + 1)
        for number, _ in changed_places(store, before, now):
            self._bits[number >> 3] |= 1 << (number & 7)

    def __contains__(self, page: object) -> bool:
        number = page - 1 if isinstance(page, int) else 0
        return number >= self._count or bool(self._bits[number >> 3] & 1 << (number & 7))


def _index_of(snapshot: Snapshot) -> Object | None:
    return next((item for item in snapshot.objects if item.kind == KIND_INDEX), None)


def _reader(store: PageStore, item: Object) -> Read:
    reader = TreeReader(store, item)

    def read(number: int) -> bytes:
        if number < 1 or number > reader.shape.counts[0]:
            raise CorruptRecord(f"index: names page {number}, it has {reader.shape.counts[0]}")
        return reader.page(number - 1)

    return read
