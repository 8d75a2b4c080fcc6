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

from spinrt.errors import CorruptRecord, FormatUnknown, NotFound
from spinrt.storage.fsck.finding import ROWS_SHOWN, Advance, Finding, damage, note, oversize, quiet, unwatched
from spinrt.storage.fsck.packs import mended_head
from spinrt.storage.fsck.scratch import scratch
from spinrt.storage.fsck.trees import TreeCheck
from spinrt.storage.pack import HEADER_BYTES, Entry, decode_pack, encode_pack, pack_name, pack_numbers
from spinrt.storage.packs import Packs
from spinrt.storage.page_table import SCHEMA_VERSION, TABLE_NAME, PageTable, Place
from spinrt.storage.pages import LocalPages
from spinrt.storage.protocols import Object, Snapshot
from spinrt.storage.readonly import ReadOnlyDevice
from spinrt.storage.references import recount
from spinrt.storage.snapshot import snapshot_name
from spinrt.storage.tree import Entry as TreeEntry

REBUILD_TABLE: Final = "`spinrt fsck --repair` removes the table of pages; the next start builds it anew"
BY_TRYING: Final = "`spinrt fsck --repair` puts it right"
REWRITE: Final = "its content lies in a pack, too: `spinrt fsck --repair`, or the next start, writes it from there"
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
    missing: dict[bytes, None] = field(default_factory=dict)
    """Digests of pages that are referred to and damaged or not there, each once."""
    _bad: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    """Pack → ranges (start, end) that hold no good entry, ascending."""
    _told: set[tuple[int, int]] = field(default_factory=set)
    """Ranges (pack, start) that were told as damage."""
    _gone: set[int] = field(default_factory=set)
    """Packs that cannot be read, or are not there: what is wrong with their pages has that cause."""
    _nodes_missing: bool = False
    """Whether a node cannot be read: then nobody can say how often what is below it is referred to."""

    def findings(self) -> Iterator[Finding]:
        """Check everything, yield what is wrong: one finding for each cause.

        Raises:
            FormatUnknown: A newer version wrote it.
            StorageError: It cannot be read.
        """
        if not any(name.endswith((".pack", ".snap")) for name in self.device.list()):
            return
        with scratch() as directory, contextlib.ExitStack() as opened:
            found = self._copied_table(directory, opened)
            yield from self._heads(found)
            with quiet("spinrt.storage"):
                store = LocalPages.open(directory / "anew", self.device, rebuild=True)
            opened.callback(store.close)
            expected = opened.enter_context(contextlib.closing(PageTable(directory / "anew" / TABLE_NAME)))
            yield from self._files(store, found)
            for number, _ in store.packs():
                self._walk(store, number)
            yield from self._trees(store, found, expected)
            yield from self._table(store, directory, found, expected)
            yield from self._gaps()

    def _copied_table(self, directory: Path, opened: contextlib.ExitStack) -> PageTable | None:
        """Copy the table that is there and open the copy; none when it is missing or cannot be opened."""
        source = self.device.directory / TABLE_NAME
        if self._oversize(source):
            return None  # told with the table
        for suffix in ("", "-wal"):
            if (beside := source.with_name(TABLE_NAME + suffix)).exists():
                shutil.copyfile(beside, directory / beside.name)
        if not source.exists():
            return None
        try:
            return opened.enter_context(contextlib.closing(PageTable(directory / TABLE_NAME)))
        except sqlite3.Error:  # told with the table
            return None

    def _oversize(self, table: Path) -> str | None:
        return oversize(table, self.device.directory.glob("*.pack"))

    # ------------------------------------------------------------------------------------------------------- files

    def _heads(self, found: PageTable | None) -> Iterator[Finding]:
        """Headers of packs that are damaged, and what they must be: the check goes on as if they were right."""
        salts = _salts(found)
        for number in pack_numbers(self.device.list()):
            name = pack_name(number)
            with contextlib.closing(self.device.open(name)) as file:
                size, head = file.size(), file.read(0, HEADER_BYTES)
            if size <= HEADER_BYTES or not _is_damaged(head, number):
                continue
            right = encode_pack(number, salts[number]) if number in salts else mended_head(head, number)
            if right is None:
                continue  # told with the files
            wrong = [at for at in range(HEADER_BYTES) if head[at : at + 1] != right[at : at + 1]]
            for at in wrong:
                self.device.patch(name, at, right[at])
            problem = f"{len(wrong)} of its bytes are wrong; what they must be is known"
            yield damage(f"{self.place}/{name}", 0, "pack header", problem, BY_TRYING)

    def _files(self, store: LocalPages, found: PageTable | None) -> Iterator[Finding]:
        for name in store.repaired:
            yield damage(f"{self.place}/{name}", 0, "snapshot", "the file is damaged", REWRITE)
        loaded = {snapshot_name(one) for one in store.snapshots()}  # what these lack is told with their pages
        for name, error in sorted(store.damaged.items()):
            if name in loaded:
                continue
            subject = "snapshot" if name.endswith(".snap") else "pack header"
            self._gone.update(pack_numbers([name]))
            yield damage(f"{self.place}/{name}", 0, subject, str(error).partition(": ")[2], FROM_MIRROR)
        for number in sorted(_salts(found).keys() - {number for number, _ in store.packs()} - self._gone):
            self._gone.add(number)
            yield damage(f"{self.place}/{pack_name(number)}", None, "pack", "is missing", FROM_MIRROR)

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

    def _trees(self, store: LocalPages, found: PageTable | None, expected: PageTable) -> Iterator[Finding]:
        """Everything that snapshots refer to, each page and node once."""
        self.snapshots = store.snapshots()
        nowhere: list[str] = []
        for entry, subject, error in self._broken_pages(store):
            if entry.digest in self.missing:
                continue
            self.missing[entry.digest] = None
            self._nodes_missing |= entry.level > 0
            place = _place_of(entry.digest, expected, found)
            if place is None:
                nowhere.append(subject)
            elif place.pack not in self._gone:
                yield self._broken(place, entry, subject, error)
        if nowhere and not (self._gone and found is None):
            problem = f"in no pack, {len(nowhere)} pages in all" if len(nowhere) > 1 else "in no pack"
            yield damage(self.place, None, nowhere[0], problem, FROM_MIRROR)

    def _broken_pages(self, store: LocalPages) -> Iterator[tuple[TreeEntry, str, Exception]]:
        """Each with what it is of."""
        trees = TreeCheck(store)
        before: dict[str, Object] = {}
        for snapshot in self.snapshots:
            whose = f"snapshot at {snapshot.position}"
            try:
                store.get(snapshot.identity)
            except (CorruptRecord, NotFound) as problem:
                yield TreeEntry(0, 0, snapshot.identity), f"{whose}, copy of its file", problem
            for item in snapshot.objects:
                for entry, error in trees.broken(before.get(item.name), item):
                    kind = "page" if entry.level == 0 else f"node of level {entry.level}, number"
                    yield entry, f"{whose}, object {item.name!r}, {kind} {entry.number}", error
            before = {item.name: item for item in snapshot.objects}

    def _broken(self, place: Place, entry: TreeEntry, subject: str, error: Exception) -> Finding:
        ranges = self._bad.get(place.pack, [])
        at = bisect_right(ranges, (place.offset, 1 << 62)) - 1
        if at >= 0 and place.offset < ranges[at][1]:
            self._told.add((place.pack, ranges[at][0]))
        file = f"{self.place}/{pack_name(place.pack)}"
        problem = str(error).rpartition(f"{entry.digest.hex()}: ")[2].partition(" of /")[0]
        if isinstance(error, NotFound):
            problem = "found no entry"
        whose = f"page {entry.digest.hex()}, {subject}"
        return damage(file, place.offset, whose, problem, FROM_MIRROR, entry.digest)

    # ------------------------------------------------------------------------------------------------------- table

    def _table(
        self, store: LocalPages, directory: Path, found: PageTable | None, expected: PageTable
    ) -> Iterator[Finding]:
        """Compare the table that is there with the one that was built anew, its counts for the snapshots it counts."""
        place = f"{self.place}/{TABLE_NAME}"
        copy = directory / TABLE_NAME
        if problem := self._oversize(self.device.directory / TABLE_NAME):
            yield damage(place, None, "table of pages", problem, REBUILD_TABLE)
            return
        if not copy.exists():
            yield note(place, None, "table of pages", "is missing", "the next start builds it anew")
            return
        try:
            if (version := _schema_of(copy)) != SCHEMA_VERSION:
                problem = f"has schema {version}, expected {SCHEMA_VERSION}"
                yield note(place, None, "table of pages", problem, "the next start builds it anew")
                return
            found = found or PageTable(copy)  # again, for what is wrong with it
            if strange := found.strange_count():
                problem = f"{strange} rows of pages have values of wrong types"
                yield damage(place, None, "table of pages", problem, REBUILD_TABLE)
                return
            recount(expected, found, store)
            yield from self._compare(place, found, expected)
        except (sqlite3.Error, CorruptRecord) as error:
            yield damage(place, None, "table of pages", str(error), REBUILD_TABLE)

    def _compare(self, place: str, found: PageTable, expected: PageTable) -> Iterator[Finding]:
        covered = {row.number: row.covered for row in found.packs()}
        packs = Packs(self.device)
        packs.load(_salts(found), clean=False)
        wrong = 0
        for row, twin in _pairs(_rows(found), _rows(expected)):
            if row is not None and (row[1].pack in self._gone or row[0] in self.missing):
                continue
            if row is not None and (lost := self._lost(row)):
                yield lost
            elif (
                problem := self._misplaced(packs, row, twin)
                or _difference(row, twin, covered, counted=not self._nodes_missing)
            ) is not None:
                wrong += 1
                if wrong <= ROWS_SHOWN:
                    shown = row or twin
                    assert shown is not None
                    yield damage(place, None, f"row of page {shown[0].hex()}", problem, REBUILD_TABLE)
        if wrong > ROWS_SHOWN:
            yield damage(place, None, "table of pages", f"{wrong - ROWS_SHOWN} more rows are wrong", REBUILD_TABLE)

    def _misplaced(self, packs: Packs, row: _Row | None, twin: _Row | None) -> str | None:
        """What is wrong with the place of a row, or none. Of two copies of a page the table may know either."""
        if row is None or twin is None or row[1] == twin[1]:
            return None
        pack, offset, length = row[1]
        try:
            packs.read(row[1], row[0])
        except (CorruptRecord, NotFound):
            return f"says pack {pack}, offset {offset}, {length} bytes, where no such page is"
        return None

    def _lost(self, row: _Row) -> Finding | None:
        """What a row says was durable and is not there any more, and no snapshot needs."""
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


