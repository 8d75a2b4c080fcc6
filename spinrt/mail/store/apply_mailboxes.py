"""Applying changes to mailboxes themselves: create, delete, subscribe.

The creation of a user's INBOX is the creation of the account: the special-use mailboxes come with it, all subscribed,
in one change. So an account is there whole or not at all, whether a delivery or an administrator made it.
"""

from __future__ import annotations

from spinrt.errors import AlreadyExists, NotFound
from spinrt.mail.store.index import Index, MailboxState
from spinrt.mail.store.model import CreateMailbox, DeleteMailbox, Mailbox, MailboxGone, Subscribe
from spinrt.mail.store.names import INBOX, SPECIAL_USES, parents


def apply_create(index: Index, change: CreateMailbox, time_s: int) -> Mailbox:
    """Create a mailbox and those missing above it. Raises AlreadyExists."""
    if index.find_mailbox(change.user, change.name) is not None:
        raise AlreadyExists(f"mailbox {change.name!r} of {change.user}: exists already")
    mailbox = create_with_parents(index, change.user, change.name, change.special_use, time_s)
    return mailbox.public(subscribed=index.is_subscribed(mailbox.user, mailbox.name))


def create_with_parents(index: Index, user: str, name: str, special_use: str | None, time_s: int) -> MailboxState:
    """Create a mailbox whose name is free, its account and what is missing above it."""
    if index.find_mailbox(user, INBOX) is None:
        _create_account(index, user, time_s)
    created_with_account = index.find_mailbox(user, name)
    if created_with_account is not None:
        return created_with_account
    create_parents(index, user, name, time_s)
    return index.insert_mailbox(user, name, special_use, time_s)


def _create_account(index: Index, user: str, time_s: int) -> None:
    for name, use in ((INBOX, None), *SPECIAL_USES):
        if index.find_mailbox(user, name) is None:
            index.insert_mailbox(user, name, use, time_s)
            _subscribe(index, user, name)


def create_parents(index: Index, user: str, name: str, time_s: int) -> None:
    """Create what is missing above a name."""
    for parent in parents(name):
        if index.find_mailbox(user, parent) is None:
            index.insert_mailbox(user, parent, None, time_s)


def apply_delete(index: Index, change: DeleteMailbox) -> None:
    """Delete a mailbox and its messages; those below it stay. Raises NotFound. Cost: follows its messages."""
    mailbox = existing_mailbox(index, change.user, change.name)
    index.flush_messages()
    for (body,) in index.connection.execute("SELECT body FROM messages WHERE mailbox_id = ?", (mailbox.id,)):
        index.count_body(body, -1)
    index.connection.execute("DELETE FROM messages WHERE mailbox_id = ?", (mailbox.id,))
    index.connection.execute("DELETE FROM keywords WHERE mailbox_id = ?", (mailbox.id,))
    index.delete_mailbox(mailbox)
    index.tell(mailbox.id, MailboxGone(mailbox.id))


def apply_subscribe(index: Index, change: Subscribe) -> None:
    """Subscribe or unsubscribe; again is no error, and the mailbox need not exist."""
    if change.subscribed:
        _subscribe(index, change.user, change.name)
    else:
        sql = "DELETE FROM subscriptions WHERE user = ? AND name = ?"
        index.connection.execute(sql, (change.user, change.name))


def _subscribe(index: Index, user: str, name: str) -> None:
    index.connection.execute("INSERT OR IGNORE INTO subscriptions VALUES (?, ?)", (user, name))


def existing_mailbox(index: Index, user: str, name: str) -> MailboxState:
    """Return a mailbox by name. Raises NotFound."""
    mailbox = index.find_mailbox(user, name)
    if mailbox is None:
        raise NotFound(f"mailbox {name!r} of {user}: does not exist")
    return mailbox
