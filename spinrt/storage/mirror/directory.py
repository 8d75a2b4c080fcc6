"""A data directory that is a mirror: who holds it, its page store and log, one update at a time.

The log is made when the first source says hello, in a generation that no source has (docs/design/mirror.md, "Names and
generations"). The directory stays locked while it is open.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from spinrt.errors import Busy, NotFound, StateError, UsageError
from spinrt.storage.datadir import LOG_NAME, PAGES_NAME, DataDirectory, check_place
from spinrt.storage.log import GENERATION_COUNT, Log
from spinrt.storage.mirror.book import FileBook, Standing, is_mirror
from spinrt.storage.mirror.keeping import due
from spinrt.storage.mirror.receiver import Receiver
from spinrt.storage.mirror.update import Bodies, Contents, Judge, Update, any_contents
from spinrt.storage.pages import LocalPages
from spinrt.storage.protocols import Snapshot
from spinrt.storage.recovery import Witness
from spinrt.storage.schedule import Keep
from spinrt.storage.segment import SUFFIX

GENERATION_SPREAD: Final = 256
UPDATE_BYTES_MAX: Final = 1 << 44
"""Contents that one update may bring, unless told otherwise."""
INDEX_NAME: Final = "index"
SEGMENT_BYTES_MAX: Final = 64 * 1024 * 1024


class MirrorDirectory:
    """Made by `open`. Any thread; one update at a time."""

    def __init__(
        self,
        data: DataDirectory,
        pages: LocalPages,
        log: Log | None,
        open_log: Callable[[int], Log],
        clock_ns: Callable[[], int],
    ) -> None:
        self.data = data
        self._open_log = open_log
        self._clock_ns = clock_ns
        self.pages = pages
        self.book = FileBook(data.path)
        self._log = log
        self._lock = threading.Lock()
        self._update: Update | None = None
        self._unfinished_bytes = 0
        """Contents that came since the last update that was finished, of updates that were not."""

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        create: bool = True,
        segment_bytes_max: int = SEGMENT_BYTES_MAX,
        opaque_kinds: Iterable[int] = (),
        witness: Witness | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> MirrorDirectory:
        """Open a mirror, or make one where nothing is.

        Args:
            create: Whether to make one.
            segment_bytes_max, opaque_kinds, witness: As ``Log.open``: an old primary has records of its own.
            clock_ns: Gives the time when snapshots arrive, nanoseconds since 1970-01-01 UTC.

        Raises:
            NotFound: There is none, and none is to be made.
            StateError: A mail store is there that is no mirror.
            DataLocked, FormatUnknown, ConfigError: As ``DataDirectory.open``.
            StorageError: As ``Log.open`` and ``LocalPages.open``.
        """
        if not create and not is_mirror(path):
            raise NotFound(f"{path}: is no mirror", hint="the first update makes one of an empty directory")
        data = DataDirectory.open(path)
        pages = None

        def open_log(generation: int) -> Log:
            return Log.open(
                data.log_path,
                segment_bytes_max=segment_bytes_max,
                generation=generation,
                opaque_kinds=opaque_kinds,
                witness=witness,
            )

        try:
            if not is_mirror(path):
                _check_empty(path)
                FileBook(path).write(Standing())
            pages = LocalPages.open(path / PAGES_NAME)
            log = open_log(0) if _has_log(path) else None
            return cls(data, pages, log, open_log, clock_ns)
        except BaseException:
            if pages is not None:
                pages.close()
            data.close()
            raise

    def receiver(
        self, judge: Judge, bytes_max: int = UPDATE_BYTES_MAX, *, contents: Contents = any_contents
    ) -> Receiver:
        """Return a receiver for one connection. Give it back with `end`.

        Args:
            judge, contents: See `Update`.
            bytes_max: Contents that one update may bring, in all connections that it takes.
        """
        update: Update | None = None

        def claim() -> int:
            assert update is not None
            self._claim(update)
            return max(bytes_max - self._unfinished_bytes, 0)

        update = Update(
            self.pages,
            self.open_log,
            self.book,
            judge=judge,
            contents=contents,
            claim=claim,
            clock_ns=self._clock_ns,
        )
        return Receiver(update)

    def _claim(self, update: Update) -> None:
        with self._lock:
            if self._update is not None and self._update is not update:
                raise Busy(f"mirror {self.data.path}: another update is under way", hint="it is dropped when silent")
            self._update = update

    def end(self, receiver: Receiver | None) -> None:
        """The connection of that receiver is over."""
        with self._lock:
            update = self._update
            if receiver is None or update is None or receiver.intake is not update:
                return
            self._update = None
            self._unfinished_bytes = 0 if receiver.updated else self._unfinished_bytes + update.taken_bytes

    def open_log(self, source_generation: int | None) -> Bodies | None:
        """Return the mirror's log, made for a source of that generation if need be."""
        with self._lock:
            if self._log is None and source_generation is not None:
                generation = source_generation + 1 + secrets.randbelow(GENERATION_SPREAD)
                if generation >= GENERATION_COUNT:
                    raise UsageError(f"mirror: the source's log has generation {source_generation}, none is left above")
                self._log = self._open_log(generation)
            return self._log

    @property
    def log(self) -> Log | None:
        return self._log

    def standing(self) -> Standing:
        return self.book.read().settled({one.identity for one in self.pages.snapshots()})

    def current(self) -> Snapshot:
        """The snapshot that the last update brought. Raises NotFound: there was none."""
        wanted = self.standing().current
        for one in self.pages.snapshots():
            if one.identity == wanted:
                return one
        raise NotFound(f"mirror {self.data.path}: has no snapshot yet", hint="wait for the first update")

    def prune(self, keep: Keep) -> list[Snapshot]:
        """Delete the snapshots that are due (`keeping`); return them."""
        gone = due(self.pages.snapshots(), self.standing(), keep)
        for one in gone:
            self.pages.delete(one.identity)
        return gone

    def close(self) -> None:
        with contextlib.ExitStack() as closing:
            closing.callback(self.data.close)
            closing.callback(self.pages.close)
            if self._log is not None:
                closing.callback(self._log.close)


def check_mirror_place(path: Path) -> None:
    """Raise where `MirrorDirectory.open` would, as far as it shows without making, locking or changing anything.

    Raises:
        StateError, ConfigError, CorruptRecord, FormatUnknown: As there.
    """
    check_place(path)
    if is_mirror(path):
        FileBook(path).read()
    else:
        _check_empty(path)


def is_vacant(path: Path) -> bool:
    """Whether `MirrorDirectory.open` would make a mirror there: there is none, and nothing else. Raises OSError."""
    try:
        _check_empty(path)
    except StateError:
        return False
    return not is_mirror(path)


def _has_log(path: Path) -> bool:
    directory = path / LOG_NAME
    return directory.is_dir() and any(one.suffix == SUFFIX for one in directory.iterdir())


def _check_empty(path: Path) -> None:
    index = path / INDEX_NAME
    if _has_log(path) or (index.is_dir() and any(index.iterdir())):
        raise StateError(
            f"data directory {path}: has mail of its own and is no mirror",
            hint="choose an empty directory; to have an old primary follow its mirror: `spinrt mirror resync`",
        )
