"""The append-only log: buffered appends, explicit sync, recovery at open.

Owns: positions, segments, which bytes are durable, the reaction to a full or failed device. Does not own: what a record
means, and when to sync (``commit``). Bytes are described in ``record``.

Invariants
    *Prefix*: after a crash the log holds a prefix of what was appended, and all of what ``sync`` had returned for.
    *One meaning*: a position names one record for ever. Records given up because the device was full leave a gap.
    *Fail-stop*: after a failed write or sync nothing is known about the file; the log takes nothing more until it is
    opened again. A full device is the exception: what was not synced is given up as a whole, and the log goes on.
    *Bounded*: at most ``buffer_bytes_max`` (plus one record) waits in memory; then ``append`` writes through.

Threads: ``append``, ``read`` and ``read_body`` may be called while another thread is in ``sync``. Two locks, taken in
this order: ``_io`` (who touches the file's end) and ``_lock`` (the buffer and positions; never held over I/O).
Between ``launch`` and ``land`` a thread without the GIL writes and syncs, and nobody holds ``_io`` for it: whoever is
about to touch the file's end lands that batch first.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256 as new_digest
from pathlib import Path
from typing import Final, NamedTuple

from spinrt._core import LogBuffer, LogEntry, LogWriter
from spinrt.errors import ClosedError, CorruptRecord, DeviceFailed, DeviceFull, StorageError, UsageError
from spinrt.storage.carry import STORED_BYTES_MAX, decode_carried, encode_carried
from spinrt.storage.compress import compress
from spinrt.storage.device import Device, File, OsDevice
from spinrt.storage.files import FULL_ERRNOS, device_error
from spinrt.storage.log_reads import GENERATION_SHIFT, LogReads
from spinrt.storage.places import PLACES_NAME, Places
from spinrt.storage.record import (
    CHAIN_START,
    COMPRESSED,
    DIGEST_BYTES,
    HEADER_BYTES,
    KIND_CARRIED,
    KIND_MAX,
    SALT_SHARED_BYTES,
    SEGMENT_VERSION,
    Record,
)
from spinrt.storage.recovery import Witness, recover
from spinrt.storage.segment import Segment, segment_name, segment_starts

MIB: Final = 1024 * 1024
SEGMENT_BYTES_MAX: Final = 64 * MIB
BUFFER_BYTES_MAX: Final = 8 * MIB
GENERATION_BYTES: Final = 1 << GENERATION_SHIFT
"""Positions of one generation."""
GENERATION_COUNT: Final = 1 << 14
"""All positions fit into the signed numbers of SQLite."""

BODY_BYTES_MAX: Final = STORED_BYTES_MAX
"""Longest body: one that has room in a CARRIED record."""

_trace = logging.getLogger("spinrt.storage.log")

__all__ = ["BODY_BYTES_MAX", "Log", "Record"]


def _tell_lost(start: int, end: int) -> None:
    _trace.error("carried bodies: a header at %d is damaged, nothing can be said up to %d", start, end)


def _new_salt() -> bytes:
    return os.urandom(DIGEST_BYTES)


class _Batch(NamedTuple):
    """What a `LogWriter` was given to write and sync; the end and the chain behind it."""

    writer: LogWriter
    entries: list[LogEntry]
    end: int
    chain: bytes


class Log(LogReads):
    """An append-only log of records on one device. Made by `open`."""

    def __init__(
        self,
        device: Device,
        segment_bytes_max: int,
        buffer_bytes_max: int,
        salt: Callable[[], bytes],
        *,
        compression: bool,
        clock_ns: Callable[[], int],
    ) -> None:
        super().__init__(device)
        self._compression = compression
        self._segment_bytes_max = segment_bytes_max
        self._buffer_bytes_max = buffer_bytes_max
        self._new_salt = salt
        self._io = threading.RLock()
        self._failure: StorageError | None = None
        self._places_path: Path | None = None
        self._places_lock = threading.Lock()
        self._clock_ns = clock_ns
        # Guarded by _lock, as what `LogReads` has.
        self._tail: Segment | None = None
        self._previous_end = 0
        self._tail_room = 0
        """Where a body must end that goes into the tail for certain; kept by `_segment_for`."""
        self._lost: list[range] = []
        # Guarded by _io.
        self._file: File | None = None
        self._flying: _Batch | None = None
        """Launched and not landed."""
        self._written = 0
        self._written_chain = CHAIN_START
        self._durable_chain = CHAIN_START

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        device: Device | None = None,
        segment_bytes_max: int = SEGMENT_BYTES_MAX,
        buffer_bytes_max: int = BUFFER_BYTES_MAX,
        salt: Callable[[], bytes] = _new_salt,
        generation: int = 0,
        compression: bool = True,
        clock_ns: Callable[[], int] = time.time_ns,
        opaque_kinds: Iterable[int] = (),
        witness: Witness | None = None,
    ) -> Log:
        """Open or create the log in a directory; cut a torn tail.

        Args:
            directory: Created when missing. Not looked at when ``device`` is given.
            segment_bytes_max: A record that would make a segment longer starts a new one.
            buffer_bytes_max: Bytes that wait in memory before ``append`` writes through.
            salt: Gives 16 random bytes for each new segment.
            generation: Of a new log: its positions start at ``generation * GENERATION_BYTES``.
            compression: Whether bodies may be stored compressed from now on.
            clock_ns: Gives the time of records that carry a body, nanoseconds since 1970-01-01 UTC.
            opaque_kinds: Of records whose damaged body is told to who reads it, and no reason to refuse the rest.
            witness: Asked before a tail is cut.

        Raises:
            CorruptRecord: Damage before the tail, or in what the witness says was durable: segment and offset are
                named, nothing was changed.
            FormatUnknown: A newer version wrote it.
            DeviceFull, DeviceFailed: The device refused.

        Cost: one pass over the newest segment; a look at the header of each other one.
        """
        if not 0 <= generation < GENERATION_COUNT:
            raise UsageError(f"log open: generation {generation}, expected 0 … {GENERATION_COUNT - 1}")
        log = cls(
            device or OsDevice(directory),
            segment_bytes_max,
            buffer_bytes_max,
            salt,
            compression=compression,
            clock_ns=clock_ns,
        )
        log._places_path = None if device is not None else directory / PLACES_NAME
        try:
            log._opaque |= frozenset(opaque_kinds)
            log._recover(generation * GENERATION_BYTES, witness)
            log._find_carried()
        except OSError as error:
            raise device_error(error, "open the log") from error
        return log

    def _recover(self, start: int, witness: Witness | None) -> None:
        found = recover(self.device, start, self._is_opaque, witness)
        self._segments, self._file = found.segments, found.file
        if found.segments and found.segments[-1].header.version == SEGMENT_VERSION:
            self._tail = found.segments[-1]  # else the next record starts a segment of this version
        self._buffer = LogBuffer(found.end, found.chain)
        self._previous_end = self._written = self._durable = found.end
        self._written_chain = self._durable_chain = found.chain
        if not self._segments:
            with self._lock:
                self._plan_segment()
                self._previous_end = self.end
            assert self._tail is not None
            self._file = self._tail.create(self.device)
            self._segments.append(self._tail)
            self._written = self._durable = self.end

    # ------------------------------------------------------------------------------------------------------ append

    def append(
        self,
        kind: int,
        parts: Sequence[bytes | memoryview],
        *,
        time_ns: int,
        references: Iterable[int] = (),
        sha256: bytes | None = None,
        may_compress: bool = False,
    ) -> int:
        """Append one record and return its position.

        The record is durable only after `sync`; until then a crash may drop it, never tear it.

        Args:
            kind: 0 … ``KIND_MAX``, for the reader.
            parts: The body, up to ``BODY_BYTES_MAX`` bytes in all. One ``bytes`` is kept, all else is copied.
            references: Positions of records that this one needs; looked at only when records were given up before.
            sha256: The SHA-256 of the body, when the caller has computed it.
            may_compress: Store the body compressed if that pays and the log was opened with ``compression``.

        Raises:
            DeviceFull: The buffer was full and could not be written, or a referenced record was given up. The record
                is not in the log; `is_lost` tells which earlier ones are gone too.
            DeviceFailed: The log is fail-stop.
            UsageError: The body is too long.

        Cost: a digest of the body unless it is given, and one of the header; no system call unless the buffer is full.
        """
        body = parts[0] if len(parts) == 1 and type(parts[0]) is bytes else b"".join(parts)
        length = len(body)
        if length > BODY_BYTES_MAX or kind > KIND_MAX or kind == KIND_CARRIED:
            raise UsageError(
                f"log append: kind {kind} and body of {length} bytes, limits {KIND_MAX} and {BODY_BYTES_MAX}"
            )
        frame = compress(body) if may_compress and self._compression else None
        if frame is not None:
            kind, body, sha256 = kind | COMPRESSED, frame, None
        digest = new_digest(body).digest() if sha256 is None else sha256
        return self._append(kind, body, time_ns, digest, references)

    def append_carried(self, name: int, kind: int, time_ns: int, stored: bytes) -> int:
        """Append a body under the name that it has already, and return its new place. Durable as of `append`.

        Args:
            name, kind, time_ns, stored: As `stored_body` gives them, of this log or another; ``kind`` has the bit
                COMPRESSED if ``stored`` is a frame.

        Raises:
            As `append`.
        """
        body = encode_carried(name, kind, time_ns, stored)
        with self._places_lock:
            places = self._make_places()
            place = self._append(KIND_CARRIED, body, self._clock_ns(), new_digest(body).digest(), ())
            places.put(name, place)
            if self.is_lost(place):
                places.give_up(self._durable)
        with self._lock:
            if self._segments[0].start <= name < self._buffer.end:
                self._carried[name] = place
        return place

    def _append(self, kind: int, body: bytes, time_ns: int, digest: bytes, references: Iterable[int]) -> int:
        length = len(body)
        with self._lock:
            if self._closed or self._failure is not None:
                self._check_usable()
            if self._lost:
                self._check_references(references)
            buffer = self._buffer
            segment = self._tail
            if segment is None or buffer.end + length > self._tail_room:
                segment = self._segment_for(length)
            position = buffer.append(segment, kind, body, time_ns, digest, self._durable)
            self._previous_end = buffer.end
            full = buffer.waiting_bytes > self._buffer_bytes_max
        if full:
            with self._io:
                self._write_pending()
        return position

    def is_lost(self, position: int) -> bool:
        """Tell whether the record at that position was given up because the device was full."""
        return any(position in lost for lost in self._lost)

    @property
    def has_lost(self) -> bool:
        """Whether any record was ever given up."""
        return bool(self._lost)

    def _check_references(self, references: Iterable[int]) -> None:
        if any(self.is_lost(position) for position in references):
            raise DeviceFull("log append: a record that this one refers to was given up, the device was full")

    def _check_usable(self) -> None:
        if self._closed:
            raise ClosedError("log: used after close")
        if self._failure is not None:
            raise DeviceFailed(str(self._failure), hint=self._failure.hint)

    def _segment_for(self, length: int) -> Segment:
        tail = self._tail
        if tail is not None:
            self._tail_room = tail.header.start + self._segment_bytes_max - HEADER_BYTES
            used = self.end - tail.header.start
            if used == HEADER_BYTES or used + HEADER_BYTES + length <= self._segment_bytes_max:
                return tail
        return self._plan_segment()

    def _plan_segment(self) -> Segment:
        salt = self._new_salt()
        if self._segments:
            salt = self._segments[0].header.salt[:SALT_SHARED_BYTES] + salt[SALT_SHARED_BYTES:]
        segment = Segment.planned(self.end, self._previous_end, self._buffer.chain, salt)
        self._tail = segment
        self._buffer.end += HEADER_BYTES
        return segment

    # ------------------------------------------------------------------------------------------- carried and expired

    def _find_carried(self) -> None:
        """Open the table of places, unless no body was ever carried into this log, and bring it up to the log."""
        exists = self._places_path is not None and self._places_path.exists()
        if exists or not self.whole:
            self._made_places()

    def _carried_since(self, covered: int) -> Iterator[tuple[int, int]]:
        """Yield name and place of the durable CARRIED records after a position. What is damaged is left out."""
        for segment in self._segments:
            for found in self.headers(segment, covered, lost=_tell_lost):
                if found.header.kind != KIND_CARRIED:
                    continue
                try:
                    name = decode_carried(found.first).name
                except CorruptRecord as error:
                    _trace.error("carried bodies: record at %d: %s", found.header.position, error.line())
                else:
                    yield name, found.header.position

    def _note_carried(self, places: Places) -> None:
        with self._lock:
            start, end = self._segments[0].start, self._buffer.end
        carried = places.between(start, end)
        with self._lock:
            self._carried = carried

    def _made_places(self) -> Places:
        with self._places_lock:
            return self._make_places()

    def _make_places(self) -> Places:
        """Return the table; open it or make it when it is not open, and bring it up to the log. With _places_lock.

        A log that is whole has no table until a body is carried or a foreign name asked for; it may also have been
        removed, so what was carried is looked for.
        """
        if self._places is None:
            durable = self._durable
            places = Places.open(self._places_path, self.identity, durable)
            if places.covered < durable:
                places.load(self._carried_since(places.covered), durable)
            self._note_carried(places)
            self._places = places
        return self._places

    def forget(self, names: Iterable[int]) -> None:
        """Let carried bodies be as if they had not come; a table made anew finds them again. Raises DeviceFailed."""
        with self._places_lock:
            places = self._make_places()
            places.flush(self._durable)
            places.abandon(names)
            self._note_carried(places)

    def expire(self, position: int) -> list[str]:
        """Remove the segments that lie before a position, the oldest first; return the names of their files.

        Every body in them that is still needed must have been carried, and `sync` returned after that. The newest
        segment stays. Nothing more is removed while somebody is in `hold`.

        Raises:
            DeviceFailed: Some may be removed, always the oldest.
        """
        with self._places_lock:
            if self._places is not None:
                self._places.flush(self._durable)
        names = []
        while (segment := self._take_oldest(position)) is not None:
            self._reader.drop(segment)
            try:
                self.device.remove(segment.name)
                self.device.sync()  # each by itself: after a crash no segment is missing between two that are there
            except OSError as error:
                raise device_error(error, f"removal of log segment {segment.name}") from error
            names.append(segment.name)
        if names and self._places is not None:
            self._places.forget(self.start)
        return names

    def _take_oldest(self, position: int) -> Segment | None:
        with self._lock:
            segments = self._segments
            if self._holds or self._closed or len(segments) < 2 or segments[1].header.previous_end > position:
                return None
            self._segments = segments[1:]
            start = segments[1].start
            self._carried = {name: place for name, place in self._carried.items() if name >= start}
            return segments[0]

    # -------------------------------------------------------------------------------------------------------- sync

    def sync(self) -> int:
        """Write and fdatasync all that was appended before the call; return the position durable up to (exclusive).

        Raises:
            DeviceFull: No room. All that was not durable is given up and the log goes on from there.
            DeviceFailed: The log is fail-stop.
        """
        with self._io:
            self._write_pending()
            if self._written > self._durable:
                self._sync_file()
            return self._durable

    def _sync_file(self) -> None:
        assert self._file is not None
        try:
            self._file.sync()
        except OSError as error:
            raise self._refuse_sync(error) from error
        self._durable, self._durable_chain = self._written, self._written_chain

    def launch(self, writer: LogWriter) -> bool:
        """Have all that was appended before the call written and synced by ``writer``; `land` ends it.

        Returns:
            Whether it began. If not, nothing was done, and `sync` does the same or says why it cannot: the log is in
            use or unusable, a segment must be begun, there is no memory, or the file is not the operating system's.
        """
        if not self._io.acquire(blocking=False):
            return False
        try:
            file, tail = self._file, self._tail
            descriptor = None if file is None else file.descriptor
            if descriptor is None or tail is None or not tail.on_device or self._flying is not None:
                return False
            with self._lock:
                if self._closed or self._failure is not None:
                    return False
                entries = writer.begin(descriptor, self._buffer)
                self._flying = _Batch(writer, entries, self._buffer.end, self._buffer.chain)
            return True
        except MemoryError:  # nothing was taken
            return False
        finally:
            self._io.release()

    def land(self) -> int:
        """Wait for what `launch` began, unless another call did; return and raise as `sync`."""
        with self._io:
            self._land_flying()
            self._check_usable()
            return self._durable

    def _land_flying(self) -> None:
        batch, self._flying = self._flying, None
        if batch is None:
            return
        write_errno, sync_errno = batch.writer.wait()
        if write_errno:
            raise self._refuse_write(OSError(write_errno, os.strerror(write_errno)))
        self._note_written(batch.entries, batch.end, batch.chain)
        if sync_errno:
            raise self._refuse_sync(OSError(sync_errno, os.strerror(sync_errno)))
        self._durable, self._durable_chain = batch.end, batch.chain

    def _write_pending(self) -> None:
        self._land_flying()
        with self._lock:
            self._check_usable()
            entries = self._buffer.take()
            end, chain = self._buffer.end, self._buffer.chain
        if not entries:
            return
        try:
            self._write_entries(entries)
        except OSError as error:
            raise self._refuse_write(error) from error
        self._note_written(entries, end, chain)

    def _note_written(self, entries: list[LogEntry], end: int, chain: bytes) -> None:
        self._written, self._written_chain = end, chain
        with self._lock:
            self._buffer.written(entries)

    def _write_entries(self, entries: list[LogEntry]) -> None:
        buffers: list[bytes] = []
        for entry in entries:
            if not entry.segment.on_device:
                self._append_buffers(buffers)
                buffers = []
                self._start_segment(entry)
            buffers += (entry.header, entry.body)
        self._append_buffers(buffers)

    def _append_buffers(self, buffers: list[bytes]) -> None:
        if buffers:
            assert self._file is not None
            self._file.append(buffers)

    def _start_segment(self, entry: LogEntry) -> None:
        """Finish the segment in use, so that only the newest can have a torn tail, and create the next."""
        assert self._file is not None
        previous_end = entry.segment.header.previous_end
        if previous_end > self._durable:
            self._written, self._written_chain = previous_end, entry.segment.header.chain
            self._sync_file()
        file = entry.segment.create(self.device)
        self._file.close()
        self._file = file
        with self._lock:
            self._segments.append(entry.segment)

    def _refuse_write(self, error: OSError) -> StorageError:
        return self._give_up_unsynced(error) if error.errno in FULL_ERRNOS else self._fail(error, "write")

    def _refuse_sync(self, error: OSError) -> DeviceFailed:
        """Also for ENOSPC: after a failed sync the kernel may have dropped the pages, so nothing can be retried."""
        return self._fail(error, "sync")

    def _fail(self, error: OSError, operation: str) -> DeviceFailed:
        failure = DeviceFailed(
            f"log {operation}: {error.strerror or error}; durable up to {self._durable}",
            hint="check the device, then start again: recovery keeps what was durable",
        )
        with self._lock:
            self._failure = failure
        return failure

    def _give_up_unsynced(self, error: OSError) -> StorageError:
        """Cut the files back to what is durable and forget the rest, so that the log can go on when there is room."""
        with self._lock:
            lost = range(self._durable, self.end)
            self._lost.append(lost)
            self._buffer.give_up(self._durable_chain)
            self._written_chain = self._durable_chain
            self._written = self._previous_end = self._durable
            self._tail = None
            dropped = [segment for segment in self._segments if segment.start >= self._durable]
            self._segments = [segment for segment in self._segments if segment.start < self._durable]
        if self._places is not None:
            self._places.give_up(self._durable)
            self._note_carried(self._places)
        try:
            self._cut_back(dropped)
        except OSError as second:
            return self._fail(second, "cut back after a full device")
        return DeviceFull(
            f"log write: {error.strerror or error}; gave up {len(lost)} bytes that were not durable",
            hint="make room on the device",
        )

    def _cut_back(self, dropped: list[Segment]) -> None:
        assert self._file is not None
        self._file.close()
        for segment in dropped:
            self._reader.drop(segment)
        # A segment whose creation failed half-way is on the device and not in the list.
        kept = {segment.start for segment in self._segments}
        for start in segment_starts(self.device):
            if start not in kept and start >= self._durable:
                self.device.remove(segment_name(start))
        self.device.sync()
        last = self._segments[-1]
        self._file = self.device.open(last.name, write=True)
        self._file.truncate(self._durable - last.start)
        self._file.sync()

    def close(self) -> None:
        """Sync, unless the log failed, and close the files. Closing twice does nothing."""
        with self._io:
            if self._closed:
                return
            try:
                if self._failure is None:
                    self.sync()
            finally:
                with self._lock:
                    self._closed = True
                self._close_files()

    def _close_files(self) -> None:
        if self._file is not None:
            self._file.close()
        self._reader.close()
        if self._places is not None:
            with self._places_lock, contextlib.suppress(StorageError):  # derived: what is not in it is found again
                self._places.flush(self._durable)
            self._places.close()
