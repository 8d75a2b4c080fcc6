"""Applying changes to what is not mailboxes: the outbound queue and the extensions' maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from spinrt._core import encode_body
from spinrt.errors import NotFound
from spinrt.mail.store.index import Index
from spinrt.mail.store.model import KvWrite, KvWrites, Outbound, QueueState, QueueUpdate

_INSERT: Final = "INSERT INTO queue VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, '')"
_FIND: Final = "SELECT state, body FROM queue WHERE queue_id = ?"
_DONE: Final = frozenset({QueueState.SENT.value, QueueState.DROPPED.value})
_UPDATE: Final = "UPDATE queue SET state = ?, attempts = ?, next_s = ?, note = ? WHERE queue_id = ?"


def put_outbound(index: Index, outbound: Outbound, time_s: int) -> int:
    """Queue a message, due at once; return its id."""
    queue_id = index.counters.next_queue_id
    index.counters.next_queue_id += 1
    body = None if outbound.body is None else encode_body(outbound.body)
    who = (outbound.kind, outbound.extension, outbound.sender, outbound.recipient)
    if body is not None:
        index.count_body(body, 1)
    row = (queue_id, *who, body, outbound.text, QueueState.WAITING.value, time_s, time_s)
    index.connection.execute(_INSERT, row)
    index.batch.queue_changed = True
    return queue_id


def apply_queue_update(index: Index, change: QueueUpdate) -> None:
    """Set the state of a queued message. One that is sent or dropped needs its body no more. Raises NotFound."""
    found = index.connection.execute(_FIND, (change.queue_id,)).fetchone()
    if found is None:
        raise NotFound(f"queue entry {change.queue_id}: does not exist")
    state, body = found
    kept = (change.state.value not in _DONE) - (state not in _DONE)
    if kept and body is not None:
        index.count_body(body, kept)
    row = (change.state.value, change.attempts, change.next_s, change.note, change.queue_id)
    index.connection.execute(_UPDATE, row)
    index.batch.queue_changed = True


def apply_kv_writes(index: Index, change: KvWrites) -> None:
    put_kv(index, change.writes)


def put_kv(index: Index, writes: Sequence[KvWrite]) -> None:
    """Write to extensions' maps, in order."""
    for write in writes:
        if write.value is None:
            index.connection.execute("DELETE FROM kv WHERE space = ? AND key = ?", (write.space, write.key))
        else:
            index.connection.execute(
                "INSERT OR REPLACE INTO kv VALUES (?, ?, ?)", (write.space, write.key, write.value)
            )
