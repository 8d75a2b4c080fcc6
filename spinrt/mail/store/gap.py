"""A log that lost segments in its middle: it goes on behind the gap, without what is before it.

A log with a gap is not opened by anybody, because what its lost records did would be missing. The index that is there
knows what they did: when it covers the gap, only bodies are missing. So what lies before the gap is given up as if it
had expired, after the bodies in it that are still needed were carried to the log's end; those of the lost segments may
come from a mirror then (``missing``).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import ExitStack, closing
from functools import partial
from itertools import pairwise
from pathlib import Path

from spinrt.errors import CorruptRecord, FormatUnknown
from spinrt.mail.store.changes import OPAQUE_KINDS
from spinrt.mail.store.index import INDEX_NAME
from spinrt.mail.store.missing import needed_names
from spinrt.mail.store.views import branches
from spinrt.mail.store.witness import covered_position, opened_index
from spinrt.storage.datadir import LOG_NAME
from spinrt.storage.device import Device, File, OsDevice
from spinrt.storage.log import Log
from spinrt.storage.places import remove_places
from spinrt.storage.readonly import ReadOnlyDevice
from spinrt.storage.record import log_identity
from spinrt.storage.segment import SUFFIX, Segment, load_segment, segment_name, segment_starts


class Part:
    """The segments of a log's device that begin in a range, as a device."""

    def __init__(self, device: Device, starts: range) -> None:
        self._device = device
        self._starts = starts

    def list(self) -> list[str]:
        return [name for name in self._device.list() if name.endswith(SUFFIX) and int(name[:-4]) in self._starts]

    def open(self, name: str, *, create: bool = False, write: bool = False) -> File:
        return self._device.open(name, create=create, write=write)

    def remove(self, name: str) -> None:
        self._device.remove(name)

    def sync(self) -> None:
        self._device.sync()


def close_gap(path: Path) -> list[str]:
    """Give up what lies before the last gap in a data directory's log; return the names of the segments that went.

    Nobody may have the directory open. Nothing is done when there is no gap, the index does not cover it, a branch may
    need what is before it, or a segment cannot be read. After a crash it can be done again.

    Raises:
        DeviceFull, DeviceFailed: Nothing went, unless what was needed of it was durable elsewhere.
        CorruptRecord: A body that is needed is damaged, or who says what is needed; nothing went. Mend it first.
        OSError: The device refused.
    """
    device = ReadOnlyDevice(path / LOG_NAME)
    try:
        runs = _runs([load_segment(device, start) for start in segment_starts(device)])
    except (CorruptRecord, FormatUnknown):
        return []
    if len(runs) < 2 or branches(path) or not _index_covers(path, runs[-1][0]):
        return []
    with ExitStack() as opened:
        before = [opened.enter_context(closing(_read(device, run))) for run in runs[:-1]]
        _carry(path, before, runs[-1][0].start)
    gone = [segment.name for run in runs[:-1] for segment in run]
    remove_places(path / LOG_NAME)
    writing = OsDevice(path / LOG_NAME)
    for name in gone:
        writing.remove(name)
        writing.sync()
    return gone


def _runs(loaded: list[tuple[Segment, int]]) -> list[list[Segment]]:
    """Segments that follow each other without a gap, together."""
    runs = [[loaded[0][0]]] if loaded else []
    for (segment, size), (follower, _) in pairwise(loaded):
        if segment.start + size != follower.header.previous_end:
            runs.append([])
        runs[-1].append(follower)
    return runs


def _index_covers(path: Path, segment: Segment) -> bool:
    """Whether the index is of that segment's log, and covers what is before it."""
    index = path / "index" / INDEX_NAME
    if not index.is_file():
        return False
    try:
        with opened_index(index) as connection:
            row = connection.execute("SELECT log_identity, applied FROM state").fetchone()
    except sqlite3.Error:
        return False
    identity = log_identity(segment.header.salt)
    return row is not None and row[0] == identity and row[1] >= segment.header.previous_end


def _read(device: Device, run: list[Segment]) -> Log:
    starts = range(run[0].start, run[-1].start + 1)
    return Log.open(Path(segment_name(starts.start)), device=Part(device, starts), opaque_kinds=OPAQUE_KINDS)


def _carry(path: Path, before: Iterable[Log], start: int) -> None:
    """Carry what is needed and lies before the gap to the end of the log that begins there, durably."""
    device = Part(OsDevice(path / LOG_NAME), range(start, 1 << 63))
    witness = partial(covered_position, path)
    with closing(Log.open(path / LOG_NAME, device=device, opaque_kinds=OPAQUE_KINDS, witness=witness)) as log:
        for name in needed_names(path, strict=True):
            old = None if log.holds(name) else next((one for one in before if one.holds(name)), None)
            if old is not None:
                kind, time_ns, stored, _ = old.stored_body(name)
                log.append_carried(name, kind, time_ns, stored)
        log.sync()
