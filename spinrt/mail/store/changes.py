"""Changes as log records, and back.

Owns the numbers of record kinds and the order of fields. The body of a change's record is a u8 version (1) and the
fields of its class in ``model`` in the order they stand there, each as `RecordWriter` writes them: names, addresses and
flags as text, ids and sizes as u64, UIDs as u32, dates as i64, zones as i32, enums as the u8 of `_MODES` and `_STATES`.
docs/formats/mail-records.md spells it out. Kinds 0x0100 … 0x01FF belong to the mail store; others are not looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from spinrt._core import RecordWriter, encode_deliver
from spinrt.errors import FormatUnknown, UsageError
from spinrt.mail.store.codec import Reader
from spinrt.mail.store.model import (
    Append,
    Change,
    Copy,
    CopyMessages,
    CreateMailbox,
    DeleteMailbox,
    Deliver,
    Expunge,
    FlagsMode,
    KvWrite,
    KvWrites,
    Outbound,
    QueueState,
    QueueUpdate,
    RenameMailbox,
    StoreFlags,
    Subscribe,
)

VERSION: Final = 1
KIND_BODY: Final = 0x0100
"""A run of a message's bytes; the record's body is those bytes and nothing else."""
KIND_DELIVER: Final = 0x0101
OPAQUE_KINDS: Final = frozenset({KIND_BODY})
"""Of records that only who reads the message needs."""
KIND_FIRST: Final = 0x0100
KIND_LAST: Final = 0x01FF

_MODES: Final = (FlagsMode.SET, FlagsMode.ADD, FlagsMode.REMOVE)
_STATES: Final = (QueueState.WAITING, QueueState.HELD, QueueState.SENT, QueueState.FAILED, QueueState.DROPPED)


def encode_change(change: Change) -> tuple[int, bytes]:
    """Return the kind and the body of the record for a change.

    Raises:
        UsageError: A value is out of range, or the change is of no known class.
    """
    if type(change) is Deliver:
        return KIND_DELIVER, encode_deliver(VERSION, change)
    known = _BY_CLASS.get(type(change))
    if known is None:
        raise UsageError(f"change: {type(change).__name__} is not a change")
    kind, write, _ = known
    writer = RecordWriter(VERSION)
    write(writer, change)
    return kind, writer.take()


def is_change(kind: int) -> bool:
    """Whether records of a kind hold changes of the mail store."""
    return kind != KIND_BODY and KIND_FIRST <= kind <= KIND_LAST


def decode_change(kind: int, body: bytes) -> Change | None:
    """Return the change that a record holds; none for a run of a message's bytes and for kinds of other owners.

    Raises:
        CorruptRecord: The bytes are no such change.
        FormatUnknown: A newer version wrote it.
    """
    if not is_change(kind):
        return None
    known = _BY_KIND.get(kind)
    if known is None:
        raise FormatUnknown(f"mail record of kind {kind:#06x}: not known", hint="a newer spinrt wrote it; run that")
    name, read = known
    reader = Reader(body, f"{name} record")
    version = reader.u8()
    if version != VERSION:
        raise FormatUnknown(
            f"{name} record: version {version}, expected {VERSION}", hint="a newer spinrt wrote it; run that"
        )
    change = read(reader)
    reader.end()
    return change


def _choice(reader: Reader, values: tuple[Any, ...]) -> Any:
    number = reader.u8()
    if number >= len(values):
        raise reader.fail(f"found {number}, expected 0 … {len(values) - 1}")
    return values[number]


def _read_deliver(r: Reader) -> Deliver:
    return Deliver(
        delivery_id=r.text(),
        protocol=r.text(),
        peer=r.text(),
        sender=r.text(),
        recipients=r.texts(),
        body=r.body(),
        copies=r.items(lambda: Copy(r.text(), r.text(), r.texts(), r.blob())),
        received_s=r.i64(),
        outbound=r.items(lambda: _read_outbound(r)),
        kv=r.items(lambda: _read_kv(r)),
        tags=r.items(lambda: (r.text(), r.text(), r.blob())),
    )


def _read_outbound(r: Reader) -> Outbound:
    return Outbound(r.text(), r.text(), r.text(), r.text(), r.option(r.body), r.blob())


def _read_kv(r: Reader) -> KvWrite:
    return KvWrite(r.text(), r.text(), r.option(r.blob))


def _write_append(w: RecordWriter, c: Append) -> None:
    w.u64(c.mailbox_id)
    w.body(c.body)
    w.texts(c.flags)
    w.i64(c.internal_date)
    w.i32(c.internal_zone)


def _read_append(r: Reader) -> Append:
    return Append(r.u64(), r.body(), r.texts(), r.i64(), r.i32())


def _write_store_flags(w: RecordWriter, c: StoreFlags) -> None:
    w.u64(c.mailbox_id)
    w.numbers(c.uids)
    w.u8(_MODES.index(c.mode))
    w.texts(c.flags)
    w.option(c.unchanged_since, w.u64)


def _read_store_flags(r: Reader) -> StoreFlags:
    return StoreFlags(r.u64(), r.numbers(), _choice(r, _MODES), r.texts(), r.option(r.u64))


def _write_expunge(w: RecordWriter, c: Expunge) -> None:
    w.u64(c.mailbox_id)
    w.option(c.uids, w.numbers)
    w.u8(c.deleted_only)


def _read_expunge(r: Reader) -> Expunge:
    return Expunge(r.u64(), r.option(r.numbers), r.bool())


def _write_copy_messages(w: RecordWriter, c: CopyMessages) -> None:
    w.u64(c.mailbox_id)
    w.numbers(c.uids)
    w.u64(c.target_id)
    w.u8(c.move)


def _read_copy_messages(r: Reader) -> CopyMessages:
    return CopyMessages(r.u64(), r.numbers(), r.u64(), r.bool())


def _write_create(w: RecordWriter, c: CreateMailbox) -> None:
    w.text(c.user)
    w.text(c.name)
    w.option(c.special_use, w.text)


def _read_create(r: Reader) -> CreateMailbox:
    return CreateMailbox(r.text(), r.text(), r.option(r.text))


def _write_delete(w: RecordWriter, c: DeleteMailbox) -> None:
    w.text(c.user)
    w.text(c.name)


def _read_delete(r: Reader) -> DeleteMailbox:
    return DeleteMailbox(r.text(), r.text())


def _write_rename(w: RecordWriter, c: RenameMailbox) -> None:
    w.text(c.user)
    w.text(c.name)
    w.text(c.new_name)


def _read_rename(r: Reader) -> RenameMailbox:
    return RenameMailbox(r.text(), r.text(), r.text())


def _write_subscribe(w: RecordWriter, c: Subscribe) -> None:
    w.text(c.user)
    w.text(c.name)
    w.u8(c.subscribed)


def _read_subscribe(r: Reader) -> Subscribe:
    return Subscribe(r.text(), r.text(), r.bool())


def _write_queue_update(w: RecordWriter, c: QueueUpdate) -> None:
    w.u64(c.queue_id)
    w.u8(_STATES.index(c.state))
    w.u32(c.attempts)
    w.i64(c.next_s)
    w.text(c.note)


def _read_queue_update(r: Reader) -> QueueUpdate:
    return QueueUpdate(r.u64(), _choice(r, _STATES), r.u32(), r.i64(), r.text())


def _write_kv_writes(w: RecordWriter, c: KvWrites) -> None:
    w.items(c.writes, w.kv)


def _read_kv_writes(r: Reader) -> KvWrites:
    return KvWrites(r.items(lambda: _read_kv(r)))


_TABLE: Final[tuple[tuple[int, type[Any], Callable[[RecordWriter, Any], None], Callable[[Reader], Change]], ...]] = (
    (KIND_DELIVER, Deliver, RecordWriter.deliver, _read_deliver),
    (0x0102, Append, _write_append, _read_append),
    (0x0103, StoreFlags, _write_store_flags, _read_store_flags),
    (0x0104, Expunge, _write_expunge, _read_expunge),
    (0x0105, CopyMessages, _write_copy_messages, _read_copy_messages),
    (0x0106, CreateMailbox, _write_create, _read_create),
    (0x0107, DeleteMailbox, _write_delete, _read_delete),
    (0x0108, RenameMailbox, _write_rename, _read_rename),
    (0x0109, Subscribe, _write_subscribe, _read_subscribe),
    (0x010A, QueueUpdate, _write_queue_update, _read_queue_update),
    (0x010B, KvWrites, _write_kv_writes, _read_kv_writes),
)
_BY_CLASS: Final = {kind_class: (kind, write, read) for kind, kind_class, write, read in _TABLE}
_BY_KIND: Final = {kind: (kind_class.__name__, read) for kind, kind_class, _, read in _TABLE}
CHANGE_NAMES: Final = tuple(kind_class.__name__.lower() for _, kind_class, _, _ in _TABLE)
"""What the kinds of records that hold changes are called."""
