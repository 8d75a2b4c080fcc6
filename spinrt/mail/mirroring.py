"""The source's side of mirroring in a running mail system: when updates are due, what became of them, who is behind.

For each target a task sleeps until the next update is due, has a snapshot taken, and sends it. What is known of a
target is a file, ``mirrors/<name>.json`` in the data directory: which snapshot it has, when it was last tried, what
that cost. The snapshot that a target has is the base of its next update, so it is *pinned*: retention leaves it alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from spinrt import trace
from spinrt.errors import InternalError, NotFound, PeerFailed, SpinError, StorageError
from spinrt.mail.config_mirror import MirrorTarget
from spinrt.mail.mirror_lag import Oldest, Waiting
from spinrt.mail.store.contents import unfit_bodies
from spinrt.mail.store.mirrored import body_names, judge, open_mirror
from spinrt.mail.store.thinning import thin_out
from spinrt.storage.device import sync_directory
from spinrt.storage.log import Log
from spinrt.storage.mirror import pipe
from spinrt.storage.mirror.client import Client
from spinrt.storage.mirror.directory import is_vacant
from spinrt.storage.mirror.link import Identity, in_thread, load_certificate, make_context, run_client
from spinrt.storage.mirror.sender import Sender
from spinrt.storage.mirror.source import StoreSource
from spinrt.storage.mirror.throttle import Throttle
from spinrt.storage.protocols import PageStore, Snapshot
from spinrt.storage.schedule import Keep

RECORDS_NAME: Final = "mirrors"
CONTINUOUS_PAUSE_S: Final = 0.5
"""Between two updates of a target whose interval is 0."""
RETRY_S: Final = 1.0
"""After a failed update; twice as long after each further one."""
RETRY_S_MAX: Final = 30.0
IDLE_S: Final = 30.0
"""A continuous mirror looks so often when nothing was written."""

_LOG = trace.component("mirror")


@dataclass(slots=True)
class TargetRecord:
    """What is known of one target. Times are seconds since 1970-01-01 UTC, 0 for never."""

    place: str = ""
    """Where it is: another place is another target. Empty in records of older versions."""
    snapshot: str = ""
    """Identity, in hex, of what it has."""
    position: int = 0
    """Of the log, up to which it is covered."""
    snapshot_s: float = 0.0
    """When that snapshot was taken."""
    updated_s: float = 0.0
    tried_s: float = 0.0
    error: str = ""
    """Of the last try; empty when it worked."""
    updates: int = 0
    failures: int = 0
    vanished: int = 0
    """How often nothing was there any more."""
    sent_bytes: int = 0
    """Of all updates, frames before TLS."""
    written_bytes: int = 0
    """Of the log, between the first and the last snapshot: what sending every write would have sent, at least."""
    onward_sent_bytes: int = 0
    """Of the updates that built on one before."""
    onward_written_bytes: int = 0
    last_sent_bytes: int = 0
    last_written_bytes: int = 0
    last_pages: int = 0
    last_bodies: int = 0


TakeSnapshot = Callable[[], Awaitable[Snapshot]]


class Mirroring:
    """Keeps the mirrors of one mail store up to date. Made and used on one event loop.

    Args:
        targets: By name.
        directory: The data directory; records of targets are kept below it.
        identity: This side's certificate and key, for targets elsewhere.
        take: Takes a snapshot; may return the newest one when nothing was written since.
        pages: The page store that has the snapshots.
        log: The store's log.
        tidy: Called after an update: deletes the snapshots that are due, as those of a continuous mirror are at once.
    """

    def __init__(
        self,
        targets: Mapping[str, MirrorTarget],
        directory: Path,
        identity: Callable[[], Identity],
        take: TakeSnapshot,
        pages: Callable[[], PageStore],
        log: Log,
        tidy: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self._targets = targets
        self._directory = directory / RECORDS_NAME
        self._identity = identity
        self._take = take
        self._pages = pages
        self._log = log
        self._tidy = tidy
        self._waiting = Waiting(log)
        self._locks = {name: asyncio.Lock() for name in targets}
        self._tasks: list[asyncio.Task[None]] = []
        self._sending: list[bytes] = []
        self._failed = dict.fromkeys(targets, 0)
        """Tries in a row that did not work."""
        self._covered = dict.fromkeys(targets, -1)
        """How far the log was durable when the last update of each began that worked."""
        self._stopping = threading.Event()
        self._pushed = {name: asyncio.Event() for name in targets}
        """Set when an update of a target has worked, also by hand: when the next one is due is to be looked at anew."""
        self.records = {name: record_of(self._directory, name, target) for name, target in targets.items()}

    def start(self) -> None:
        """Begin to update every target when it is due."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._run(name), name=f"mirror {name}") for name in self._targets]

    async def close(self) -> None:
        """Break off what is under way; it goes on with the next update."""
        self._stopping.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def pinned(self) -> set[bytes]:
        """Identities of the snapshots that updates build on, or are reading."""
        return {bytes.fromhex(one.snapshot) for one in self.records.values() if one.snapshot} | set(self._sending)

    async def _run(self, name: str) -> None:
        with contextlib.suppress(OSError):  # the first update will say so
            async with self._locks[name]:
                await self._look_whether_vanished(name)
        while True:
            if await self._is_pushed_meanwhile(name) or not self._is_due(name):
                continue
            try:
                await self.push(name)
            except (SpinError, OSError):
                continue  # it is noted
            except Exception as error:  # a mistake of ours must not end mirroring without a word
                _LOG.exception("update failed")
                self._note_failure(name, InternalError(f"mirror: {type(error).__name__}: {error}"))

    async def _is_pushed_meanwhile(self, name: str) -> bool:
        """Wait until the next update is due; tell whether there was one by hand before."""
        self._pushed[name].clear()
        try:
            async with asyncio.timeout(self._wait_s(name)):
                await self._pushed[name].wait()
        except TimeoutError:
            return False
        return True

    def _is_due(self, name: str) -> bool:
        """Whether there may be something to send: a continuous mirror does not ask for nothing twice a second."""
        idle_s = time.time() - self.records[name].tried_s
        idle = not self._failed[name] and self._log.durable == self._covered[name] and 0 <= idle_s < IDLE_S
        return self._targets[name].interval_s > 0 or not idle

    def _wait_s(self, name: str) -> float:
        """How long until the next update is due."""
        record, interval_s = self.records[name], self._targets[name].interval_s
        failed = self._failed[name]
        if failed:
            return min(RETRY_S * 2.0 ** min(failed - 1, 10), RETRY_S_MAX)
        if not interval_s:
            return CONTINUOUS_PAUSE_S
        return min(max(record.tried_s + interval_s - time.time(), 0.0), interval_s)

    async def push(self, name: str) -> TargetRecord:
        """Bring one target up to date now; waits for an update of it that is under way.

        Raises:
            NotFound: No such target.
            SpinError: Why it did not work; the target's record says so, too.
        """
        if name not in self._targets:
            known = ", ".join(sorted(self._targets)) or "none"
            raise NotFound(f"mirror target {name!r}: is not in the configuration", hint=f"there are: {known}")
        async with self._locks[name]:
            try:
                await self._update(name)
            except (SpinError, OSError) as error:
                self._note_failure(name, error)
                raise
        self._pushed[name].set()
        return self.records[name]

    async def _update(self, name: str) -> None:
        await self._look_whether_vanished(name)
        durable = self._log.durable
        snapshot = await self._take()
        self._sending.append(snapshot.identity)
        try:
            source = StoreSource(self._pages(), self._log, snapshot, body_names)
            sender = Sender(source)
            await carry(sender, self._targets[name], self._identity, self._stopping)
        finally:
            self._sending.remove(snapshot.identity)
        self._covered[name] = durable
        self._note_success(name, snapshot, source.base, sender)
        if self._tidy is not None:
            await self._tidy()

    async def _look_whether_vanished(self, name: str) -> None:
        """Tell of a mirror on this machine that was there and is not; it is made anew, at once. Raises OSError."""
        directory, record = self._targets[name].directory, self.records[name]
        if directory is None or not record.updated_s or not await in_thread(is_vacant, directory):
            return
        trace.log(
            _LOG, logging.WARNING, "target vanished", target=name, directory=directory, had=record.snapshot,
            hint="it is made anew from the newest snapshot; older ones that only it had are gone",
        )  # fmt: skip
        record.vanished += 1
        record.snapshot, record.position, record.snapshot_s = "", 0, 0.0
        record.updated_s = record.tried_s = 0.0
        with contextlib.suppress(StorageError):
            write_record(self._directory, name, record)

    def _note_success(self, name: str, snapshot: Snapshot, base: Snapshot | None, sender: Sender) -> None:
        record, traffic = self.records[name], sender.traffic
        written = 0
        if sender.moved:
            onward = base is not None and base.log_identity == snapshot.log_identity
            written = max(snapshot.position - (base.position if base and onward else self._log.start), 0)
            record.onward_sent_bytes += traffic.sent_bytes if onward else 0
            record.onward_written_bytes += written if onward else 0
        record.snapshot, record.position = snapshot.identity.hex(), snapshot.position
        record.snapshot_s = snapshot.time_ns / 1e9
        record.updated_s = record.tried_s = time.time()
        record.error = ""
        self._failed[name] = 0
        record.updates += sender.moved
        record.sent_bytes += traffic.sent_bytes
        record.written_bytes += written
        record.last_sent_bytes, record.last_written_bytes = traffic.sent_bytes, written
        record.last_pages, record.last_bodies = traffic.pages_moved, traffic.bodies_moved
        write_record(self._directory, name, record)
        level = logging.INFO if sender.moved else logging.DEBUG
        trace.log(
            _LOG, level, "updated", target=name, sent=traffic.sent_bytes, pages=traffic.pages_moved,
            bodies=traffic.bodies_moved, position=snapshot.position,
        )  # fmt: skip

    def _note_failure(self, name: str, error: SpinError | OSError) -> None:
        record = self.records[name]
        reason = error.line() if isinstance(error, SpinError) else str(error)
        if reason != record.error:  # a mirror that is away for a day is one line
            trace.log(_LOG, logging.WARNING, "not updated", target=name, reason=reason)
        record.error, record.tried_s = reason, time.time()
        record.failures += 1
        self._failed[name] += 1
        with contextlib.suppress(OSError):
            write_record(self._directory, name, record)

    def describe(self) -> list[dict[str, Any]]:
        """Every target: its record, and how far it is behind."""
        return [
            describe_target(name, record, self._oldest_waiting(name, record), self._log.durable)
            for name, record in self.records.items()
        ]

    def _oldest_waiting(self, name: str, record: TargetRecord) -> Oldest | None:
        return self._waiting.oldest(name, record.position, int(record.snapshot_s * 1e9))


