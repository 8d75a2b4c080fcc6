"""Checking a page store: every byte of its packs, every snapshot with all that it refers to, and the derived table.

The packs are walked through a device that nothing is written to, and the table is built anew in a temporary directory:
what is right follows from packs and snapshots alone. The table that is there is then compared with it. It also tells
damage from what a crash left: a row is written only after the bytes it points to are durable.

Memory: SQLite's caches, a mebibyte of a pack, one node of each level of a tree, and a note for each damaged range.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from spinrt.errors import CorruptRecord
from spinrt.storage.fsck.finding import ROWS_SHOWN, Advance, Finding, damage, note, unwatched
from spinrt.storage.fsck.scratch import scratch
from spinrt.storage.fsck.trees import TreeCheck
from spinrt.storage.pack import Entry, pack_name, pack_numbers
from spinrt.storage.page_table import SCHEMA_VERSION, TABLE_NAME, PageTable, Place
from spinrt.storage.pages import LocalPages
from spinrt.storage.protocols import Object, Snapshot
from spinrt.storage.readonly import ReadOnlyDevice
from spinrt.storage.references import recount

REBUILD_TABLE: Final = "`spinrt fsck --repair` removes the table; the next start builds it anew"
FROM_MIRROR: Final = "a mirror may still have it: `spinrt fsck --repair --from MIRROR`"
_Row = tuple[bytes, Place, int, int]


@dataclass(slots=True)
class PagesCheck:
    """One pass over a page store. `findings` is its work.

    Args:
        device: The directory of the store; nothing is written through it.
        place: How the directory is called in findings.
        advance: Told of the bytes that were checked: each byte of a pack once.
    """

    device: ReadOnlyDevice
    place: str = "pages"
    advance: Advance = unwatched
    snapshots: list[Snapshot] = field(default_factory=list)
    """Those that can be read."""
    missing: list[bytes] = field(default_factory=list)
    """Digests of pages that are referred to and damaged or not there."""
    _bad: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    """Pack → ranges (start, end) that hold no good entry, ascending."""
    _told: set[tuple[int, int]] = field(default_factory=set)
    """Ranges (pack, start) that were told as damage."""

    def findings(self) -> Iterator[Finding]:
        """Check everything, yield what is wrong.

        Raises:
            FormatUnknown: A newer version wrote it.
            StorageError: It cannot be read.
        """
        if not any(name.endswith((".pack", ".snap")) for name in self.device.list()):
            return
        with scratch() as directory:
            store = LocalPages.open(directory / "anew", self.device, rebuild=True)
            try:
                yield from self._files(store)
                for number, _ in store.packs():
                    self._walk(store, number)
                yield from self._trees(store)
                yield from self._table(store, directory)
                yield from self._gaps()
            finally:
                store.close()

    def _files(self, store: LocalPages) -> Iterator[Finding]:
        for name in store.repaired:
            remedy = "its content lies in a pack, too: the next start writes it anew"
            yield damage(f"{self.place}/{name}", 0, "snapshot", "the file is damaged", remedy)
        for name, error in sorted(store.damaged.items()):
            subject = "snapshot" if name.endswith(".snap") else "pack header"
            for number in pack_numbers([name]):
                self._bad[number] = [(0, 1 << 62)]
                self._told.add((number, 0))
            yield damage(f"{self.place}/{name}", 0, subject, str(error).partition(": ")[2], FROM_MIRROR)

    def _walk(self, store: LocalPages, number: int) -> None:
        bad = self._bad.setdefault(number, [])
        for found in store.walk_pack(number):
            if isinstance(found, Entry):
                length = found.header.entry_bytes
                if not found.whole:
                    bad.append((found.offset, found.offset + length))
            else:
                length = found.length
                bad.append((found.offset, found.offset + length))
            self.advance(length)

    # ------------------------------------------------------------------------------------------------------- trees

    def _trees(self, store: LocalPages) -> Iterator[Finding]:
        """Everything that snapshots refer to, each page and node once."""
        self.snapshots = store.snapshots()
        trees = TreeCheck(store)
        before: dict[str, Object] = {}
        for snapshot in self.snapshots:
            for item in snapshot.objects:
                for entry, error in trees.broken(before.get(item.name), item):
                    kind = "page" if entry.level == 0 else f"node of level {entry.level}, number"
                    subject = f"snapshot at {snapshot.position}, object {item.name!r}, {kind} {entry.number}"
                    self.missing.append(entry.digest)
                    yield damage(self.place, None, subject, str(error), FROM_MIRROR, entry.digest)
            before = {item.name: item for item in snapshot.objects}

    # ------------------------------------------------------------------------------------------------------- table

    def _table(self, store: LocalPages, directory: Path) -> Iterator[Finding]:
        """Compare the table that is there with the one that was built anew, its counts for the snapshots it counts."""
        place = f"{self.place}/{TABLE_NAME}"
        source = self.device.directory / TABLE_NAME
        if not source.exists():
            yield note(place, None, "table of pages", "is missing", "the next start builds it anew")
            return
        for suffix in ("", "-wal"):
            if (beside := source.with_name(TABLE_NAME + suffix)).exists():
                shutil.copyfile(beside, directory / beside.name)
        try:
            if (version := _schema_of(directory / TABLE_NAME)) != SCHEMA_VERSION:
                problem = f"has schema {version}, expected {SCHEMA_VERSION}"
                yield note(place, None, "table of pages", problem, "the next start builds it anew")
                return
            with (
                contextlib.closing(PageTable(directory / TABLE_NAME)) as found,
                contextlib.closing(PageTable(directory / "anew" / TABLE_NAME)) as expected,
            ):
                recount(expected, found, store)
                yield from self._compare(place, found, expected)
        except (sqlite3.Error, CorruptRecord) as error:
            yield damage(place, None, "table of pages", str(error), REBUILD_TABLE)

    def _compare(self, place: str, found: PageTable, expected: PageTable) -> Iterator[Finding]:
        covered = {row.number: row.covered for row in found.packs()}
        wrong = 0
        for row, twin in _pairs(_rows(found), _rows(expected)):
            if row is not None and (lost := self._lost(row)):
                yield lost
            elif (problem := _difference(row, twin, covered)) is not None:
                wrong += 1
                if wrong <= ROWS_SHOWN:
                    shown = row or twin
                    assert shown is not None
                    yield damage(place, None, f"row of page {shown[0].hex()}", problem, REBUILD_TABLE)
        if wrong > ROWS_SHOWN:
            yield damage(place, None, "table of pages", f"{wrong - ROWS_SHOWN} more rows are wrong", REBUILD_TABLE)

    def _lost(self, row: _Row) -> Finding | None:
        """What a row says was durable and is not there any more."""
        digest, place, leaves, nodes = row
        ranges = self._bad.get(place.pack, [])
        at = bisect_right(ranges, (place.offset, 1 << 62)) - 1
        if at < 0 or place.offset >= ranges[at][1]:
            return None
        self._told.add((place.pack, ranges[at][0]))
        use = f"referred to {leaves + nodes} times" if leaves + nodes else "referred to by nothing"
        file = f"{self.place}/{pack_name(place.pack)}"
        return damage(file, place.offset, f"page {digest.hex()}", f"its entry is damaged; {use}", FROM_MIRROR, digest)

    def _gaps(self) -> Iterator[Finding]:
        """Ranges without a good entry, that no row points into: as a crash leaves what was not synced yet."""
        for number, ranges in sorted(self._bad.items()):
            for start, end in ranges:
                if (number, start) not in self._told:
                    place = f"{self.place}/{pack_name(number)}"
                    yield note(
                        place, start, f"{end - start} bytes", "hold no entry, and none is known to have been here"
                    )


def _schema_of(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _rows(table: PageTable) -> Iterator[_Row]:
    after = b""
    while rows := table.rows(after):
        yield from rows
        after = rows[-1][0]


def _pairs(found: Iterator[_Row], expected: Iterator[_Row]) -> Iterator[tuple[_Row | None, _Row | None]]:
    """Rows of the same digest side by side; none where one table has no such row."""
    row, twin = next(found, None), next(expected, None)
    while row is not None or twin is not None:
        if twin is None or (row is not None and row[0] < twin[0]):
            yield row, None
            row = next(found, None)
        elif row is None or twin[0] < row[0]:
            yield None, twin
            twin = next(expected, None)
        else:
            yield row, twin
            row, twin = next(found, None), next(expected, None)


def _difference(row: _Row | None, twin: _Row | None, covered: dict[int, int]) -> str | None:
    """What is wrong with a row, or none. Of two copies of a page the table may know either."""
    if row is None:
        assert twin is not None
        place = twin[1]
        return "is missing" if place.offset < covered.get(place.pack, 0) else None
    if twin is None:
        return f"points to {pack_name(row[1].pack)}, offset {row[1].offset}, where no such page is"
    if row[2:] != twin[2:]:
        return f"counts {row[2]} and {row[3]} references (as page, as node), found {twin[2]} and {twin[3]}"
    return None
