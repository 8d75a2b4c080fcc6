"""Applying changes that add messages from outside: delivery and IMAP APPEND.

A delivery is acknowledged before it is applied, so nothing may forbid it: a mailbox that is missing is created, and one
that has no UID left is replaced by another. APPEND is answered after it was applied; what the state can forbid is
checked before anything changes.
"""

from __future__ import annotations

from itertools import chain, count
from typing import Final

from spinrt._core import encode_body, encode_placed
from spinrt.errors import InternalError, MailError
from spinrt.mail.store.apply_mailboxes import create_with_parents
from spinrt.mail.store.apply_queue import put_kv, put_outbound
from spinrt.mail.store.codec import decode_placed
from spinrt.mail.store.flags import DELETED, SEEN, pack_flags, unpack_flags
from spinrt.mail.store.index import UID_MAX, Index, MailboxState
from spinrt.mail.store.model import Added, Append, Appended, Body, Copy, Deliver, Delivered, make_record
from spinrt.mail.store.names import INBOX

_OVERFLOW: Final = f"{INBOX}/Overflow"
"""Where copies go whose mailbox has given out every UID; then ``INBOX/Overflow 2`` and so on."""


def apply_deliver(index: Index, change: Deliver, *, position: int, time_s: int) -> Delivered:
    """Store the copies, queue what leaves, write the maps; for an id seen before, only say what it gave."""
    known = index.find_delivery(change.delivery_id)
    if known is not None:
        return Delivered(*decode_placed(known))
    placed = tuple([_place(index, change, copy, time_s) for copy in change.copies])
    queued = tuple([put_outbound(index, one, time_s) for one in change.outbound]) if change.outbound else ()
    if change.kv:
        put_kv(index, change.kv)
    index.add_delivery(change.delivery_id, position, encode_placed(placed, queued))
    return make_record(Delivered, (placed, queued))


def check_uids_left(mailbox: MailboxState, count: int) -> None:
    """Raise MailError unless the mailbox has that many UIDs left."""
    if mailbox.uidnext > UID_MAX - count:
        raise MailError(
            f"mailbox {mailbox.name!r} of {mailbox.user}: no UIDs left", hint="rename it and create it anew"
        )


def _place(index: Index, change: Deliver, copy: Copy, time_s: int) -> tuple[str, str, int, int]:
    mailbox = index.find_mailbox(copy.user, copy.mailbox)
    if mailbox is None or mailbox.uidnext >= UID_MAX:
        mailbox = _make_room(index, copy.user, copy.mailbox, mailbox, time_s)
    body = change.body
    if copy.prefix:
        body = Body(body.digest, body.size + len(copy.prefix), body.extents, copy.prefix + body.prefix)
    bits, keywords = pack_flags(copy.flags)
    uid = add_row(index, mailbox, bits, keywords, (change.received_s, 0, body.size, encode_body(body)))
    return copy.user, mailbox.name, mailbox.id, uid


def _make_room(index: Index, user: str, name: str, full: MailboxState | None, time_s: int) -> MailboxState:
    """Create the mailbox; when it is there and full, return the first of `_OVERFLOW` that is not, or create that."""
    if full is None:
        return create_with_parents(index, user, name, None, time_s)
    for candidate in chain((_OVERFLOW,), (f"{_OVERFLOW} {number}" for number in count(2))):
        mailbox = index.find_mailbox(user, candidate)
        if mailbox is None:
            return create_with_parents(index, user, candidate, None, time_s)
        if mailbox.uidnext < UID_MAX:
            return mailbox
    raise InternalError("counting has ended")  # unreachable: `count` does not end


def apply_append(index: Index, change: Append) -> Appended:
    """Add one message to a mailbox that must exist.

    Raises:
        NotFound: The mailbox is gone.
        MailError: It has no UID left.
    """
    mailbox = index.get_mailbox(change.mailbox_id)
    check_uids_left(mailbox, 1)
    bits, keywords = pack_flags(change.flags)
    rest = (change.internal_date, change.internal_zone, change.body.size, encode_body(change.body))
    return Appended(mailbox.uidvalidity, add_row(index, mailbox, bits, keywords, rest))


def add_row(
    index: Index, mailbox: MailboxState, bits: int, keywords: str, rest: tuple[int, int, int, bytes | bytearray]
) -> int:
    """Add a message; ``rest`` is (internal date, internal zone, size, encoded body). Return its UID."""
    modseq = index.touch(mailbox)
    uid = mailbox.uidnext
    mailbox.uidnext = uid + 1
    mailbox.messages += 1
    mailbox.size += rest[2]
    mailbox.unseen += not bits & SEEN
    mailbox.deleted += bits & DELETED != 0
    index.count_body(rest[3], 1)
    index.new_messages.append((mailbox.id, uid, modseq, bits, keywords, *rest))
    if keywords:
        add_keywords(index, mailbox.id, uid, keywords)
    if mailbox.id in index.watched:
        index.tell(mailbox.id, Added(uid, modseq, unpack_flags(bits, keywords)))
    return uid


def add_keywords(index: Index, mailbox_id: int, uid: int, keywords: str) -> None:
    """Enter a message under each of its keywords."""
    for keyword in keywords.split():
        index.new_keywords.append((mailbox_id, keyword, uid))


def remove_keywords(index: Index, mailbox_id: int, uid: int, keywords: str) -> None:
    """Take a message away from each of its keywords."""
    rows = [(mailbox_id, keyword, uid) for keyword in keywords.split()]
    index.connection.executemany("DELETE FROM keywords WHERE mailbox_id = ? AND keyword = ? AND uid = ?", rows)
