"""Starting on a device that is full: nothing that is right is taken for damaged, and room is waited for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spinrt.errors import DataLocked, DeviceFull
from spinrt.mail import starting
from spinrt.mail.config import Config, parse
from spinrt.mail.service import MailService
from spinrt.mail.starting import Later, open_store
from spinrt.mail.store.index import INDEX_NAME
from spinrt.mail.store.store import Store
from spinrt.storage import room
from spinrt.storage.page_table import TABLE_NAME
from tests.mail.service_support import config_text
from tests.mail.store_support import fill, with_store


def make_config(path: Path) -> Config:
    return parse(config_text(path, extensions={}), path / "spinrt.yaml")


@contextlib.contextmanager
def no_room(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No file grows beyond two kilobytes, so that SQLite cannot map what it shares; and no room is said to be left."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with monkeypatch.context() as patch:
        patch.setattr(room, "free_bytes", lambda directory: 0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2048, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_cannot_be_opened_for_want_of_room_is_not_taken_for_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Index and table of pages stay as they are, and serve when there is room again."""

    async def filled(store: Store) -> None:
        await fill(store, 20)
        await store.snapshot()

    with_store(tmp_path, filled)
    files = [tmp_path / "data/index" / INDEX_NAME, tmp_path / "data/pages" / TABLE_NAME]
    before = [path.read_bytes() for path in files]
    caplog.clear()
    with no_room(monkeypatch), pytest.raises(DeviceFull, match="index open"):
        Store.open(tmp_path / "data")
    assert [path.read_bytes() for path in files] == before
    store = Store.open(tmp_path / "data")
    with no_room(monkeypatch), pytest.raises(DeviceFull, match="page store open"):
        _ = store.snapshots.pages
    assert [path.read_bytes() for path in files[1:]] == before[1:]
    assert len(store.snapshots.pages.snapshots()) == 1
    store.release()
    assert "building it anew" not in caplog.text


def test_room_is_held_back_and_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As much as there is; given up only when there is hardly any other; nothing is held back of nearly nothing."""
    held = tmp_path / room.RESERVE_NAME
    assert room.hold_back(tmp_path) == room.RESERVE_BYTES == held.stat().st_size
    assert held.stat().st_blocks * 512 >= room.RESERVE_BYTES
    room.give_up(tmp_path)
    assert held.exists()
    monkeypatch.setattr(room, "free_bytes", lambda directory: 2**20)
    room.give_up(tmp_path)
    assert not held.exists()
    assert room.hold_back(tmp_path) == 2**20 - room.FULL_BYTES == held.stat().st_size
    held.unlink()
    monkeypatch.setattr(room, "free_bytes", lambda directory: 2**16)
    assert room.hold_back(tmp_path) == 0
    assert not held.exists()


def test_start_waits_for_room_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It goes on by itself when there is some."""
    real, left = Store.open, [DeviceFull("index open: full"), OSError(28, "No space left on device")]

    def opened(*arguments: Any, **named: Any) -> Store:
        if left:
            raise left.pop()
        return real(*arguments, **named)

    monkeypatch.setattr(starting.Store, "open", opened)
    store = asyncio.run(open_store(make_config(tmp_path), retry_s=0))
    store.release()
    assert caplog.text.count("waiting for room") == 2


def test_service_starts_though_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accounts' mailboxes are made when there is room: until then the server serves."""
    monkeypatch.setattr(starting, "RETRY_S", 0.0)
    refused, made = {"alice"}, asyncio.Event()

    async def ensured(self: Store, user: str) -> None:
        if user in refused:
            refused.discard(user)
            raise DeviceFull("mail store: the log's device is full")
        if user == "alice":
            made.set()

    monkeypatch.setattr(Store, "ensure_account", ensured)

    async def test() -> None:
        service = MailService(make_config(tmp_path))
        await service.start()
        try:
            assert service.endpoints
            async with asyncio.timeout(10):
                await made.wait()
        finally:
            await service.stop()

    asyncio.run(test())


def test_what_waits_for_room_ends_with_the_service() -> None:
    """Nobody is left who tries."""

    async def test() -> None:
        later = Later(retry_s=0)

        async def never() -> None:
            raise DeviceFull("full")

        await later.run("it", never)
        await asyncio.sleep(0)
        await later.close()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(test())


def test_a_start_waits_for_a_command_that_has_the_directory_for_a_moment(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One line says for whom; then it starts."""
    config = make_config(tmp_path)
    other = Store.open(config.data_directory)

    async def start() -> None:
        asyncio.get_running_loop().call_later(0.2, other.release)
        store = await starting.open_store(config)
        await store.close()

    with caplog.at_level(logging.WARNING, "spinrt"):
        asyncio.run(start())
    (told,) = (record for record in caplog.records if "waiting for the data directory" in record.getMessage())
    assert f"in use by process {os.getpid()}" in str(vars(told))


def test_a_start_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another server has it: refused, as a locked directory is."""
    monkeypatch.setattr(starting, "LOCK_WAIT_S", 0.1)
    config = make_config(tmp_path)
    other = Store.open(config.data_directory)
    try:
        with pytest.raises(DataLocked, match=f"in use by process {os.getpid()}"):
            asyncio.run(starting.open_store(config))
    finally:
        other.release()
