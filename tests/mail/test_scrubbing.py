"""The server finds damage in what it has stored while it goes on, and takes nothing else for damage."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.core import Metric

from spinrt.mail.config import Scrub
from spinrt.mail.scrub_metrics import ScrubMetrics
from spinrt.mail.scrubbing import Scrubbing
from spinrt.mail.store.store import Store
from tests.mail.service_support import config_of, message, send, serving
from tests.mail.store_support import deliver, with_store

QUICK = Scrub(interval_s=3600.0, bytes_per_s=1 << 40)


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def logged(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(f"{record.getMessage()} {getattr(record, 'fields', {})}" for record in caplog.records)


async def filled(store: Store) -> None:
    for n in range(20):
        await deliver(store, b"message %d " % n * 100, id_=str(n))
    await store.snapshot()


def test_pass_finds_nothing_in_what_is_good(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And says that it read all of log and pages."""
    caplog.set_level(logging.INFO, "spinrt")

    async def test(store: Store) -> None:
        await filled(store)
        scrubbing = Scrubbing(store, QUICK)
        await asyncio.to_thread(scrubbing.make_pass)
        files = [*(tmp_path / "data/log").glob("*.log"), *(tmp_path / "data/pages").glob("*.pack")]
        headers = 64 * len(list((tmp_path / "data/pages").glob("*.pack")))
        assert scrubbing.state.bytes == sum(path.stat().st_size for path in files) - headers
        assert (scrubbing.state.passes, scrubbing.state.damaged) == (1, 0)

    with_store(tmp_path, test)
    assert "'damaged': 0" in logged(caplog)


@pytest.mark.parametrize(("pattern", "offset"), [("log/*.log", 700), ("pages/*.pack", 100), ("pages/*.pack", 200)])
def test_damage_is_found_while_the_store_is_in_use(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, pattern: str, offset: int
) -> None:
    """In bodies and in headers; file and offset are logged, and counted once in each pass."""

    async def test(store: Store) -> None:
        await filled(store)
        path = sorted((tmp_path / "data").glob(pattern))[0]
        flip(path, offset)
        scrubbing = Scrubbing(store, QUICK)
        for _ in range(2):
            await asyncio.to_thread(scrubbing.make_pass)
            assert scrubbing.state.damaged == 1
        assert path.name in logged(caplog)
        assert "fsck --repair" in logged(caplog)
        flip(path, offset)
        await asyncio.to_thread(scrubbing.make_pass)
        assert scrubbing.state.damaged == 0

    with_store(tmp_path, test)


def test_what_is_written_meanwhile_is_no_damage(tmp_path: Path) -> None:
    """Passes while mail comes in and snapshots are taken."""

    async def test(store: Store) -> None:
        scrubbing = Scrubbing(store, QUICK)

        def passes() -> None:
            for _ in range(15):
                scrubbing.make_pass()
                assert scrubbing.state.damaged == 0

        task = asyncio.create_task(asyncio.to_thread(passes))
        number = 0
        while not task.done():
            await asyncio.gather(*(deliver(store, b"%d " % n * 3000, id_=f"{number}-{n}") for n in range(20)))
            await store.snapshot()
            number += 1
        await task

    with_store(tmp_path, test)


def test_slow_pass_ends_when_the_server_stops(tmp_path: Path) -> None:
    """At a rate at which it would take days."""

    async def test(store: Store) -> None:
        for n in range(3):
            await deliver(store, random.Random(n).randbytes(300_000), id_=str(n))
        scrubbing = Scrubbing(store, Scrub(interval_s=3600.0, bytes_per_s=10), first_s=0.0)
        scrubbing.start()
        await asyncio.to_thread(wait_for, lambda: scrubbing.state.bytes > 0)
        scrubbing.close()
        assert scrubbing.state.passes == 0
        assert not scrubbing._thread.is_alive()

    with_store(tmp_path, test)


def test_no_interval_means_never(tmp_path: Path) -> None:
    """Nothing is started."""

    async def test(store: Store) -> None:
        scrubbing = Scrubbing(store, Scrub(interval_s=None))
        scrubbing.start()
        assert not scrubbing._thread.is_alive()
        scrubbing.close()

    with_store(tmp_path, test)


def test_running_server_makes_passes_and_shows_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the configuration says; metrics have what it did."""
    config = config_of(tmp_path, storage={"scrub": {"interval": "100 ms", "bytes_per_s": "100 MiB"}})
    with serving(config) as service:
        assert send(service, message(), "alice@example.org")[0].startswith("250")
        state = service.service.scrubbing.state
        wait_for(lambda: state.passes >= 2)
        shown: dict[str, Metric] = {metric.name: metric for metric in ScrubMetrics(state).collect()}
    assert shown["spinrt_scrub_passes"].samples[0].value >= 2
    assert shown["spinrt_scrub_damaged"].samples[0].value == 0
