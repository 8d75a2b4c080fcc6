"""Bringing the table of a page store up to its packs, when the store is opened."""

from __future__ import annotations

import sqlite3
from hashlib import sha256
from typing import Final

from spinrt.storage.pack import Entry
from spinrt.storage.packs import Packs
from spinrt.storage.page_table import PageTable, Place
from spinrt.storage.protocols import DIGEST_BYTES

ROWS_BATCH: Final = 4096

Row = tuple[bytes, Place, int]
"""Digest, place, when it was put."""


def fits(table: PageTable, packs: Packs, sizes: dict[int, int]) -> bool:
    """Tell whether the packs that a table knows are there, the same ones, and no shorter, and what it counted is whole.

    A snapshot is named by its digest; one that is not what was counted could not be taken back.
    """
    try:
        rows = table.packs()
        counted = table.counted()
    except sqlite3.DatabaseError:
        return False
    if any(sha256(stored[:-DIGEST_BYTES]).digest() != identity for identity, stored in counted.items()):
        return False
    return all(sizes.get(row.number, -1) >= row.covered and packs.salt(row.number) == row.salt for row in rows)


def cover(table: PageTable, packs: Packs, sizes: dict[int, int], now_s: int) -> list[Row]:
    """Enter what packs hold and the table does not know; return the rows of entries that are not whole.

    Raises OSError, sqlite3.Error.
    """
    covered = {row.number: row.covered for row in table.packs()}
    broken: list[Row] = []
    for number, size in sizes.items():
        if covered.get(number, 0) < size:
            broken += _cover_pack(table, packs, number, (covered.get(number), size), now_s)
    with table.transaction():  # last: a whole copy of the same page has the row already
        table.add(broken)
    return broken


def _cover_pack(table: PageTable, packs: Packs, number: int, between: tuple[int | None, int], now_s: int) -> list[Row]:
    start, end = between
    rows: list[Row] = []
    broken: list[Row] = []
    for found in packs.walk(number, end=end) if start is None else packs.walk(number, start, end):
        if isinstance(found, Entry):
            row = (found.header.digest, Place(number, found.offset, found.header.entry_bytes), now_s)
            (rows if found.whole else broken).append(row)
        if len(rows) >= ROWS_BATCH:
            with table.transaction():
                table.add(rows)
            rows.clear()
    with table.transaction():
        table.add(rows)
        table.cover(number, packs.salt(number), end)
    return broken


def drop_torn(table: PageTable, broken: list[Row]) -> None:
    """Forget entries that are not whole and that no snapshot needs: `put` of such a page must store it again."""
    rows = ((digest, place, table.find(digest)) for digest, place, _ in broken)
    torn = [digest for digest, place, row in rows if row is not None and row.place == place]
    with table.transaction():
        table.remove(torn)
