"""Whether the object that a snapshot calls its mail index is one.

A snapshot may come from anyone, and its pages may all fit their digests while what they hold is no database, another
one, or says of itself that it is larger than any disk. So its header is looked at before anything is read, written or
opened, and its tables before anything is asked.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import cache
from itertools import islice
from typing import Final, cast

from spinrt.errors import FormatUnknown, NotFound, UsageError
from spinrt.mail.store.schema import SCHEMA_VERSION, create_schema, schema_version
from spinrt.mail.store.snapshots import index_of
from spinrt.storage.overlay import Overlay
from spinrt.storage.protocols import Object, PageStore, Snapshot
from spinrt.storage.rows import Malformed, Read, leaves, schema_bytes
from spinrt.storage.tree import TreeReader, read
from spinrt.storage.view import View

SCHEMA_PAGES_MAX: Final = 64
"""Of the table of tables, which SQLite reads from end to end before it answers anything; a mail index needs one."""
_MAGIC: Final = b"SQLite format 3\0"
_HEADER_BYTES: Final = 100
SCHEMA_BYTES_MAX: Final = 1024 * 1024
"""Of its rows, with what they have in further pages."""
_PARTS: Final = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite!_%' ESCAPE '!'"
HINT: Final = "delete the snapshot, or run `spinrt fsck` where it came from"


def named(snapshot: Snapshot) -> str:
    """How a snapshot's index is called in messages."""
    item = index_of(snapshot)
    return f"snapshot {snapshot.identity.hex()[:12]}" + (f", object {item.name!r}" if item else "")


def checked_index(store: PageStore, snapshot: Snapshot) -> Object:
    """Return the object that is the mail index, when it begins as a database does and is as long as that says.

    Raises:
        NotFound: The snapshot has none.
        Malformed: It is no database, or of another size.
        CorruptRecord: Its first page is damaged.
    """
    item = index_of(snapshot)
    if item is None:
        raise NotFound(f"{named(snapshot)}: has no mail index")
    header = read(store, item, 0)[:_HEADER_BYTES] if item.size else b""
    if len(header) < _HEADER_BYTES or not header.startswith(_MAGIC):
        raise Malformed(f"{named(snapshot)}: is no database, expected a mail index", hint=HINT)
    stated = int.from_bytes(header[16:18], "big")
    page_bytes = 65_536 if stated == 1 else stated
    count = int.from_bytes(header[28:32], "big")
    if page_bytes != item.page_bytes or page_bytes * count != item.size:
        raise Malformed(
            f"{named(snapshot)}: has {item.size} bytes in pages of {item.page_bytes}, expected {count} pages of"
            f" {page_bytes}, as its database says",
            hint=HINT,
        )
    return item


def open_view(store: PageStore, snapshot: Snapshot, overlay: Overlay | None = None) -> View:
    """Open the mail index of a snapshot as a database; it has the tables that a mail index has.

    Raises:
        NotFound: The snapshot has none.
        Malformed: It is no database, or has other tables.
        CorruptRecord: A page is damaged.
        FormatUnknown: It is of another version.
    """
    item = checked_index(store, snapshot)
    view = None
    try:
        _check_schema_pages(store, item)
        view = View(store, item, overlay)
        _check_tables(view, snapshot)
    except BaseException as error:
        if view is not None:
            view.close()
        if isinstance(error, sqlite3.Error | UsageError | Malformed):
            raise Malformed(f"{named(snapshot)}: cannot be opened: {error}", hint=HINT) from error
        raise
    return view


def check_state(view: View, snapshot: Snapshot) -> None:
    """Raise Malformed unless an index covers the log that its snapshot is of, up to where that is."""
    try:
        lengths = list(view.execute("SELECT length(log_identity), typeof(applied) FROM state LIMIT 2"))
        fitting = lengths == [(len(snapshot.log_identity), "integer")]  # what cannot be it may be too long to be read
        state = list(view.execute("SELECT log_identity, applied FROM state")) if fitting else []
    except sqlite3.Error as error:
        raise Malformed(f"{named(snapshot)}: cannot be read: {error}", hint=HINT) from error
    if state != [(snapshot.log_identity, snapshot.position)]:
        raise Malformed(
            f"{named(snapshot)}: is of another log or position, expected {snapshot.position} of log"
            f" {snapshot.log_identity.hex()[:12]}",
            hint=HINT,
        )


def page_reader(store: PageStore, item: Object) -> Read:
    """Return what reads the pages of a database, counted as SQLite does, from 1."""
    reader = TreeReader(store, item)

    def read_page(number: int) -> bytes:
        if number < 1 or number > reader.shape.counts[0]:
            raise Malformed(f"index: names page {number}, it has {reader.shape.counts[0]}")
        return reader.page(number - 1)

    return read_page


def _check_schema_pages(store: PageStore, item: Object) -> None:
    """Look at the table of tables before SQLite does: it would read on for ever."""
    reading = page_reader(store, item)
    pages = leaves(reading, 1)
    if sum(1 for _ in islice(pages, SCHEMA_PAGES_MAX + 1)) > SCHEMA_PAGES_MAX:
        raise Malformed(f"its table of tables is longer than {SCHEMA_PAGES_MAX} pages")
    if (size := schema_bytes(reading)) > SCHEMA_BYTES_MAX:
        raise Malformed(f"its table of tables has {size} bytes, limit {SCHEMA_BYTES_MAX}")


def _check_tables(view: View, snapshot: Snapshot) -> None:
    version = schema_version(cast(sqlite3.Connection, view))
    if version != SCHEMA_VERSION:
        raise FormatUnknown(
            f"{named(snapshot)}: has schema {version}, expected {SCHEMA_VERSION}",
            hint="it was made by another version of spinrt: run that one",
        )
    if set(view.execute(_PARTS)) != _expected_parts():
        raise Malformed("it has other tables than a mail index has")


@cache
def _expected_parts() -> frozenset[tuple[str, str, str]]:
    """What is in an index, and how it was made: nothing else is asked, as a view, or a column that is computed, could
    say anything, for ever."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        create_schema(connection, bytes(16))
        return frozenset(connection.execute(_PARTS))
