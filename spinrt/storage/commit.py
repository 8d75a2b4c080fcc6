"""Group commit: many requests, one fdatasync, off the event loop.

Owns one committer thread and nothing else; the log's own locks make its calls safe. All state is the event loop's. The
thread runs in the core, without the GIL: it takes a batch, writes and syncs it, and tells the loop by a descriptor
(cython_core/log_writer.pxi says why). What `Log.launch` does not take, it does in Python. A request made while a sync
is under way is served by the next one; the batch grows by itself with the load and the time of a sync. Requests made in
one turn of the event loop always share a sync: it begins when the turn is over.

Under load a sync is put off a little so that more share it (as PostgreSQL's ``commit_delay`` does): for ``SHARED_S``
after one that served several, the next begins no sooner than ``GATHER_S`` after the one before it. A sync that serves
three messages costs processor time like one that serves twenty; whoever commits alone never waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Final

from spinrt._core import LogWriter, take_short_turns
from spinrt.errors import ClosedError, DeviceFull, InternalError, SpinError
from spinrt.storage.log import Log

GATHER_S: Final = 0.003
SHARED_S: Final = 0.1
TURN_NS: Final = 100_000
"""What the thread is given to run at a time: it needs less, and must not wait for somebody else's long turn to end."""


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
        self._writer = LogWriter()
        self._requests = 0
        """Not served by a sync that has begun."""
        self._scheduled = False
        self._busy = False
        self._closing = False
        self._begun_s = -GATHER_S
        self._shared_s = -SHARED_S
        self._stopped: asyncio.Future[None] = self._loop.create_future()
        self._failure: SpinError | None = None
        self.sync_count = 0
        self._thread = threading.Thread(target=self._run, name="spinrt-commit", daemon=True)
        self._thread.start()
        self._loop.add_reader(self._writer.descriptor, self._landed)

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
        self._requests += 1
        if not self._scheduled and not self._busy:
            self._schedule()

    def _schedule(self) -> None:
        """Begin when this turn of the loop is over, or later when others are likely to come."""
        self._scheduled = True
        begin_s, now_s = self._begun_s + GATHER_S, self._loop.time()
        if now_s < begin_s and now_s < self._shared_s + SHARED_S:
            self._loop.call_at(begin_s, self._begin)
        else:
            self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        self._scheduled = False
        if self._busy or not self._requests:
            return
        self._begun_s = self._loop.time()
        if self._requests > 1:
            self._shared_s = self._begun_s
        self._requests, self._busy = 0, True
        if not self._log.launch(self._writer):
            self._writer.call()

    async def close(self) -> None:
        """Serve what was requested, then end the thread. Closing twice waits for the first."""
        if not self._closing:
            self._closing = True
            if not self._busy:
                self._continue()
        await asyncio.shield(self._stopped)
        self._thread.join()

    def _continue(self) -> None:
        """Go on after a sync: with what was requested meanwhile, or to the end."""
        if self._closing:
            self._begin()
            if not self._busy:
                self._writer.end()
        elif self._requests and not self._scheduled:
            self._schedule()

    def _run(self) -> None:
        """Body of the committer thread."""
        take_short_turns(TURN_NS)
        while self._writer.serve():
            try:
                durable = self._log.sync()
            except DeviceFull as error:
                self._post(self._gave_up, error)
            except SpinError as error:
                self._post(self._fail, error)
                break
            except Exception as error:  # a mistake of ours must reach the waiters too, or they wait for ever
                failure = InternalError(f"group commit: {type(error).__name__}: {error}")
                self._post(self._fail, failure)
                break
            else:
                self._post(self._synced, durable)
        self._post(self._finish)

    def _post(self, callback: Callable[..., None], *arguments: object) -> None:
        """Call back on the loop; a loop that is closed already has nobody left to tell."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *arguments)

    def _landed(self) -> None:
        """A batch is done that the log took from `Log.launch`."""
        self._writer.acknowledge()
        try:
            durable = self._log.land()
        except DeviceFull as error:
            self._gave_up(error)
        except SpinError as error:
            self._fail(error)
            self._writer.end()
        else:
            self._synced(durable)

    def _synced(self, durable: int) -> None:
        self.sync_count += 1
        self._busy = False
        self._continue()
        self._on_durable(durable)

    def _gave_up(self, error: DeviceFull) -> None:
        self._busy = False
        self._continue()
        self._report(error)

    def _report(self, error: SpinError) -> None:
        if self._on_error is not None:
            self._on_error(error)

    def _fail(self, error: SpinError) -> None:
        self._failure = error
        self._report(error)

    def _finish(self) -> None:
        self._loop.remove_reader(self._writer.descriptor)
        if not self._stopped.done():
            self._stopped.set_result(None)
