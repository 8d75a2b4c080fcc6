"""Changes to messages: flags, expunge, copy, move; counters, MODSEQ, events, and what they cost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from spinrt.errors import NotFound, UsageError
from spinrt.mail.store.model import (
    Added,
    Change,
    Copied,
    CopyMessages,
    Expunge,
    Expunged,
    FlagsChanged,
    FlagsMode,
    MailboxEvent,
    Removed,
    Stored,
    StoreFlags,
)
from spinrt.mail.store.store import Store
from tests.mail.store_support import USER, fill, inbox, with_store


def test_store_flags_by_mode(tmp_path: Path) -> None:
    """Set, add, remove; what does not change keeps its MODSEQ; UIDs that are gone are skipped."""

    async def test(store: Store) -> None:
        box = await fill(store, 3, ("\\Seen", "$A"))

        async def change(mode: FlagsMode, *flags: str, uids: tuple[int, ...] = (2, 9)) -> tuple[set[str], int]:
            outcome = await store.submit(StoreFlags(box, uids, mode, flags))
            assert isinstance(outcome, Stored) and outcome.failed == ()
            ((uid, found, modseq),) = outcome.changed
            message = store.message(box, uid)
            assert message is not None and (message.flags, message.modseq) == (found, modseq)
            return set(found), modseq

        assert await change(FlagsMode.ADD, "\\deleted", "$B") == ({"\\Seen", "\\Deleted", "$A", "$B"}, 4)
        assert await change(FlagsMode.ADD, "\\Deleted") == ({"\\Seen", "\\Deleted", "$A", "$B"}, 4)
        assert await change(FlagsMode.REMOVE, "\\Seen", "$A", "$C") == ({"\\Deleted", "$B"}, 5)
        assert await change(FlagsMode.SET, "\\Answered", "\\Recent") == ({"\\Answered"}, 6)
        status = store.status(box)
        assert (status.messages, status.unseen, status.deleted, status.highest_modseq) == (3, 1, 0, 6)
        assert store.with_flag(box, "$A") == [1, 3]
        assert store.with_flag(box, "$B") == []
        assert store.with_flag(box, "\\ANSWERED") == [2]
        assert store.with_flag(box, "\\Seen") == [1, 3]
        assert (store.unseen(box), store.first_unseen(box)) == ([2], 2)
        assert store.changed_since(box, 1) == [2, 3]
        assert store.flags(box, [2, 3, 7]) == [(2, 6, {"\\Answered"}), (3, 3, {"\\Seen", "$A"})]

    with_store(tmp_path, test)


def test_store_unchanged_since_fails_those_that_changed(tmp_path: Path) -> None:
    """RFC 7162: a higher MODSEQ fails, the others pass."""

    async def test(store: Store) -> None:
        box = await fill(store, 3)
        outcome = await store.submit(StoreFlags(box, (1, 2, 3), FlagsMode.ADD, ("\\Seen",), unchanged_since=2))
        assert outcome == Stored(((1, frozenset({"\\Seen"}), 4), (2, frozenset({"\\Seen"}), 4)), (3,))

    with_store(tmp_path, test)


def test_expunge_by_uids_and_of_all_deleted(tmp_path: Path) -> None:
    r"""Only \Deleted ones unless told otherwise; counters follow; UIDs are not used again."""

    async def test(store: Store) -> None:
        box = await fill(store, 5)
        await store.submit(StoreFlags(box, (2, 4, 5), FlagsMode.ADD, ("\\Deleted", "$K")))
        assert await store.submit(Expunge(box, (1, 2))) == Expunged((2,), 7)
        assert await store.submit(Expunge(box, None)) == Expunged((4, 5), 8)
        assert await store.submit(Expunge(box, None)) == Expunged((), 8)
        assert await store.submit(Expunge(box, (1,), deleted_only=False)) == Expunged((1,), 9)
        status = store.status(box)
        assert (status.messages, status.unseen, status.deleted, status.uidnext) == (1, 1, 0, 6)
        assert store.with_flag(box, "$K") == []
        assert list(store.uids(box)) == [3]
        await fill(store, 1)
        assert list(store.uids(box)) == [3, 6]

    with_store(tmp_path, test)


def test_copy_and_move_keep_flags_dates_and_bytes(tmp_path: Path) -> None:
    """In the order of UIDs, skipping those that are gone; a move removes the source; both within one mailbox too."""

    async def test(store: Store) -> None:
        box = await fill(store, 4, ("$K", "\\Deleted"))
        target = store.mailbox(USER, "Archive")
        assert target is not None
        copied = await store.submit(CopyMessages(box, (3, 1, 9), target.id))
        assert copied == Copied(target.uidvalidity, (1, 3), (1, 2))
        assert store.status(box).messages == 4
        moved = await store.submit(CopyMessages(box, (1, 2), target.id, move=True))
        assert moved == Copied(target.uidvalidity, (1, 2), (3, 4))
        assert list(store.uids(box)) == [3, 4]
        source, copy = store.message(box, 3), store.message(target.id, 2)
        assert source is not None and copy is not None
        assert (source.flags, source.internal_date, source.internal_zone, source.body) == (
            copy.flags,
            copy.internal_date,
            copy.internal_zone,
            copy.body,
        )
        assert store.with_flag(target.id, "$K") == [1, 2, 3, 4]
        assert store.with_flag(box, "$K") == [3, 4]
        assert store.status(target.id).deleted == 4
        again = await store.submit(CopyMessages(box, (3,), box, move=True))
        assert isinstance(again, Copied) and (again.source_uids, again.target_uids) == ((3,), (5,))
        assert list(store.uids(box)) == [4, 5]
        with pytest.raises(NotFound):
            await store.submit(CopyMessages(box, (4,), 999, move=True))
        assert list(store.uids(box)) == [4, 5]

    with_store(tmp_path, test)


def test_watchers_get_one_list_per_batch_and_their_errors_stay_theirs(tmp_path: Path) -> None:
    """Events in log order with growing MODSEQ; a watcher that fails harms nobody; ending twice is fine."""

    async def test(store: Store) -> None:
        box = inbox(store)
        batches: list[list[MailboxEvent]] = []

        def broken(_: list[MailboxEvent]) -> None:
            raise RuntimeError("watcher")

        end_broken = store.watch(box, broken)
        end = store.watch(box, batches.append)
        await fill(store, 2)
        await asyncio.gather(
            store.submit(StoreFlags(box, (1, 2), FlagsMode.ADD, ("\\Deleted",))),
            store.submit(Expunge(box, (1,))),
        )
        assert batches == [
            [Added(1, 1, frozenset()), Added(2, 2, frozenset())],
            [
                FlagsChanged(1, 3, frozenset({"\\Deleted"})),
                FlagsChanged(2, 3, frozenset({"\\Deleted"})),
                Removed(1, 4),
            ],
        ]
        for call in (end, end, end_broken):
            call()
        await fill(store, 1)
        assert len(batches) == 2

    with_store(tmp_path, test)


def test_messages_by_many_uids(tmp_path: Path) -> None:
    """Consecutive, scattered, unordered, repeated, missing: ascending and each once."""

    async def test(store: Store) -> None:
        box = await fill(store, 700)
        await store.submit(Expunge(box, tuple(range(100, 200)), deleted_only=False))
        there = [uid for uid in range(1, 701) if not 100 <= uid < 200]
        for asked in ([1], [], [5, 3, 3], list(range(1, 701)), list(range(1, 1000, 2)), list(range(700, 0, -3))):
            expected = sorted(set(asked) & set(there))
            assert [message.uid for message in store.messages(box, asked)] == expected
        assert list(store.uids(box)) == there

    with_store(tmp_path, test)


def test_bad_flags_are_refused(tmp_path: Path) -> None:
    """By the future, nothing changed."""

    async def test(store: Store) -> None:
        box = await fill(store, 1)
        with pytest.raises(UsageError):
            await store.submit(StoreFlags(box, (1,), FlagsMode.ADD, ("\\Bogus",)))
        assert store.status(box).highest_modseq == 1

    with_store(tmp_path, test)


def test_cost_does_not_follow_the_mailbox(tmp_path: Path) -> None:
    """STORE, FETCH, COPY, EXPUNGE of one message and STATUS take as many SQLite instructions at 8,000 as at 500."""

    async def cost(store: Store) -> list[int]:
        box = inbox(store)
        middle = store.uids(box)[len(store.uids(box)) // 2]
        counted = 0

        def count() -> int:
            nonlocal counted
            counted += 1
            return 0

        results = []
        archive = store.mailbox(USER, "Archive")
        assert archive is not None
        highest = store.status(box).highest_modseq
        changes: list[Change] = [
            StoreFlags(box, (middle,), FlagsMode.ADD, ("\\Deleted", "$X")),
            CopyMessages(box, (middle,), archive.id),
            Expunge(box, None),
        ]
        for change in changes:
            store._index.connection.set_progress_handler(count, 1)
            await store.submit(change)
            store.message(box, middle + 1)
            store.status(box)
            store.changed_since(box, highest)
            store.with_flag(box, "\\Deleted")
            store.with_flag(box, "$X")
            store.first_unseen(box)
            store._index.connection.set_progress_handler(None, 0)
            results.append(counted)
            counted = 0
        return results

    async def test(store: Store) -> None:
        await fill(store, 500, ("\\Seen",))
        few = await cost(store)
        await fill(store, 7_500, ("\\Seen",))
        many = await cost(store)
        assert all(after <= before * 1.2 for before, after in zip(few, many, strict=True)), (few, many)

    with_store(tmp_path, test)
