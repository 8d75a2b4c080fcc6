"""The derived table of a page store in the hands of somebody who damages it: built anew, or told; never a loss."""

from __future__ import annotations

import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from spinrt.errors import CorruptRecord, NotFound, StateError
from spinrt.storage.page_table import TABLE_NAME
from spinrt.storage.pages import LocalPages
from spinrt.storage.protocols import Snapshot
from spinrt.storage.tree import TreeReader, build, update
from spinrt.testing.page_store import snapshot_of

PAGE = 64
COUNT = 300

SCHEMAS = (
    "DROP TABLE counted; CREATE VIEW counted AS WITH RECURSIVE c(identity, stored) AS"
    " (SELECT x'00', x'00' UNION ALL SELECT identity, stored FROM c) SELECT * FROM c",
    "CREATE TRIGGER thief AFTER INSERT ON pages BEGIN DELETE FROM pages; END",
    "CREATE TABLE other (thing)",
    "ALTER TABLE pages ADD COLUMN more",
    "DROP INDEX pages_base",
    "DROP TABLE packs",
)
SMALL = (
    "UPDATE packs SET covered = 'abc'",
    "UPDATE packs SET covered = 9223372036854775807",
    "UPDATE packs SET covered = -1",
    "UPDATE packs SET live = 1.5",
    "UPDATE packs SET salt = 'text'",
    "UPDATE counted SET stored = 'text'",
    "UPDATE counted SET stored = x'00ff'",
    "UPDATE counted SET stored = zeroblob(300000000)",
    "UPDATE counted SET identity = x'00' WHERE identity = (SELECT min(identity) FROM counted)",
)
ROWS = (
    "UPDATE pages SET pack = 'x'",
    "UPDATE pages SET offset = 'x'",
    "UPDATE pages SET bytes = x'00'",
    "UPDATE pages SET offset = 1.5",
    "UPDATE pages SET put_s = 'x'",
    "UPDATE pages SET pack = -1",
    "UPDATE pages SET offset = -1",
    "UPDATE pages SET offset = 1 << 62",
    "UPDATE pages SET bytes = 1 << 62",
    "UPDATE pages SET bytes = -1",
    "UPDATE pages SET bytes = bytes + 1",
    "UPDATE pages SET offset = (SELECT p.offset FROM pages p WHERE p.digest > pages.digest LIMIT 1)"
    " WHERE digest < (SELECT max(digest) FROM pages)",
)
USED = ("UPDATE pages SET base = 'x', nodes = 'x'", "UPDATE pages SET leaves = 'x', bytes = 'x'")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A closed page store with two snapshots, the second half like the first, in packs of some pages each."""
    store = LocalPages.open(tmp_path / "pages", pack_bytes_max=2000, unused_keep_s=0)
    rng = random.Random(1)
    first = build(store, [rng.randbytes(PAGE) for _ in range(COUNT)], name="thing", kind=9, page_bytes=PAGE)
    store.commit(snapshot_of(first, position=100))
    store.commit(snapshot_of(update(store, first, {n: rng.randbytes(PAGE) for n in range(0, COUNT, 2)}), position=200))
    store.close()
    return tmp_path / "pages"


def damage(directory: Path, statements: str) -> None:
    connection = sqlite3.connect(directory / TABLE_NAME)
    connection.executescript(statements)
    connection.close()


def content(store: LocalPages, snapshot: Snapshot) -> list[bytes]:
    reader = TreeReader(store, snapshot.objects[0])
    return [reader.page(number) for number in range(COUNT)]


def opened(directory: Path) -> LocalPages:
    return LocalPages.open(directory, pack_bytes_max=2000, unused_keep_s=0)


@pytest.mark.parametrize("statements", [*SCHEMAS, *SMALL])
def test_table_that_is_not_ours_is_built_anew(directory: Path, statements: str) -> None:
    """With all that was in the store; read-only it is refused."""
    damage(directory, statements)
    with pytest.raises(StateError):
        LocalPages.open(directory, read_only=True)
    store = opened(directory)
    for snapshot in store.snapshots():
        content(store, snapshot)
    store.delete(store.snapshots()[0].identity)
    content(store, store.snapshots()[0])
    store.close()


def test_table_that_is_cut_off_is_built_anew(directory: Path) -> None:
    """Wherever it ends; also inside a page, where SQLite reads zeros for what is gone."""
    path = directory / TABLE_NAME
    size = path.stat().st_size
    kept = directory.with_name("kept")
    shutil.copytree(directory, kept)
    for end in (*range(0, size, 1111), *range(size - 4000, size, 500), size - 1):
        shutil.rmtree(directory)
        shutil.copytree(kept, directory)
        with path.open("r+b") as file:
            file.truncate(end)
        store = opened(directory)
        store.delete(store.snapshots()[0].identity)
        content(store, store.snapshots()[0])
        store.close()


@pytest.mark.parametrize("statements", [*ROWS, *USED])
def test_row_that_is_wrong_is_told_and_nothing_is_lost(directory: Path, statements: str) -> None:
    """Reads name the table and what to do; whatever is deleted and rewritten meanwhile, a new table has everything."""
    store = opened(directory)
    wanted = content(store, store.snapshots()[1])
    store.close()
    damage(directory, statements)
    try:
        store = opened(directory)
        for work in (
            lambda: content(store, store.snapshots()[1]),
            lambda: store.commit(snapshot_of(update(store, store.snapshots()[1].objects[0], {0: b"n" * PAGE}))),
            lambda: store.delete(store.snapshots()[0].identity),
            store.compact,
        ):
            try:
                work()
            except CorruptRecord as error:
                assert TABLE_NAME in f"{error} {error.hint}" and "fsck --repair" in error.hint, error
            except NotFound as error:
                assert "pack" in str(error)
        store.close()
    except CorruptRecord as error:
        assert TABLE_NAME in str(error)
    (directory / TABLE_NAME).unlink()
    store = opened(directory)
    assert wanted in [content(store, snapshot) for snapshot in store.snapshots()]
    store.close()
