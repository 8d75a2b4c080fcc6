"""The mail store mirrored: what arrives is the store, it can be promoted, and the old primary can follow it."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path

import pytest

from spinrt.errors import CorruptRecord, NotFound, StateError
from spinrt.mail.mirroring import carry_here
from spinrt.mail.store.fsck import DirectoryCheck
from spinrt.mail.store.mirrored import body_names, judge
from spinrt.mail.store.model import CreateMailbox, Expunge, FlagsMode, StoreFlags
from spinrt.mail.store.promote import NUMBERS_GAP, promote, step_down
from spinrt.mail.store.store import Store
from spinrt.mail.store.thinning import thin_out
from spinrt.mail.store.views import Branch
from spinrt.storage.fsck.finding import Severity
from spinrt.storage.mirror import pipe
from spinrt.storage.mirror.book import FileBook, is_mirror
from spinrt.storage.mirror.directory import MirrorDirectory
from spinrt.storage.mirror.keeping import GRACE_DAYS
from spinrt.storage.mirror.sender import Sender
from spinrt.storage.mirror.source import StoreSource
from spinrt.storage.schedule import DAY_NS, Keep
from tests.mail.mirror_support import messages, mirror_to, stored
from tests.mail.store_support import START_S, USER, deliver, inbox, open_store, run


async def deliver_some(store: Store, first: int, count: int) -> None:
    for number in range(first, first + count):
        await deliver(store, b"Subject: %d\r\n\r\n" % number + b"line %d\r\n" % number * 200, id_=f"id-{number}")


def test_a_mirror_promoted_is_the_store_as_it_was_and_takes_mail(tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    expected: dict[str, object] = {}

    async def primary() -> None:
        store = open_store(tmp_path)
        await store.ensure_account(USER)
        await deliver_some(store, 0, 20)
        first = await mirror_to(store, mirror)
        assert first.traffic.bodies_moved == 20
        await deliver_some(store, 20, 5)
        await store.submit(Expunge(inbox(store), (3, 4, 24), deleted_only=False))
        await store.submit(StoreFlags(inbox(store), (1, 2), FlagsMode.ADD, ("\\Seen", "$later"), None))
        second = await mirror_to(store, mirror)
        assert second.traffic.bodies_moved == 4, "what was delivered and expunged in between is not sent"
        expected.update(messages(store, USER))
        await store.close()

    run(primary)
    with pytest.raises(StateError, match="is a mirror"):
        Store.open(mirror)

    promote(mirror)

    assert not is_mirror(mirror)
    assert stored(mirror) == expected

    async def promoted() -> None:
        store = Store.open(mirror)
        await deliver_some(store, 100, 3)
        await store.close()

    run(promoted)
    assert len(stored(mirror)["INBOX"]) == 22 + 3  # type: ignore[arg-type]


def test_the_old_primary_follows_and_what_it_wrote_is_set_aside(tmp_path: Path) -> None:
    """Fail over, go on at both, go back: one history wins, the other is kept whole beside it."""
    old, new = tmp_path / "data", tmp_path / "mirror"

    async def before() -> None:
        store = open_store(tmp_path)
        await store.ensure_account(USER)
        await deliver_some(store, 0, 30)
        await mirror_to(store, new)
        await deliver_some(store, 1000, 2)  # after the last update, and before the machine was lost
        await store.close()

    run(before)
    promote(new)
    wrote = stored(old)

    async def meanwhile() -> None:
        store = Store.open(new)
        await deliver_some(store, 30, 3)
        await store.close()

    run(meanwhile)
    aside = step_down(old)
    assert aside is not None

    async def back() -> None:
        store = Store.open(new)
        sender = await mirror_to(store, old)
        assert sender.traffic.bodies_moved == 3, "only what came after the common snapshot"
        await store.close()

    run(back)
    standing = FileBook(old).read()
    assert standing.aside == (aside.identity,)
    assert not standing.resync

    assert stored(new) == (promote(old), stored(old))[1]
    assert len(stored(old)["INBOX"]) == 33  # type: ignore[arg-type]
    assert bodies_readable(old, aside.identity) == 32
    assert len(wrote["INBOX"]) == 32  # type: ignore[arg-type]


def test_numbers_that_the_old_primary_gave_out_are_not_used_again(tmp_path: Path) -> None:
    """Of many mailboxes, so that their rows need more pages than before; also after the index was lost."""
    old, new = tmp_path / "data", tmp_path / "mirror"
    names = [f"box {number:04d}" for number in range(300)]

    async def before() -> None:
        store = open_store(tmp_path)
        await store.ensure_account(USER)
        for name in names:
            await store.submit(CreateMailbox(USER, name))
        await deliver_some(store, 0, 3)
        await mirror_to(store, new)
        await deliver_some(store, 1000, 5)
        await store.close()

    async def after() -> None:
        store = Store.open(new)
        for mailbox in store.mailboxes(USER):
            status = store.status(mailbox.id)
            numbers[mailbox.name] = (status.uidnext, status.highest_modseq)
        await deliver_some(store, 2000, 1)
        await store.close()

    numbers: dict[str, tuple[int, int]] = {}
    run(before)
    promote(new)
    shutil.rmtree(new / "index")
    run(after)

    assert len(numbers) >= len(names) + 1
    assert all(uidnext > NUMBERS_GAP and modseq >= NUMBERS_GAP for uidnext, modseq in numbers.values())
    given = {row[0]: row[2] for row in stored(old)["INBOX"]}  # type: ignore[attr-defined]
    again = {row[0]: row[2] for row in stored(new)["INBOX"]}  # type: ignore[attr-defined]
    assert len(given) == 8
    assert len(again) == 4
    assert [uid for uid in given if uid in again] == [1, 2, 3]
    assert [line.line() for line in DirectoryCheck(new).findings()] == []


def bodies_readable(path: Path, identity: bytes) -> int:
    """How many bodies a snapshot needs; each is read."""
    from spinrt.storage.log import Log
    from spinrt.storage.pages import LocalPages

    pages, log = LocalPages.open(path / "pages"), Log.open(path / "log")
    (snapshot,) = (one for one in pages.snapshots() if one.identity == identity)
    names = list(body_names(pages, None, snapshot))
    for name in names:
        assert log.stored_body(name)[2]
    log.close()
    pages.close()
    return len(names)


def test_fail_over_again_and_again(tmp_path: Path) -> None:
    """Five times there and back; nothing is lost on the way, and each update sends only what is new."""
    places = [tmp_path / "data", tmp_path / "mirror"]

    async def begin() -> None:
        store = open_store(tmp_path)
        await store.ensure_account(USER)
        await deliver_some(store, 0, 10)
        await mirror_to(store, places[1])
        await store.close()

    run(begin)
    for turn in range(5):
        primary, other = places[(turn + 1) % 2], places[turn % 2]
        promote(primary)
        step_down(other)

        async def go_on(primary: Path = primary, other: Path = other, turn: int = turn) -> None:
            store = Store.open(primary)
            await deliver_some(store, 100 * (turn + 1), 2)
            sender = await mirror_to(store, other)
            assert sender.traffic.bodies_moved == 2
            await store.close()

        run(go_on)
        assert len(stored(primary)["INBOX"]) == 10 + 2 * (turn + 1)  # type: ignore[arg-type]


def test_what_led_to_the_common_snapshot_is_not_set_aside(tmp_path: Path) -> None:
    """There and back: the snapshots from before the first takeover are of another log, and of the past all the same."""
    places = [tmp_path / "data", tmp_path / "mirror"]
    wrote: list[bytes] = []

    async def begin() -> None:
        store = open_store(tmp_path)
        await store.ensure_account(USER)
        for number in range(3):
            await deliver_some(store, number, 1)
            await mirror_to(store, places[1])
        await deliver_some(store, 500, 1)
        wrote.append((await store.snapshot()).identity)
        await store.close()

    async def go_on(path: Path, other: Path, first: int) -> None:
        store = Store.open(path)
        for number in range(first, first + 3):
            await deliver_some(store, number, 1)
            await mirror_to(store, other)
        await deliver_some(store, first + 50, 1)
        wrote.append((await store.snapshot()).identity)
        await store.close()

    run(begin)
    for turn, (primary, other) in enumerate((places[::-1], places)):
        promote(primary)
        aside = step_down(other)
        assert aside is not None
        run(lambda primary=primary, other=other, turn=turn: go_on(primary, other, 100 * (turn + 1)))  # type: ignore[misc]
        assert set(FileBook(other).read().aside) == {aside.identity, wrote[turn]}


def test_the_index_of_what_was_promoted_comes_back_from_a_snapshot(tmp_path: Path) -> None:
    """Of both kinds: a fresh mirror, and an old primary whose log has a history that was left. Never from the log."""
    places = [tmp_path / "data", tmp_path / "mirror"]

    async def begin() -> None:
        store = open_store(tmp_path)
        await store.ensure_account(USER)
        await deliver_some(store, 0, 5)
        await mirror_to(store, places[1])
        await deliver_some(store, 500, 2)  # set aside
        await store.close()

    async def go_on(path: Path, other: Path, first: int) -> None:
        store = Store.open(path)
        await deliver_some(store, first, 2)
        await mirror_to(store, other)
        await deliver_some(store, first + 10, 3)  # behind the last snapshot
        await store.close()

    run(begin)
    for turn, (primary, other) in enumerate((places[::-1], places)):
        promote(primary)
        step_down(other)
        run(lambda primary=primary, other=other, turn=turn: go_on(primary, other, 100 * (turn + 1)))  # type: ignore[misc]
        whole = stored(primary)
        shutil.rmtree(primary / "index")
        (primary / "log" / "places.sqlite").unlink()
        assert stored(primary) == whole
        Store.open(primary, rebuild=True).release()
        assert stored(primary) == whole
    for path in places:
        for snapshot in (path / "pages").glob("*.snap"):
            snapshot.unlink()
        (path / "pages" / "pages.sqlite").unlink()
    shutil.rmtree(places[0] / "index")
    with pytest.raises(CorruptRecord, match="was promoted"):
        Store.open(places[0])


def test_what_is_no_mirror_is_not_promoted(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        promote(tmp_path / "nowhere")

    async def primary() -> None:
        store = open_store(tmp_path)
        await store.ensure_account(USER)
        await store.close()

    run(primary)
    with pytest.raises(NotFound, match="is no mirror"):
        promote(tmp_path / "data")
    with pytest.raises(StateError, match="mail of its own"):
        MirrorDirectory.open(tmp_path / "data")
    MirrorDirectory.open(tmp_path / "empty").close()
    with pytest.raises(NotFound, match="no snapshot yet"):
        promote(tmp_path / "empty")


def test_a_backup_of_what_was_promoted_is_no_damage(tmp_path: Path) -> None:
    """Of both kinds. A backup has no snapshots: its index cannot be compared, nor built anew, and fsck says so."""
    places = [tmp_path / "data", tmp_path / "mirror"]

    async def begin() -> None:
        store = open_store(tmp_path)
        await store.ensure_account(USER)
        await deliver_some(store, 0, 3)
        await mirror_to(store, places[1])
        await store.close()

    async def go_on(path: Path, other: Path, backup: Path) -> None:
        store = Store.open(path)
        await deliver_some(store, 10, 1)
        await mirror_to(store, other)
        await store.backup(backup)
        await store.close()

    run(begin)
    for turn, (primary, other) in enumerate((places[::-1], places)):
        promote(primary)
        step_down(other)
        backup = tmp_path / f"backup-{turn}"
        run(lambda primary=primary, other=other, backup=backup: go_on(primary, other, backup))  # type: ignore[misc]
        check = DirectoryCheck(backup)
        found = list(check.findings())
        assert [one.severity for one in found] == [Severity.NOTE], found
        assert "cannot be compared" in found[0].problem
        assert not check.complete
        assert stored(backup) == stored(primary)
        (backup / "index" / "mail.sqlite").unlink()
        assert [one.severity for one in DirectoryCheck(backup).findings()] == [Severity.DAMAGE]


def test_a_branch_is_not_mirrored(tmp_path: Path) -> None:
    """It has no log of its own; what a mirror has stays, and the store's next snapshot arrives beside branches."""
    mirror = tmp_path / "mirror"

    async def body() -> None:
        store = open_store(tmp_path)
        await store.ensure_account(USER)
        await deliver_some(store, 0, 2)
        await mirror_to(store, mirror)
        pages = store.snapshots.pages
        branch = Branch.create(tmp_path / "data", pages, pages.snapshots()[-1], "try")
        made = branch.snapshot(pages.snapshots()[-1].time_ns + 1)
        branch.close()

        for target in (mirror, tmp_path / "other"):
            with pytest.raises(CorruptRecord, match="another log"):
                carry_here(Sender(StoreSource(pages, store.log, made, body_names)), target)
        await deliver_some(store, 10, 1)
        assert (await mirror_to(store, mirror)).traffic.bodies_moved == 1
        await store.close()

    run(body)
    promote(mirror)
    assert len(stored(mirror)["INBOX"]) == 3  # type: ignore[arg-type]
    with pytest.raises(NotFound, match="no snapshot yet"):
        promote(tmp_path / "other")


