"""Keeping a mirror small: snapshots that are due go, and so do the bodies that none of the others needs.

The log of a mirror holds carried bodies alone, so what is live in it is what its snapshots refer to. Moving the live
ones out of old segments costs writing them again; it is done when the log has doubled since the last time, so a byte is
moved about once, and the log stays below twice what is live (and `LOG_BYTES_MIN`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

from spinrt.errors import StateError
from spinrt.mail.store.mirrored import open_mirror
from spinrt.mail.store.retention import BODY_KINDS, LiveBodies
from spinrt.mail.store.snapshots import find_snapshot
from spinrt.storage.files import device_error
from spinrt.storage.mirror.directory import MirrorDirectory
from spinrt.storage.protocols import Snapshot
from spinrt.storage.retention import YOUNG_S, Expired, Mover, Retention, plan
from spinrt.storage.schedule import Keep

LOG_BYTES_MIN: Final = 256 * 1024 * 1024
"""A smaller log is left alone."""
GROWTH: Final = 2

_ALL: Final = Retention(log_bytes_max=1)


class Thinned(NamedTuple):
    """What went."""

    snapshots: int
    log: Expired


def discard(path: Path, wanted: Sequence[str]) -> list[Snapshot]:
    """Delete snapshots of a mirror that nobody has open: those set aside, or any but the current one.

    Args:
        wanted: As `find_snapshot` takes them. Either all of them go or none.

    Raises:
        NotFound: It is no mirror, or has no such snapshot.
        StateError: One is the current snapshot.
        StorageError: What was not deleted is there still.
    """
    mirror = open_mirror(path, create=False)
    try:
        current = mirror.standing().current
        found = [find_snapshot(path, mirror.pages.snapshots(), one) for one in wanted]
        for snapshot in found:
            if snapshot.identity == current:
                raise StateError(f"mirror {path}: snapshot {snapshot.identity.hex()[:12]} is what it has now")
        for snapshot in found:
            mirror.pages.delete(snapshot.identity)
    finally:
        mirror.close()
    return found


def thin_out(
    mirror: MirrorDirectory, keep: Keep, *, log_bytes_min: int = LOG_BYTES_MIN, young_s: float = YOUNG_S
) -> Thinned:
    """Delete what is due in a mirror that no update is under way into.

    Args:
        keep: Which snapshots stay; see `MirrorDirectory.prune`.
        log_bytes_min: See `LOG_BYTES_MIN`.
        young_s: Bodies that came less long ago stay: an update that was cut off may go on.

    Raises:
        StorageError: What was not done is due again next time.
    """
    snapshots = len(mirror.prune(keep))
    log, settled = mirror.log, mirror.standing().settled_bytes
    if log is None or log.end - log.start < max(GROWTH * settled, log_bytes_min):
        return Thinned(snapshots, Expired())
    chosen = plan(log, _ALL, covered=log.end, now_ns=time.time_ns(), young_s=young_s)
    with LiveBodies(None, mirror.pages, mirror.pages.snapshots()) as live:
        expired = Mover(log, live, log.sync, BODY_KINDS).run(chosen)
    try:
        mirror.book.write(replace(mirror.standing(), settled_bytes=log.end - log.start))
    except OSError as error:
        raise device_error(error, "write of the mirror's book") from error
    return Thinned(snapshots, expired)
