"""Applying one change to the index: the step function of the store's state machine.

Deterministic: the result depends on the index and the record (position, time, change) alone. An `Outcome` or a
`MailError` is the result; after a MailError nothing was changed. Any other error is no result: the batch is undone.
"""

from __future__ import annotations

from spinrt.errors import InternalError
from spinrt.mail.store.apply_deliver import apply_append, apply_deliver
from spinrt.mail.store.apply_mailboxes import apply_create, apply_delete, apply_subscribe
from spinrt.mail.store.apply_messages import apply_copy, apply_expunge, apply_store_flags
from spinrt.mail.store.apply_queue import apply_kv_writes, apply_queue_update
from spinrt.mail.store.apply_rename import apply_rename
from spinrt.mail.store.index import Index
from spinrt.mail.store.model import (
    Append,
    Change,
    CopyMessages,
    CreateMailbox,
    DeleteMailbox,
    Deliver,
    Expunge,
    KvWrites,
    Outcome,
    QueueUpdate,
    RenameMailbox,
    StoreFlags,
    Subscribe,
)

NANOSECONDS = 1_000_000_000


def apply_change(index: Index, change: Change, *, position: int, time_ns: int) -> Outcome:
    """Apply the change of the record at ``position``; inside ``Index.transaction``.

    Raises:
        MailError: It cannot be applied to this state; nothing was changed.
        sqlite3.Error: The index failed.
    """
    index.counters.last_position, index.counters.last_time_ns = position, time_ns
    time_s = time_ns // NANOSECONDS
    match change:
        case Deliver():
            return apply_deliver(index, change, position=position, time_s=time_s)
        case Append():
            return apply_append(index, change)
        case StoreFlags():
            return apply_store_flags(index, change)
        case Expunge():
            return apply_expunge(index, change)
        case CopyMessages():
            return apply_copy(index, change)
        case CreateMailbox():
            return apply_create(index, change, time_s)
        case RenameMailbox():
            return apply_rename(index, change, time_s)
        case _:
            _apply_without_outcome(index, change)
            return None


def _apply_without_outcome(index: Index, change: Change) -> None:
    match change:
        case DeleteMailbox():
            apply_delete(index, change)
        case Subscribe():
            apply_subscribe(index, change)
        case QueueUpdate():
            apply_queue_update(index, change)
        case KvWrites():
            apply_kv_writes(index, change)
        case _:
            raise InternalError(f"change {type(change).__name__}: nothing applies it")
