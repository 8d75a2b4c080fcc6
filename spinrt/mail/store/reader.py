"""Questions that the index answers. All is durable and applied; nothing waits or scans more than it returns.

Every question looks at the index through ``Reader._current``, so that a store can apply first what it acknowledged.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from array import array
from collections.abc import Iterable
from typing import Any, Final

from spinrt.errors import DeviceFailed, UsageError
from spinrt.mail.store.bodies import Records, read_body
from spinrt.mail.store.changes import decode_change
from spinrt.mail.store.codec import decode_body, decode_placed
from spinrt.mail.store.flags import ANSWERED, DELETED, DRAFT, FLAGGED, SEEN, bit_of, unpack_flags
from spinrt.mail.store.index import Index
from spinrt.mail.store.model import Body, Deliver, Delivered, Mailbox, Message, Outbound, QueueEntry, QueueState, Status
from spinrt.mail.store.names import canonical_name
from spinrt.mail.store.recovery import suspect_index
from spinrt.mail.store.select import select_uids

_trace = logging.getLogger("spinrt.mail.store")

_MESSAGE_COLUMNS: Final = "uid, modseq, flags, keywords, internal_date, internal_zone, body"
_MAILBOXES: Final = (
    "SELECT m.id, m.user, m.name, m.uidvalidity, s.name IS NOT NULL, m.special_use"
    " FROM mailboxes m LEFT JOIN subscriptions s ON s.user = m.user AND s.name = m.name"
    " WHERE m.user = ? ORDER BY m.name"
)
# The planner would rather walk the primary key, which has the order already: the partial indexes must be named.
_WITH_FLAG: Final = {
    bit: f"SELECT uid FROM messages{hint} WHERE mailbox_id = ? AND flags & {bit} != 0 ORDER BY uid"
    for bit, hint in (
        (SEEN, ""),
        (ANSWERED, " INDEXED BY messages_answered"),
        (FLAGGED, " INDEXED BY messages_flagged"),
        (DELETED, " INDEXED BY messages_deleted"),
        (DRAFT, " INDEXED BY messages_draft"),
    )
}
_UNSEEN: Final = (
    "SELECT uid FROM messages INDEXED BY messages_unseen WHERE mailbox_id = ? AND flags & 1 = 0 ORDER BY uid"
)


class Reader:
    """Reads one index and the log beside it."""

    def __init__(self, index: Index, log: Records) -> None:
        self._index = index
        self._log = log

    @property
    def _current(self) -> Index:
        """The index with all applied that a read must see."""
        return self._index

    def _rows(self, sql: str, *arguments: object) -> list[tuple[Any, ...]]:
        try:
            return self._current.connection.execute(sql, arguments).fetchall()
        except sqlite3.Error as error:
            raise self._read_error(error) from error

    def _messages(self, columns: str, mailbox_id: int, uids: list[int]) -> list[tuple[Any, ...]]:
        try:
            return select_uids(self._current.connection, columns, mailbox_id, uids)
        except sqlite3.Error as error:
            raise self._read_error(error) from error

    def _read_error(self, error: sqlite3.Error) -> DeviceFailed:
        """What a caller is told. A damaged index is built anew at the next start."""
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            _trace.error("index %s: %s; stop and start again: it will be built anew", self._index.path, error)
            with contextlib.suppress(OSError):
                suspect_index(self._index.path.parent)
        return DeviceFailed(f"index read: {error}", hint="check the device; the index can be rebuilt from the log")

    # --------------------------------------------------------------------------------------------------- mailboxes

    def mailboxes(self, user: str) -> list[Mailbox]:
        """Return the mailboxes of an account by name; none for an account that does not exist."""
        return [
            Mailbox(id_, owner, name, uidvalidity, bool(subscribed), use)
            for id_, owner, name, uidvalidity, subscribed, use in self._rows(_MAILBOXES, user)
        ]

    def subscriptions(self, user: str) -> list[str]:
        """Return the names subscribed to, whether or not they exist."""
        return [row[0] for row in self._rows("SELECT name FROM subscriptions WHERE user = ? ORDER BY name", user)]

    def mailbox(self, user: str, name: str) -> Mailbox | None:
        """Return a mailbox by name, in any way to write INBOX; none when there is none or the name cannot be one."""
        try:
            found = self._current.find_mailbox(user, canonical_name(name))
        except UsageError:
            return None
        except sqlite3.Error as error:
            raise self._read_error(error) from error
        if found is None:
            return None
        return found.public(subscribed=self._index.is_subscribed(user, found.name))

    def status(self, mailbox_id: int) -> Status:
        """Return the counters of a mailbox. Raises NotFound."""
        try:
            m = self._current.get_mailbox(mailbox_id)
        except sqlite3.Error as error:
            raise self._read_error(error) from error
        return Status(m.messages, m.unseen, m.deleted, m.uidnext, m.uidvalidity, m.modseq, m.size)

    # ---------------------------------------------------------------------------------------------------- messages

    def uids(self, mailbox_id: int) -> array[int]:
        """Return all UIDs, ascending."""
        # By the index on MODSEQ, whose rows are a tenth of the table's; sorting them is cheaper than reading the table.
        sql = "SELECT uid FROM messages INDEXED BY messages_modseq WHERE mailbox_id = ?"
        return array("I", sorted([row[0] for row in self._rows(sql, mailbox_id)]))

    def message(self, mailbox_id: int, uid: int) -> Message | None:
        found = self.messages(mailbox_id, [uid])
        return found[0] if found else None

    def messages(self, mailbox_id: int, uids: list[int]) -> list[Message]:
        """Return those of the UIDs that exist, ascending."""
        return [
            Message(uid, modseq, unpack_flags(bits, keywords), date, zone, decode_body(body))
            for uid, modseq, bits, keywords, date, zone, body in self._messages(_MESSAGE_COLUMNS, mailbox_id, uids)
        ]

    def flags(self, mailbox_id: int, uids: list[int]) -> list[tuple[int, int, frozenset[str]]]:
        """Return (uid, modseq, flags) of those of the UIDs that exist, ascending: `messages`, less."""
        rows = self._messages("uid, modseq, flags, keywords", mailbox_id, uids)
        return [(uid, modseq, unpack_flags(bits, keywords)) for uid, modseq, bits, keywords in rows]

    def changed_since(self, mailbox_id: int, modseq: int) -> list[int]:
        """Return the UIDs of messages whose MODSEQ is higher, ascending."""
        sql = "SELECT uid FROM messages WHERE mailbox_id = ? AND modseq > ?"
        return sorted([row[0] for row in self._rows(sql, mailbox_id, modseq)])

    def with_flag(self, mailbox_id: int, flag: str) -> list[int]:
        r"""Return the UIDs of messages that carry a flag, ascending. ``\Seen`` reads all rows, the others their own."""
        bit = bit_of(flag)
        if bit:
            return [row[0] for row in self._rows(_WITH_FLAG[bit], mailbox_id)]
        sql = "SELECT uid FROM keywords WHERE mailbox_id = ? AND keyword = ? ORDER BY uid"
        return [row[0] for row in self._rows(sql, mailbox_id, flag)]

    def unseen(self, mailbox_id: int) -> list[int]:
        r"""Return the UIDs of messages without ``\Seen``, ascending."""
        return [row[0] for row in self._rows(_UNSEEN, mailbox_id)]

    def first_unseen(self, mailbox_id: int) -> int | None:
        r"""Return the lowest UID without ``\Seen``."""
        rows = self._rows(_UNSEEN + " LIMIT 1", mailbox_id)
        return rows[0][0] if rows else None

    def read(self, body: Body, offset: int = 0, length: int | None = None) -> bytes:
        """Return bytes of a message: from ``offset``, up to ``length`` or all that follow.

        Raises:
            CorruptRecord: The log does not hold what the body names.
        """
        return read_body(self._log, body, offset, length)

    # ------------------------------------------------------------------------------------------------------ others

    def queue(self, states: Iterable[QueueState] | None = None) -> list[QueueEntry]:
        """Return the outbound messages in those states (none: all), oldest first."""
        wanted = [state.value for state in (QueueState if states is None else states)]
        marks = ",".join("?" * len(wanted))
        rows = self._rows(f"SELECT * FROM queue WHERE state IN ({marks}) ORDER BY queue_id", *wanted)
        return [_queue_entry(row) for row in rows]

    def queue_entry(self, queue_id: int) -> QueueEntry | None:
        rows = self._rows("SELECT * FROM queue WHERE queue_id = ?", queue_id)
        return _queue_entry(rows[0]) if rows else None

    def kv_load(self, space: str) -> dict[str, bytes]:
        """Return a whole map of an extension."""
        return dict(self._rows("SELECT key, value FROM kv WHERE space = ? ORDER BY key", space))

    def kv_get(self, space: str, key: str) -> bytes | None:
        rows = self._rows("SELECT value FROM kv WHERE space = ? AND key = ?", space, key)
        return rows[0][0] if rows else None

    def tags(self, delivery_id: str) -> list[tuple[str, str, bytes]]:
        """Return (extension, key, value) of a delivery's tags, ordered; of several to one key the last.

        They stand in its record and nowhere else: an undo reads them of the deliveries that it repeats. They are gone
        when that has expired.
        """
        rows = self._rows("SELECT position FROM deliveries WHERE delivery_id = ?", delivery_id)
        if not rows or rows[0][0] < self._log.start:
            return []
        record = self._log.read(rows[0][0])
        change = decode_change(record.kind, record.body)
        found = (
            {(extension, key): value for extension, key, value in change.tags} if isinstance(change, Deliver) else {}
        )
        return [(*names, value) for names, value in sorted(found.items())]

    def delivery(self, delivery_id: str) -> tuple[int, Delivered] | None:
        """Return the log position of a delivery's record and what it gave; none for an id that was never applied."""
        rows = self._rows("SELECT position, placed FROM deliveries WHERE delivery_id = ?", delivery_id)
        return (rows[0][0], Delivered(*decode_placed(rows[0][1]))) if rows else None


def _queue_entry(row: tuple[Any, ...]) -> QueueEntry:
    queue_id, kind, extension, sender, recipient, body, text, state, attempts, next_s, created_s, note = row
    outbound = Outbound(kind, extension, sender, recipient, None if body is None else decode_body(body), text)
    return QueueEntry(queue_id, outbound, QueueState(state), attempts, next_s, created_s, note)
