"""The derived table of a page store: where each page lies, and how much refers to it.

It says nothing that packs and snapshots do not, and is removed and built anew when it does not fit them. Rows are
written only after the bytes that they point to are durable, so a crash never leaves one that points to nothing.

References are counted apart for pages that are read as nodes: a page's content may happen to be that of a node, and
only what is referred to as a node holds those below it.

Whoever damages it must not hurt: a table whose schema is not exactly ours, or whose small tables have values of wrong
types, does not open; a row of a page is looked at when it is used, as looking at all would cost the whole table.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from operator import itemgetter
from pathlib import Path
from typing import Final, NamedTuple

from spinrt.errors import CorruptRecord
from spinrt.storage.protocols import DIGEST_BYTES

TABLE_NAME: Final = "pages.sqlite"
SCHEMA_VERSION: Final = 2
CHECKPOINT_PAGES: Final = 8192
"""Pages that gather in the table's write-ahead log: a checkpoint syncs, and others wait for the same device."""

STORED_BYTES_MAX: Final = 1 << 20
"""Of a snapshot; `snapshot.FILE_BYTES_MAX` is less."""
BUILD_ANEW: Final = "`spinrt fsck --repair` builds the table anew"

_INCOMPLETE: Final = 1

_SCHEMA: Final = f"""
BEGIN IMMEDIATE;
CREATE TABLE packs (
    number  INTEGER PRIMARY KEY,
    salt    BLOB NOT NULL,
    covered INTEGER NOT NULL,       -- bytes of the pack that rows were made of
    live    INTEGER NOT NULL        -- bytes of entries that something refers to
);
CREATE TABLE pages (
    digest BLOB PRIMARY KEY,
    pack   INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    bytes  INTEGER NOT NULL,        -- of the entry, header and all
    leaves INTEGER NOT NULL,        -- counted references as a page
    nodes  INTEGER NOT NULL,        -- counted references as a node
    put_s  INTEGER NOT NULL,        -- when it was put last, about
    base   BLOB                     -- the node that it is counted against (see references.py)
) WITHOUT ROWID;
CREATE INDEX pages_base ON pages (base) WHERE base IS NOT NULL;
CREATE TABLE counted (
    identity BLOB PRIMARY KEY,
    stored   BLOB NOT NULL          -- the snapshot, to take its references back when its file is gone
) WITHOUT ROWID;
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""
_STRANGE_SMALL: Final = f"""
SELECT 'packs' FROM packs WHERE typeof(number) != 'integer' OR typeof(salt) != 'blob'
    OR typeof(covered) != 'integer' OR covered < 0 OR typeof(live) != 'integer'
UNION ALL SELECT 'counted' FROM counted WHERE typeof(identity) != 'blob' OR length(identity) != {DIGEST_BYTES}
    OR typeof(stored) != 'blob' OR length(stored) > {STORED_BYTES_MAX}
LIMIT 1
"""
_STRANGE_PAGES: Final = f"""
SELECT count(*) FROM pages WHERE typeof(digest) != 'blob' OR length(digest) != {DIGEST_BYTES}
    OR typeof(pack) != 'integer' OR typeof(offset) != 'integer' OR typeof(bytes) != 'integer'
    OR typeof(leaves) != 'integer' OR typeof(nodes) != 'integer' OR typeof(put_s) != 'integer'
    OR (base IS NOT NULL AND (typeof(base) != 'blob' OR length(base) != {DIGEST_BYTES}))
