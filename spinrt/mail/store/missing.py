"""Which bodies a data directory needs and does not have: a segment was lost, or an update came without them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from spinrt.errors import CorruptRecord, FormatUnknown, NotFound
from spinrt.mail.store.changes import OPAQUE_KINDS
from spinrt.mail.store.index import INDEX_NAME
from spinrt.mail.store.mirrored import body_names
from spinrt.mail.store.witness import opened_index
from spinrt.storage.datadir import LOG_NAME, PAGES_NAME
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


def needed_names(path: Path, *, strict: bool = False) -> Iterator[int]:
    """Yield the names of the bodies that index and snapshots of a data directory need, some of them more than once.

    Args:
        strict: For whoever gives up what is not needed: what cannot be read may need anything.

    Raises:
        CorruptRecord: If strict, index or a snapshot cannot be read.
    """
    index = path / "index" / INDEX_NAME
    if index.is_file():
        with _reading("index", strict), opened_index(index) as connection:
            yield from (name for (name,) in connection.execute("SELECT name FROM bodies"))
    base: Snapshot | None = None
    device = ReadOnlyDevice(path / PAGES_NAME)
    with scratch() as directory, closing(LocalPages.open(directory, device, rebuild=True)) as pages:
        for name, error in pages.damaged.items():
            with _reading(name, strict):
                raise error
        for snapshot in pages.snapshots():
            with _reading(f"snapshot {snapshot.identity.hex()[:12]}", strict):
                yield from body_names(pages, base, snapshot)
            base = snapshot


@contextmanager
def _reading(what: str, strict: bool) -> Iterator[None]:
    """Pass over what cannot be read, or if strict say what it is."""
    try:
        yield
    except (sqlite3.Error, CorruptRecord, FormatUnknown, NotFound) as error:
        if strict:
            raise CorruptRecord(
                f"{what}: cannot be read, so nobody knows which bodies it needs: {error}",
                hint="mend it first, or promote the mirror",
            ) from error
