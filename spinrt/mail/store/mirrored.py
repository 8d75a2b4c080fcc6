"""What of the log a snapshot of the mail index needs: the names in its table ``bodies``; and whether it is one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from typing import Any, Final

from spinrt.errors import CorruptRecord, FormatUnknown, UsageError
from spinrt.mail.store.schema import SCHEMA_VERSION, create_schema, schema_version
from spinrt.mail.store.snapshots import index_of
from spinrt.storage.mirror.source import changed_places
from spinrt.storage.protocols import Object, PageStore, Snapshot
from spinrt.storage.rows import Read, keys, leaves, new_keys, table_root
from spinrt.storage.tree import TreeReader, shape_of
from spinrt.storage.view import View

TABLE: Final = "bodies"
_PARTS: Final = "SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite!_%' ESCAPE '!'"


def judge(store: PageStore, base: Snapshot | None, target: Snapshot) -> Iterator[int]:
    """As `body_names`, for a snapshot of which nothing is believed: first that it is one of a mail store is checked.

    Raises:
        CorruptRecord: It has no mail index, or one of another log or position than it says.
        FormatUnknown: The index is of another version.
    """
    item = index_of(target)
    if item is None:
        raise _no_index(target)
    try:
        with closing(View(store, item)) as view:
            _check_index(view, item, target)
    except (sqlite3.Error, UsageError) as error:
        raise CorruptRecord(
            f"{_name(target)}: its mail index cannot be opened: {error}", hint="run `spinrt fsck` at the source"
        ) from None
    return body_names(store, base, target)


def _check_index(view: Any, item: Object, target: Snapshot) -> None:
    version = schema_version(view)
    if version != SCHEMA_VERSION:
        raise FormatUnknown(
            f"{_name(target)}: its mail index has schema {version}, expected {SCHEMA_VERSION}",
            hint="run the same version of spinrt at both sides",
        )
    (page_bytes,) = view.execute("PRAGMA page_size").fetchone()
    parts = set(view.execute(_PARTS))
    if page_bytes != item.page_bytes or parts != _expected_parts():
        raise CorruptRecord(f"{_name(target)}: its mail index has other tables or pages than a mail store makes")
    state = [tuple(row) for row in view.execute("SELECT log_identity, applied FROM state LIMIT 2")]
    if state != [(target.log_identity, target.position)]:
        raise CorruptRecord(
            f"{_name(target)}: its mail index is of another log or position, expected {target.position} of log"
            f" {target.log_identity.hex()[:12]}",
            hint="run `spinrt fsck` at the source",
        )


@cache
def _expected_parts() -> frozenset[tuple[str, str]]:
    """Types and names of what is in an index: nothing else is asked, as a view could say anything, for ever."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        create_schema(connection, bytes(16))
        return frozenset(connection.execute(_PARTS))


def _name(snapshot: Snapshot) -> str:
    return f"snapshot {snapshot.identity.hex()[:12]}"


def _no_index(snapshot: Snapshot) -> CorruptRecord:
    return CorruptRecord(f"{_name(snapshot)}: has no mail index", hint="run `spinrt fsck` at the source")


def body_names(store: PageStore, base: Snapshot | None, target: Snapshot) -> Iterator[int]:
    """Yield the names of the bodies that the target's index needs and the base's (none: no base) did not, ascending.

    Cost: the pages of the table that changed, and its inner pages.

    Raises:
        CorruptRecord: There is no index in the target, or a page of it is damaged.
    """
    now, before = index_of(target), None if base is None else index_of(base)
    if now is None:
        raise _no_index(target)
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


def _reader(store: PageStore, item: Object) -> Read:
    reader = TreeReader(store, item)

    def read(number: int) -> bytes:
        if number < 1 or number > reader.shape.counts[0]:
            raise CorruptRecord(f"index: names page {number}, it has {reader.shape.counts[0]}")
        return reader.page(number - 1)

    return read
