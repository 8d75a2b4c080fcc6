"""What a mirror sends on an hour of mail in which much is deleted again, at several intervals, for real.

The hour is simulated: a minute's changes are made as fast as they can, then each mirror whose interval ends is brought
up to date through the whole protocol, into a directory. *Every write* is what the process wrote to files meanwhile, but
for snapshots and mirrors: what a replication of blocks would send. *A full copy* is what the first update sent.

The trace, from a seed: messages arrive evenly; ``DELETED`` of them are deleted, after a time that is exponentially
distributed with a mean of ``KEPT_MINUTES``; of the others a third is marked as read, and one old message is deleted for
every ten that arrive.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.storage.filling import Filler, user_name
from benchmarks.storage.generator import Generator
from spinrt.mail.mirroring import carry_here
from spinrt.mail.store.mirrored import body_names
from spinrt.mail.store.model import Append, Appended, Change, Expunge, FlagsMode, StoreFlags
from spinrt.mail.store.store import Store
from spinrt.storage.mirror.sender import Sender
from spinrt.storage.mirror.source import StoreSource

MINUTES: Final = 60
INTERVALS: Final = (1, 15, 60)
DELETED: Final = 0.6
KEPT_MINUTES: Final = 6.0
USERS: Final = 50
SEED: Final = 11
_WRITTEN: Final = re.compile(r"^wchar: (\d+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Scale:
    """Messages that are there before, and that arrive in each minute."""

    old: int
    per_minute: int


@dataclass(slots=True)
class MirrorFound:
    """Bytes. ``sent`` by interval in minutes."""

    full_copy: int = 0
    every_write: int = 0
    log_written: int = 0
    messages: int = 0
    sent: dict[int, int] = field(default_factory=lambda: dict.fromkeys(INTERVALS, 0))
    updates: dict[int, int] = field(default_factory=lambda: dict.fromkeys(INTERVALS, 0))


def measure(directory: Path, scale: Scale) -> MirrorFound:
    """Run the hour below an empty directory."""
    source = directory / "source"
    generator = Generator(SEED)
    filler = Filler(source, USERS)
    filler.fill(generator.messages(scale.old))
    filler.close()
    return asyncio.run(_hour(directory, source, generator, scale))


async def _hour(directory: Path, source: Path, generator: Generator, scale: Scale) -> MirrorFound:
    found = MirrorFound()
    store = Store.open(source)
    try:
        for interval in INTERVALS:
            found.full_copy = await _update(store, directory / f"mirror-{interval}")
        trace = Trace(store, generator, scale)
        started = store.log.durable
        for minute in range(1, MINUTES + 1):
            before = written_bytes()
            await trace.minute(minute)
            found.every_write += written_bytes() - before
            for interval in INTERVALS:
                if minute % interval == 0:
                    found.sent[interval] += await _update(store, directory / f"mirror-{interval}")
                    found.updates[interval] += 1
        found.log_written = store.log.durable - started
        found.messages = trace.arrived
    finally:
        await store.close()
    return found


async def _update(store: Store, mirror: Path) -> int:
    """Bring a mirror up to now; return what was sent."""
    snapshot = await store.snapshot()
    sender = Sender(StoreSource(store.snapshots.pages, store.log, snapshot, body_names))
    await asyncio.to_thread(carry_here, sender, mirror)
    return sender.traffic.sent_bytes


def written_bytes() -> int:
    """What this process wrote so far, in all."""
    found = _WRITTEN.search(Path("/proc/self/io").read_text())
    return int(found[1]) if found else 0


class Trace:
    """The changes, minute by minute."""

    def __init__(self, store: Store, generator: Generator, scale: Scale) -> None:
        self.arrived = 0
        self._store = store
        self._generator = generator
        self._scale = scale
        self._random = random.Random(SEED)
        self._boxes = [self._inbox(number) for number in range(USERS)]
        self._due: dict[int, list[tuple[int, int]]] = defaultdict(list)
        """Minute → mailbox and UID of messages that are deleted then."""

    def _inbox(self, number: int) -> int:
        mailbox = self._store.mailbox(user_name(number), "INBOX")
        assert mailbox is not None
        return mailbox.id

    async def minute(self, minute: int) -> None:
        for _ in range(self._scale.per_minute):
            await self._arrive(minute)
        changes: list[Change] = [Expunge(box, (uid,), deleted_only=False) for box, uid in self._due.pop(minute, ())]
        for _ in range(self._scale.per_minute // 10):
            box = self._random.choice(self._boxes)
            uids = self._store.uids(box)
            if uids:
                changes.append(Expunge(box, (uids[self._random.randrange(len(uids))],), deleted_only=False))
        for change in changes:
            await self._store.submit(change)

    async def _arrive(self, minute: int) -> None:
        box = self._random.choice(self._boxes)
        writer = self._store.body_writer()
        writer.write(self._generator.message(self.arrived))
        self.arrived += 1
        outcome = await self._store.submit(Append(box, writer.finish(), (), minute, 0))
        assert isinstance(outcome, Appended)
        uid = outcome.uid
        if self._random.random() < DELETED:
            self._due[minute + int(self._random.expovariate(1 / KEPT_MINUTES))].append((box, uid))
        elif self._random.random() < 1 / 3:
            await self._store.submit(StoreFlags(box, (uid,), FlagsMode.ADD, ("\\Seen",)))
