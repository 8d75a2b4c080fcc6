"""Deliveries: all of it or nothing, once, durable; and what they bring with them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from spinrt.errors import NotFound, UsageError
from spinrt.mail.store.model import (
    Added,
    Append,
    Appended,
    Body,
    Copy,
    Delivered,
    KvWrite,
    KvWrites,
    MailboxEvent,
    Outbound,
    QueueState,
    QueueUpdate,
)
from spinrt.mail.store.store import Store
from tests.mail.store_support import START_S, USER, deliver, delivery, dump_store, inbox, with_store, write_body

MESSAGE = b"Subject: hi\r\n\r\nbody\r\n"


def test_delivery_is_stored_byte_for_byte_with_its_prefix(tmp_path: Path) -> None:
    """Bytes, size, flags and date of each copy; the prefix stands before the bytes and counts in the size."""

    async def test(store: Store) -> None:
        copies = (Copy(USER, "inbox", ("\\Flagged", "$X")), Copy(USER, "Lists/a/b", (), b"X-List: a\r\n"))
        outcome = await deliver(store, MESSAGE, *copies, id_="1")
        lists = store.mailbox(USER, "Lists/a/b")
        assert lists is not None
        assert outcome.placed == ((USER, "INBOX", inbox(store), 1), (USER, "Lists/a/b", lists.id, 1))
        first, second = store.message(inbox(store), 1), store.message(lists.id, 1)
        assert first is not None and second is not None
        assert first.flags == {"\\Flagged", "$X"}
        assert (first.internal_date, first.internal_zone, first.modseq) == (START_S, 0, 1)
        assert store.read(first.body) == MESSAGE
        assert store.read(second.body) == b"X-List: a\r\n" + MESSAGE
        assert second.body.size == len(MESSAGE) + 11
        assert store.status(lists.id).size == second.body.size
        assert store.mailbox(USER, "Lists") is not None
        assert store.mailbox(USER, "Lists/a") is not None

    with_store(tmp_path, test)


def test_delivery_to_an_unknown_account_creates_it_whole(tmp_path: Path) -> None:
    """Also when the copy goes elsewhere than the inbox."""

    async def test(store: Store) -> None:
        await deliver(store, MESSAGE, Copy("eve", "Junk"), id_="1")
        names = {mailbox.name: mailbox.special_use for mailbox in store.mailboxes("eve")}
        assert names == {
            "INBOX": None,
            "Drafts": "\\Drafts",
            "Sent": "\\Sent",
            "Junk": "\\Junk",
            "Trash": "\\Trash",
            "Archive": "\\Archive",
        }
        junk = store.mailbox("eve", "Junk")
        assert junk is not None and store.status(junk.id).messages == 1
        assert store.subscriptions("eve") == sorted(names)

    with_store(tmp_path, test)


def test_same_id_again_changes_nothing_and_gives_the_same_outcome(tmp_path: Path) -> None:
    """In the same batch and in a later one; watchers hear of it once."""

    async def test(store: Store) -> None:
        events: list[MailboxEvent] = []
        store.watch(inbox(store), events.extend)
        change = delivery(
            write_body(store, MESSAGE),
            outbound=(Outbound("redirect", "x", "a@b", "c@d", None, b"t"),),
            tags=(("x", "k", b"v"),),
        )
        first, second = await asyncio.gather(store.submit(change), store.submit(change))
        before = dump_store(store)
        third = await store.submit(change)
        assert first == second == third == Delivered(((USER, "INBOX", inbox(store), 1),), (1,))
        after = dump_store(store)
        assert {name: rows for name, rows in after.items() if name != "state"} == {
            name: rows for name, rows in before.items() if name != "state"
        }
        assert events == [Added(1, 1, frozenset())]
        found = store.delivery("id-1")
        assert found is not None and found[1] == first
        assert store.delivery("other") is None

    with_store(tmp_path, test)


def test_delivery_carries_queue_maps_and_tags(tmp_path: Path) -> None:
    """All in the one record: outbound messages, writes to maps, tags for undo; copies may be none."""

    async def test(store: Store) -> None:
        calls: list[None] = []
        end = store.on_queue(lambda: calls.append(None))
        body = write_body(store, MESSAGE)
        change = delivery(
            body,
            outbound=(
                Outbound("redirect", "fwd", "a@b", "c@d", body),
                Outbound("notify", "fwd", "", "e@f", None, b"T"),
            ),
            kv=(KvWrite("fwd", "n", b"1"), KvWrite("fwd", "m", b"2"), KvWrite("fwd", "n", b"3")),
            tags=(("undo", "k", b"v"), ("undo", "a", b"b")),
        )
        outcome = await store.submit(change)
        assert isinstance(outcome, Delivered) and outcome.queued == (1, 2)
        assert len(calls) == 1
        first, second = store.queue()
        assert (first.outbound, second.outbound) == change.outbound
        assert (first.state, first.attempts, first.created_s) == (QueueState.WAITING, 0, START_S)
        assert store.kv_load("fwd") == {"n": b"3", "m": b"2"}
        assert store.tags("id-1") == [("undo", "a", b"b"), ("undo", "k", b"v")]

        await store.submit(QueueUpdate(1, QueueState.SENT, 1, 0, "250 ok"))
        await store.submit(KvWrites((KvWrite("fwd", "n", None), KvWrite("other", "n", b"9"))))
        assert [entry.queue_id for entry in store.queue([QueueState.WAITING])] == [2]
        sent = store.queue_entry(1)
        assert sent is not None and (sent.state, sent.attempts, sent.note) == (QueueState.SENT, 1, "250 ok")
        assert (store.kv_load("fwd"), store.kv_get("other", "n")) == ({"m": b"2"}, b"9")
        assert len(calls) == 2
        end()
        end()
        await store.submit(QueueUpdate(2, QueueState.DROPPED, 0, 0))
        assert len(calls) == 2
        with pytest.raises(NotFound):
            await store.submit(QueueUpdate(99, QueueState.SENT, 0, 0))

    with_store(tmp_path, test)


def test_append_needs_its_mailbox(tmp_path: Path) -> None:
    """A mailbox that is not there is NotFound and leaves no trace."""

    async def test(store: Store) -> None:
        body = write_body(store, MESSAGE)
        assert await store.submit(Append(inbox(store), body, ("\\Seen",), 5, -90)) == Appended(
            store.status(inbox(store)).uidvalidity, 1
        )
        message = store.message(inbox(store), 1)
        assert message is not None
        assert (message.internal_date, message.internal_zone, message.flags) == (5, -90, {"\\Seen"})
        with pytest.raises(NotFound):
            await store.submit(Append(999, body, (), 0, 0))

    with_store(tmp_path, test)


def test_malformed_changes_are_refused_before_the_log(tmp_path: Path) -> None:
    """Bad names, flags, sizes and ids: UsageError in the future, nothing written."""

    async def test(store: Store) -> None:
        good = write_body(store, MESSAGE)
        end = store._durable_log.end
        wrong_size = Body(good.digest, good.size + 1, good.extents)
        for change in (
            delivery(good, Copy(USER, "a//b")),
            delivery(good, Copy("", "INBOX")),
            delivery(good, Copy(USER, "INBOX", ("not a flag",))),
            delivery(wrong_size),
            delivery(good, id_=""),
            delivery(good, id_="x" * 201),
            Append(inbox(store), wrong_size, (), 0, 0),
        ):
            with pytest.raises(UsageError):
                await store.submit(change)
        assert store._durable_log.end == end

    with_store(tmp_path, test)
