"""Group commit: many requests, one fdatasync, off the event loop.

Owns one committer thread and nothing else; the log's own locks make its calls safe. A request made while a sync is
under way is served by the next one, so the batch grows by itself with the load and the time of a sync. Requests made
in one turn of the event loop always share a sync: the thread is woken when the turn is over.

Under load a sync is put off a little so that more share it (as PostgreSQL's ``commit_delay`` does): when the one before
served ``GATHER_REQUESTS_MIN`` or more, the next begins no sooner than ``GATHER_S`` after it. A sync that serves three
messages costs processor time like one that serves twenty; whoever commits alone never waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Final

from spinrt.errors import ClosedError, DeviceFull, InternalError, SpinError
from spinrt.storage.log import Log

GATHER_S: Final = 0.002
GATHER_REQUESTS_MIN: Final = 2


class GroupCommit:
    """The asyncio front of ``Log.sync``. Made on the event loop whose thread gets the calls.

    Args:
        on_durable: Called on the loop with the position that is durable, after each sync.
        on_error: Called on the loop with what a sync raised. After `DeviceFull` the log goes on and so does this
            object; ``Log.is_lost`` tells what was given up. After any other error nothing more is synced.
    """

    def __init__(
        self,
        log: Log,
        on_durable: Callable[[int], None],
        on_error: Callable[[SpinError], None] | None = None,
    ) -> None:
        self._log = log
        self._on_durable = on_durable
        self._on_error = on_error
        self._loop = asyncio.get_running_loop()
        self._wake = threading.Condition()
        self._requested = False
        self._closing = False
        self._wake_scheduled = False
        self._gathered = 0
        """Requests since the thread was last woken, and ``_served`` those of that time."""
        self._served = 0
        self._woken_s = 0.0
        self._stopped: asyncio.Future[None] = self._loop.create_future()
        self._failure: SpinError | None = None
        self.sync_count = 0
        self._thread = threading.Thread(target=self._run, name="spinrt-commit", daemon=True)
        self._thread.start()

    def request(self) -> None:
        """Ask for a sync soon; on the loop's thread. What was appended before the call is in it.

        Raises:
            ClosedError: `close` was called.
        """
        if self._closing:
            raise ClosedError("group commit: request after close")
        if self._failure is not None:
            self._loop.call_soon(self._report, self._failure)
            return
        self._gathered += 1
        if not self._wake_scheduled:
            self._wake_scheduled = True
            self._schedule_wake()

    def _schedule_wake(self) -> None:
        """Wake the thread when this turn of the loop is over, or later when others are likely to come."""
        begins_s = self._woken_s + GATHER_S
        if self._served >= GATHER_REQUESTS_MIN and begins_s > self._loop.time():
            self._loop.call_at(begins_s, self._wake_thread)
        else:
            self._loop.call_soon(self._wake_thread)

    def _wake_thread(self) -> None:
        self._wake_scheduled = False
        self._served, self._gathered = self._gathered, 0
        self._woken_s = self._loop.time()
        with self._wake:
            self._requested = True
            self._wake.notify()

    async def close(self) -> None:
        """Serve what was requested, then end the thread. Closing twice waits for the first."""
        if not self._closing:
            self._closing = True
            with self._wake:
                self._requested = self._requested or self._wake_scheduled
                self._wake.notify()
        await asyncio.shield(self._stopped)
        self._thread.join()

    def _run(self) -> None:
        """Body of the committer thread."""
        while self._await_request():
            try:
                durable = self._log.sync()
            except DeviceFull as error:
                self._post(self._report, error)
            except SpinError as error:
                self._post(self._fail, error)
                break
            except Exception as error:  # a mistake of ours must reach the waiters too, or they wait for ever
                failure = InternalError(f"group commit: {type(error).__name__}: {error}")
                self._post(self._fail, failure)
                break
            else:
                self.sync_count += 1
                self._post(self._on_durable, durable)
        self._post(self._finish)

    def _await_request(self) -> bool:
        with self._wake:
            while not self._requested and not self._closing:
                self._wake.wait()
            requested, self._requested = self._requested, False
            return requested

    def _post(self, callback: Callable[..., None], *arguments: object) -> None:
        """Call back on the loop; a loop that is closed already has nobody left to tell."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *arguments)

    def _report(self, error: SpinError) -> None:
        if self._on_error is not None:
            self._on_error(error)

    def _fail(self, error: SpinError) -> None:
        self._failure = error
        self._report(error)

    def _finish(self) -> None:
        if not self._stopped.done():
            self._stopped.set_result(None)
