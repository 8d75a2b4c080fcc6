"""Bytes on disk for a byte of mail: log and index together, as deliveries through the store leave them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from benchmarks.storage.filling import START_S, delivery, disk_bytes
from benchmarks.storage.generator import Generator
from spinrt.cli.demo_source import open_source
from spinrt.mail.store.model import Deliver
from spinrt.mail.store.store import Store

SEED: Final = 7
USER: Final = "user"
BATCH: Final = 200


@dataclass(frozen=True, slots=True)
class DiskFound:
    """Bytes."""

    messages: int
    message_bytes: int
    log_bytes: int
    index_bytes: int

    @property
    def per_byte(self) -> float:
        return (self.log_bytes + self.index_bytes) / self.message_bytes


def mail(count: int, source: Path | None) -> Iterator[bytes]:
    """So many messages: the user's own, or generated."""
    if source is None:
        yield from Generator(SEED).messages(count)
    else:
        yield from islice((message.wire for message in open_source(source).messages()), count)


def measure(directory: Path, messages: Iterable[bytes]) -> DiskFound:
    """Deliver the messages to one account, close the store, and look at its files."""
    count, message_bytes = asyncio.run(_fill(directory, messages))
    index = disk_bytes(directory / "index")
    return DiskFound(count, message_bytes, disk_bytes(directory) - index, index)


async def _fill(directory: Path, messages: Iterable[bytes]) -> tuple[int, int]:
    store = Store.open(directory)
    count = message_bytes = 0
    try:
        await store.ensure_account(USER)
        remaining = iter(messages)
        while batch := list(islice(remaining, BATCH)):
            await asyncio.gather(*(store.submit(_delivery(store, count + n, one)) for n, one in enumerate(batch)))
            count += len(batch)
            message_bytes += sum(map(len, batch))
    finally:
        await store.close()
    return count, message_bytes


def _delivery(store: Store, number: int, message: bytes) -> Deliver:
    writer = store.body_writer()
    writer.write(message)
    delivery_id = f"{START_S:x}-{number:08x}-{hashlib.sha256(message).hexdigest()[:8]}"
    return delivery(USER, delivery_id, writer, START_S + number)
