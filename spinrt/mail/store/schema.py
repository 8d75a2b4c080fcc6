"""The tables of the index.

The index is derived from the log and can be deleted; a version other than `SCHEMA_VERSION` is not migrated but rebuilt.
Rows say nothing that the log does not, so two indexes built from the same log hold the same rows.
"""

from __future__ import annotations

import sqlite3
from typing import Final

SCHEMA_VERSION: Final = 3

TABLES: Final = (
    "state",
    "mailboxes",
    "subscriptions",
    "messages",
    "keywords",
    "deliveries",
    "queue",
    "kv",
    "bodies",
)
"""Every table, for dumps and comparisons."""

_SCHEMA: Final = f"""
CREATE TABLE state (
    id               INTEGER PRIMARY KEY CHECK (id = 1),
    log_identity     BLOB NOT NULL,     -- which log this index is of
    applied          INTEGER NOT NULL,  -- log position up to which (exclusive) records are applied
    last_position    INTEGER,           -- the last applied change's record, to tell a log that went another way
    last_time_ns     INTEGER,
    next_mailbox_id  INTEGER NOT NULL,
    next_queue_id    INTEGER NOT NULL,
    last_uidvalidity INTEGER NOT NULL
);
CREATE TABLE mailboxes (
    id          INTEGER PRIMARY KEY,
    user        TEXT NOT NULL,
    name        TEXT NOT NULL,
    uidvalidity INTEGER NOT NULL,
    special_use TEXT,
    uidnext     INTEGER NOT NULL,
    modseq      INTEGER NOT NULL,       -- highest one given out
    messages    INTEGER NOT NULL,
    unseen      INTEGER NOT NULL,
    deleted     INTEGER NOT NULL,
    size        INTEGER NOT NULL,
    UNIQUE (user, name)
);
CREATE TABLE subscriptions (
    user TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (user, name)
) WITHOUT ROWID;
CREATE TABLE messages (
    mailbox_id    INTEGER NOT NULL,
    uid           INTEGER NOT NULL,
    modseq        INTEGER NOT NULL,
    flags         INTEGER NOT NULL,     -- bits of flags.py
    keywords      TEXT NOT NULL,        -- sorted, a space between
    internal_date INTEGER NOT NULL,
    internal_zone INTEGER NOT NULL,
    size          INTEGER NOT NULL,
    body          BLOB NOT NULL,        -- _core.encode_body
    PRIMARY KEY (mailbox_id, uid)
) WITHOUT ROWID;
CREATE INDEX messages_modseq ON messages (mailbox_id, modseq);
CREATE INDEX messages_unseen ON messages (mailbox_id, uid) WHERE flags & 1 = 0;
CREATE INDEX messages_answered ON messages (mailbox_id, uid) WHERE flags & 2 != 0;
CREATE INDEX messages_flagged ON messages (mailbox_id, uid) WHERE flags & 4 != 0;
CREATE INDEX messages_deleted ON messages (mailbox_id, uid) WHERE flags & 8 != 0;
CREATE INDEX messages_draft ON messages (mailbox_id, uid) WHERE flags & 16 != 0;
CREATE TABLE keywords (
    mailbox_id INTEGER NOT NULL,
    keyword    TEXT NOT NULL,
    uid        INTEGER NOT NULL,
    PRIMARY KEY (mailbox_id, keyword, uid)
) WITHOUT ROWID;
CREATE TABLE deliveries (
    delivery_id TEXT PRIMARY KEY,
    position    INTEGER NOT NULL,       -- of the record in the log, which has the tags
    placed      BLOB NOT NULL           -- _core.encode_placed
) WITHOUT ROWID;
CREATE TABLE queue (
    queue_id  INTEGER PRIMARY KEY,
    kind      TEXT NOT NULL,
    extension TEXT NOT NULL,
    sender    TEXT NOT NULL,
    recipient TEXT NOT NULL,
    body      BLOB,
    text      BLOB NOT NULL,
    state     TEXT NOT NULL,
    attempts  INTEGER NOT NULL,
    next_s    INTEGER NOT NULL,
    created_s INTEGER NOT NULL,
    note      TEXT NOT NULL
);
CREATE INDEX queue_state ON queue (state, queue_id);
CREATE TABLE kv (
    space TEXT NOT NULL,
    key   TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (space, key)
) WITHOUT ROWID;
CREATE TABLE bodies (                   -- the live ones: what retention keeps
    name  INTEGER PRIMARY KEY,          -- log position of the record that has these bytes, or had them first
    bytes INTEGER NOT NULL,             -- of its plain body
    refs  INTEGER NOT NULL              -- extents in messages and in queued messages that are not sent or dropped
);
PRAGMA user_version = {SCHEMA_VERSION};
"""


def create_schema(connection: sqlite3.Connection, log_identity: bytes) -> None:
    """Create every table in an empty database, as one transaction."""
    connection.executescript("BEGIN IMMEDIATE;" + _SCHEMA)
    connection.execute("INSERT INTO state VALUES (1, ?, 0, NULL, NULL, 1, 1, 0)", (log_identity,))
    connection.execute("COMMIT")


def schema_version(connection: sqlite3.Connection) -> int:
    """Return the version of an index; 0 when it has no tables yet."""
    row = connection.execute("PRAGMA user_version").fetchone()
    return int(row[0])


def dump(connection: sqlite3.Connection) -> dict[str, list[tuple[object, ...]]]:
    """Return every row of every table in key order, to compare two indexes."""
    return {table: sorted(connection.execute(f"SELECT * FROM {table}"), key=repr) for table in TABLES}
