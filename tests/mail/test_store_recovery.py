"""What a start finds after a crash, and what it does with an index it cannot trust."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from spinrt.errors import CorruptRecord, DataLocked, DeviceFailed, SpinError
from spinrt.mail import starting
from spinrt.mail.store.model import Append, Deliver, FlagsMode, StoreFlags
from spinrt.mail.store.recovery import SUSPECT_NAME
from spinrt.mail.store.store import Store
from spinrt.storage import room
from spinrt.testing.device import CrashDevice, PowerLost
from tests.mail.service_support import config_of
from tests.mail.store_support import (
    USER,
    deliver,
    delivery,
    dump_store,
    fake_body,
    fill,
    inbox,
    open_store,
    run,
    write_body,
)

INDEX = Path("data/index/mail.sqlite")


def prepared(path: Path, count: int = 30) -> dict[str, list[tuple[object, ...]]]:
    """Make a store with messages, close it, return what its index held."""
    result = {}

    async def body() -> None:
        store = open_store(path)
        await store.ensure_account(USER)
        for n in range(count):
            await deliver(store, b"message %d" % n, id_=str(n))
        await store.submit(StoreFlags(inbox(store), (1, 2), FlagsMode.ADD, ("\\Seen",)))
        result.update(dump_store(store))
        await store.close()

    run(body)
    return result


def reopened(path: Path) -> dict[str, list[tuple[object, ...]]]:
    store = open_store(path)
    try:
        return dump_store(store)
    finally:
        store.release()


def damage_bytes(path: Path) -> None:
    (path / INDEX).write_bytes(b"this is no database" * 500)


def damage_missing(path: Path) -> None:
    (path / INDEX).unlink()


def damage_schema(path: Path) -> None:
    with sqlite3.connect(path / INDEX) as connection:
        connection.execute("PRAGMA user_version = 99")


def damage_ahead(path: Path) -> None:
    with sqlite3.connect(path / INDEX) as connection:
        connection.execute("UPDATE state SET applied = applied + 1000")


def damage_identity(path: Path) -> None:
    with sqlite3.connect(path / INDEX) as connection:
        connection.execute("UPDATE state SET log_identity = zeroblob(16)")


def damage_history(path: Path) -> None:
    with sqlite3.connect(path / INDEX) as connection:
        connection.execute("UPDATE state SET last_time_ns = last_time_ns + 1")


def damage_state_gone(path: Path) -> None:
    with sqlite3.connect(path / INDEX) as connection:
        connection.execute("DELETE FROM state")


def damage_state_columns(path: Path) -> None:
    with sqlite3.connect(path / INDEX) as connection:
        connection.execute("ALTER TABLE state DROP COLUMN next_queue_id")


def damage_suspected(path: Path) -> None:
    with sqlite3.connect(path / INDEX) as connection:
        connection.execute("DELETE FROM messages WHERE uid > 5")
    (path / INDEX).with_name(SUSPECT_NAME).touch()


def damage_page(path: Path) -> None:
    flip(path / INDEX, 3 * 4096 + 7)


def flip(file: Path, offset: int, count: int = 40) -> None:
    data = bytearray(file.read_bytes())
    data[offset : offset + count] = bytes(byte ^ 0xFF for byte in data[offset : offset + count])
    file.write_bytes(data)


def lose_log(path: Path) -> None:
    shutil.rmtree(path / "data/log")


def lose_segment(path: Path) -> None:
    (segment(path)).unlink()


def lose_content(path: Path) -> None:
    os.truncate(segment(path), 0)


def lose_tail(path: Path) -> None:
    os.truncate(segment(path), segment(path).stat().st_size - 100)


def segment(path: Path) -> Path:
    (found,) = (path / "data/log").iterdir()
    return found


@pytest.mark.parametrize(
    "damage",
    [lose_log, lose_segment, lose_content, lose_tail, damage_ahead, damage_identity, damage_history],
)
def test_log_that_lacks_what_the_index_covers_is_refused(tmp_path: Path, damage: object) -> None:
    """The index is the only witness: each start is refused and says what to do, until the log is back."""
    expected = prepared(tmp_path)
    shutil.copytree(tmp_path / "data", tmp_path / "backup")
    assert callable(damage)
    damage(tmp_path)
    for _ in range(2):
        with pytest.raises(CorruptRecord, match="left as it is") as caught:
            open_store(tmp_path)
        assert str(tmp_path / "data/index") in caught.value.hint
    shutil.rmtree(tmp_path / "data")
    shutil.copytree(tmp_path / "backup", tmp_path / "data")
    assert reopened(tmp_path) == expected


@pytest.mark.parametrize("damage", [lose_log, lose_segment, lose_content])
def test_a_start_refused_since_the_log_is_gone_changes_nothing(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """Not a file more, fewer or other than before; what is held back for a full device stays, too."""
    prepared(tmp_path)
    damage(tmp_path)
    config = replace(config_of(tmp_path, extensions={}), data_directory=tmp_path / "data")
    room.hold_back(tmp_path / "data")
    before = everything(tmp_path / "data")
    with pytest.raises(CorruptRecord, match="the log was removed"):
        asyncio.run(starting.open_store(config))
    assert everything(tmp_path / "data") == before


def everything(directory: Path) -> dict[Path, bytes | None]:
    """Every path below, and what is in the file; but for the process id in the lock."""
    found = sorted(path for path in directory.rglob("*") if path.name != "LOCK")
    return {path: path.read_bytes() if path.is_file() else None for path in found}


def test_loss_is_accepted_by_removing_the_index(tmp_path: Path) -> None:
    """As the hint says."""
    prepared(tmp_path)
    lose_tail(tmp_path)
    shutil.rmtree(tmp_path / "data/index")
    assert len(reopened(tmp_path)["messages"]) > 25


@pytest.mark.parametrize("name", ["log", "index", "index/mail.sqlite"])
def test_places_that_hold_something_else_are_refused(tmp_path: Path, name: str) -> None:
    """A file for a directory, a directory for a file."""
    prepared(tmp_path, 1)
    place = tmp_path / "data" / name
    if place.is_dir():
        shutil.rmtree(place)
        place.write_text("no directory")
    else:
        place.unlink()
        place.mkdir()
    with pytest.raises(CorruptRecord, match="expected"):
        open_store(tmp_path)


def test_index_damaged_while_running_is_an_error_and_built_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A damaged page is never an empty answer; the next start repairs it."""
    expected = prepared(tmp_path)
    store = open_store(tmp_path)
    pages = (tmp_path / INDEX).stat().st_size // 4096
    box = inbox(store)
    store._index.connection.execute("PRAGMA shrink_memory")
    for page in range(1, pages):
        flip(tmp_path / INDEX, page * 4096, 100)
    with pytest.raises(DeviceFailed, match="malformed"):
        store.uids(box)
    store.release()
    assert "will be built anew" in caplog.text
    assert reopened(tmp_path) == expected


