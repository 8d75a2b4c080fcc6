"""How far the log was known to be durable by what was built from it: the index and the snapshots.

Only durable records are applied, and only applied ones are in a snapshot. So whatever these cover was durable, also
when the log's end cannot be read any more: recovery asks before it takes a bad record for a torn one, and fsck says the
same. Nothing here is changed, and what cannot be read says nothing.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from spinrt.errors import StorageError
from spinrt.mail.store.index import INDEX_NAME
from spinrt.storage.datadir import PAGES_NAME
from spinrt.storage.device import Device
from spinrt.storage.protocols import Snapshot
from spinrt.storage.readonly import ReadOnlyDevice
from spinrt.storage.snapshot import FILE_BYTES_MAX, SUFFIX, decode_snapshot


def covered_position(directory: Path, identity: bytes, pages_device: Device | None = None) -> int:
    """Return up to which position index or snapshots of a data directory cover the log of that identity, or 0.

    Args:
        pages_device: Where snapshots are; by default files below the data directory.
    """
    snapshots = snapshots_cover(pages_device or ReadOnlyDevice(directory / PAGES_NAME), identity)
    return max(snapshots, _index_covers(directory / "index" / INDEX_NAME, identity))


def snapshots_cover(device: Device, identity: bytes) -> int:
    """Return up to which position the snapshots on a device cover the log of that identity, or 0."""
    return max((one.position for one in snapshots_on(device) if one.log_identity == identity), default=0)


def snapshots_on(device: Device) -> Iterator[Snapshot]:
    """Yield the snapshots on a device, whoever owns it, in no order; what cannot be read is left out."""
    for name in device.list():
        if not name.endswith(SUFFIX):
            continue
        with contextlib.suppress(OSError, StorageError), contextlib.closing(device.open(name)) as file:
            yield decode_snapshot(file.read(0, FILE_BYTES_MAX + 1), name)


def _index_covers(path: Path, identity: bytes) -> int:
    if not path.is_file():
        return 0
    try:
        with opened_index(path) as connection:
            row = connection.execute("SELECT applied FROM state WHERE log_identity = ?", (identity,)).fetchone()
    except sqlite3.Error:
        return 0
    return row[0] if row and isinstance(row[0], int) else 0


@contextlib.contextmanager
def opened_index(path: Path) -> Iterator[sqlite3.Connection]:
    """Open an index for reading. Beside a write-ahead log SQLite needs a file more; it is gone afterwards."""
    beside = path.with_name(path.name + "-shm")
    was_there = beside.exists()
    alone = "" if path.with_name(path.name + "-wal").exists() else "&immutable=1"
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro{alone}", uri=True, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()
        if not was_there:
            beside.unlink(missing_ok=True)
