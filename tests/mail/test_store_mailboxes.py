"""Changes to mailboxes: create, delete, rename, subscribe, and the numbers that tell their lives apart."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from spinrt.errors import AlreadyExists, MailError, NotFound, UsageError
from spinrt.mail.store.model import (
    CreateMailbox,
    DeleteMailbox,
    Mailbox,
    MailboxEvent,
    MailboxGone,
    Removed,
    RenameMailbox,
    Subscribe,
)
from spinrt.mail.store.store import Store
from tests.mail.store_support import USER, fill, inbox, open_store, run, with_store

DEFAULTS = ["Archive", "Drafts", "INBOX", "Junk", "Sent", "Trash"]


def names(store: Store) -> list[str]:
    """Return the names beside those that every account has."""
    return [mailbox.name for mailbox in store.mailboxes(USER) if mailbox.name not in DEFAULTS]


def test_account_is_made_once_and_what_was_deleted_stays_deleted(tmp_path: Path) -> None:
    """ensure_account creates all on the first call only, also when calls race."""

    async def body() -> None:
        store = open_store(tmp_path)
        await asyncio.gather(*[store.ensure_account(USER) for _ in range(5)])
        assert [mailbox.name for mailbox in store.mailboxes(USER)] == DEFAULTS
        await store.submit(DeleteMailbox(USER, "Trash"))
        await store.close()
        store = open_store(tmp_path)
        await store.ensure_account(USER)
        assert store.mailbox(USER, "Trash") is None
        assert store.mailboxes("nobody") == []
        await store.close()

    run(body)


def test_create_makes_parents_and_refuses_a_taken_name(tmp_path: Path) -> None:
    """Special use is kept; the name comes back canonical; UIDVALIDITYs all differ."""

    async def test(store: Store) -> None:
        made = await store.submit(CreateMailbox(USER, "inbox/a/b", "\\Archive"))
        assert isinstance(made, Mailbox)
        assert (made.name, made.special_use, made.subscribed) == ("INBOX/a/b", "\\Archive", False)
        assert names(store) == ["INBOX/a", "INBOX/a/b"]
        with pytest.raises(AlreadyExists):
            await store.submit(CreateMailbox(USER, "INBOX/a"))
        with pytest.raises(AlreadyExists):
            await store.submit(CreateMailbox(USER, "inbox"))
        with pytest.raises(UsageError):
            await store.submit(CreateMailbox(USER, "x", "\\Nonsense"))
        values = [mailbox.uidvalidity for mailbox in store.mailboxes(USER)]
        assert len(set(values)) == len(values)

    with_store(tmp_path, test)


def test_mailbox_created_anew_has_a_higher_uidvalidity(tmp_path: Path) -> None:
    """Delete and create within one second: higher, and a new id, so nothing of the old one is seen."""

    async def test(store: Store) -> None:
        seen = 0
        for _ in range(3):
            made = await store.submit(CreateMailbox(USER, "x"))
            assert isinstance(made, Mailbox) and made.uidvalidity > seen
            seen = made.uidvalidity
            await store.submit(DeleteMailbox(USER, "x"))
            assert store.mailbox(USER, "x") is None
            with pytest.raises(NotFound):
                store.status(made.id)

    with_store(tmp_path, test)


def test_delete_takes_the_messages_and_leaves_what_is_below(tmp_path: Path) -> None:
    """INBOX cannot be deleted; watchers hear that it is gone."""

    async def test(store: Store) -> None:
        box = await fill(store, 3, ("$K",))
        await store.submit(RenameMailbox(USER, "INBOX", "old"))
        await store.submit(CreateMailbox(USER, "old/below"))
        old = store.mailbox(USER, "old")
        assert old is not None and store.status(old.id).messages == 3
        events: list[MailboxEvent] = []
        store.watch(old.id, events.extend)
        await store.submit(DeleteMailbox(USER, "old"))
        assert events == [MailboxGone(old.id)]
        assert names(store) == ["old/below"]
        for table in ("messages", "keywords"):
            count = store._index.connection.execute(f"SELECT count(*) FROM {table}").fetchone()
            assert count == (0,)
        with pytest.raises(NotFound):
            await store.submit(DeleteMailbox(USER, "old"))
        with pytest.raises(UsageError):
            await store.submit(DeleteMailbox(USER, "inbox"))
        assert store.status(box).messages == 0

    with_store(tmp_path, test)


def test_rename_takes_what_is_below_along(tmp_path: Path) -> None:
    """Ids and UIDVALIDITY stay, parents of the new name are made, neighbours with the same beginning stay."""

    async def test(store: Store) -> None:
        for name in ("a/b/c", "ab", "a.x"):
            await store.submit(CreateMailbox(USER, name))
        before = {mailbox.name: (mailbox.id, mailbox.uidvalidity) for mailbox in store.mailboxes(USER)}
        renamed = await store.submit(RenameMailbox(USER, "a", "n/m"))
        assert isinstance(renamed, Mailbox) and renamed.name == "n/m"
        after = {mailbox.name: (mailbox.id, mailbox.uidvalidity) for mailbox in store.mailboxes(USER)}
        assert names(store) == ["a.x", "ab", "n", "n/m", "n/m/b", "n/m/b/c"]
        assert [after["n/m" + name] for name in ("", "/b", "/b/c")] == [before["a" + n] for n in ("", "/b", "/b/c")]

    with_store(tmp_path, test)


def test_rename_below_itself(tmp_path: Path) -> None:
    """a → a/m, with a/m/x in the way of a/x: no name is taken twice, whichever is moved first."""

    async def test(store: Store) -> None:
        for name in ("a/x", "a/b", "a/m/x", "a/m/b"):
            await store.submit(CreateMailbox(USER, name))
        await store.submit(DeleteMailbox(USER, "a/m"))
        await store.submit(RenameMailbox(USER, "a", "a/m"))
        assert names(store) == ["a", "a/m", "a/m/b", "a/m/m/b", "a/m/m/x", "a/m/x"]

    with_store(tmp_path, test)


def test_rename_that_cannot_be_changes_nothing(tmp_path: Path) -> None:
    """Missing, taken, taken below, too long below, to INBOX."""

    async def test(store: Store) -> None:
        for name in ("a/b", "c", "d/b", "l/" + "/".join(["y" * 200] * 4)):
            await store.submit(CreateMailbox(USER, name))
        await store.submit(DeleteMailbox(USER, "d"))
        before = names(store)
        for old, new, error in (
            ("nope", "x", NotFound),
            ("a", "c", AlreadyExists),
            ("a", "d", AlreadyExists),
            ("l", "z" * 250, MailError),
            ("a", "inbox", UsageError),
        ):
            with pytest.raises(error):
                await store.submit(RenameMailbox(USER, old, new))
            assert names(store) == before

    with_store(tmp_path, test)


def test_rename_of_inbox_moves_its_messages(tmp_path: Path) -> None:
    """RFC 3501 6.3.5: a new mailbox has them, INBOX stays, empty; what is below INBOX stays."""

    async def test(store: Store) -> None:
        box = await fill(store, 3, ("\\Seen",))
        await store.submit(CreateMailbox(USER, "INBOX/sub"))
        events: list[MailboxEvent] = []
        store.watch(box, events.extend)
        made = await store.submit(RenameMailbox(USER, "inbox", "saved/2023"))
        assert isinstance(made, Mailbox) and made.id != box
        assert (store.status(made.id).messages, store.status(made.id).unseen) == (3, 0)
        assert (inbox(store), store.status(box).messages, store.status(box).size) == (box, 0, 0)
        assert events == [Removed(uid, 4) for uid in (1, 2, 3)]
        assert names(store) == ["INBOX/sub", "saved", "saved/2023"]

    with_store(tmp_path, test)


def test_subscriptions_live_apart_from_mailboxes(tmp_path: Path) -> None:
    """A name that does not exist can be subscribed to; deleting a mailbox leaves its subscription."""

    async def test(store: Store) -> None:
        await store.submit(Subscribe(USER, "later", True))
        await store.submit(Subscribe(USER, "later", True))
        await store.submit(Subscribe(USER, "Trash", False))
        await store.submit(Subscribe(USER, "never", False))
        assert store.subscriptions(USER) == ["Archive", "Drafts", "INBOX", "Junk", "Sent", "later"]
        made = await store.submit(CreateMailbox(USER, "later"))
        assert isinstance(made, Mailbox) and made.subscribed
        trash = store.mailbox(USER, "Trash")
        assert trash is not None and not trash.subscribed
        await store.submit(DeleteMailbox(USER, "later"))
        assert "later" in store.subscriptions(USER)

    with_store(tmp_path, test)
