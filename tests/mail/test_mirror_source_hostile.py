"""A known source that sends what is no mail store, or less than it needs: the mirror keeps what it has.

The source has the right certificate, so it gets as far as END; what it says of itself is all that is wrong.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spinrt.errors import CorruptRecord, FormatUnknown, SpinError, StateError
from spinrt.mail.mirroring import carry_here
from spinrt.mail.store.fsck import DirectoryCheck
from spinrt.mail.store.mirrored import body_names
from spinrt.mail.store.snapshots import INDEX_OBJECT
from spinrt.mail.store.store import Store
from spinrt.storage.log import Log
from spinrt.storage.mirror import pipe
from spinrt.storage.mirror.book import FileBook
from spinrt.storage.mirror.directory import MirrorDirectory
from spinrt.storage.mirror.receiver import Receiver
from spinrt.storage.mirror.sender import Sender
from spinrt.storage.mirror.source import StoreSource
from spinrt.storage.mirror.update import Update, no_bodies
from spinrt.storage.pages import LocalPages
from spinrt.storage.protocols import Object, PageStore, Snapshot
from spinrt.storage.schedule import Keep
from spinrt.storage.snapshot import KIND_INDEX, seal
from spinrt.storage.tree import build_bytes
from spinrt.storage.tree import pages as pages_of
from tests.mail.mirror_support import mirror_to
from tests.mail.store_support import USER, deliver, open_store, run
from tests.storage.mirror_support import MemoryPages

HOUR_NS = 3600 * 1_000_000_000
NOTHING_KEPT = Keep(hourly=0, daily=0, weekly=0, monthly=0)


class Site:
    """A mail system with one mirror that is up to date."""

    def __init__(self, path: Path) -> None:
        self.path, self.data, self.mirror = path, path / "data", path / "mirror"
        run(self._begin)
        self.good = self._current()

    async def _begin(self) -> None:
        store = open_store(self.path)
        await store.ensure_account(USER)
        await self._deliver(store, 3)
        await mirror_to(store, self.mirror)
        await store.close()

    async def _deliver(self, store: Store, count: int) -> None:
        for number in range(count):
            text = b"%d" % time.time_ns()
            await deliver(store, b"Subject: x\r\n\r\n" + text, id_=f"{text.decode()}-{number}")

    def genuine(self, count: int = 1) -> Sender:
        """New mail, and an update."""
        senders: list[Sender] = []

        async def body() -> None:
            store = Store.open(self.data)
            await self._deliver(store, count)
            senders.append(await mirror_to(store, self.mirror))
            await store.close()

        run(body)
        return senders[0]

    def _current(self) -> Snapshot:
        mirror = MirrorDirectory.open(self.mirror, create=False)
        try:
            return mirror.current()
        finally:
            mirror.close()

    def index(self, change: str = "") -> bytes:
        """The index of the good snapshot, changed by a statement of SQL."""
        pages = LocalPages.open(self.data / "pages")
        (item,) = (one for one in self.good.objects if one.name == INDEX_OBJECT)
        file = self.path / "forged.sqlite"
        file.write_bytes(b"".join(pages_of(pages, item)))
        pages.close()
        connection = sqlite3.connect(file)
        connection.executescript(change)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        return file.read_bytes()

    def send(
        self, store: MemoryPages, objects: tuple[Object, ...], keep: Keep = NOTHING_KEPT, **said: object
    ) -> Snapshot:
        """Bring the mirror a snapshot that was made up, by all that the protocol asks for."""
        usual = {
            "parent": None, "log_identity": self.good.log_identity, "position": self.good.position + 1,
            "time_ns": self.good.time_ns + 1, "objects": objects,
        }  # fmt: skip
        made = seal(**(usual | said))  # type: ignore[arg-type]
        log = Log.open(self.data / "log")
        try:
            carry_here(Sender(StoreSource(store, log, made, nameless)), self.mirror, keep=keep)
        finally:
            log.close()
        return made

    def send_index(self, index: bytes, page_bytes: int | None = None, **said: Any) -> Snapshot:
        store = MemoryPages()
        size = page_bytes or self.good.objects[-1].page_bytes
        return self.send(
            store, (build_bytes(store, index, name=INDEX_OBJECT, kind=KIND_INDEX, page_bytes=size),), **said
        )


def nameless(store: PageStore, base: Snapshot | None, target: Snapshot) -> Iterator[int]:
    """Offers no bodies."""
    return iter(())


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def applied(position: int) -> str:
    return f"UPDATE state SET applied = {position}"


@pytest.mark.parametrize(
    ("send", "error", "says"),
    [
        (lambda site: site.send(MemoryPages(), ()), CorruptRecord, "no mail index"),
        (lambda site: site.send_index(b"no database" * 4096), CorruptRecord, "mail index"),
        (lambda site: site.send_index(site.index()), CorruptRecord, "another log or position"),
        (lambda site: site.send_index(site.index("DELETE FROM state")), CorruptRecord, "another log or position"),
        (lambda site: site.send_index(site.index("PRAGMA user_version = 99")), FormatUnknown, "schema 99"),
        (
            lambda site: site.send_index(
                site.index(
                    "DROP TABLE state; CREATE VIEW state AS WITH RECURSIVE n(log_identity, applied) AS"
                    " (VALUES (1, 1) UNION ALL SELECT 1, applied + 1 FROM n) SELECT * FROM n WHERE applied < 0"
                )
            ),
            CorruptRecord,
            "other tables",
        ),
        (
            lambda site: site.send_index(
                site.index(applied(site.good.position) + ", next_queue_id = 77"),
                position=site.good.position,
                time_ns=site.good.time_ns,
            ),
            StateError,
            "not of the source's past",
        ),
        (
            lambda site: site.send_index(site.index(applied(site.good.position - 1)), position=site.good.position - 1),
            StateError,
            "not of the source's past",
        ),
        (
            lambda site: site.send_index(
                site.index(applied(site.good.position + 1)), time_ns=time.time_ns() + HOUR_NS + 60 * 1_000_000_000
            ),
            StateError,
            "an hour ahead",
        ),
        (
            lambda site: site.send_index(
                site.index(applied(site.good.position + 1) + "; INSERT INTO bodies VALUES (123456789, 1, 1)")
            ),
            StateError,
            "1 bodies",
        ),
    ],
    ids=["empty", "noise", "stale", "stateless", "schema", "view", "same", "before", "ahead", "bodies"],
)
def test_what_is_no_next_snapshot_is_refused_and_the_good_one_stays(
    site: Site, send: Callable[[Site], object], error: type[SpinError], says: str
) -> None:
    with pytest.raises(error, match=says):
        send(site)

    assert site._current() == site.good
    assert site.genuine().moved
    assert [one.line() for one in DirectoryCheck(site.mirror).findings()] == []


def test_what_an_index_says_of_a_body_takes_it_from_no_other_snapshot(site: Site) -> None:
    wrong = (
        "INSERT INTO messages SELECT mailbox_id, uid + 1000, modseq, flags, keywords, internal_date, internal_zone,"
        " size, CAST(zeroblob(32) || substr(body, 33) AS BLOB) FROM messages;"
    )
    with pytest.raises(CorruptRecord, match="3 messages are not what it says"):
        site.send_index(site.index(wrong + applied(site.good.position + 1)))

    assert [one.line() for one in DirectoryCheck(site.mirror).findings()] == []
    assert site.genuine().traffic.bodies_moved == 1


def test_a_tree_that_has_a_page_twice_is_not_walked_twice(site: Site) -> None:
    """An inner page of the table of messages names its first child again, in place of the second."""
    with_many = "".join(
        f"INSERT INTO messages SELECT mailbox_id, uid + {1 << n}, modseq, flags, keywords, internal_date,"
        " internal_zone, size, body FROM messages;"
        for n in range(2, 8)
    )
    index = bytearray(site.index(with_many + applied(site.good.position + 1)))
    size = site.good.objects[-1].page_bytes
    file = site.path / "forged.sqlite"
    with sqlite3.connect(file) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'messages'").fetchone()
    page = (root - 1) * size
    assert index[page] == 2  # an inner page
    first, second = (page + int.from_bytes(index[page + at : page + at + 2], "big") for at in (12, 14))
    index[second : second + 4] = index[first : first + 4]

    with pytest.raises(CorruptRecord, match="after row"):
        site.send_index(bytes(index))
    assert site._current() == site.good


def test_the_first_of_the_day_and_the_one_before_stay(site: Site) -> None:
    """What cannot be told from a genuine one takes its place, and yet what was there before is not gone."""
    forged = site.send_index(site.index(applied(site.good.position + 1)))

    assert {one.identity for one in snapshots(site.mirror)} == {site.good.identity, forged.identity}
    assert FileBook(site.mirror).read().previous == site.good.identity

    again = site.send_index(
        site.index(applied(site.good.position + 2)), position=site.good.position + 2, time_ns=site.good.time_ns + 2
    )
    last = site.send_index(
        site.index(applied(site.good.position + 3)), position=site.good.position + 3, time_ns=site.good.time_ns + 3
    )
    stayed = {one.identity for one in snapshots(site.mirror)}
    assert stayed - {forged.identity} == {site.good.identity, again.identity, last.identity}


def snapshots(path: Path) -> list[Snapshot]:
    pages = LocalPages.open(path / "pages")
    try:
        return pages.snapshots()
    finally:
        pages.close()


def bodiless(site: Site) -> None:
    """A mirror of an earlier version took a snapshot without its bodies."""
    pages, log = LocalPages.open(site.data / "pages"), Log.open(site.data / "log")
    target = pages.snapshots()[-1]
    mirror = MirrorDirectory.open(site.mirror)
    update = Update(mirror.pages, mirror.open_log, mirror.book, judge=no_bodies)
    pipe.run(Sender(StoreSource(pages, log, target, nameless)), Receiver(update))
    mirror.close()
    log.close()
    pages.close()
    book = FileBook(site.mirror)
    text = (site.mirror / "MIRROR").read_text().replace('"complete": true', '"complete": false')
    (site.mirror / "MIRROR").write_text(text)
    assert not book.read().complete


@pytest.mark.parametrize("new", [0, 2])
def test_bodies_that_are_missing_are_found_and_healed(site: Site, tmp_path: Path, new: int) -> None:
    site.mirror = tmp_path / "other"
    bodiless(site)
    found = [one.line() for one in DirectoryCheck(site.mirror).findings()]
    assert len([line for line in found if "is not in the log" in line]) == 3, found

    sender = site.genuine(new)

    assert sender.moved
    assert sender.traffic.bodies_moved == 3 + new
    assert [one.line() for one in DirectoryCheck(site.mirror).findings()] == []
    pages, log = LocalPages.open(site.mirror / "pages"), Log.open(site.mirror / "log")
    assert all(log.holds(name) for name in body_names(pages, None, pages.snapshots()[-1]))
    log.close()
    pages.close()
    assert not site.genuine(0).moved
