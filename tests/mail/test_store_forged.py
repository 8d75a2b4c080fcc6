"""Snapshots that somebody made up: every page is what its digest says, and yet they are no mail store, or petabytes."""

from __future__ import annotations

import argparse
import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spinrt.cli.main import exit_code
from spinrt.cli.snapshot import look_into
from spinrt.errors import CorruptRecord, DeviceFull, FormatUnknown, SpinError
from spinrt.mail.snapshot_operations import differences, opened
from spinrt.mail.store.changes import OPAQUE_KINDS
from spinrt.mail.store.export import export_snapshot
from spinrt.mail.store.fsck import DirectoryCheck
from spinrt.mail.store.snapshots import INDEX_OBJECT, index_of, write_object
from spinrt.mail.store.store import Store
from spinrt.storage.fsck.finding import Finding, Severity
from spinrt.storage.log import Log
from spinrt.storage.pages import LocalPages
from spinrt.storage.protocols import HOLE, Object, Snapshot
from spinrt.storage.readonly import ReadOnlyDevice
from spinrt.storage.snapshot import KIND_CONFIGURATION, KIND_INDEX, depth_of, seal
from spinrt.storage.tree import build_bytes, encode_node, pages, shape_of, update
from tests.mail.store_support import USER, fill, with_store

PAGE = 4096
HUGE = 2**44 - 2**20
"""Bytes of a database with nearly as many pages as its header can say, in a file as long as a file can be."""


