"""Which bodies a data directory needs and does not have: a segment was lost, or an update came without them."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from spinrt.errors import CorruptRecord, FormatUnknown, NotFound
from spinrt.mail.store.changes import OPAQUE_KINDS
from spinrt.mail.store.index import INDEX_NAME
from spinrt.mail.store.mirrored import body_names
from spinrt.mail.store.snapshots import LOG_NAME, PAGES_NAME
from spinrt.mail.store.witness import opened_index
from spinrt.storage.fsck.scratch import scratch
from spinrt.storage.log import Log
from spinrt.storage.pages import LocalPages
from spinrt.storage.protocols import Snapshot
from spinrt.storage.readonly import ReadOnlyDevice
from spinrt.storage.segment import segment_starts


def missing_names(path: Path) -> list[int]:
    """Return the names of the bodies that index or snapshots of a data directory need and its log does not hold.

    Nobody may have the directory open. None when the log cannot be opened: then it can take no bodies either. What
    cannot be read needs nothing.
    """
    device = ReadOnlyDevice(path / LOG_NAME)
    if not segment_starts(device):
        return []
    try:
        log = Log.open(path / LOG_NAME, device=device, opaque_kinds=OPAQUE_KINDS)
    except (CorruptRecord, FormatUnknown):
        return []
    with closing(log):
        return sorted(_of_index(path, log) | _of_snapshots(path, log))


def _of_index(path: Path, log: Log) -> set[int]:
    index = path / "index" / INDEX_NAME
    if not index.is_file():
        return set()
    try:
        with opened_index(index) as connection:
            return {name for (name,) in connection.execute("SELECT name FROM bodies") if not log.holds(name)}
    except sqlite3.Error:
        return set()


def _of_snapshots(path: Path, log: Log) -> set[int]:
    missing: set[int] = set()
    base: Snapshot | None = None
    device = ReadOnlyDevice(path / PAGES_NAME)
    with scratch() as directory, closing(LocalPages.open(directory, device, rebuild=True)) as pages:
        for snapshot in pages.snapshots():
            with suppress(CorruptRecord, FormatUnknown, NotFound):
                missing.update(name for name in body_names(pages, base, snapshot) if not log.holds(name))
            base = snapshot
    return missing
