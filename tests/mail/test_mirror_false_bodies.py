"""A peer with the key of a source leaves false bodies under true names: they never become mail of a snapshot."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from spinrt.errors import CorruptRecord, PeerFailed, SpinError
from spinrt.mail.mirroring import carry_here
from spinrt.mail.store.bodies import CHUNK_BYTES_MAX
from spinrt.mail.store.fsck import DirectoryCheck
from spinrt.mail.store.mirrored import body_names
from spinrt.mail.store.model import Append, Copy, Outbound
from spinrt.mail.store.store import Store
from spinrt.storage.log import Log
from spinrt.storage.mirror.book import FileBook
from spinrt.storage.mirror.frames import StoredBody
from spinrt.storage.mirror.sender import Sender
from spinrt.storage.mirror.source import StoreSource
from spinrt.storage.mirror.update import Update
from spinrt.storage.pages import LocalPages
from spinrt.storage.places import remove_places
from spinrt.storage.protocols import Snapshot
from spinrt.storage.record import COMPRESSED
from tests.mail.mirror_support import mirror_to
from tests.mail.store_support import USER, deliver, delivery, inbox, open_store, run, write_body

Falsify = Callable[[bytes], bytes]
PLAIN_KIND = 0x0010


def same_length(true: bytes) -> bytes:
    return (b"Subject: EVIL\r\n\r\n" + b"E" * len(true))[: len(true)]


def shorter(true: bytes) -> bytes:
    return same_length(true)[: len(true) // 2]


def longer(true: bytes) -> bytes:
    return same_length(true) + b"and more"


def no_frame(true: bytes) -> bytes:
    """Comes as compressed and is not."""
    return same_length(true)


class FalseSource(StoreSource):
    """Has other bodies than it says."""

    falsify: Falsify

    def body(self, name: int) -> StoredBody:
        log = self._log
        assert isinstance(log, Log)
        false = self.falsify(log.read(name).body)
        kind = PLAIN_KIND | (COMPRESSED if self.falsify is no_frame else 0)
        return StoredBody(kind, 1, false, hashlib.sha256(false).digest()[:16])


class Site:
    """A store whose mirror has its first mail, or nothing; more has come since."""

    def __init__(self, path: Path, *, mirrored: bool = True) -> None:
        self.path, self.data, self.mirror = path, path / "data", path / "mirror"
        run(lambda: self._begin(mirrored))
        self.before = self.visible()

    async def _begin(self, mirrored: bool) -> None:
        store = open_store(self.path)
        await store.ensure_account(USER)
        await deliver(store, b"Subject: first\r\n\r\n", id_="first")
        if mirrored:
            await mirror_to(store, self.mirror)
        for number in range(3):
            copies = Copy(USER, "INBOX"), Copy(USER, "Work", prefix=b"X: %d\r\n" % number)
            await deliver(store, b"Subject: %d\r\n\r\nof the source" % number, *copies, id_=f"{number}")
        queued = write_body(store, b"Subject: only queued\r\n\r\n")
        outbound = (Outbound("redirect", "x", "ann@example.org", "eve@example.org", queued),)
        await store.submit(delivery(write_body(store, b"Subject: sent on\r\n\r\n"), id_="on", outbound=outbound))
        large = bytes(range(256)) * (CHUNK_BYTES_MAX // 100)
        await store.submit(Append(inbox(store), write_body(store, large), (), 0, 0))
        await store.snapshot()
        await store.close()

    def visible(self) -> list[bytes]:
        if not self.mirror.exists():
            return []
        pages = LocalPages.open(self.mirror / "pages")
        try:
            return [one.identity for one in pages.snapshots()]
        finally:
            pages.close()

    def false_update(self, falsify: Falsify) -> None:
        pages, log = LocalPages.open(self.data / "pages"), Log.open(self.data / "log")
        try:
            source = FalseSource(pages, log, pages.snapshots()[-1], body_names)
            source.falsify = falsify
            carry_here(Sender(source), self.mirror)
        finally:
            log.close()
            pages.close()

    def genuine(self) -> Sender:
        """New mail, and an update."""
        senders: list[Sender] = []

        async def body() -> None:
            store = Store.open(self.data)
            try:
                name = b"%d" % len(store.uids(inbox(store)))
                await deliver(store, b"Subject: later\r\n\r\n" + name, id_=f"later-{name.decode()}")
                senders.append(await mirror_to(store, self.mirror))
            finally:
                await store.close()

        run(body)
        return senders[0]

    def check_equal(self) -> None:
        """Every body of the newest snapshot is at the mirror what it is at the source."""
        pages = LocalPages.open(self.mirror / "pages")
        true, here = Log.open(self.data / "log"), Log.open(self.mirror / "log")
        try:
            target: Snapshot = pages.snapshots()[-1]
            names = list(body_names(pages, None, target))
            assert len(names) >= 9
            assert [here.read(name).body for name in names] == [true.read(name).body for name in names]
        finally:
            for one in (here, true, pages):
                one.close()
        assert [one.line() for one in DirectoryCheck(self.mirror).findings()] == []


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def break_off(site: Site, falsify: Falsify, monkeypatch: pytest.MonkeyPatch) -> None:
    """All bodies come, END does not."""

    def finish(update: Update) -> bytes:
        raise PeerFailed("broken off")

    with monkeypatch.context() as patched, pytest.raises(PeerFailed, match="broken off"):
        patched.setattr(Update, "finish", finish)
        site.false_update(falsify)
    assert site.visible() == site.before


@pytest.mark.parametrize("mirrored", [True, False])
@pytest.mark.parametrize("falsify", [same_length, shorter, longer, no_frame])
def test_what_a_broken_off_update_left_does_not_become_mail(
    tmp_path: Path, falsify: Falsify, mirrored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path, mirrored=mirrored)
    break_off(site, falsify, monkeypatch)

    with pytest.raises(CorruptRecord, match=r"messages are not what it says; mailbox \d+, UID \d+: its body"):
        site.genuine()
    assert site.visible() == site.before
    assert [one.line() for one in DirectoryCheck(site.mirror).findings()] == []

    assert site.genuine().moved
    site.check_equal()
    assert FileBook(site.mirror).read().complete


@pytest.mark.parametrize("falsify", [same_length, shorter, longer, no_frame])
def test_a_false_update_that_comes_to_its_end_is_refused(site: Site, falsify: Falsify) -> None:
    with pytest.raises(CorruptRecord, match="messages are not what it says"):
        site.false_update(falsify)

    assert site.visible() == site.before
    assert site.genuine().moved
    site.check_equal()


def test_what_was_given_up_and_is_found_again_is_given_up_again(site: Site) -> None:
    with pytest.raises(CorruptRecord):
        site.false_update(same_length)
    remove_places(site.mirror / "log")  # derived: made anew from the log, where the false bodies still lie

    with pytest.raises(SpinError, match="messages are not what it says"):
        site.genuine()
    assert site.genuine().moved
    site.check_equal()


def test_a_false_body_of_a_queued_message_alone_is_found(site: Site) -> None:
    def falsify(true: bytes) -> bytes:
        return same_length(true) if b"only queued" in true else true

    with pytest.raises(CorruptRecord, match="1 messages are not what it says; queued message 1: its body has digest"):
        site.false_update(falsify)
    assert site.genuine().moved
    site.check_equal()
