"""Applying a rename: of a mailbox with those below it, or of INBOX, which only gives its messages away."""

from __future__ import annotations

from spinrt.errors import AlreadyExists, MailError
from spinrt.mail.store.apply_mailboxes import create_parents, create_with_parents, existing_mailbox
from spinrt.mail.store.apply_messages import copy_messages
from spinrt.mail.store.index import Index, MailboxState
from spinrt.mail.store.model import Mailbox, RenameMailbox
from spinrt.mail.store.names import INBOX, NAME_BYTES_MAX, SEPARATOR, below


def apply_rename(index: Index, change: RenameMailbox, time_s: int) -> Mailbox:
    """Rename a mailbox and those below it; INBOX stays and its messages move (RFC 3501 section 6.3.5).

    Raises:
        NotFound: No mailbox of the old name.
        AlreadyExists: The new name, or a name below it that is needed, is taken.
        MailError: A name below it would be too long.
    """
    mailbox = existing_mailbox(index, change.user, change.name)
    if index.find_mailbox(change.user, change.new_name) is not None:
        raise AlreadyExists(f"mailbox {change.new_name!r} of {change.user}: exists already")
    if change.name == INBOX:
        return _rename_inbox(index, mailbox, change.new_name, time_s)
    moves = _moves(index, mailbox, change.new_name)
    for moved, new_name in moves:
        index.rename_mailbox(moved, new_name)
    create_parents(index, change.user, change.new_name, time_s)
    return mailbox.public(subscribed=index.is_subscribed(mailbox.user, mailbox.name))


def _moves(index: Index, mailbox: MailboxState, new_name: str) -> list[tuple[MailboxState, str]]:
    """Return (mailbox, new name) in an order in which no name is taken twice."""
    prefix = len(mailbox.name)
    children = index.mailboxes_below(mailbox.user, *below(mailbox.name))
    moves = [(mailbox, new_name), *((child, new_name + child.name[prefix:]) for child in children)]
    moving = {moved.id for moved, _ in moves}
    for _, target in moves:
        if len(target.encode()) > NAME_BYTES_MAX:
            raise MailError(f"mailbox {target[:80]!r}…: the name would be longer than {NAME_BYTES_MAX} bytes")
        taken = index.find_mailbox(mailbox.user, target)
        if taken is not None and taken.id not in moving:
            raise AlreadyExists(f"mailbox {target!r} of {mailbox.user}: exists already")
    if new_name.startswith(mailbox.name + SEPARATOR):
        # a → a/b with a/b/c: the deepest first, so that a/b/c is out of the way before a/c becomes a/b/c.
        moves.sort(key=lambda move: (-move[0].name.count(SEPARATOR), move[0].name))
    return moves


def _rename_inbox(index: Index, inbox: MailboxState, new_name: str, time_s: int) -> Mailbox:
    target = create_with_parents(index, inbox.user, new_name, None, time_s)
    copy_messages(index, inbox, target, None, move=True)
    return target.public(subscribed=index.is_subscribed(target.user, target.name))
