"""Starting on a device that is full, or beside a command that ends soon: what must be written waits for room, what
can be done without is done.

Mail that is there can be read; nothing new is taken (SMTP 452, IMAP NO) until there is room, by the store's own rules.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from spinrt import limits, trace
from spinrt.errors import CorruptRecord, DataLocked, DeviceFull
from spinrt.mail.config import Config
from spinrt.mail.store.store import Store
from spinrt.storage import room
from spinrt.storage.files import FULL_ERRNOS, device_error

RETRY_S: Final = 5.0
"""Between two attempts at what found no room."""
LOCK_WAIT_S: Final = 5.0
"""For another command that has the data directory for a moment."""
LOCK_RETRY_S: Final = 0.05
PROGRESS_BYTES: Final = 64 * limits.MIB
"""Recovery says how far it is each time it has applied so much of the log."""

_LOG = trace.component("service")


async def open_store(config: Config, *, retry_s: float = RETRY_S) -> Store:
    """Open the store of a data directory; if there is no room, with what is held back; wait if there is none, too.

    For a process that has the directory is waited `LOCK_WAIT_S`: it may be a command that is about to end.

    Raises:
        SpinError: As `Store.open`, but for `DeviceFull`.
    """
    while True:
        try:
            return await _open_when_free(config)
        except DeviceFull as error:
            trace.log(_LOG, logging.ERROR, "waiting for room", reason=error.line())
        await asyncio.sleep(retry_s)


async def _open_when_free(config: Config) -> Store:
    until_s = time.monotonic() + LOCK_WAIT_S
    told = False
    while True:
        try:
            return _open(config)
        except DataLocked as error:
            if time.monotonic() >= until_s:
                raise
            if not told:
                trace.log(_LOG, logging.WARNING, "waiting for the data directory", reason=error, at_most_s=LOCK_WAIT_S)
                told = True
        await asyncio.sleep(LOCK_RETRY_S)


def _open(config: Config) -> Store:
    path = config.data_directory
    if path.is_dir():
        with suppress(OSError):  # then it is not given up, and the error that follows says more
            room.give_up(path)
    try:
        store = Store.open(path, progress=progress(), compression=config.storage.compression == "zstd")
    except OSError as error:
        if error.errno not in FULL_ERRNOS:
            raise
        raise device_error(error, f"data directory {path}") from error
    except CorruptRecord:  # as it was
        _hold_back(path)
        raise
    _hold_back(path)
    return store


def _hold_back(path: Path) -> None:
    with suppress(OSError):  # the next start has less
        room.hold_back(path)


class Later:
    """Changes that must be made, and that a full device may keep from being made now."""

    def __init__(self, *, retry_s: float | None = None) -> None:
        self._retry_s = RETRY_S if retry_s is None else retry_s
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, what: str, change: Callable[[], Awaitable[object]]) -> None:
        """Make a change, or return when that found no room: then it is tried again and again until `close`."""
        if await self._is_made(what, change):
            return
        task = asyncio.get_running_loop().create_task(self._repeat(what, change))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _repeat(self, what: str, change: Callable[[], Awaitable[object]]) -> None:
        made = False
        while not made:
            await asyncio.sleep(self._retry_s)
            made = await self._is_made(what, change)

    async def _is_made(self, what: str, change: Callable[[], Awaitable[object]]) -> bool:
        try:
            await change()
        except DeviceFull as error:
            trace.log(_LOG, logging.ERROR, "waiting for room", what=what, reason=error.line())
            return False
        return True


def progress() -> Callable[[int, int], None]:
    """Return what tells of a long recovery now and then."""
    told = 0

    def tell(position: int, end: int) -> None:
        nonlocal told
        if position - told >= PROGRESS_BYTES:
            told = position
            trace.log(_LOG, logging.INFO, "recovering", position=position, end=end)

    return tell
