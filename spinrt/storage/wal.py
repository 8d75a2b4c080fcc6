"""Which pages of a SQLite database changed, and what they held at one moment, read from its write-ahead log.

SQLite writes changed pages as frames to the write-ahead log; a checkpoint moves them into the database, and once all
are moved the log begins anew. So whoever notes the frames before each checkpoint has seen every change. That is the
caller's part, for every checkpoint there is:

    1. pin a read transaction, so that no frame behind it can be moved;
    2. `Changes.note`;
    3. checkpoint.

A *cut* is a read transaction and the log's end at that moment, taken between two transactions of the only writer. While
it is held, a page is in the log (the last frame up to the cut's end), or else in the database, where nothing overwrites
it: frames behind the cut are not moved, and the log does not begin anew.

Formats: https://www.sqlite.org/fileformat2.html section 4 (the log: header of 32 bytes; frames of 24 bytes and a page)
and https://www.sqlite.org/walformat.html section 2 (the header of the shared memory, two copies of 48 bytes and then
how many frames were moved; behind it, in blocks of 32 KiB, the page number of each frame), where numbers have the
machine's order.

*Descriptors* of database and shared memory stay open as long as this process has connections: closing one would drop
the locks that SQLite holds on the file (POSIX advisory locks).
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import threading
from collections.abc import Iterator
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Final, NamedTuple

from spinrt.errors import StorageError
from spinrt.storage.device import open_regular, read_bounded
from spinrt.storage.write_out import write_out

FRAME_HEADER_BYTES: Final = 24
LOG_HEADER_BYTES: Final = 32
CHANGED_MAX: Final = 200_000
"""With more pages than this it is as quick to look at all of them, and nothing is remembered: some 20 MiB at most."""
CHANGED_BYTES_MAX: Final = 4 * 1024 * 1024
"""Of the file that `save_changes` writes."""

_INDEX_VERSION: Final = 3_007_000
_INDEX: Final = struct.Struct("=I4xI2BHII8x8s8x")
_INDEX_BYTES: Final = 136
_BLOCK_BYTES: Final = 32_768
_BLOCK_FRAMES: Final = 4096
_FRAMES_BEFORE: Final = _INDEX_BYTES // 4 - 1
"""The header takes the room of so many frames' numbers, and frames are counted from 1."""
_BACKFILLED: Final = struct.Struct("=I")
_FRAME: Final = struct.Struct(">I4x8s")
_READ_TRIES: Final = 10_000

assert _INDEX.size == 48


class LogState(NamedTuple):
    """The write-ahead log at one moment."""

    page_bytes: int
    end: int
    """Frames that count, from 1 to this."""
    database_pages: int
    """Pages of the database after those frames."""
    salts: bytes
    """Of the frames; others when the log has begun anew."""
    moved: int
    """Frames, from 1 on, that the database holds already."""


class Taken(NamedTuple):
    """What is known at a cut."""

    changed: frozenset[int] | None
    """Numbers (from 1) of the pages that differ from snapshot ``base``, and perhaps more; none when it is not known."""
    base: bytes | None
    frames: dict[int, int]
    """Page → its last frame, up to the cut."""
    state: LogState


