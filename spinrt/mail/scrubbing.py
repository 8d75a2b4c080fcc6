"""The server reads what it has stored, again and again and slowly, and says when something of it is damaged."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from spinrt import trace
from spinrt.errors import SpinError
from spinrt.mail.config import Scrub
from spinrt.mail.store.store import Store
from spinrt.storage.fsck.finding import Finding
from spinrt.storage.fsck.scrub import scrub_log, scrub_pages
from spinrt.storage.mirror.throttle import Throttle

FIRST_S: Final = 300.0
"""From the start of the server to its first pass, at the latest: nobody waits for a server that reads all its disk."""
SPEND_BYTES: Final = 64 * 1024
"""Read between two looks at the clock."""

_LOG = trace.component("scrub")


class _Stopped(Exception):
    """The server stops: the pass is not finished."""


@dataclass(slots=True)
class Passes:
    """What passes have done since the start. ``damaged`` counts what the last whole pass found, or this one so far."""

    passes: int = 0
    bytes: int = 0
    damaged: int = 0
    ended_s: float = 0.0
    """When the last one ended, seconds since 1970; 0 when there was none."""


class Scrubbing:
    """A daemon thread that makes one pass over log and pages each interval, at a bounded rate.

    Args:
        store: Whose log and pages.
        config: How fast, how often.
    """

    def __init__(self, store: Store, config: Scrub, *, first_s: float = FIRST_S) -> None:
        self.state = Passes()
        self._store = store
        self._config = config
        self._first_s = first_s
        self._stop = threading.Event()
        self._unspent = 0
        self._throttle = Throttle(config.bytes_per_s, time.monotonic())
        self._thread = threading.Thread(target=self._run, name="spinrt-scrub", daemon=True)

    def start(self) -> None:
        """Begin, unless the configuration says that nothing is to be read."""
        if self._config.interval_s is not None:
            self._thread.start()

    def close(self) -> None:
        """End the thread, in the middle of a pass if need be."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        interval_s = self._config.interval_s
        assert interval_s is not None
        wait_s = min(self._first_s, interval_s)
        while not self._stop.wait(wait_s):
            try:
                self.make_pass()
            except _Stopped:
                return
            except (SpinError, OSError) as error:
                reason = error.line() if isinstance(error, SpinError) else str(error)
                trace.log(_LOG, logging.ERROR, "not finished", reason=reason)
            wait_s = interval_s

    def make_pass(self) -> None:
        """Read everything once; log what is damaged. Raises SpinError, OSError: something cannot be read at all."""
        began_s, read = time.monotonic(), self.state.bytes
        found = 0
        for found, finding in enumerate(self._findings(), 1):
            self.state.damaged = max(found, self.state.damaged)
            trace.log(
                _LOG,
                logging.ERROR,
                "damage",
                place=finding.place,
                offset=finding.offset,
                subject=finding.subject,
                problem=finding.problem,
                remedy="stop the server, then `spinrt fsck --repair`",
            )
        self.state.damaged = found
        self.state.passes += 1
        self.state.ended_s = time.time()
        seconds = round(time.monotonic() - began_s, 1)
        trace.log(_LOG, logging.INFO, "read", bytes=self.state.bytes - read, damaged=found, seconds=seconds)

    def _findings(self) -> Iterator[Finding]:
        found = scrub_log(self._store.log.device, self._advance)
        if self._store.snapshots.exists:
            found = itertools.chain(found, scrub_pages(self._store.snapshots.pages, self._advance))
        return found

    def _advance(self, count: int) -> None:
        """So many bytes were read: now and then wait as long as that is worth. Raises _Stopped."""
        self.state.bytes += count
        self._unspent += count
        if self._unspent >= SPEND_BYTES:
            unspent, self._unspent = self._unspent, 0
            if self._stop.wait(self._throttle.spend(unspent, time.monotonic())):
                raise _Stopped
