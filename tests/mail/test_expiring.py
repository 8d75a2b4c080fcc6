"""Retention of a running system: passes by interval, told in the trace, and errors survived."""

from __future__ import annotations

import asyncio
import logging
from typing import cast

import pytest

from spinrt.errors import DeviceFull
from spinrt.mail.expiring import Expiring
from spinrt.mail.store.store import Store
from spinrt.storage.retention import Expired, Retention


class FakeStore:
    """Gives what it was told to, one for each pass; then waits for ever."""

    def __init__(self, *results: Expired | DeviceFull) -> None:
        self.results = list(results)
        self.done = asyncio.Event()

    async def expire(self, policy: Retention) -> Expired:
        assert policy.age_s == 5
        if not self.results:
            self.done.set()
            await asyncio.Event().wait()
        result = self.results.pop(0)
        if isinstance(result, DeviceFull):
            raise result
        return result


def test_passes_go_on_after_an_error(caplog: pytest.LogCaptureFixture) -> None:
    """A full device is said and tried again; a reason is said once."""

    async def body() -> None:
        store = FakeStore(
            Expired(2, 4096, 7, 100, "why"), DeviceFull("no room"), Expired(reason="why"), Expired(), Expired(1, 5)
        )
        expiring = Expiring(Retention(age_s=5), cast(Store, store), interval_s=0)
        expiring.start()
        await asyncio.wait_for(store.done.wait(), 10)
        await expiring.close()

    with caplog.at_level(logging.INFO):
        asyncio.run(body())
    said = [record.getMessage() for record in caplog.records if "retention" in record.name]
    assert sum("expired" in one for one in said) == 2
    assert sum("kept for now" in one for one in said) == 1
    assert sum("failed" in one for one in said) == 1


def test_a_policy_that_keeps_all_does_nothing() -> None:
    """There is no task."""

    async def body() -> None:
        expiring = Expiring(Retention(), cast(Store, FakeStore()), interval_s=0)
        expiring.start()
        assert expiring._task is None
        await expiring.close()

    asyncio.run(body())
