"""Message bodies are appended once: one whose bytes the log has already is referred to instead.

Which body that may be, ``hints`` remember; whether it is, its bytes say. A body below ``floor``, whose segments
retention is about to remove or has removed, is referred to again only while something in the index does, as then it was
carried, or will be (``spinrt.mail.store.retention``).
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from spinrt.errors import SpinError, StorageError
from spinrt.mail.store.changes import KIND_BODY
from spinrt.storage.hints import HINTS_NAME, Hints
from spinrt.storage.log import Log

SAVE_NS: Final = 300 * 1_000_000_000
"""Time between two writings of the hints while mail comes in."""


class Once:
    """Appends bodies to a log.

    Args:
        directory: Where the hints are kept.
        is_live: Tells whether the index refers to a body, all that was acknowledged applied.
        clock_ns: Gives the time of records.
    """

    def __init__(self, log: Log, directory: Path, is_live: Callable[[int], bool], clock_ns: Callable[[], int]) -> None:
        self._log = log
        self._hints = Hints.open(directory / HINTS_NAME, log.identity)
        self._is_live = is_live
        self._clock_ns = clock_ns
        self._saved_ns = clock_ns()
        self._last: tuple[bytes, int, bytes] = (b"", 0, b"")
        """Digest, name and bytes of the last body: a message for many comes once for each of them."""
        self.floor = 0
        """Names below it may go away; set by retention, never lowered."""
        self.pinned: set[int] = set()
        """Names below it that changes of this pass of retention refer to."""

    def append(self, chunk: bytes, sha256: bytes | None) -> int:
        """Return the name of a body with these bytes: one that is there, or a new one.

        Args:
            chunk: The body.
            sha256: Its digest, when the caller has computed it.

        Raises:
            DeviceFull, DeviceFailed: As ``Log.append``.
        """
        digest = hashlib.sha256(chunk).digest() if sha256 is None else sha256
        last_digest, name, last = self._last
        if digest == last_digest and chunk == last and not self._is_gone(name):
            return name
        known = self._hints.find(digest)
        if known is not None and self._is_same(known, chunk):
            self._last = digest, known, chunk
            return known
        time_ns = self._clock_ns()
        name = self._log.append(KIND_BODY, (chunk,), time_ns=time_ns, sha256=digest, may_compress=True)
        self._hints.put(digest, name)
        self._last = digest, name, chunk
        if time_ns - self._saved_ns > SAVE_NS:
            self._saved_ns = time_ns
            threading.Thread(target=self._hints.save, name="spinrt-hints", daemon=True).start()
        return name

    def pin(self, names: Iterable[int]) -> None:
        """Keep the bodies of a change that is about to be submitted.

        Raises:
            StorageError: One of them may be gone already, as it was not referred to for a while.
        """
        below = {name for name in names if name < self.floor}
        for name in below:
            if self._may_go(name):
                raise StorageError(
                    f"mail store: message body {name} expired before the change that refers to it came",
                    hint="send the message again",
                )
        self.pinned |= below

    def _may_go(self, name: int) -> bool:
        """Tell whether retention may have removed a body, or be about to."""
        return name < self.floor and name not in self.pinned and not self._is_live(name)

    def _is_gone(self, name: int) -> bool:
        """Tell whether a body may not be referred to again: it expires, or was given up as the device was full."""
        return self._may_go(name) or (self._log.has_lost and self._log.is_lost(name))

    def _is_same(self, name: int, chunk: bytes) -> bool:
        if self._is_gone(name):
            return False
        try:
            record = self._log.read(name, len(chunk))
            return record.kind == KIND_BODY and record.body == chunk
        except SpinError:  # a hint that leads nowhere
            return False

    def save(self) -> None:
        """Write the hints, if there is anything new."""
        if self._hints.changed:
            self._hints.save()
