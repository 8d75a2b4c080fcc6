"""Keys read from a database's pages, against what SQLite says."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinrt.errors import CorruptRecord
from spinrt.storage.rows import Read, keys, leaves, new_keys, table_root

PAGE = 512
"""Small pages make high trees of few rows."""


def make(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(
        f"PRAGMA page_size={PAGE}; PRAGMA synchronous=OFF;"
        + "".join(f"CREATE TABLE filler{n} (a TEXT DEFAULT 'something that makes the schema long');" for n in range(20))
        + "CREATE TABLE bodies (name INTEGER PRIMARY KEY, bytes, refs); CREATE TABLE other (id INTEGER PRIMARY KEY, x);"
    )
    return connection


def pages_of(path: Path) -> list[bytes]:
    data = path.read_bytes()
    return [data[at : at + PAGE] for at in range(0, len(data), PAGE)]


def reader(pages: list[bytes]) -> Read:
    return lambda number: pages[number - 1]


def changed(before: list[bytes], after: list[bytes]) -> set[int]:
    longest = max(len(before), len(after))
    padded = [side + [b""] * (longest - len(side)) for side in (before, after)]
    return {number for number, (old, new) in enumerate(zip(*padded, strict=True), 1) if old != new}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2**31)), min_size=1, max_size=6))
@settings(max_examples=25, deadline=None)
def test_new_keys_are_those_that_sqlite_finds(
    tmp_path_factory: pytest.TempPathFactory, program: list[tuple[int, int]]
) -> None:
    path = tmp_path_factory.mktemp("rows") / "db"
    connection = make(path)
    before, had = pages_of(path), set[int]()
    for action, seed in program:
        change(connection, action, random.Random(seed))
        after = pages_of(path)
        has = {row[0] for row in connection.execute("SELECT name FROM bodies")}
        read = reader(after)
        root = table_root(read, "bodies")

        assert list(keys(read, leaves(read, root))) == sorted(has)
        found = list(new_keys(read, root, reader(before), table_root(reader(before), "bodies"), changed(before, after)))
        assert found == sorted(has - had)
        before, had = after, has
    connection.close()


def change(connection: sqlite3.Connection, action: int, choices: random.Random) -> None:
    connection.execute("BEGIN")
    if action == 0:
        start = choices.randrange(2**50)
        rows = [(start + 100 * n, n, 1) for n in range(choices.randrange(2000))]
        connection.executemany("INSERT OR IGNORE INTO bodies VALUES (?, ?, ?)", rows)
    elif action == 1:
        connection.execute("DELETE FROM bodies WHERE name % 7 < ?", (choices.randrange(8),))
    elif action == 2:
        connection.executemany("INSERT INTO other (x) VALUES (?)", [("x" * 50,)] * 100)
        connection.execute("UPDATE bodies SET refs = refs + 1 WHERE name % 5 = 0")
    else:
        rows = [(choices.randrange(-(2**63), 2**63), 1, 1) for _ in range(50)]
        connection.executemany("INSERT OR IGNORE INTO bodies VALUES (?, ?, ?)", [row for row in rows if row[0] >= 0])
    connection.execute("COMMIT")


def test_only_what_changed_is_read(tmp_path: Path) -> None:
    """One more row at the end: the leaf that it is in, of hundreds."""
    connection = make(tmp_path / "db")
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO bodies VALUES (?, 1, 1)", [(n * 1000,) for n in range(20_000)])
    connection.execute("COMMIT")
    before = pages_of(tmp_path / "db")
    connection.execute("INSERT INTO bodies VALUES (20000000, 1, 1)")
    after, read = pages_of(tmp_path / "db"), list[int]()

    def counting(number: int) -> bytes:
        read.append(number)
        return after[number - 1]

    root = table_root(reader(after), "bodies")
    assert list(new_keys(counting, root, reader(before), root, changed(before, after))) == [20_000_000]

    assert len(list(leaves(reader(after), root))) > 400
    assert len(set(read)) < 20


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    make(tmp_path / "db")

    with pytest.raises(CorruptRecord, match="nobody"):
        table_root(reader(pages_of(tmp_path / "db")), "nobody")


@given(st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_pages_that_are_none_are_refused(seed: int) -> None:
    """Noise ends in an error or in keys, and it ends: never in another exception, never without end."""
    choices = random.Random(seed)
    pages = [bytes((choices.choice((5, 13)),)) + choices.randbytes(PAGE - 1) for _ in range(3)]

    def read(number: int) -> bytes:
        if not 1 <= number <= len(pages):
            raise CorruptRecord("no such page")
        return pages[number - 1]

    try:
        found = list(zip(range(100_000), keys(read, leaves(read, 2)), strict=False))
        assert len(found) <= 100_000
    except CorruptRecord as error:
        assert error.line()
