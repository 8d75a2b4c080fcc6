"""Retention of a running mail system: now and then, what the log need not keep goes.

Nothing goes that no snapshot covers, so without snapshots the log keeps all. What a pass did is in the trace.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from spinrt import trace
from spinrt.errors import SpinError
from spinrt.mail.store.store import Store
from spinrt.storage.retention import Retention

INTERVAL_S: Final = 600.0

_LOG = trace.component("retention")


class Expiring:
    """Runs passes over the log of one store, an interval apart; none when the policy keeps all."""

    def __init__(self, policy: Retention, store: Store, *, interval_s: float = INTERVAL_S) -> None:
        self._policy = policy
        self._store = store
        self._interval_s = interval_s
        self._reason = ""
        """Why the last pass did no more: said once."""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if not self._policy.keeps_all:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="retention")

    async def close(self) -> None:
        """Begin no other pass. One under way is finished when the store is closed."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                done = await self._store.expire(self._policy)
            except SpinError as error:
                trace.log(_LOG, logging.ERROR, "retention failed", reason=error.line())
                continue
            if done.segments:
                counts = {"segments": done.segments, "bytes": done.bytes, "carried": done.bodies_carried}
                if done.damaged:
                    counts["damaged"] = done.damaged
                trace.log(_LOG, logging.INFO, "expired", **counts)
            if done.reason and done.reason != self._reason:
                trace.log(_LOG, logging.INFO, "kept for now", reason=done.reason)
            self._reason = done.reason