def _day(turn: int) -> int:
    return START_S * 1_000_000_000 + turn * DAY_NS


def test_a_mirror_gives_up_what_no_snapshot_needs(tmp_path: Path) -> None:
    """A history of many messages of which few stay: the mirror's log stays below twice what they need, and whole."""
    path = tmp_path / "mirror"
    nothing_kept = Keep(hourly=0, daily=0, weekly=0, monthly=0)

    async def body() -> None:
        store = open_store(tmp_path)
        await store.ensure_account(USER)
        sizes = []
        before: list[bytes] = []
        for turn in range(12):
            for number in range(10):
                await deliver(store, os.urandom(3000), id_=f"{turn}-{number}")
            await store.submit(Expunge(inbox(store), tuple(range(turn * 10 + 1, turn * 10 + 9)), deleted_only=False))
            await store.submit(Expunge(inbox(store), tuple(range(1, turn * 10 - 20)), deleted_only=False))
            snapshot = await store.snapshot()
            mirror = MirrorDirectory.open(path, segment_bytes_max=8192, clock_ns=partial(_day, turn))
            sender = Sender(StoreSource(store.snapshots.pages, store.log, snapshot, body_names))
            pipe.run(sender, mirror.receiver(judge))
            mirror.end(None)
            mirror._update = None
            thin_out(mirror, nothing_kept, log_bytes_min=30_000, young_s=0)
            assert mirror.log is not None
            sizes.append(mirror.log.end - mirror.log.start)
            before = [*before, snapshot.identity][-GRACE_DAYS:]
            assert [one.identity for one in mirror.pages.snapshots()] == before, "the first of each of the last days"
            names = list(body_names(mirror.pages, None, snapshot))
            for name in names:
                assert mirror.log.stored_body(name) == store.log.stored_body(name)
            mirror.close()
        assert len(names) == 2 * 3 + 1
        assert max(sizes) < 60_000, "12 turns brought 72 KB of bodies, of which 21 KB are live"
        await store.close()

    run(body)
    promote(path)
    assert len(stored(path)["INBOX"]) == 7  # type: ignore[arg-type]


def test_mirrors_and_what_becomes_of_them_are_found_whole(tmp_path: Path) -> None:
    """`spinrt fsck` on a mirror, a promoted one, an old primary that follows, and one that took over again."""
    old, new = tmp_path / "data", tmp_path / "mirror"

    async def begin() -> None:
        store = open_store(tmp_path)
        await store.ensure_account(USER)
        await deliver_some(store, 0, 10)
        await mirror_to(store, new)
        await deliver_some(store, 100, 2)
        await store.close()

    async def go_on() -> None:
        store = Store.open(new)
        await deliver_some(store, 200, 2)
        await mirror_to(store, old)
        await store.close()

    def damaged(path: Path) -> list[str]:
        return [finding.line() for finding in DirectoryCheck(path).findings()]

    run(begin)
    assert damaged(new) == []
    promote(new)
    assert damaged(new) == []
    step_down(old)
    run(go_on)
    assert damaged(old) == []
    promote(old)
    assert damaged(old) == []
