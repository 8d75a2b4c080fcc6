"""The SQLite index: one transaction per batch of changes, with the mailboxes in use kept in memory.

Owns the connection, the counters of mailboxes and of the store, and what a batch has gathered (rows to insert, events).
What a change does is in the ``apply_*`` modules; reading is in ``reader``.

Invariants
    *Covered*: ``state.applied`` is written in the transaction of the changes that it covers.
    *Write-back*: inside a batch a mailbox's counters live in its `MailboxState`, and what is new in `new_messages`,
    `new_keywords`, `new_deliveries` and the counts of bodies. All is in the tables when the batch ends, new messages
    and their keywords before anything looks at their tables.
    *All or nothing*: a batch that fails leaves tables and memory as before it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from spinrt._core import count_body
from spinrt.errors import DeviceFailed, DeviceFull, NotFound
from spinrt.mail.store.model import Mailbox, MailboxEvent
from spinrt.mail.store.schema import SCHEMA_VERSION, create_schema, schema_version
from spinrt.storage.room import means_full

INDEX_NAME: Final = "mail.sqlite"
CACHED_MAILBOXES_MAX: Final = 20_000
CACHED_STATEMENTS: Final = 256
UIDVALIDITY_MAX: Final = 0xFFFF_FFFF
UID_MAX: Final = 0xFFFF_FFFF

_MAILBOX_COLUMNS: Final = "id, user, name, uidvalidity, special_use, uidnext, modseq, messages, unseen, deleted, size"
_INSERT_MESSAGE: Final = "INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT_DELIVERY: Final = "INSERT INTO deliveries VALUES (?, ?, ?)"
_FIND_DELIVERY: Final = "SELECT placed FROM deliveries WHERE delivery_id = ?"
_INSERT_KEYWORD: Final = "INSERT OR IGNORE INTO keywords VALUES (?, ?, ?)"
_ADD_BODY: Final = "INSERT INTO bodies VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET refs = refs + excluded.refs"
_LOWER_BODY: Final = "UPDATE bodies SET refs = refs + ? WHERE name = ?"
_DROP_BODY: Final = "DELETE FROM bodies WHERE name = ? AND refs <= 0"
_UPDATE_MAILBOX: Final = (
    "UPDATE mailboxes SET uidnext = ?, modseq = ?, messages = ?, unseen = ?, deleted = ?, size = ? WHERE id = ?"
)


@dataclass(slots=True)
class MailboxState:
    """A mailbox and its counters, as they are after the changes applied so far."""

    id: int
    user: str
    name: str
    uidvalidity: int
    special_use: str | None
    uidnext: int = 1
    modseq: int = 0
    messages: int = 0
    unseen: int = 0
    deleted: int = 0
    size: int = 0

    def public(self, *, subscribed: bool) -> Mailbox:
        return Mailbox(self.id, self.user, self.name, self.uidvalidity, subscribed, self.special_use)


@dataclass(slots=True)
class Counters:
    """What the store itself counts: the row of table ``state``."""

    log_identity: bytes
    applied: int
    last_position: int | None
    last_time_ns: int | None
    next_mailbox_id: int
    next_queue_id: int
    last_uidvalidity: int


@dataclass(slots=True)
class Batch:
    """What a batch told watchers: events by mailbox in order, and whether the queue changed."""

    events: dict[int, list[MailboxEvent]] = field(default_factory=dict)
    queue_changed: bool = False


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open a connection set up as every user of the index needs it. Raises sqlite3.Error."""
    if not read_only:
        path.touch(mode=0o600)
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}",
        uri=True,
        isolation_level=None,
        cached_statements=CACHED_STATEMENTS,
        check_same_thread=False,
        timeout=10.0,
    )
    try:
        if not read_only:
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("PRAGMA cache_size = -65536")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("PRAGMA cell_size_check = ON")  # a damaged page is an error, not an empty answer
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def remove_index(path: Path) -> None:
    """Remove an index and what SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def is_full(error: sqlite3.Error) -> bool:
    """Tell whether the index's device is full."""
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL


def index_error(error: sqlite3.Error, operation: str, directory: Path | None = None) -> DeviceFailed | DeviceFull:
    """Return what a failed operation of the index means to who asked for it; ``directory``: where it is opened."""
    if is_full(error) or (directory is not None and means_full(error, directory)):
        return DeviceFull(f"index {operation}: {error}", hint="make room on the device")
    return DeviceFailed(f"index {operation}: {error}", hint="check the device; the index can be rebuilt from the log")