@pytest.mark.parametrize(
    "damage",
    [
        damage_bytes,
        damage_missing,
        damage_schema,
        damage_state_gone,
        damage_state_columns,
        damage_suspected,
        damage_page,
    ],
)
def test_index_that_cannot_be_trusted_is_built_anew(tmp_path: Path, damage: object) -> None:
    """Whatever is wrong with it, the log decides; the second start does not rebuild again."""
    expected = prepared(tmp_path)
    assert callable(damage)
    damage(tmp_path)
    calls: list[tuple[int, int]] = []

    Store.open(tmp_path / "data", progress=lambda at, end: calls.append((at, end))).release()

    assert calls and calls[-1][0] == calls[-1][1]
    assert reopened(tmp_path) == expected
    calls.clear()
    Store.open(tmp_path / "data", progress=lambda at, end: calls.append((at, end))).release()
    assert calls == []


def test_index_that_is_behind_gets_only_what_it_lacks(tmp_path: Path) -> None:
    """An older index, as after a crash before its last transactions, is brought up to the log."""
    prepared(tmp_path, 5)
    shutil.copy(tmp_path / INDEX, tmp_path / "older")

    async def more() -> None:
        store = open_store(tmp_path)
        await fill(store, 20)
        await store.close()

    run(more)
    expected = reopened(tmp_path)
    shutil.copy(tmp_path / "older", tmp_path / INDEX)
    starts: list[int] = []

    store = Store.open(tmp_path / "data", progress=lambda at, end: starts.append(at))

    assert dump_store(store) == expected
    assert len(starts) == 1
    store.release()


