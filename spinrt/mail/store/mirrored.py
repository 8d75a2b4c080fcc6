"""What of the log a snapshot of the mail index needs: the names in its table ``bodies``; and whether it is one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

from spinrt.errors import CorruptRecord
from spinrt.mail.store.changes import OPAQUE_KINDS
from spinrt.mail.store.snapshot_index import check_state, checked_index, named, open_view, page_reader
from spinrt.mail.store.snapshots import index_of
from spinrt.mail.store.witness import covered_position
from spinrt.storage.mirror.directory import MirrorDirectory
from spinrt.storage.protocols import Object, PageStore, Snapshot
from spinrt.storage.rows import keys, leaves, new_keys, table_root
from spinrt.storage.tree import TreeReader

TABLE: Final = "bodies"
INDEX_BYTES_MAX: Final = 1 << 40
"""Of an index that is judged."""
OTHERS_BYTES_MAX: Final = 1 << 30
"""Of all objects beside it: configuration, accounts, extensions."""


def open_mirror(path: Path, *, create: bool = True) -> MirrorDirectory:
    """Open the mirror of a mail store, as `MirrorDirectory.open`.

    Of an old primary that follows, the log is read as its store reads it: a damaged body is told to who reads it, and
    an end that snapshots cover is not cut.
    """
    witness = partial(covered_position, path)
    return MirrorDirectory.open(path, create=create, opaque_kinds=OPAQUE_KINDS, witness=witness)


def judge(store: PageStore, base: Snapshot | None, target: Snapshot) -> Iterator[int]:
    """As `body_names`, for a snapshot of which nothing is believed: first that it is one of a mail store is checked.

    Raises:
        CorruptRecord: It has no mail index, or one of another log or position than it says.
        FormatUnknown: The index is of another version.
    """
    _check_sizes(_index(target), target)
    with closing(open_view(store, target)) as view:
        check_state(view, target)
    return body_names(store, base, target)


def body_names(store: PageStore, base: Snapshot | None, target: Snapshot) -> Iterator[int]:
    """Yield the names of the bodies that the target's index needs and the base's (none: no base) did not, ascending.

    Cost: the pages of the table that changed, and its inner pages.

    Raises:
        CorruptRecord: There is no index in the target, it is no database, or a page of it is damaged.
    """
    _index(target)
    now = checked_index(store, target)
    before = None if base is None else index_of(base)
    read = page_reader(store, now)
    if before is None or before.page_bytes != now.page_bytes:
        return keys(read, leaves(read, table_root(read, TABLE)))
    read_before = page_reader(store, before)
    changed = _Changed(store, before, now)
    return new_keys(read, table_root(read, TABLE), read_before, table_root(read_before, TABLE), changed)


def _index(snapshot: Snapshot) -> Object:
    item = index_of(snapshot)
    if item is None:
        raise CorruptRecord(f"{named(snapshot)}: has no mail index", hint="run `spinrt fsck` at the source")
    return item


def _check_sizes(index: Object, target: Snapshot) -> None:
    """Holes cost nothing to send: whoever writes objects out, or walks them, needs a bound."""
    others = sum(one.size for one in target.objects) - index.size
    if index.size > INDEX_BYTES_MAX or others > OTHERS_BYTES_MAX:
        raise CorruptRecord(
            f"{named(target)}: has {index.size} bytes, limit {INDEX_BYTES_MAX}, the objects beside it {others}, limit"
            f" {OTHERS_BYTES_MAX}",
            hint="run `spinrt fsck` at the source",
        )


class _Changed:
    """Numbers of the pages that are not the same in two indexes, counted as SQLite does, from 1. Each is looked up when
    it is asked for: what is not asked for may be any number."""

    def __init__(self, store: PageStore, before: Object, now: Object) -> None:
        self._before = TreeReader(store, before)
        self._now = TreeReader(store, now)

    def __contains__(self, page: object) -> bool:
        assert isinstance(page, int)
        found = self._now.digest(0, page - 1)
        return found is None or found != self._before.digest(0, page - 1)