class Index:
    """The index of one mail store, for one thread."""

    def __init__(self, connection: sqlite3.Connection, log_identity: bytes) -> None:
        """Take over a connection from `connect`; create the tables when there are none.

        Raises:
            sqlite3.DatabaseError: Not an index of this version.
        """
        self.connection = connection
        self.path = Path(connection.execute("PRAGMA database_list").fetchone()[2])
        version = schema_version(connection)
        if version == 0:
            create_schema(connection, log_identity)
        elif version != SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"index has schema {version}, expected {SCHEMA_VERSION}")
        self.counters = self._load_counters()
        self.batch = Batch()
        self.new_messages: list[tuple[Any, ...]] = []
        self.new_deliveries: dict[str, tuple[int, bytearray]] = {}
        self.new_keywords: list[tuple[int, str, int]] = []
        self._body_refs: dict[int, int] = {}
        self._body_sizes: dict[int, int] = {}
        self.watched: Container[int] = ()
        """Mailboxes whose watchers want events; for others none are gathered."""
        self._last_delivery_id: str | None = None
        self._by_id: dict[int, MailboxState] = {}
        self._by_name: dict[tuple[str, str], MailboxState] = {}
        self._dirty: dict[int, MailboxState] = {}

    def _load_counters(self) -> Counters:
        row = self.connection.execute("SELECT * FROM state").fetchone()
        if row is None:
            raise sqlite3.DatabaseError("index has no state row")
        if len(row) != 1 + len(fields(Counters)):
            raise sqlite3.DatabaseError(f"index has {len(row)} columns of state")
        return Counters(*row[1:])

    def close(self) -> None:
        self.connection.close()

    # ------------------------------------------------------------------------------------------------------- batch

    @contextmanager
    def transaction(self, applied: int) -> Iterator[Batch]:
        """Apply changes inside; at the end they and ``applied`` are committed together, or nothing is.

        Raises:
            sqlite3.Error: The batch was rolled back.
        """
        self.batch = Batch()
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield self.batch
            self.flush_messages()
            self._flush_deliveries()
            self._flush_mailboxes()
            self._flush_bodies()
            self.counters.applied = applied
            self._save_counters()
            self.connection.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        if len(self._by_id) > CACHED_MAILBOXES_MAX:
            self._forget_mailboxes()

    def _roll_back(self) -> None:
        self.new_messages.clear()
        self.new_deliveries.clear()
        self.new_keywords.clear()
        self._body_refs.clear()
        self._body_sizes.clear()
        self._dirty.clear()
        self._last_delivery_id = None
        self._forget_mailboxes()
        self.batch = Batch()
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")
        self.counters = self._load_counters()

    def flush_messages(self) -> None:
        """Put the new messages of this batch into their tables. All that reads or changes messages calls this first."""
        if self.new_messages:
            self.connection.executemany(_INSERT_MESSAGE, self.new_messages)
            self.new_messages.clear()
        if self.new_keywords:
            self.connection.executemany(_INSERT_KEYWORD, self.new_keywords)
            self.new_keywords.clear()

    def _flush_deliveries(self) -> None:
        if self.new_deliveries:
            rows = [(delivery_id, *row) for delivery_id, row in self.new_deliveries.items()]
            self.connection.executemany(_INSERT_DELIVERY, rows)
            self.new_deliveries.clear()

    def _flush_bodies(self) -> None:
        refs, sizes = self._body_refs, self._body_sizes
        if not refs:
            return
        added = [(name, sizes[name], change) for name, change in refs.items() if change > 0]
        self.connection.executemany(_ADD_BODY, added)
        if len(added) < len(refs):
            lowered = [(change, name) for name, change in refs.items() if change < 0]
            self.connection.executemany(_LOWER_BODY, lowered)
            self.connection.executemany(_DROP_BODY, [(name,) for _, name in lowered])
        refs.clear()
        sizes.clear()

    def _flush_mailboxes(self) -> None:
        if self._dirty:
            rows = [(m.uidnext, m.modseq, m.messages, m.unseen, m.deleted, m.size, m.id) for m in self._dirty.values()]
            self.connection.executemany(_UPDATE_MAILBOX, rows)
            self._dirty.clear()

    def _save_counters(self) -> None:
        c = self.counters
        self.connection.execute(
            "UPDATE state SET applied = ?, last_position = ?, last_time_ns = ?, next_mailbox_id = ?,"
            " next_queue_id = ?, last_uidvalidity = ? WHERE id = 1",
            (c.applied, c.last_position, c.last_time_ns, c.next_mailbox_id, c.next_queue_id, c.last_uidvalidity),
        )

    # ------------------------------------------------------------------------------------------------------ bodies

    def count_body(self, encoded: bytes | bytearray, change: int) -> None:
        """Count one more (1) or one less (-1) that refers to the records of a body. Raises CorruptRecord."""
        count_body(encoded, self._body_refs, self._body_sizes, change)

    def is_live(self, name: int) -> bool:
        """Tell whether anything refers to a body."""
        return self.connection.execute("SELECT 1 FROM bodies WHERE name = ?", (name,)).fetchone() is not None

    # -------------------------------------------------------------------------------------------------- deliveries

    def find_delivery(self, delivery_id: str) -> bytes | None:
        """Return what a delivery gave (`spinrt._core.encode_placed`), of this batch or before it; none for a new id.

        Cost: nothing for an id above all others, as those are that begin with the time.
        """
        if self._last_delivery_id is None:
            row = self.connection.execute("SELECT max(delivery_id) FROM deliveries").fetchone()
            self._last_delivery_id = row[0] or ""
        if delivery_id > self._last_delivery_id:
            return None
        new = self.new_deliveries.get(delivery_id)
        if new is not None:
            return bytes(new[1])
        row = self.connection.execute(_FIND_DELIVERY, (delivery_id,)).fetchone()
        return None if row is None else row[0]

    def add_delivery(self, delivery_id: str, position: int, placed: bytearray) -> None:
        """Enter a delivery whose id `find_delivery` did not find."""
        self.new_deliveries[delivery_id] = (position, placed)
        if self._last_delivery_id is not None and delivery_id > self._last_delivery_id:
            self._last_delivery_id = delivery_id

    # --------------------------------------------------------------------------------------------------- mailboxes

    def find_mailbox(self, user: str, name: str) -> MailboxState | None:
        """Return a mailbox by its canonical name."""
        known = self._by_name.get((user, name))
        if known is not None:
            return known
        row = self.connection.execute(
            f"SELECT {_MAILBOX_COLUMNS} FROM mailboxes WHERE user = ? AND name = ?", (user, name)
        ).fetchone()
        return self._remember(row) if row else None

    def get_mailbox(self, mailbox_id: int) -> MailboxState:
        """Return a mailbox. Raises NotFound."""
        known = self._by_id.get(mailbox_id)
        if known is not None:
            return known
        row = self.connection.execute(
            f"SELECT {_MAILBOX_COLUMNS} FROM mailboxes WHERE id = ?", (mailbox_id,)
        ).fetchone()
        if row is None:
            raise NotFound(f"mailbox {mailbox_id}: does not exist (any more)")
        return self._remember(row)

    def _remember(self, row: tuple[Any, ...]) -> MailboxState:
        known = self._by_id.get(row[0])
        mailbox = known or MailboxState(*row)
        self._by_id[mailbox.id] = mailbox
        self._by_name[mailbox.user, mailbox.name] = mailbox
        return mailbox

    def insert_mailbox(self, user: str, name: str, special_use: str | None, time_s: int) -> MailboxState:
        """Create a mailbox whose name is free.

        UIDVALIDITY is the record's time, or one more than the last one given out when that is not lower: unique in
        the store, and higher than that of any mailbox created before (RFC 3501 section 2.3.1.1).
        """
        counters = self.counters
        last = counters.last_uidvalidity
        uidvalidity = time_s if last < time_s <= UIDVALIDITY_MAX else last + 1
        mailbox = MailboxState(counters.next_mailbox_id, user, name, uidvalidity, special_use)
        self.connection.execute(
            f"INSERT INTO mailboxes ({_MAILBOX_COLUMNS}) VALUES (?, ?, ?, ?, ?, 1, 0, 0, 0, 0, 0)",
            (mailbox.id, user, name, uidvalidity, special_use),
        )
        counters.next_mailbox_id += 1
        counters.last_uidvalidity = uidvalidity
        self._by_id[mailbox.id] = self._by_name[user, name] = mailbox
        return mailbox

    def rename_mailbox(self, mailbox: MailboxState, new_name: str) -> None:
        """Give a mailbox a name that is free."""
        self.connection.execute("UPDATE mailboxes SET name = ? WHERE id = ?", (new_name, mailbox.id))
        self._by_name.pop((mailbox.user, mailbox.name), None)
        mailbox.name = new_name
        self._by_name[mailbox.user, new_name] = mailbox

    def delete_mailbox(self, mailbox: MailboxState) -> None:
        """Remove a mailbox's row; its messages must be gone."""
        self.connection.execute("DELETE FROM mailboxes WHERE id = ?", (mailbox.id,))
        self._by_name.pop((mailbox.user, mailbox.name), None)
        self._by_id.pop(mailbox.id, None)
        self._dirty.pop(mailbox.id, None)

    def mailboxes_below(self, user: str, first: str, last: str) -> list[MailboxState]:
        """Return the mailboxes whose names are in a range, in order of name."""
        rows = self.connection.execute(
            f"SELECT {_MAILBOX_COLUMNS} FROM mailboxes WHERE user = ? AND name >= ? AND name < ? ORDER BY name",
            (user, first, last),
        ).fetchall()
        return [self._remember(row) for row in rows]

    def is_subscribed(self, user: str, name: str) -> bool:
        row = self.connection.execute(
            "SELECT 1 FROM subscriptions WHERE user = ? AND name = ?", (user, name)
        ).fetchone()
        return row is not None

    def touch(self, mailbox: MailboxState) -> int:
        """Return the MODSEQ for a change of this mailbox, and have its counters saved with the batch."""
        mailbox.modseq += 1
        self._dirty[mailbox.id] = mailbox
        return mailbox.modseq

    def tell(self, mailbox_id: int, event: MailboxEvent) -> None:
        """Have the watchers of a mailbox told when the batch is committed."""
        events = self.batch.events.get(mailbox_id)
        if events is None:
            self.batch.events[mailbox_id] = [event]
        else:
            events.append(event)

    def _forget_mailboxes(self) -> None:
        self._by_id.clear()
        self._by_name.clear()
