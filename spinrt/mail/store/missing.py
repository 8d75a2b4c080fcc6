"""Which bodies a data directory needs and does not have: a segment was lost, or an update came without them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
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
        return sorted({name for name in needed_names(path) if not log.holds(name)})


def needed_names(path: Path) -> Iterator[int]:
    """Yield the names of the bodies that index and snapshots of a data directory need, some of them more than once."""
    index = path / "index" / INDEX_NAME
    if index.is_file():
        with suppress(sqlite3.Error), opened_index(index) as connection:
            yield from (name for (name,) in connection.execute("SELECT name FROM bodies"))
    base: Snapshot | None = None
    device = ReadOnlyDevice(path / PAGES_NAME)
    with scratch() as directory, closing(LocalPages.open(directory, device, rebuild=True)) as pages:
        for snapshot in pages.snapshots():
            with suppress(CorruptRecord, FormatUnknown, NotFound):
                yield from body_names(pages, base, snapshot)
            base = snapshot
