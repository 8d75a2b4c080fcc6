"""Checking the table of places against the log: each name that was carried, and where it lies last."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from spinrt.errors import CorruptRecord
from spinrt.storage.carry import decode_carried
from spinrt.storage.fsck.finding import Finding, damage, oversize
from spinrt.storage.log import Log
from spinrt.storage.places import GIVEN_UP, PLACES_NAME
from spinrt.storage.record import KIND_CARRIED

REBUILD_PLACES: Final = "`spinrt fsck --repair` removes the table of places; the next start builds it anew"


def check_places(directory: Path, log: Log) -> Iterator[Finding]:
    """Compare the table in the log's directory with the records that it says it covers.

    A log of which nothing was ever carried has none. Cost: a look at the header of each record.
    """
    path = directory / PLACES_NAME
    if not path.exists():
        return
    place = f"{directory.name}/{PLACES_NAME}"
    if problem := oversize(path, directory.glob("*.log")):
        yield damage(place, None, "table of places", problem, REBUILD_PLACES)
        return
    try:
        with contextlib.closing(_open(path)) as connection:
            row = connection.execute("SELECT log_identity, covered FROM state").fetchone()
            if row is None or row[0] != log.identity or row[1] > log.durable:
                yield damage(place, None, "table of places", "is not of this log", REBUILD_PLACES)
                return
            yield from _compare(place, connection, log, row[1])
    except sqlite3.Error as error:
        yield damage(place, None, "table of places", str(error), REBUILD_PLACES)


def _open(path: Path) -> sqlite3.Connection:
    """Read the database into memory; what SQLite needs beside it meanwhile is gone afterwards."""
    alone = "" if path.with_name(path.name + "-wal").exists() else "&immutable=1"
    beside = path.with_name(path.name + "-shm")
    was_there = beside.exists()
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro{alone}", uri=True)) as source:
        copy = sqlite3.connect(":memory:")
        source.backup(copy)
    if not was_there:
        beside.unlink(missing_ok=True)
    return copy


def _compare(place: str, connection: sqlite3.Connection, log: Log, covered: int) -> Iterator[Finding]:
    """The last place of each name; of a log that cannot be walked to its end nothing more is said."""
    connection.execute("CREATE TEMP TABLE found (name INTEGER PRIMARY KEY, place INTEGER NOT NULL)")
    with contextlib.suppress(CorruptRecord):  # told with the log
        for segment in log.segment_list():
            for one in log.headers(segment):
                if one.header.kind == KIND_CARRIED and one.header.position < covered:
                    values = decode_carried(one.first).name, one.header.position
                    connection.execute("INSERT OR REPLACE INTO found VALUES (?, ?)", values)
        query = (
            "SELECT p.name, p.place, f.place FROM places p LEFT JOIN found f USING (name) WHERE p.place IS NOT f.place"
            f" AND p.place != {GIVEN_UP}"
            " UNION ALL SELECT f.name, NULL, f.place FROM found f WHERE f.name NOT IN (SELECT name FROM places)"
        )
        for name, stated, found in connection.execute(query):
            problem = f"lies at {stated}, the log says {found}"
            yield damage(place, None, f"row of body {name}", problem, REBUILD_PLACES)