class Site:
    """A closed data directory with a snapshot, and its page store to forge more in."""

    def __init__(self, path: Path) -> None:
        self.data = path / "data"

        async def test(store: Store) -> None:
            await fill(store, 20)
            await store.snapshot("good")

        with_store(path, test)
        self.pages = LocalPages.open(self.data / "pages")
        (self.good,) = self.pages.snapshots()

    def commit(self, index: Object, *others: Object) -> Snapshot:
        good = self.good
        made = seal(
            parent=good.identity, log_identity=good.log_identity, position=good.position, time_ns=good.time_ns + 1,
            objects=(index, *others),
        )  # fmt: skip
        self.pages.commit(made)
        return made

    def stored(self, content: bytes) -> Object:
        return build_bytes(self.pages, content, name=INDEX_OBJECT, kind=KIND_INDEX, page_bytes=PAGE)

    def index(self, change: str) -> bytes:
        """The index of the good snapshot, changed by statements of SQL."""
        item = index_of(self.good)
        assert item is not None
        file = self.data.parent / "forged.sqlite"
        file.write_bytes(b"".join(pages(self.pages, item)))
        connection = sqlite3.connect(file)
        connection.executescript(change)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        return file.read_bytes()

    def huge(self, page: bytes | None, name: str = INDEX_OBJECT, kind: int = KIND_INDEX) -> Object:
        """An object of terabytes: one page, or none, in every place."""
        depth, root = depth_of(HUGE, PAGE), HOLE if page is None else self.pages.put(page)
        shape = shape_of(HUGE, PAGE)
        full = edge = root
        for level in range(1, depth + 1):
            count = shape.children(level, shape.counts[level] - 1)
            edge = self.pages.put(encode_node(level, full * (count - 1) + edge))
            full = self.pages.put(encode_node(level, full * 128))
        return Object(name, kind, HUGE, PAGE, depth, edge if page is not None else HOLE)

    def huge_index(self, page: bytes | None) -> Object:
        """One that begins as an index does, and whose header says how large it is, too."""
        content = bytearray(self.index(""))
        content[28:32] = (HUGE // PAGE).to_bytes(4, "big")
        parts = [bytes(content[at : at + PAGE]) for at in range(0, len(content), PAGE)]
        return update(self.pages, self.huge(page), dict(enumerate(parts)))

    def log(self) -> Log:
        return Log.open(self.data / "log", device=ReadOnlyDevice(self.data / "log"), opaque_kinds=OPAQUE_KINDS)

    def check(self) -> list[Finding]:
        self.pages.close()
        found = list(DirectoryCheck(self.data).findings())
        return [finding for finding in found if finding.severity is not Severity.REPAIRED]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.pages.close()


FORGED: dict[str, tuple[Callable[[Site], Object], type[SpinError], str]] = {
    "noise": (lambda site: site.stored(b"no database" * PAGE), CorruptRecord, "no database"),
    "short": (lambda site: site.stored(b"SQLite format 3\0"), CorruptRecord, "no database"),
    "empty": (lambda site: site.stored(b""), CorruptRecord, "no database"),
    "other": (
        lambda site: site.stored(site.index("DROP TABLE kv; CREATE TABLE other (id INTEGER)")),
        CorruptRecord,
        "other tables",
    ),
    "version": (lambda site: site.stored(site.index("PRAGMA user_version = 99")), FormatUnknown, "schema 99"),
    "header": (lambda site: site.stored(site.index("")[:100] + bytes(PAGE - 100) + site.index("")[PAGE:]),
               CorruptRecord, "page 1 has type 0"),
    "longer": (lambda site: site.stored(site.index("") + bytes(PAGE)), CorruptRecord, "as its database says"),
    "huge": (lambda site: site.huge(site.index("")[:PAGE]), CorruptRecord, "as its database says"),
    "void": (lambda site: site.huge(None), CorruptRecord, "no database"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_index_that_is_none_is_an_error_that_names_snapshot_and_object(site: Site, name: str) -> None:
    """Whoever opens, compares or exports it is told what it is, nothing is written; fsck finds it, and ends."""
    forge, error, says = FORGED[name]
    made = site.commit(forge(site))
    target = site.data.parent / "target"
    log = site.log()
    actions: tuple[Callable[[], object], ...] = (
        lambda: opened(site.data, site.pages, made).__enter__(),
        lambda: differences(site.data, site.pages, site.good, made),
        lambda: differences(site.data, site.pages, made, site.good),
        lambda: export_snapshot(site.pages, made, log, target),
    )
    for action in actions:
        with pytest.raises(error, match=says) as caught:
            action()
        assert f"snapshot {made.identity.hex()[:12]}, object 'index'" in str(caught.value)
        assert exit_code(caught.value) == 3
    log.close()
    assert not target.exists()
    lines = [finding.line() for finding in site.check()]
    assert sum(made.identity.hex()[:12] in line and says in line for line in lines) == 1, lines


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE messages SET body = x'00'",
        "UPDATE messages SET body = 'text'",
        "UPDATE messages SET flags = 'abc'",
        "UPDATE messages SET keywords = x'ff00'",
        "UPDATE messages SET uid = uid + 1000000000000",
        "UPDATE mailboxes SET uidnext = 'abc', messages = 'many'",
        "UPDATE mailboxes SET messages = x'00' WHERE name = 'INBOX'",
    ],
)
def test_values_of_another_kind_are_no_internal_error(site: Site, change: str) -> None:
    """Columns take anything; whoever looks gets an answer or an error that names the snapshot."""
    made = site.commit(site.stored(site.index(change)))

    def look(**at: object) -> None:
        look_into(site.data, lambda _: made, argparse.Namespace(json=True, **({"mailbox": None, "uid": None} | at)))

    actions: tuple[Callable[[], object], ...] = (
        lambda: look(user=USER),
        lambda: look(user=USER, mailbox="INBOX"),
        lambda: look(user=USER, mailbox="INBOX", uid=3),
        lambda: differences(site.data, site.pages, site.good, made),
    )
    for action in actions:
        with contextlib.suppress(SpinError):
            action()


def test_state_of_another_position_is_damage(site: Site) -> None:
    """The snapshot says how far its index covers the log; so does the index."""
    site.commit(site.stored(site.index("UPDATE state SET applied = applied - 1")))
    (found,) = site.check()
    assert found.severity is Severity.DAMAGE
    assert "another log or position" in found.problem


def test_index_of_terabytes_is_not_written_beyond_the_room_there_is(site: Site) -> None:
    """Though it is one, and header and size agree: it is refused before the first page is written, and fsck ends."""
    made = site.commit(site.huge_index(b"x" * PAGE))
    target = site.data.parent / "target"
    log = site.log()
    with pytest.raises(DeviceFull, match=r"export to .*target: needs 17592\d{9} bytes"):
        export_snapshot(site.pages, made, log, target)
    log.close()
    assert not target.exists()
    assert site.check() == []


def test_index_of_terabytes_of_holes_takes_no_room(site: Site) -> None:
    """It is written out, at the price of its pages that are there."""
    item = site.huge_index(None)
    made = site.commit(item)
    target = site.data.parent / "target.sqlite"
    write_object(site.pages, item, target)
    assert target.stat().st_size == HUGE
    assert target.stat().st_blocks * 512 < 2**20
    assert differences(site.data, site.pages, site.good, made)["objects"][0]["pages"] < 2**20
    assert site.check() == []


def test_object_of_terabytes_beside_the_index_is_refused(site: Site) -> None:
    """As the index is."""
    good = index_of(site.good)
    assert good is not None
    made = site.commit(good, site.huge(b"x" * PAGE, "terabytes", KIND_CONFIGURATION))
    target = site.data.parent / "target"
    target.mkdir()
    log = site.log()
    with pytest.raises(DeviceFull, match="the device has"):
        export_snapshot(site.pages, made, log, target)
    log.close()
    assert list(target.iterdir()) == []
    changes = differences(site.data, site.pages, site.good, made)["objects"]
    assert changes == [{"name": "terabytes", "change": "added", "pages": HUGE // PAGE}]
    assert site.check() == []


def test_holes_are_exported_as_holes(site: Site) -> None:
    """An object that is a gibibyte of holes and one page takes little room."""
    good = index_of(site.good)
    assert good is not None
    hole = Object("holes", KIND_CONFIGURATION, 2**30, PAGE, depth_of(2**30, PAGE), HOLE)
    made = site.commit(good, update(site.pages, hole, {1000: b"y" * PAGE}))
    target = site.data.parent / "target"
    log = site.log()
    export_snapshot(site.pages, made, log, target)
    log.close()
    written = target / "snapshot" / "holes"
    assert written.stat().st_size == 2**30
    assert written.stat().st_blocks * 512 < 2**20
    with written.open("rb") as file:
        file.seek(1000 * PAGE - 1)
        assert file.read(PAGE + 2) == b"\0" + b"y" * PAGE + b"\0"


def test_export_that_fails_leaves_nothing_behind(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of its syncs fails: the target is as it was, and the error says so."""
    real = os.fsync
    for step in range(20):
        left = [step]

        def fsync(descriptor: int, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(28, "No space left on device")
            real(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        target = site.data.parent / "target"
        log = site.log()
        try:
            export_snapshot(site.pages, site.good, log, target)
        except DeviceFull:
            assert not target.exists()
        else:
            assert step > 1
            return
        finally:
            log.close()
    raise AssertionError("never ended")
