"""Cuts through a database in use: what is read is what SQLite itself would read, and no change goes unseen."""

from __future__ import annotations

import random
import sqlite3
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinrt.errors import StorageError
from spinrt.mail.store.checkpoint import (
    CHANGED_NAME,
    Checkpointer,
    Cut,
    close_followed,
    follow_index,
    load_followed,
    run_checkpoint,
)
from spinrt.mail.store.index import connect
from spinrt.storage import wal
from spinrt.storage.wal import Changes, Taken


class Database:
    """A writer, its checkpointer, and what a snapshot of it would be made of."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.path = directory / "db.sqlite"
        self.rng = random.Random(seed)
        self.open()
        self.base: list[bytes] | None = None
        """Pages of the last snapshot."""
        self.snapshot_count = 0

    def open(self) -> None:
        saved = load_followed(self.path)
        self.writer = connect(self.path)
        self.writer.execute("CREATE TABLE IF NOT EXISTS state (log_identity, applied)")
        self.writer.execute("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, x)")
        if self.writer.execute("SELECT count(*) FROM state").fetchone() == (0,):
            self.writer.execute("INSERT INTO state VALUES (x'00', 0)")
        self.changes = follow_index(self.path, saved)
        self.checkpointer = Checkpointer(self.path, self.changes, wal_bytes_min=0)

    def close(self) -> None:
        self.checkpointer.stop()
        close_followed(self.writer, self.path, self.changes)

    def write(self) -> None:
        self.writer.execute("BEGIN IMMEDIATE")
        for _ in range(self.rng.choice((1, 3, 30))):
            key = self.rng.randrange(200)
            if self.rng.random() < 0.2:
                self.writer.execute("DELETE FROM t WHERE id BETWEEN ? AND ?", (key, key + 20))
            else:
                row = (key, self.rng.randbytes(self.rng.choice((10, 900, 9000))))
                self.writer.execute("INSERT OR REPLACE INTO t VALUES (?, ?)", row)
        self.writer.execute("UPDATE state SET applied = applied + 1")
        self.writer.execute(self.rng.choice(("COMMIT", "COMMIT", "ROLLBACK")))

    def vacuum(self) -> None:
        """Many pages at once, and fewer than before."""
        self.writer.execute("VACUUM")

    def checkpoint(self) -> None:
        self.checkpointer.checkpoint()

    def finish(self) -> None:
        self.checkpointer.finish(self.writer)

    def restart(self) -> None:
        self.close()
        self.open()

    def snapshot(self, meanwhile: list[str], fails: bool) -> None:
        cut = Cut(self.path, self.changes)
        cut.begin()
        expected = pages_of(cut._connection)
        for action in meanwhile:
            getattr(self, action)()
        taken = self.changes.take()
        for action in meanwhile:
            getattr(self, action)()
        found = list(self.changes.read_all(taken))
        assert without_counters(found) == without_counters(expected)
        self.check_changed(taken, found)
        self.snapshot_count += 1
        cut.end(None if fails else b"%032d" % self.snapshot_count)
        if not fails:
            self.base = found

    def check_changed(self, taken: Taken, found: list[bytes]) -> None:
        """Every page that is not as in the last snapshot is among those that changed."""
        if taken.changed is None or taken.base is None:
            return
        assert self.base is not None
        differing = {n + 1 for n, page in enumerate(found) if n >= len(self.base) or self.base[n] != page}
        assert differing <= taken.changed


def pages_of(connection: sqlite3.Connection) -> list[bytes]:
    """All pages as of a connection's read transaction, as SQLite gives them."""
    with sqlite3.connect(":memory:") as copy:
        connection.backup(copy)
        data = copy.serialize()
    return [data[at : at + 4096] for at in range(0, len(data), 4096)]


def without_counters(pages: list[bytes]) -> list[bytes]:
    """Pages without what a copy has of its own in the header: journal mode, change counters, schema cookie."""
    first = bytearray(pages[0])
    for start, end in ((18, 20), (24, 28), (40, 44), (92, 100)):
        first[start:end] = bytes(end - start)
    return [bytes(first), *pages[1:]]


BESIDE = st.lists(st.sampled_from(["write", "checkpoint", "finish", "vacuum"]), max_size=6)
STEPS = st.one_of(
    st.sampled_from(["write", "write", "checkpoint", "finish", "restart", "vacuum"]), st.tuples(BESIDE, st.booleans())
)