class Changes:
    """The pages of one database that changed since a snapshot. Needs an open connection to it, before and after.

    Any thread; `cut` on the writer's.
    """

    def __init__(self, database: Path) -> None:
        """Raises OSError; StorageError when SQLite's shared memory is of a version that is not known here."""
        self._lock = threading.Lock()
        self._descriptors = [open_regular(database, os.O_RDONLY)]
        self._changed: set[int] = set()
        self._base: bytes | None = None
        self._known = False
        self._frames: dict[int, int] = {}
        self._salts = b""
        self._noted = 0
        self._maps: list[mmap.mmap] = []
        """Of the shared memory; the last is the longest. Each holds a descriptor, so the others stay open, too."""
        self._cut: LogState | None = None
        self._taken: Taken | None = None
        try:
            self._descriptors.append(open_regular(_beside(database, "-wal"), os.O_RDONLY))
            self._descriptors.append(open_regular(_beside(database, "-shm"), os.O_RDONLY))
            self._map(_INDEX_BYTES)
            self.state()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the files; after the last connection. Now, not when this is collected: there may be others by then."""
        for one in self._maps:
            one.close()
        descriptors, self._descriptors = self._descriptors, []
        for descriptor in descriptors:
            os.close(descriptor)

    def resume(self, base: bytes, changed: set[int]) -> None:
        """Take over what was known when the database was closed; before anything was checkpointed since."""
        with self._lock:
            self._base, self._known = base, True
            self._changed |= changed

    def state(self) -> LogState:
        """Return the state of the write-ahead log now."""
        for _ in range(_READ_TRIES):
            shared = self._maps[-1][:_INDEX_BYTES]
            first = shared[: _INDEX.size]
            if first == shared[_INDEX.size : 2 * _INDEX.size]:
                break
        else:
            raise StorageError("write-ahead log: its shared memory does not come to rest")
        version, _, is_set, _, page_size, end, pages, salts = _INDEX.unpack(first)
        if version != _INDEX_VERSION or not is_set:
            raise StorageError(f"write-ahead log: shared memory of version {version}, expected {_INDEX_VERSION}")
        (moved,) = _BACKFILLED.unpack_from(shared, 2 * _INDEX.size)
        if not pages:  # nothing was logged since the first connection: the database is all there is
            page_size = int.from_bytes(os.pread(self._descriptors[0], 2, 16), "big")
        page_bytes = 65_536 if page_size == 1 else page_size
        if not pages and page_bytes:
            pages = os.fstat(self._descriptors[0]).st_size // page_bytes
        return LogState(page_bytes, end, pages, salts, moved)

    def write_out_log(self, stop: threading.Event) -> None:
        """Before a checkpoint, which syncs it. Takes its time, until told to stop."""
        for _ in range(2):  # the second time what was written during the first
            write_out(self._descriptors[1], stop)

    def write_out_database(self, stop: threading.Event) -> None:
        """Behind a checkpoint: the one that reaches the log's end syncs it. Takes its time, too."""
        write_out(self._descriptors[0], stop)

    def note(self, *, wait: bool = True) -> bool:
        """Remember all frames there are; tell whether that was done, which without ``wait`` it is not while another
        thread is at it. Raises OSError, StorageError; then what changed is not known any more.
        """
        state = self.state()  # before looking for a cut: what is behind one that comes later must not count before it
        if not self._lock.acquire(blocking=wait):
            return False
        try:
            if self._cut is not None and self._taken is None:
                self._take()
            self._note(state)
        finally:
            self._lock.release()
        return True

    def _note(self, state: LogState) -> None:
        if state.salts != self._salts:
            self._salts, self._noted = state.salts, 0
            self._frames.clear()
        try:
            for first, numbers in self._page_numbers(self._noted + 1, state):
                self._frames.update(zip(numbers, count(first)))
                if self._known:
                    self._changed.update(numbers)
        except BaseException:
            self._forget()
            raise
        self._noted = max(self._noted, state.end)
        if len(self._changed) > CHANGED_MAX:
            self._forget()

    def _page_numbers(self, frame: int, state: LogState) -> Iterator[tuple[int, memoryview]]:
        """Yield pieces of the log from a frame on: its first frame, and the page of each frame."""
        while frame <= state.end:
            block, at = divmod(frame + _FRAMES_BEFORE, _BLOCK_FRAMES)
            frames = min(state.end - frame + 1, _BLOCK_FRAMES - at)
            begin = block * _BLOCK_BYTES + 4 * at
            end = begin + 4 * frames
            numbers = self._mapped(end)[begin:end]
            if self.state().salts != state.salts:
                raise StorageError(f"write-ahead log: frame {frame} is of another time")
            yield frame, memoryview(numbers).cast("I")
            frame += frames

    def _mapped(self, size: int) -> mmap.mmap:
        """The shared memory, so much of it at least."""
        if len(self._maps[-1]) < size:
            try:
                self._map(-(-size // _BLOCK_BYTES) * _BLOCK_BYTES)
            except ValueError as error:
                raise StorageError(f"write-ahead log: its shared memory is shorter than {size} bytes") from error
        return self._maps[-1]

    def _map(self, size: int) -> None:
        """Map so much of the shared memory. Raises ValueError: it is shorter."""
        self._maps.append(mmap.mmap(self._descriptors[2], size, mmap.MAP_SHARED, mmap.PROT_READ))

    def forget(self) -> None:
        """What changed is not known any more: something was moved unseen."""
        with self._lock:
            self._forget()

    def _forget(self) -> None:
        self._known = False
        self._changed.clear()

    # --------------------------------------------------------------------------------------------------------- cut

    def cut(self) -> None:
        """Begin a cut here: on the writer's thread, in no transaction of it, with a read transaction just begun."""
        self._taken = None
        self._cut = self.state()  # without the lock, which another thread may hold for some milliseconds

    def take(self) -> Taken:
        """Return what is known at the cut. Raises OSError, StorageError."""
        with self._lock:
            return self._taken or self._take()

    def _take(self) -> Taken:
        """Note the frames up to the cut, and begin to gather anew for the next one."""
        assert self._cut is not None
        self._note(self._cut)
        changed = frozenset(self._changed) if self._known else None
        frames = {} if self._cut.moved >= self._cut.end else dict(self._frames)
        self._taken = Taken(changed, self._base, frames, self._cut)
        self._changed, self._known, self._base = set(), True, None
        return self._taken

    def settle(self, base: bytes | None) -> None:
        """End the cut: what changed since is what differs from snapshot ``base``; none when there is no snapshot."""
        with self._lock:
            taken, self._cut, self._taken = self._taken, None, None
            if base is not None:
                self._base = base
            elif taken is not None:
                self._base = taken.base
                if taken.changed is None or not self._known:
                    self._forget()
                else:
                    self._changed |= taken.changed

    def known(self) -> tuple[bytes, set[int]] | None:
        """Return the snapshot and the pages that differ from it, if that is known."""
        with self._lock:
            return (self._base, set(self._changed)) if self._known and self._base is not None else None

    def read(self, taken: Taken, page: int) -> bytes:
        """Return a page (from 1) as of the cut, while its read transaction is held. Raises OSError, StorageError."""
        size = taken.state.page_bytes
        frame = taken.frames.get(page)
        if frame is None:
            data = os.pread(self._descriptors[0], size, (page - 1) * size)
            return data.ljust(size, b"\0")  # a page that was never written, at the end of the file
        found = os.pread(self._descriptors[1], FRAME_HEADER_BYTES + size, _offset(frame, size))
        stated, salts = _FRAME.unpack_from(found) if len(found) == FRAME_HEADER_BYTES + size else (0, b"")
        if (stated, salts) != (page, taken.state.salts):
            raise StorageError(f"write-ahead log: frame {frame} is not of page {page} any more")
        return found[FRAME_HEADER_BYTES:]

    def read_all(self, taken: Taken) -> Iterator[bytes]:
        """Yield all pages as of the cut, in order. Raises as `read`."""
        for page in range(1, taken.state.database_pages + 1):
            yield self.read(taken, page)


def _beside(database: Path, suffix: str) -> Path:
    return database.with_name(database.name + suffix)


def _offset(frame: int, page_bytes: int) -> int:
    return LOG_HEADER_BYTES + (frame - 1) * (FRAME_HEADER_BYTES + page_bytes)


# ------------------------------------------------------------------------------------------ from one start to the next


class SavedChanges(NamedTuple):
    base: bytes
    changed: set[int]
    inode: int


def save_changes(file: Path, database: Path, known: tuple[bytes, set[int]]) -> None:
    """Write down what changed since a snapshot, when the database was closed for good. Raises OSError.

    The file counts only while the database is as it is now, and is taken away when it is read: it never grows old.
    """
    stat = database.stat()
    body = json.dumps(
        {"base": known[0].hex(), "pages": sorted(known[1]), "inode": stat.st_ino, "size": stat.st_size,
         "mtime_ns": stat.st_mtime_ns}
    )  # fmt: skip
    text = f"{sha256(body.encode()).hexdigest()}\n{body}\n"
    descriptor = open_regular(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        stream.write(text)


def load_changes(file: Path, database: Path) -> SavedChanges | None:
    """Take away what `save_changes` wrote and return it, unless the database was used since, or it is damaged."""
    try:
        text = read_bounded(file, CHANGED_BYTES_MAX).decode("ascii")
        file.unlink()
        if _beside(database, "-wal").exists():
            return None
        digest, _, body = text.removesuffix("\n").partition("\n")
        if sha256(body.encode()).hexdigest() != digest:
            return None
        found, stat = json.loads(body), database.stat()
        if (found["inode"], found["size"], found["mtime_ns"]) != (stat.st_ino, stat.st_size, stat.st_mtime_ns):
            return None
        return SavedChanges(bytes.fromhex(found["base"]), set(found["pages"]), stat.st_ino)
    except (OSError, ValueError, KeyError, TypeError):
        return None
