"""Applying changes to what is not mailboxes: the outbound queue and the extensions' maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from spinrt._core import encode_body
from spinrt.errors import NotFound
from spinrt.mail.store.index import Index
from spinrt.mail.store.model import KvWrite, KvWrites, Outbound, QueueState, QueueUpdate

_INSERT: Final = "INSERT INTO queue VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, '')"
_UPDATE: Final = "UPDATE queue SET state = ?, attempts = ?, next_s = ?, note = ? WHERE queue_id = ?"


def put_outbound(index: Index, outbound: Outbound, time_s: int) -> int:
    """Queue a message, due at once; return its id."""
    queue_id = index.counters.next_queue_id
    index.counters.next_queue_id += 1
    body = None if outbound.body is None else encode_body(outbound.body)
    who = (outbound.kind, outbound.extension, outbound.sender, outbound.recipient)
    row = (queue_id, *who, body, outbound.text, QueueState.WAITING.value, time_s, time_s)
    index.connection.execute(_INSERT, row)
    index.batch.queue_changed = True
    return queue_id


def apply_queue_update(index: Index, change: QueueUpdate) -> None:
    """Set the state of a queued message. Raises NotFound."""
    row = (change.state.value, change.attempts, change.next_s, change.note, change.queue_id)
    if index.connection.execute(_UPDATE, row).rowcount == 0:
        raise NotFound(f"queue entry {change.queue_id}: does not exist")
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
