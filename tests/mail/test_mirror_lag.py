"""How far behind a target is, and when it is tried again."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from spinrt.errors import StateError
from spinrt.mail import mirroring
from spinrt.mail.config_mirror import MirrorTarget
from spinrt.mail.mirror_lag import Oldest, Waiting
from spinrt.mail.mirroring import Mirroring, TargetRecord, describe_target
from spinrt.mail.store.changes import is_change
from spinrt.mail.store.store import Store
from spinrt.storage.mirror.book import is_mirror
from spinrt.storage.mirror.link import Identity
from tests.mail.store_support import deliver, with_store, write_body


def test_the_oldest_change_counts_and_not_the_last_snapshot(tmp_path: Path) -> None:
    async def test(store: Store) -> None:
        waiting = Waiting(store.log)
        snapshot = await store.snapshot()

        def oldest(position: int = snapshot.position) -> Oldest | None:
            return waiting.oldest("a", position, 7)

        assert oldest() is None
        write_body(store, b"given up\r\n" * 500)
        await asyncio.to_thread(store.log.sync)
        assert oldest() is None, "bytes of a message that nobody delivered are no change"
        before = store.log.end
        await deliver(store, b"one", id_="1")
        first = oldest()
        assert first is not None
        assert first.position >= before
        assert first.time_ns > snapshot.time_ns
        await deliver(store, b"two", id_="2")
        assert oldest() == first
        assert oldest(first.position) == first
        after = await store.snapshot()
        assert oldest(after.position) is None

    with_store(tmp_path, test)


def test_each_change_is_found_from_the_end_of_the_one_before(tmp_path: Path) -> None:
    async def test() -> None:
        store = Store.open(tmp_path / "data", segment_bytes_max=8192)
        await store.ensure_account("bob")
        start = store.log.durable
        for number in range(30):
            await deliver(store, os.urandom(2000), id_=f"{number}")
        assert len(store.log.segments()) > 3
        waiting = Waiting(store.log)
        covered = start
        for record in store.log.records(start):
            if is_change(record.kind):
                assert waiting.oldest(f"{covered}", covered, 7) == (record.position, record.time_ns)
                covered = record.next_position
        assert waiting.oldest("all", covered, 7) is None
        await store.close()

    asyncio.run(test())


@pytest.mark.parametrize(
    ("record", "oldest", "expected"),
    [
        (TargetRecord(), Oldest(50, 0), (None, None)),
        (TargetRecord(updated_s=1.0, snapshot_s=1.0), None, (0, 0.0)),
        (TargetRecord(updated_s=1.0, snapshot_s=1.0), Oldest(50, time.time_ns() - 60 * 10**9), (50, 60)),
    ],
)
def test_lag_is_the_age_of_what_waits(
    record: TargetRecord, oldest: Oldest | None, expected: tuple[int | None, float | None]
) -> None:
    found = describe_target("a", record, oldest, 100)

    assert found["lag_bytes"] == expected[0]
    assert found["lag_s"] == (None if expected[1] is None else pytest.approx(expected[1], abs=600))


def make(store: Store, path: Path, interval_s: float) -> Mirroring:
    def nobody() -> Identity:
        raise AssertionError

    targets = {"disk": MirrorTarget(directory=path, interval_s=interval_s)}
    return Mirroring(targets, path.parent / "data", nobody, store.snapshot, lambda: store.snapshots.pages, store.log)


async def until(look: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not look():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def test_a_push_by_hand_ends_the_back_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the server waits to try again, somebody mends the cause and pushes: what comes next is sent at once."""
    monkeypatch.setattr(mirroring, "RETRY_S", 1000.0)
    monkeypatch.setattr(mirroring, "RETRY_S_MAX", 1000.0)
    target = tmp_path / "mirror"

    async def test(store: Store) -> None:
        (target / "log").mkdir(parents=True)
        (target / "log" / f"{0:020d}.log").touch()
        (target / "FORMAT").write_text("spinrt-data 1\n")
        making = make(store, target, 0.0)
        making.start()
        await until(lambda: "has mail of its own" in making.records["disk"].error)
        with pytest.raises(StateError):
            await making.push("disk")
        (target / "log" / f"{0:020d}.log").unlink()

        await making.push("disk")
        await deliver(store, b"after", id_="after")
        await until(lambda: making.records["disk"].updates == 2)
        assert making.describe()[0]["lag_bytes"] == 0
        await making.close()

    with_store(tmp_path, test)


def test_a_target_that_is_another_place_now_was_never_tried_and_is_pushed_at_once(tmp_path: Path) -> None:
    """Its name is the same, and what is known is of the directory before; nobody waits an interval for the first."""

    async def test(store: Store) -> None:
        old = make(store, tmp_path / "old", 3600.0)
        await old.push("disk")
        assert old.describe()[0]["lag_s"] == 0.0
        again = make(store, tmp_path / "old", 3600.0)
        assert again.describe()[0]["lag_s"] == 0.0
        moved = make(store, tmp_path / "new", 3600.0)
        found = moved.describe()[0]
        assert (found["lag_s"], found["lag_bytes"], found["snapshot"], found["updates"]) == (None, None, "", 0)
        moved.start()
        await until(lambda: moved.records["disk"].updates == 1)
        await moved.close()
        assert moved.records["disk"].vanished == 0
        assert is_mirror(tmp_path / "new")

    with_store(tmp_path, test)


@pytest.mark.parametrize("running", [False, True])
def test_a_mirror_that_vanished_is_told_counted_and_made_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, running: bool
) -> None:
    """Under a running server with its next update, else at the start, whatever the interval."""
    target = tmp_path / "mirror"

    async def test(store: Store) -> None:
        making = make(store, target, 3600.0)
        had = (await making.push("disk")).snapshot
        shutil.rmtree(target)
        if running:
            await making.push("disk")
        else:
            making = make(store, target, 3600.0)
            making.start()
            await until(lambda: making.records["disk"].updates == 2)
            await making.close()
        (told,) = (record for record in caplog.records if "vanished" in record.getMessage())
        assert had in str(vars(told))
        assert making.describe()[0]["vanished"] == 1
        assert is_mirror(target)
        again = make(store, target, 3600.0)
        await again.push("disk")
        assert again.describe()[0]["vanished"] == 1

    with caplog.at_level(logging.WARNING, "spinrt"):
        with_store(tmp_path, test)