def _salts(table: PageTable | None) -> dict[int, bytes]:
    """Pack → its salt, of the packs that a table knows; none of a table that cannot be read."""
    try:
        return {} if table is None else {row.number: row.salt for row in table.packs()}
    except sqlite3.Error:
        return {}


def _is_damaged(head: bytes, number: int) -> bool:
    try:
        decode_pack(head, number)
    except CorruptRecord:
        return True
    except FormatUnknown:  # told when the store is opened
        pass
    return False


def _place_of(digest: bytes, *tables: PageTable | None) -> Place | None:
    """Where a page lies by the first table that knows it."""
    for table in tables:
        with contextlib.suppress(sqlite3.Error, CorruptRecord):
            if table is not None and (row := table.find(digest)) is not None:
                return row.place
    return None


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


def _difference(row: _Row | None, twin: _Row | None, covered: dict[int, int], *, counted: bool) -> str | None:
    """What is wrong with a row, or none. Of two copies of a page the table may know either."""
    if row is None:
        assert twin is not None
        place = twin[1]
        return "is missing" if place.offset < covered.get(place.pack, 0) else None
    if twin is None:
        return f"points to {pack_name(row[1].pack)}, offset {row[1].offset}, where no such page is"
    if counted and row[2:] != twin[2:]:
        return f"counts {row[2]} and {row[3]} references (as page, as node), found {twin[2]} and {twin[3]}"
    return None