"""
_five_integers: Final = struct.Struct("=5q").pack  # the fastest way to ask whether values are integers
_COUNT: Final = (
    "UPDATE pages SET {column} = max({column} + ?, 0) WHERE digest = ? RETURNING {column}, leaves + nodes, pack, bytes"
)
_COUNT_LEAF: Final = _COUNT.format(column="leaves")
_COUNT_NODE: Final = _COUNT.format(column="nodes")


class Place(NamedTuple):
    """Where a page lies. ``entry_bytes`` counts its header."""

    pack: int
    offset: int
    entry_bytes: int


class Row(NamedTuple):
    """A page as the table knows it."""

    place: Place
    references: int
    put_s: int


@dataclass(slots=True)
class _Staged:
    """A page that is entered when the transaction ends: references as a page and as a node."""

    place: Place
    put_s: int
    counts: list[int] = field(default_factory=lambda: [0, 0])
    base: bytes | None = None


class PackRow(NamedTuple):
    number: int
    salt: bytes
    covered: int
    live: int


class PageTable:
    """One open table. For one thread at a time; whoever holds it sees to that."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open or create. Raises sqlite3.Error: not a table of this version, damaged, or the device refused."""
        if not read_only:
            path.touch(mode=0o600)
        mode = "ro" if read_only else "rwc"
        whole_bytes = _bytes_alone(path)
        uri = f"{path.absolute().as_uri()}?mode={mode}"
        self._staged: dict[bytes, _Staged] = {}
        self._db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=10.0)
        try:
            self._set_up(read_only)
            self._check(whole_bytes)
        except BaseException:
            self._db.close()
            raise

    def _set_up(self, read_only: bool) -> None:
        if not read_only:
            self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        self._db.execute("PRAGMA cache_size = -32768")
        self._db.execute("PRAGMA cell_size_check = ON")
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0 and not read_only:
            self._db.executescript(_SCHEMA)
        elif version != SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"table of pages has schema {version}, expected {SCHEMA_VERSION}")

    def _check(self, whole_bytes: int) -> None:
        """Raise sqlite3.DatabaseError unless schema, small tables and the length of the file are right."""
        if whole_bytes % int(self._db.execute("PRAGMA page_size").fetchone()[0]):
            raise sqlite3.DatabaseError(f"table of pages is cut off at {whole_bytes} bytes")
        if set(_schema_of(self._db)) != _our_schema():
            raise sqlite3.DatabaseError("table of pages has other tables, columns or triggers than it should")
        if strange := self._db.execute(_STRANGE_SMALL).fetchone():
            raise sqlite3.DatabaseError(f"table of pages: a row of {strange[0]} has values of wrong types")

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written inside is committed together, or nothing is."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._enter_staged()
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        finally:
            self._staged.clear()

    # ------------------------------------------------------------------------------------------------------- pages

    def stage(self, rows: Iterable[tuple[bytes, Place, int]]) -> None:
        """Enter pages (digest, place, put_s) when the transaction ends, with what was counted by then.

        A statement for each is what most of the time of a small snapshot would go to.
        """
        for digest, place, put_s in rows:
            self._staged[digest] = _Staged(place, put_s)

    def _enter_staged(self) -> None:
        self._db.executemany(
            "INSERT INTO pages VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (digest) DO UPDATE"
            " SET leaves = leaves + excluded.leaves, nodes = nodes + excluded.nodes",
            (
                (digest, *one.place, one.counts[False], one.counts[True], one.put_s, one.base)
                for digest, one in sorted(self._staged.items(), key=itemgetter(0))
            ),
        )

    def find(self, digest: bytes) -> Row | None:
        row = self._db.execute(
            "SELECT pack, offset, bytes, leaves + nodes, put_s FROM pages WHERE digest = ?", (digest,)
        ).fetchone()
        if row is None:
            return None
        try:
            _five_integers(*row)
        except struct.error:
            raise strange_row(digest, "its place or counts are no numbers") from None
        return Row(Place(*row[:3]), row[3], row[4])

    def add(self, rows: Iterable[tuple[bytes, Place, int]]) -> None:
        """Enter pages (digest, place, put_s) that are not there; leave those that are."""
        self._db.executemany(
            "INSERT OR IGNORE INTO pages VALUES (?, ?, ?, ?, 0, 0, ?, NULL)",
            ((digest, *place, put_s) for digest, place, put_s in rows),
        )

    def move(self, rows: Iterable[tuple[bytes, Place]]) -> None:
        """Say that pages lie elsewhere now."""
        self._db.executemany(
            "UPDATE pages SET pack = ?, offset = ?, bytes = ? WHERE digest = ?",
            ((*place, digest) for digest, place in rows),
        )

    def remove(self, digests: Iterable[bytes]) -> None:
        """Forget pages that nothing refers to."""
        self._db.executemany(
            "DELETE FROM pages WHERE digest = ? AND leaves + nodes = 0", ((digest,) for digest in digests)
        )

    def touch(self, digests: Iterable[bytes], put_s: int) -> None:
        self._db.executemany("UPDATE pages SET put_s = ? WHERE digest = ?", ((put_s, digest) for digest in digests))

    def count(self, digest: bytes, change: int, *, node: bool) -> tuple[int, int, Place] | None:
        """Change how often something refers to a page.

        Returns:
            The references as what it was counted, all references, and the pack and bytes of the entry; none when there
            is no such page.
        """
        staged = self._staged.get(digest)
        if staged is not None:
            staged.counts[node] = max(staged.counts[node] + change, 0)
            return staged.counts[node], sum(staged.counts), staged.place
        row = self._db.execute(_COUNT_NODE if node else _COUNT_LEAF, (change, digest)).fetchone()
        if row is None:
            return None
        try:
            _five_integers(0, *row)
        except struct.error:
            raise strange_row(digest, "its place or counts are no numbers") from None
        return row[0], row[1], Place(row[2], 0, row[3])

    def reset_counts(self) -> None:
        self._db.execute("UPDATE pages SET leaves = 0, nodes = 0, base = NULL")

    def is_live_node(self, digest: bytes) -> bool:
        staged = self._staged.get(digest)
        if staged is not None:
            return staged.counts[True] > 0
        row = self._db.execute("SELECT nodes FROM pages WHERE digest = ?", (digest,)).fetchone()
        if row is not None and not isinstance(row[0], int):
            raise strange_row(digest, "its count is no number")
        return row is not None and row[0] > 0

    def base_of(self, digest: bytes) -> bytes | None:
        """Return the node that a node is counted against."""
        row = self._db.execute("SELECT base FROM pages WHERE digest = ?", (digest,)).fetchone()
        if row is None or row[0] is None:
            return None
        return _as_digest(row[0], digest)

    def set_base(self, digest: bytes, base: bytes | None) -> None:
        staged = self._staged.get(digest)
        if staged is not None:
            staged.base = base
            return
        self._db.execute("UPDATE pages SET base = ? WHERE digest = ?", (base, digest))

    def dependents(self, digest: bytes) -> list[bytes]:
        """Return the nodes that are counted against a node."""
        found = self._db.execute("SELECT digest FROM pages WHERE base = ?", (digest,))
        return [_as_digest(row[0], digest) for row in found]

    def strange_count(self) -> int:
        """Return how many rows of pages have values of wrong types: none of them can be used. Cost: the whole table."""
        return int(self._db.execute(_STRANGE_PAGES).fetchone()[0])

    def page_count(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM pages").fetchone()[0])

    def rows(self, after: bytes = b"", limit: int = 1000) -> list[tuple[bytes, Place, int, int]]:
        """Return (digest, place, references as a page, as a node) in order of digests, behind ``after``."""
        found = self._db.execute(
            "SELECT digest, pack, offset, bytes, leaves, nodes FROM pages WHERE digest > ? ORDER BY digest LIMIT ?",
            (after, limit),
        )
        return [(row[0], Place(*row[1:4]), row[4], row[5]) for row in found]

    def entries_between(self, pack: int, start: int, end: int) -> list[tuple[bytes, int]]:
        """Return digest and offset of the pages in a range of a pack. Cost: the whole table."""
        query = (
            "SELECT digest, offset FROM pages WHERE pack = ? AND offset >= ? AND offset < ?"
            " AND typeof(digest) = 'blob' ORDER BY offset"
        )
        return self._db.execute(query, (pack, start, end)).fetchall()

    # ------------------------------------------------------------------------------------------------------- packs

    def packs(self) -> list[PackRow]:
        return [PackRow(*row) for row in self._db.execute("SELECT number, salt, covered, live FROM packs")]

    def cover(self, number: int, salt: bytes, covered: int) -> None:
        """Say how far the rows cover a pack."""
        self._db.execute(
            "INSERT INTO packs VALUES (?, ?, ?, 0) ON CONFLICT (number) DO UPDATE SET covered = excluded.covered",
            (number, salt, covered),
        )

    def change_live(self, changes: dict[int, int]) -> None:
        """Add to what is live in packs."""
        self._db.executemany(
            "UPDATE packs SET live = live + ? WHERE number = ?",
            [(change, number) for number, change in changes.items()],
        )

    def remove_pack(self, number: int) -> None:
        self._db.execute("DELETE FROM packs WHERE number = ?", (number,))

    # --------------------------------------------------------------------------------------------------- snapshots

    def mark_incomplete(self) -> None:
        """Remember that something could not be read, and so not be counted."""
        self._db.execute(f"PRAGMA application_id = {_INCOMPLETE}")

    def is_incomplete(self) -> bool:
        return bool(self._db.execute("PRAGMA application_id").fetchone()[0] == _INCOMPLETE)

    def distrust(self) -> None:
        """Have the table built anew at the next start."""
        self._db.execute("PRAGMA user_version = -1")

    def counted(self) -> dict[bytes, bytes]:
        """Return the snapshots whose references are in the counts: id → stored bytes."""
        return dict(self._db.execute("SELECT identity, stored FROM counted"))

    def add_counted(self, identity: bytes, stored: bytes) -> None:
        self._db.execute("INSERT INTO counted VALUES (?, ?)", (identity, stored))

    def remove_counted(self, identity: bytes) -> None:
        self._db.execute("DELETE FROM counted WHERE identity = ?", (identity,))


def strange_row(digest: bytes, problem: str) -> CorruptRecord:
    """Say what is wrong with the row of a page: the page itself may be as it should be."""
    return CorruptRecord(f"{TABLE_NAME}: row of page {digest.hex()}: {problem}", hint=BUILD_ANEW)


def _as_digest(value: object, digest: bytes) -> bytes:
    """Return what a row of or about a page names. Raises CorruptRecord."""
    if not isinstance(value, bytes) or len(value) != DIGEST_BYTES:
        raise strange_row(digest, "what it is counted against is no digest")
    return value


def _bytes_alone(path: Path) -> int:
    """Return the size of a table that nothing waits beside to be written into, else 0: then it may end anywhere."""
    size = path.stat().st_size if path.exists() else 0
    wal = path.with_name(path.name + "-wal")
    return 0 if wal.exists() and wal.stat().st_size else size


def _schema_of(connection: sqlite3.Connection) -> list[tuple[str, str, str, str | None]]:
    return connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()


@cache
def _our_schema() -> frozenset[tuple[str, str, str, str | None]]:
    """What SQLite says of a table that was just created."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(_SCHEMA)
        return frozenset(_schema_of(connection))


def remove_table(directory: Path) -> None:
    """Remove the table and what SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        (directory / (TABLE_NAME + suffix)).unlink(missing_ok=True)
