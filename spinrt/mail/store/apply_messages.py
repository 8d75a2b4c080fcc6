"""Applying changes to messages that are there: flags, expunge, copy, move. Cost follows the UIDs named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from spinrt.mail.store.apply_deliver import add_keywords, add_row, check_uids_left, remove_keywords
from spinrt.mail.store.flags import DELETED, SEEN, pack_flags, unpack_flags
from spinrt.mail.store.index import Index, MailboxState
from spinrt.mail.store.model import (
    Copied,
    CopyMessages,
    Expunge,
    Expunged,
    FlagsChanged,
    FlagsMode,
    Removed,
    Stored,
    StoreFlags,
)
from spinrt.mail.store.select import select_uids

_UPDATE_FLAGS: Final = "UPDATE messages SET modseq = ?, flags = ?, keywords = ? WHERE mailbox_id = ? AND uid = ?"
_DELETE_MESSAGE: Final = "DELETE FROM messages WHERE mailbox_id = ? AND uid = ?"
_FLAG_COLUMNS: Final = "uid, modseq, flags, keywords"
_EXPUNGE_COLUMNS: Final = "uid, flags, keywords, size, body"
_COPY_COLUMNS: Final = "uid, flags, keywords, internal_date, internal_zone, size, body"


def apply_store_flags(index: Index, change: StoreFlags) -> Stored:
    """Change flags; messages that had them already keep their MODSEQ. All that change in one record share a MODSEQ.

    Raises:
        NotFound: The mailbox is gone.
    Source: RFC 3501 section 6.4.6; RFC 7162 section 3.1.3 (UNCHANGEDSINCE).
    """
    mailbox = index.get_mailbox(change.mailbox_id)
    index.flush_messages()
    bits, keywords = pack_flags(tuple(change.flags))
    limit = change.unchanged_since
    result: list[tuple[int, frozenset[str], int]] = []
    failed: list[int] = []
    new_modseq = 0
    for uid, modseq, old_bits, old_keywords in _rows(index, mailbox.id, change.uids, _FLAG_COLUMNS):
        if limit is not None and modseq > limit:
            failed.append(uid)
            continue
        new = _combine(change.mode, (old_bits, old_keywords), (bits, keywords))
        if new != (old_bits, old_keywords):
            new_modseq = new_modseq or index.touch(mailbox)
            _write_flags(index, mailbox, (uid, new_modseq), old=(old_bits, old_keywords), new=new)
            result.append((uid, unpack_flags(*new), new_modseq))
        else:
            result.append((uid, unpack_flags(*new), modseq))
    return Stored(tuple(result), tuple(failed))


def _combine(mode: FlagsMode, old: tuple[int, str], given: tuple[int, str]) -> tuple[int, str]:
    if mode is FlagsMode.SET:
        return given
    old_words, words = set(old[1].split()), set(given[1].split())
    if mode is FlagsMode.ADD:
        return old[0] | given[0], " ".join(sorted(old_words | words))
    return old[0] & ~given[0], " ".join(sorted(old_words - words))


def _write_flags(
    index: Index, mailbox: MailboxState, message: tuple[int, int], *, old: tuple[int, str], new: tuple[int, str]
) -> None:
    uid, modseq = message
    index.connection.execute(_UPDATE_FLAGS, (modseq, *new, mailbox.id, uid))
    if old[1] != new[1]:
        remove_keywords(index, mailbox.id, uid, old[1])
        add_keywords(index, mailbox.id, uid, new[1])
    mailbox.unseen += (not new[0] & SEEN) - (not old[0] & SEEN)
    mailbox.deleted += (new[0] & DELETED != 0) - (old[0] & DELETED != 0)
    index.tell(mailbox.id, FlagsChanged(uid, modseq, unpack_flags(*new)))


def apply_expunge(index: Index, change: Expunge) -> Expunged:
    """Remove messages. Nothing to remove takes no MODSEQ.

    Raises:
        NotFound: The mailbox is gone.
    """
    mailbox = index.get_mailbox(change.mailbox_id)
    index.flush_messages()
    rows = [
        row
        for row in _rows(index, mailbox.id, change.uids, _EXPUNGE_COLUMNS, deleted_only=change.deleted_only)
        if row[1] & DELETED or not change.deleted_only
    ]
    modseq = remove_rows(index, mailbox, rows) if rows else mailbox.modseq
    return Expunged(tuple([row[0] for row in rows]), modseq)


def remove_rows(index: Index, mailbox: MailboxState, rows: Sequence[tuple[int, int, str, int, bytes]]) -> int:
    """Remove messages given as (uid, bits, keywords, size, body); return the MODSEQ of their removal."""
    modseq = index.touch(mailbox)
    index.connection.executemany(_DELETE_MESSAGE, [(mailbox.id, row[0]) for row in rows])
    for uid, bits, keywords, size, body in rows:
        index.count_body(body, -1)
        mailbox.messages -= 1
        mailbox.size -= size
        mailbox.unseen -= not bits & SEEN
        mailbox.deleted -= bits & DELETED != 0
        if keywords:
            remove_keywords(index, mailbox.id, uid, keywords)
        index.tell(mailbox.id, Removed(uid, modseq))
    return modseq


def apply_copy(index: Index, change: CopyMessages) -> Copied:
    """Copy or move messages, with flags and dates, in the order of their UIDs.

    Raises:
        NotFound: One of the mailboxes is gone.
        MailError: The target has no UIDs left.
    Source: RFC 3501 section 6.4.7; RFC 6851.
    """
    source = index.get_mailbox(change.mailbox_id)
    target = index.get_mailbox(change.target_id)
    check_uids_left(target, len(change.uids))
    return copy_messages(index, source, target, change.uids, move=change.move)


def copy_messages(
    index: Index, source: MailboxState, target: MailboxState, uids: Sequence[int] | None, *, move: bool
) -> Copied:
    """Copy or move those messages (none: all) between mailboxes that exist."""
    index.flush_messages()
    rows = list(_rows(index, source.id, uids, _COPY_COLUMNS))
    new_uids = [add_row(index, target, row[1], row[2], row[3:7]) for row in rows]
    if move and rows:
        index.flush_messages()
        remove_rows(index, source, [(row[0], row[1], row[2], row[5], row[6]) for row in rows])
    return Copied(target.uidvalidity, tuple([row[0] for row in rows]), tuple(new_uids))


def _rows(
    index: Index, mailbox_id: int, uids: Sequence[int] | None, columns: str, *, deleted_only: bool = False
) -> Iterator[tuple[Any, ...]]:
    if uids is not None:
        return iter(select_uids(index.connection, columns, mailbox_id, uids))
    source = "messages INDEXED BY messages_deleted" if deleted_only else "messages"
    where = " AND flags & 8 != 0" if deleted_only else ""
    sql = f"SELECT {columns} FROM {source} WHERE mailbox_id = ?{where} ORDER BY uid"
    return iter(index.connection.execute(sql, (mailbox_id,)).fetchall())
