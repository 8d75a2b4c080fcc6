"""Whether the bodies that a snapshot came with are those that its index speaks of.

A peer may leave bodies behind that are none of its source's: they are stored under their names before anything says
what they must hold. The index says it, as the SHA-256 of what a row's extents name; the prefix stands in the row.

Only rows that the base had not are looked at. UIDs ascend in a mailbox and are never given out again, so those are the
rows from the base's next UID on; of the queue, which is short, all that wait.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from hashlib import sha256
from typing import Final, NamedTuple

from spinrt.errors import CorruptRecord, FormatUnknown, UsageError
from spinrt.mail.store.bodies import CHUNK_BYTES_MAX
from spinrt.mail.store.codec import decode_body
from spinrt.mail.store.model import Body
from spinrt.mail.store.snapshot_index import HINT, named, open_view
from spinrt.storage.mirror.update import Bodies, Unfit
from spinrt.storage.protocols import PageStore, Snapshot
from spinrt.storage.rows import Malformed
from spinrt.storage.view import View

ROW_BYTES_MAX: Final = 16 * 1024 * 1024
"""Of a body in the index: a prefix of 1 MiB, and the extents of 150 GiB."""
REMEMBERED_MAX: Final = 1 << 16
"""Bodies that are not read again for their next copy."""

_BODY: Final = f"CASE WHEN typeof(body) = 'blob' AND length(body) <= {ROW_BYTES_MAX} THEN body END"
_MESSAGES: Final = f"SELECT uid, {_BODY} FROM messages WHERE mailbox_id = ? AND uid >= ? ORDER BY uid"
_QUEUED: Final = (
    f"SELECT queue_id, {_BODY} FROM queue WHERE body IS NOT NULL AND state NOT IN ('sent', 'dropped') ORDER BY queue_id"
)


class _Row(NamedTuple):
    said: str
    body: Body


def unfit_bodies(store: PageStore, base: Snapshot | None, target: Snapshot, log: Bodies) -> Iterator[Unfit]:
    """Yield the rows of the target's index, which the base's had not, whose bodies in the log are not what they say.

    Args:
        base: One whose bodies were found right before, of the same history; none: all rows are looked at.

    Raises:
        CorruptRecord: An index cannot be read, or a row of it is none.
        FormatUnknown: The target's index is of another version.
        DeviceFailed: The log cannot be read.

    Cost: reads and digests each body of those rows once, unless more than ``REMEMBERED_MAX`` others lie between.
    """
    fitting: set[bytes] = set()
    for said, body in _rows(store, base, target):
        key = sha256(repr((body.digest, body.extents)).encode()).digest()
        if not body.extents or key in fitting:
            continue
        problem = _problem(log, body)
        if problem is not None:
            names = tuple({extent.position: None for extent in body.extents})
            yield Unfit(f"{said}: {problem}, expected {body.digest.hex()[:12]}", names)
            continue
        if len(fitting) >= REMEMBERED_MAX:
            fitting.clear()
        fitting.add(key)


def _problem(log: Bodies, body: Body) -> str | None:
    """What is wrong with what the extents name; none: it has the digest, or a record of it is damaged on this device,
    which no peer can do to it, and which fsck tells and repairs. Holds one extent's record at a time."""
    digest = sha256()
    for name, offset, length in body.extents:
        try:
            for at in range(offset, offset + length, CHUNK_BYTES_MAX):
                digest.update(log.read_body(name, at, min(CHUNK_BYTES_MAX, offset + length - at)))
        except (CorruptRecord, UsageError) as error:
            return None if _is_damaged(log, name) else f"its body {name} cannot be read ({error.line()})"
    return None if digest.digest() == body.digest else f"its body has digest {digest.hexdigest()[:12]}"


def _is_damaged(log: Bodies, name: int) -> bool:
    try:
        log.stored_body(name)
    except CorruptRecord:
        return True
    return False


def _rows(store: PageStore, base: Snapshot | None, target: Snapshot) -> Iterator[_Row]:
    with ExitStack() as opened:
        now = opened.enter_context(closing(open_view(store, target)))
        before = None
        if base is not None:
            with suppress(FormatUnknown):  # it is of an earlier version: all rows are looked at
                before = opened.enter_context(closing(open_view(store, base)))
        try:
            for mailbox_id, _ in _ascending(now, "SELECT id, NULL FROM mailboxes ORDER BY id", ()):
                first = 0 if before is None else _next_uid(before, mailbox_id)
                for uid, body in _ascending(now, _MESSAGES, (mailbox_id, first)):
                    yield _row(f"mailbox {mailbox_id}, UID {uid}", body)
            for queue_id, body in _ascending(now, _QUEUED, ()):
                yield _row(f"queued message {queue_id}", body)
        except sqlite3.Error as error:
            raise Malformed(f"{named(target)}: cannot be read: {error}", hint=HINT) from error


def _row(said: str, body: object) -> _Row:
    if not isinstance(body, bytes):
        raise Malformed(f"index: {said}: has no body, or one of more than {ROW_BYTES_MAX} bytes", hint=HINT)
    return _Row(said, decode_body(body))


def _next_uid(before: View, mailbox_id: int) -> int:
    row = before.execute("SELECT uidnext FROM mailboxes WHERE id = ?", (mailbox_id,)).fetchone()
    return row[0] if row is not None and isinstance(row[0], int) else 0


def _ascending(view: View, sql: str, arguments: tuple[int, ...]) -> Iterator[tuple[int, object]]:
    """Rows of a query by key. A tree that has a page twice would unfold without bound: its keys do not ascend."""
    last = -1
    for key, value in view.execute(sql, arguments):
        if not isinstance(key, int) or key <= last:
            raise Malformed(f"index: row {key!r:.40} after row {last}", hint=HINT)
        last = key
        yield key, value
