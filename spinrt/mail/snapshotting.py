"""Snapshots of a running mail system: when one is due, what goes into it, and which ones stay.

A snapshot holds the mail index, the configuration file, the accounts file, and manifest and module of each extension.
Retention looks at snapshots of this store without a label; those with one, those that a mirror or a branch builds on,
and those of branches and of other stores stay until somebody deletes them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from spinrt import trace
from spinrt.errors import AlreadyExists, NotFound, SpinError, UsageError
from spinrt.mail.config import Config
from spinrt.mail.extensions import directory_of
from spinrt.mail.store.snapshots import NEWEST, Attachment, newest
from spinrt.mail.store.store import Store
from spinrt.mail.store.views import branch_bases
from spinrt.sandbox.manifest import Manifest
from spinrt.storage.background import in_background
from spinrt.storage.protocols import Snapshot
from spinrt.storage.schedule import Keep, kept
from spinrt.storage.snapshot import KIND_CONFIGURATION, KIND_EXTENSION

CONFIGURATION_OBJECT: Final = "configuration"
ACCOUNTS_OBJECT: Final = "accounts"
EXTENSION_PREFIX: Final = "extension/"
RETRY_S: Final = 60.0
"""After a snapshot that could not be taken."""

_LOG = trace.component("snapshots")


def check_label(label: str, snapshots: Iterable[Snapshot]) -> None:
    """Raise UsageError or AlreadyExists unless an operator can name one snapshot by that label, and no other."""
    if label == NEWEST or not label.strip() or not label.isprintable() or "/" in label or "\\" in label:
        raise UsageError(
            f"snapshot label {label!r}: cannot name a snapshot",
            hint=f"use printable characters without slashes, and not {NEWEST!r}",
        )
    if any(one.label == label for one in snapshots):
        raise AlreadyExists(f"snapshot label {label!r}: another snapshot has it", hint="choose another label")


def nothing_pinned() -> set[bytes]:
    return set()


class Snapshotting:
    """Takes the snapshots of one store, by hand and by interval, and deletes those that are due.

    Args:
        config: What to attach, how often, what to keep.
        store: Of what.
        pinned: Gives the snapshots that must stay for others.
    """

    def __init__(self, config: Config, store: Store, pinned: Callable[[], set[bytes]] = nothing_pinned) -> None:
        self.config = config
        self.pinned = pinned
        self._store = store
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to take snapshots by interval, unless the configuration says that there are none."""
        if self.config.snapshots.interval_s is not None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="snapshots")

    async def close(self) -> None:
        """Take no more. One that is being taken is finished when the store is closed."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def take(self, label: str = "") -> Snapshot:
        """Take a snapshot now.

        Raises:
            UsageError: The label cannot name a snapshot.
            AlreadyExists: Another one has that label.
            StorageError: As `Store.snapshot`.
        """
        if label:
            await asyncio.to_thread(self._check_label, label)
        return await self._store.snapshot(label, await asyncio.to_thread(lambda: list(attachments(self.config))))

    def _check_label(self, label: str) -> None:
        check_label(label, self._store.snapshots.pages.snapshots())

    async def expire(self) -> list[Snapshot]:
        """Delete the snapshots that retention does not keep; return them. Raises StorageError."""
        pinned = self.pinned()
        return await in_background(self._expire, pinned)

    def _expire(self, pinned: set[bytes]) -> list[Snapshot]:
        store = self._store.snapshots.pages
        stay = pinned | branch_bases(self.config.data_directory)
        found = expired(store.snapshots(), self._store.log.identity, self.config.snapshots.keep, stay)
        for snapshot in found:
            with contextlib.suppress(NotFound):  # somebody else was faster
                store.delete(snapshot.identity)
        return found

    async def _run(self) -> None:
        interval_s = self.config.snapshots.interval_s
        assert interval_s is not None
        wait_s = await self._first_wait_s(interval_s)
        while True:
            await asyncio.sleep(wait_s)
            try:
                taken = await self.take()
                gone = await self.expire()
            except SpinError as error:
                trace.log(_LOG, logging.ERROR, "snapshot failed", reason=error.line())
                wait_s = min(RETRY_S, interval_s)
            else:
                counts = {"expired": len(gone)} if gone else {}
                trace.log(_LOG, logging.INFO, "snapshot", id=taken.identity.hex()[:12], **counts)
                wait_s = interval_s

    async def _first_wait_s(self, interval_s: float) -> float:
        """Go on where the last run ended: the next one is due an interval after the newest."""
        try:
            last = await asyncio.to_thread(lambda: newest(self._store.snapshots.pages, self._store.log.identity))
        except SpinError as error:
            trace.log(_LOG, logging.ERROR, "snapshots cannot be read", reason=error.line())
            return interval_s
        since_s = interval_s if last is None else time.time() - last.time_ns / 1e9
        return min(max(interval_s - since_s, 0.0), interval_s) if last is not None else interval_s


def expired(snapshots: list[Snapshot], log_identity: bytes, keep: Keep, stay: set[bytes]) -> list[Snapshot]:
    """Return the snapshots that retention deletes: of this log, without a label, not in ``stay`` and not kept."""
    own = [one for one in snapshots if one.log_identity == log_identity]
    unlabelled = [one for one in own if not one.label]
    times = kept((one.time_ns for one in unlabelled), keep)
    last = own[-1:]  # whatever its time says: the next one is made from it
    return [
        one for one in unlabelled if one.time_ns not in times and one.identity not in stay and one not in last
    ]  # fmt: skip


def attachments(config: Config) -> Iterator[Attachment]:
    """Yield what goes into a snapshot beside the index; files that are not there are left out."""
    for name, path in ((CONFIGURATION_OBJECT, config.file), (ACCOUNTS_OBJECT, config.accounts_file)):
        if path.is_file():
            yield Attachment(name, KIND_CONFIGURATION, path)
    for extension in config.extensions.values():
        for path in _extension_files(directory_of(extension)):
            yield Attachment(f"{EXTENSION_PREFIX}{extension.name}/{path.name}", KIND_EXTENSION, path)


def _extension_files(directory: Path) -> Iterator[Path]:
    manifest = directory / "manifest.yaml"
    if not manifest.is_file():
        return
    yield manifest
    with contextlib.suppress(SpinError):
        module = directory / Manifest.read(manifest).module
        if module.is_file():
            yield module