def describe_target(name: str, record: TargetRecord, oldest: Oldest | None, end: int) -> dict[str, Any]:
    """One target as JSON: the record; ``lag_bytes`` and ``lag_s``: of the log from the oldest change that the target
    does not have up to ``end``, and that change's age; ``saved``: the share of what was written that updates need not
    send which build on one before, below 0 when they sent more; none before there was one.
    """
    behind, lag_s = (0, 0.0) if record.updated_s else (None, None)
    if behind is not None and oldest is not None:
        behind, lag_s = max(end - oldest.position, 0), max(time.time() - oldest.time_ns / 1e9, 0.0)
    written = record.onward_written_bytes
    saved = 1 - record.onward_sent_bytes / written if written else None
    return {"target": name, **asdict(record), "lag_bytes": behind, "lag_s": lag_s, "saved": saved}


async def carry(
    client: Client, target: MirrorTarget, identity: Callable[[], Identity], stopping: threading.Event | None = None
) -> None:
    """Carry an update or a repair through, to wherever the target is.

    Args:
        stopping: Ends it when it is set; a thread cannot be cancelled.

    Raises:
        SpinError: What either side raised.
    """
    if target.directory is not None:
        await in_thread(carry_here, client, target.directory, target.bytes_per_s, target.keep, stopping)
        return
    assert target.at is not None
    assert target.certificate is not None
    pinned = load_certificate(target.certificate)
    context = make_context(identity(), [pinned], server=False)
    await run_client(client, target.at.host, target.at.port, context, pinned, bytes_per_s=target.bytes_per_s)