@pytest.mark.parametrize("seed", range(3))
def test_power_lost_at_every_step_keeps_what_was_acknowledged(tmp_path: Path, seed: int) -> None:
    """Each resolved future's change is there after the crash; each delivery is there at most once, bytes and all."""
    step, finished = 1, False
    while not finished:
        path = tmp_path / f"{step}"
        device = CrashDevice(seed, crash_at=step)
        acknowledged: list[int] = []

        async def body(path: Path = path, device: CrashDevice = device, acknowledged: list[int] = acknowledged) -> None:
            nonlocal finished
            store = open_store(path, device=device)
            try:
                await store.ensure_account(USER)
                await asyncio.gather(*[send(store, n, acknowledged) for n in range(6)])
                finished = True
            finally:
                await close_quietly(store)

        with contextlib.suppress(PowerLost, SpinError):
            run(body)
        store = open_store(path, device=device.crash())
        box = store.mailbox(USER, "INBOX")
        found = store.messages(box.id, list(store.uids(box.id))) if box else []
        contents = [store.read(message.body) for message in found]
        assert len(set(contents)) == len(contents)
        assert {b"message %d" % n * 50 for n in acknowledged} <= set(contents), f"seed {seed}, step {step}"
        store.release()
        step += 1
    assert step > 8


async def send(store: Store, number: int, acknowledged: list[int]) -> None:
    body = write_body(store, b"message %d" % number * 50)
    await store.submit(delivery(body, id_=str(number)))
    acknowledged.append(number)


async def close_quietly(store: Store) -> None:
    try:
        await store.close()
    except (PowerLost, SpinError):
        store._index.close()
        store._directory.close()


WRITER = """
import asyncio, sys
from pathlib import Path
from spinrt.mail.store.store import Store
from tests.mail.store_support import delivery, write_body

async def client(store, name):
    number = 0
    while True:
        id_ = f"{name}-{number}"
        await store.submit(delivery(write_body(store, id_.encode() * 100), id_=id_))
        print(id_, flush=True)
        number += 1

async def main():
    store = Store.open(Path(sys.argv[1]))
    await store.ensure_account("bob")
    await asyncio.gather(*[client(store, f"{sys.argv[2]}.{n}") for n in range(5)])

asyncio.run(main())
"""


def test_kill_nine_loses_no_acknowledged_message_and_stores_each_once(tmp_path: Path) -> None:
    """Ten rounds on one store; the index is deleted in one of them."""
    acknowledged: set[str] = set()
    for number in range(10):
        acknowledged |= run_and_kill(tmp_path / "data", number, lines=5 + number * 7)
        if number == 4:
            (tmp_path / INDEX).unlink()
        store = Store.open(tmp_path / "data")
        box = inbox(store)
        contents = [store.read(m.body).decode() for m in store.messages(box, list(store.uids(box)))]
        ids = [content[: len(content) // 100] for content in contents]
        assert all(content == id_ * 100 for id_, content in zip(ids, contents, strict=True))
        assert len(set(ids)) == len(ids)
        assert acknowledged <= set(ids)
        store.release()


def run_and_kill(path: Path, number: int, lines: int) -> set[str]:
    """Run the writer until it acknowledged that many deliveries, kill it; return all that it acknowledged."""
    command = [sys.executable, "-c", WRITER, str(path), str(number)]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        seen = [process.stdout.readline() for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        seen += process.stdout.readlines()
        process.wait()
    return {line.strip() for line in seen if line.endswith("\n")}


def test_second_store_on_one_directory_is_refused(tmp_path: Path) -> None:
    """Until the first is closed."""
    store = open_store(tmp_path)
    with pytest.raises(DataLocked):
        open_store(tmp_path)
    store.release()
    open_store(tmp_path).release()


def test_records_of_changes_that_failed_fail_again_when_applied_anew(tmp_path: Path) -> None:
    """A change that the state forbade is in the log; rebuilding passes over it in the same way."""

    async def body() -> None:
        store = open_store(tmp_path)
        await store.ensure_account(USER)
        results = await asyncio.gather(
            store.submit(Append(77, fake_body(), (), 0, 0)),
            *[store.submit(one(n)) for n in range(3)],
            return_exceptions=True,
        )
        assert isinstance(results[0], SpinError)
        before = dump_store(store)
        store.rebuild()
        assert dump_store(store) == before
        await store.close()

    def one(number: int) -> Deliver:
        return delivery(fake_body(), id_=str(number))

    run(body)


def test_rebuild_leaves_what_is_durable_and_not_applied_to_be_applied_once(tmp_path: Path) -> None:
    """A change between its sync and its turn on the loop is neither applied twice nor left without an answer."""

    async def body() -> None:
        store = open_store(tmp_path)
        await store.ensure_account(USER)
        waiting = store.submit(Append(inbox(store), fake_body(), (), 0, 0))
        store._durable_log.sync()
        store.rebuild()
        await waiting
        assert list(store.uids(inbox(store))) == [1]
        await store.close()

    run(body)