@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 1000), steps=st.lists(STEPS, min_size=3, max_size=25))
def test_cut_reads_what_sqlite_reads_and_sees_every_change(
    seed: int, steps: list[str | tuple[list[str], bool]]
) -> None:
    """While the writer goes on, checkpoints run, the log begins anew, snapshots fail, and after a new start."""
    with tempfile.TemporaryDirectory() as directory:
        database = Database(Path(directory), seed)
        try:
            for step in steps:
                if isinstance(step, str):
                    getattr(database, step)()
                else:
                    database.snapshot(*step)
        finally:
            database.close()


def known_database(directory: Path) -> Database:
    """A database whose changes since a snapshot are known, and are few."""
    database = Database(directory, 1)
    for _ in range(20):
        database.write()
    database.snapshot([], False)
    database.checkpoint()
    return database


def test_what_changed_is_known_and_little(tmp_path: Path) -> None:
    """After a snapshot one row costs a few pages, over checkpoints and a clean stop too."""
    database = known_database(tmp_path)
    for restarts in range(3):
        database.writer.execute("UPDATE state SET applied = applied + 1")
        database.checkpoint()
        if restarts:
            database.restart()
        cut = Cut(database.path, database.changes)
        cut.begin()
        taken = database.changes.take()
        assert taken.changed is not None
        assert 1 <= len(taken.changed) <= 3
        cut.end(b"x" * 32)
    database.close()


@pytest.mark.parametrize("spoil", ["touch", "damage", "crash", "other file", "missing"])
def test_what_changed_is_not_believed_when_something_was_in_between(tmp_path: Path, spoil: str) -> None:
    """The database was written by others, the note is damaged or old, the last stop was none: all pages are read."""
    database = known_database(tmp_path)
    database.close()
    note = tmp_path / CHANGED_NAME
    assert note.exists()
    if spoil == "touch":
        with sqlite3.connect(database.path) as other:
            other.execute("DELETE FROM t")
        other.close()
    elif spoil == "damage":
        note.write_bytes(note.read_bytes().replace(b'"pages": []', b'"pages": [1]').replace(b"0", b"1"))
    elif spoil == "crash":
        database.open()
        assert not note.exists()
        database.writer.close()
    elif spoil == "other file":
        copy = tmp_path / "copy"
        copy.write_bytes(database.path.read_bytes())
        copy.rename(database.path)
    else:
        note.unlink()
    database.open()
    assert not note.exists()
    cut = Cut(database.path, database.changes)
    cut.begin()
    assert database.changes.take().changed is None
    cut.end(None)
    database.close()


def test_too_many_changes_are_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory stays bounded: then all pages are looked at."""
    monkeypatch.setattr(wal, "CHANGED_MAX", 2)
    database = known_database(tmp_path)
    for _ in range(5):
        database.write()
    database.snapshot(["write"], False)
    database.close()


def test_database_of_unknown_shared_memory_is_refused(tmp_path: Path) -> None:
    """Another version of SQLite's shared memory is not guessed at."""
    path = tmp_path / "db"
    path.write_bytes(b"")
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).write_bytes(b"\1" * 32768)
    with pytest.raises(StorageError, match="version"):
        Changes(path)


def test_checkpoint_unseen_would_be_noticed(tmp_path: Path) -> None:
    """The check above can fail: without the note before a checkpoint, changes are missed."""
    database = known_database(tmp_path)
    for _ in range(4):
        database.write()
        run_checkpoint(database.writer)
    database.write()
    with pytest.raises(AssertionError):
        database.snapshot([], False)
    database.changes.settle(None)
    database.close()


def test_pages_of_frames_are_those_of_the_log_in_every_block_of_the_shared_memory(tmp_path: Path) -> None:
    """4,062 frames are numbered in the first block, 4,096 in each further one."""
    database = Database(tmp_path, 1)
    log = tmp_path / "db.sqlite-wal"
    while log.stat().st_size < 9000 * (wal.FRAME_HEADER_BYTES + 4096):
        database.write()
        if database.rng.random() < 0.1:
            database.changes.note()  # so that pieces begin anywhere
    database.changes.note()
    state = database.changes.state()
    size = wal.FRAME_HEADER_BYTES + state.page_bytes
    content = log.read_bytes()
    expected = {
        int.from_bytes(content[at : at + 4], "big"): frame
        for frame, at in enumerate(range(wal.LOG_HEADER_BYTES, wal.LOG_HEADER_BYTES + state.end * size, size), 1)
    }
    assert state.end > 8500
    assert database.changes._frames == expected
    maps = database.changes._maps
    assert len(maps) > 1
    database.close()
    assert all(one.closed for one in maps)  # closing one later would drop the locks of who has the file open by then