def carry_here(
    client: Client,
    directory: Path,
    bytes_per_s: int | None = None,
    keep: Keep | None = None,
    stopping: threading.Event | None = None,
) -> None:
    """Carry an update or a repair through to a mirror in a directory of this machine, then delete what is due there.

    Raises:
        PeerFailed: ``stopping`` was set; what arrived is kept.
        SpinError: What either side raised.
    """
    throttle, stopped = Throttle(bytes_per_s, time.monotonic()), stopping or threading.Event()

    def spend(count: int) -> None:
        if stopped.wait(throttle.spend(count, time.monotonic())):
            raise PeerFailed(f"mirror {directory}: broken off, this side stops", hint="the next update goes on")

    mirror = open_mirror(directory)
    receiver = None
    try:
        receiver = mirror.receiver(judge, contents=unfit_bodies)
        pipe.run(client, receiver, spend)
        if receiver.updated is not None and keep is not None:
            thin_out(mirror, keep)
    finally:
        mirror.end(receiver)
        mirror.close()


def read_record(directory: Path, name: str) -> TargetRecord:
    """Return what is known of a target; what cannot be read is as good as nothing: the next update finds out."""
    try:
        found = json.loads((directory / f"{name}.json").read_text(encoding="utf-8"))
        known = asdict(TargetRecord())
        record = TargetRecord(**{key: type(usual)(found[key]) for key, usual in known.items() if key in found})
        bytes.fromhex(record.snapshot)
        return record
    except (OSError, ValueError, TypeError):
        return TargetRecord()


def record_of(directory: Path, name: str, target: MirrorTarget) -> TargetRecord:
    """Return what is known of a target where it is now: nothing, when the name was another place's before."""
    record, place = read_record(directory, name), str(target.directory or target.at)
    if record.place not in ("", place):
        record = TargetRecord()
    record.place = place
    return record


def recorded_pins(data_directory: Path, targets: Iterable[str]) -> set[bytes]:
    """Identities of the snapshots that the next updates of those targets build on."""
    records = (read_record(data_directory / RECORDS_NAME, name) for name in targets)
    return {bytes.fromhex(one.snapshot) for one in records if one.snapshot}


def write_record(directory: Path, name: str, record: TargetRecord) -> None:
    """Replace a target's record. Raises StorageError."""
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        new = directory / f"{name}.json.new"
        with new.open("w", encoding="utf-8") as file:
            json.dump(asdict(record), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        new.rename(directory / f"{name}.json")
        sync_directory(directory)
    except OSError as error:
        raise StorageError(
            f"{directory / name}.json: {error.strerror}", hint="the mirror itself is up to date"
        ) from error
