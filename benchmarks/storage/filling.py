"""Filling a store quickly: through log and index themselves, without the loop between them. Durable in the end."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from spinrt.mail.store.apply import apply_change
from spinrt.mail.store.bodies import BodyWriter
from spinrt.mail.store.changes import KIND_BODY, encode_change
from spinrt.mail.store.index import Index
from spinrt.mail.store.model import Change, Copy, CreateMailbox, Deliver
from spinrt.mail.store.recovery import open_index
from spinrt.storage.datadir import DataDirectory
from spinrt.storage.log import Log

START_S: Final = 1_790_000_000
BATCH: Final = 5000


def user_name(number: int) -> str:
    """The first of them is the account that servers of the benchmarks have."""
    return "user" if number == 0 else f"user{number:04d}"


def small_bodies(count: int) -> Iterator[bytes]:
    """So many messages of about 350 bytes, no two the same: for stores where the count is what matters."""
    for number in range(count):
        mark = hashlib.sha256(b"%d" % number).hexdigest()
        yield (
            f"From: a <a{number % 97}@example.org>\r\nTo: b@example.com\r\nSubject: number {number}\r\n"
            f"Date: Fri, 20 Nov 2026 10:00:00 +0000\r\nMessage-ID: <{mark}@example.org>\r\n"
            f"\r\n{mark[:32]}\r\n{mark}\r\n"
        ).encode()


def delivery(user: str, delivery_id: str, writer: BodyWriter, received_s: int) -> Deliver:
    """A message that has been written, into a user's INBOX."""
    return Deliver(
        delivery_id=delivery_id,
        protocol="smtp",
        peer="192.0.2.1",
        sender="sender@example.org",
        recipients=(f"{user}@example.com",),
        body=writer.finish(),
        copies=(Copy(user, "INBOX"),),
        received_s=received_s,
    )


class Filler:
    """Writes deliveries into a new data directory."""

    def __init__(self, path: Path, users: int) -> None:
        self._directory = DataDirectory.open(path)
        self._log = Log.open(self._directory.log_path)
        self._index: Index = open_index(self._directory.index_path, self._log)
        self._users = users
        self._count = 0
        self.message_bytes = 0
        self._apply([self._append(CreateMailbox(user_name(number), "INBOX")) for number in range(users)])

    def fill(self, messages: Iterable[bytes]) -> None:
        """Deliver messages to the users' INBOXes in turn."""
        remaining = iter(messages)
        while batch := list(islice(remaining, BATCH)):
            self._apply([self._append(self._delivery(message)) for message in batch])

    def _delivery(self, message: bytes) -> Deliver:
        writer = BodyWriter(self._append_chunk, self._log)
        writer.write(message)
        self._count += 1
        self.message_bytes += len(message)
        user = user_name(self._count % self._users)
        return delivery(user, f"{START_S * 10**9 + self._count:x}", writer, START_S + self._count // 100)

    def _append_chunk(self, chunk: bytes, sha256: bytes | None) -> int:
        return self._log.append(
            KIND_BODY, (chunk,), time_ns=START_S * 10**9 + self._count, sha256=sha256, may_compress=True
        )

    def _append(self, change: Change) -> tuple[int, int, Change]:
        kind, body = encode_change(change)
        time_ns = START_S * 10**9 + self._count
        return self._log.append(kind, (body,), time_ns=time_ns), time_ns, change

    def _apply(self, changes: list[tuple[int, int, Change]]) -> None:
        with self._index.transaction(self._log.sync()):
            for position, time_ns, change in changes:
                apply_change(self._index, change, position=position, time_ns=time_ns)

    def close(self) -> None:
        """Move everything into the index's file and close."""
        self._index.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._index.close()
        self._log.close()
        self._directory.close()


def disk_bytes(path: Path) -> int:
    """Bytes of all files of a data directory."""
    return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())
