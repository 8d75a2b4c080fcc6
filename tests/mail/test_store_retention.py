"""Retention: what is needed stays under its name, what is not goes, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from spinrt.errors import CorruptRecord, DeviceFull, SpinError, StorageError
from spinrt.mail.store.changes import KIND_BODY
from spinrt.mail.store.model import CopyMessages, Expunge
from spinrt.mail.store.store import Store
from spinrt.mail.store.views import Branch, SnapshotReader
from spinrt.storage.device import File
from spinrt.storage.places import remove_places
from spinrt.storage.record import HEADER_BYTES
from spinrt.storage.retention import GROWTH, Expired, Retention, aside_name, idle_bytes_after
from spinrt.testing.device import CrashDevice, PowerLost
from tests.mail.store_support import START_S, USER, deliver, delivery, dump_store, inbox, run, ticking_clock, write_body

EVERYTHING = Retention(log_bytes_max=0)
SEGMENT_BYTES = 4096


def open_small(path: Path, *, device: CrashDevice | None = None, clock: Callable[[], int] | None = None) -> Store:
    return Store.open(path / "data", device=device, clock_ns=clock or ticking_clock(), segment_bytes_max=SEGMENT_BYTES)


def message(number: int) -> bytes:
    return b"Subject: %d\r\n\r\n" % number + b"".join(b"%d of %d\r\n" % (n * number, number) for n in range(60))


async def expire(store: Store, policy: Retention = EVERYTHING) -> Expired:
    return await store.expire(policy, young_s=0)


async def fill(store: Store, first: int, last: int) -> None:
    for number in range(first, last):
        await deliver(store, message(number), id_=f"id-{number}")


def check_inbox(store: Store, expected: dict[int, int]) -> None:
    """UID → number of the message: all there, nothing else, byte for byte; and the index knows what is live."""
    found = store.messages(inbox(store), list(store.uids(inbox(store))))
    assert {one.uid: store.read(one.body) for one in found} == {
        uid: message(number) for uid, number in expected.items()
    }
    names = {extent.position for one in found for extent in one.body.extents}
    assert names == {row[0] for row in store._index.connection.execute("SELECT name FROM bodies")}


def on_store(path: Path, test: Callable[[Store], object]) -> None:
    async def body() -> None:
        store = open_small(path)
        try:
            await store.ensure_account(USER)
            await test(store)  # type: ignore[misc]
        finally:
            await store.close()

    run(body)


def test_messages_outlive_their_segments(tmp_path: Path) -> None:
    """Expunged ones are gone with theirs; the others are read as before, and after reopening and rebuilding too."""
    kept = {uid: uid - 1 for uid in range(2, 41, 3)}

    async def test(store: Store) -> None:
        await fill(store, 0, 40)
        await store.submit(Expunge(inbox(store), tuple(uid for uid in range(1, 41) if uid not in kept), False))
        log = store._durable_log
        assert (await expire(store)).reason.startswith("no snapshot covers")
        await store.snapshot()
        before = log.end - log.start
        expired = await expire(store)
        assert expired.segments >= 5 and 10 <= expired.bodies_carried <= len(kept) and not log.whole
        assert log.end - log.start < before
        check_inbox(store, kept)

    on_store(tmp_path, test)

    async def again(store: Store) -> None:
        check_inbox(store, kept)
        await fill(store, 100, 105)
        check_inbox(store, kept | {41 + n: 100 + n for n in range(5)})
        (tmp_path / "data" / "index" / "REBUILD").touch()

    on_store(tmp_path, again)

    async def rebuilt(store: Store) -> None:
        check_inbox(store, kept | {41 + n: 100 + n for n in range(5)})

    on_store(tmp_path, rebuilt)


def test_passes_go_on_and_on(tmp_path: Path) -> None:
    """Bodies are moved again when their place expires; names never change."""

    async def test(store: Store) -> None:
        expected: dict[int, int] = {}
        for turn in range(5):
            await fill(store, turn * 10, turn * 10 + 10)
            expected |= {number + 1: number for number in range(turn * 10, turn * 10 + 10)}
            gone = [uid for uid in expected if uid % 3 == turn % 3]
            await store.submit(Expunge(inbox(store), tuple(gone), False))
            for uid in gone:
                del expected[uid]
            await store.snapshot()
            store._expiry._idle_bytes = 0
            await expire(store)
            check_inbox(store, expected)
        for one in store.snapshots.pages.snapshots()[:-1]:
            store.snapshots.pages.delete(one.identity)

    on_store(tmp_path, test)


def test_snapshots_keep_what_they_need(tmp_path: Path) -> None:
    """A message that was expunged since is read from the snapshot; it goes when that was deleted."""

    async def test(store: Store) -> None:
        await fill(store, 0, 20)
        old = await store.snapshot("old")
        await store.submit(Expunge(inbox(store), tuple(range(1, 20)), False))
        await store.snapshot("new")
        assert (await expire(store)).bodies_carried >= 10
        with SnapshotReader(store.snapshots.pages, old, store._durable_log) as reader:
            mailbox = reader.mailbox(USER, "INBOX")
            assert mailbox is not None
            found = reader.messages(mailbox.id, list(reader.uids(mailbox.id)))
            assert [reader.read(one.body) for one in found] == [message(number) for number in range(20)]
        store.snapshots.pages.delete(old.identity)
        await fill(store, 30, 50)
        await store.snapshot("newer")
        store._expiry._idle_bytes = 0
        await expire(store)
        log = store._durable_log
        assert not any(log.holds(extent.position) for one in found[:10] for extent in one.body.extents)
        check_inbox(store, {20: 19} | {21 + n: 30 + n for n in range(20)})

    on_store(tmp_path, test)


def test_nothing_goes_while_there_is_a_branch(tmp_path: Path) -> None:
    """What a branch will refer to, nobody knows yet."""

    async def test(store: Store) -> None:
        await fill(store, 0, 20)
        base = await store.snapshot()
        Branch.create(tmp_path / "data", store.snapshots.pages, base, "what-if").close()
        assert "what-if" in (await expire(store)).reason
        assert store._durable_log.whole

    on_store(tmp_path, test)


def test_age_decides(tmp_path: Path) -> None:
    """Segments whose records are all older go; the clock is the store's."""
    seconds = count(START_S)
    offset_s = 0

    def clock() -> int:
        return (next(seconds) + offset_s) * 1_000_000_000

    async def test() -> None:
        nonlocal offset_s
        store = open_small(tmp_path, clock=clock)
        await store.ensure_account(USER)
        await fill(store, 0, 20)
        middle = store._durable_log.end
        offset_s = 10_000
        await fill(store, 20, 40)
        await store.submit(Expunge(inbox(store), tuple(range(1, 41)), False))
        await store.snapshot()
        policy = Retention(age_s=8000)
        assert (await store.expire(policy, young_s=20_000)).segments == 0
        expired = await store.expire(policy)
        assert expired.segments > 1 and expired.bodies_carried == 0
        assert middle - 2 * SEGMENT_BYTES <= store._durable_log.start <= middle
        assert (await store.expire(policy)).segments == 0
        await store.close()

    run(test)


def test_a_log_that_is_all_live_is_left_alone(tmp_path: Path) -> None:
    """Moving it would not make it smaller: it is tried again when it has grown by a third."""
    assert idle_bytes_after(Expired(bytes=100, bytes_carried=76), 3000) == int(3000 * GROWTH)
    assert idle_bytes_after(Expired(bytes=100, bytes_carried=75), 3000) == 0

    async def test(store: Store) -> None:
        await fill(store, 0, 30)
        await store.snapshot()
        assert (await expire(store)).segments > 0
        assert (await expire(store)).segments == 0
        await fill(store, 30, 60)
        await store.snapshot()
        assert (await expire(store)).segments > 0
        check_inbox(store, {number + 1: number for number in range(60)})

    on_store(tmp_path, test)


def spoil(store: Store, path: Path, uid: int, at: int = -3) -> tuple[int, bytes]:
    """Change a byte of a message's record where it lies; return its name, and its record as it is then."""
    name = store.messages(inbox(store), [uid])[0].body.extents[0].position
    log = store._durable_log
    place = log.place(name)
    assert place is not None
    segment = next(one for one in reversed(log.segment_list()) if one.start < place)
    found = next(one.header for one in log.headers(segment) if one.header.position == place)
    file = path / "data" / "log" / segment.name
    content = bytearray(file.read_bytes())
    start = place - segment.start
    content[start + at % (HEADER_BYTES + found.length)] ^= 4
    file.write_bytes(content)
    return name, bytes(content[start : start + HEADER_BYTES + found.length])


def test_a_damaged_body_is_set_aside_and_the_pass_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is named and kept as it is, the others are moved and can be read, and so it is in the passes after: also for
    one that was moved before it was damaged."""

    async def test(store: Store) -> None:
        await fill(store, 0, 30)
        await store.snapshot()
        first, record = spoil(store, tmp_path, 15)
        done = await expire(store)
        assert (done.damaged, done.reason) == (1, "")
        kept = tmp_path / "data" / "log" / aside_name(first)
        assert kept.read_bytes() == record
        assert f"body {first} is damaged" in caplog.text
        assert kept.name in caplog.text

        second, carried = spoil(store, tmp_path, 20)
        await fill(store, 30, 60)
        await store.snapshot()
        done = await expire(store)
        assert (done.damaged, done.reason) == (1, "")
        assert (tmp_path / "data" / "log" / aside_name(second)).read_bytes() == carried
        for one in store.messages(inbox(store), [uid for uid in range(1, 61) if uid not in (15, 20)]):
            assert store.read(one.body) == message(one.uid - 1)
        for one in store.messages(inbox(store), [15, 20]):
            with pytest.raises(CorruptRecord):
                store.read(one.body)
        assert sorted(path.name for path in (tmp_path / "data/log").glob("*.damaged")) == [
            aside_name(first), aside_name(second),
        ]  # fmt: skip

    on_store(tmp_path, test)
    store = open_small(tmp_path)
    assert len(store.uids(inbox(store))) == 60
    store.release()


@pytest.mark.parametrize("carried", [False, True])
@pytest.mark.parametrize("at", [10, HEADER_BYTES + 1])
def test_a_damaged_header_or_name_does_not_stop_the_pass(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, at: int, carried: bool
) -> None:
    """What cannot be told is set aside as it lay, and what follows it is moved; a table of places that is built anew
    leaves out that one alone."""

    async def test(store: Store) -> None:
        await fill(store, 0, 30)
        await store.snapshot()
        if carried:
            await expire(store)
            await fill(store, 30, 60)
            await store.snapshot()
        name, record = spoil(store, tmp_path, 15, at)
        place = store._durable_log.place(name)
        assert place is not None
        done = await expire(store)
        assert (done.damaged, done.reason) == (1, "")
        kept = tmp_path / "data" / "log" / aside_name(place)
        assert kept.read_bytes() == record
        assert kept.name in caplog.text
        for one in store.messages(inbox(store), list(store.uids(inbox(store)))):
            if one.uid != 15:
                assert store.read(one.body) == message(one.uid - 1)
        assert (await expire(store)).damaged == 0

    on_store(tmp_path, test)
    remove_places(tmp_path / "data" / "log")
    store = open_small(tmp_path)
    for one in store.messages(inbox(store), list(store.uids(inbox(store)))):
        if one.uid != 15:
            assert store.read(one.body) == message(one.uid - 1)
    store.release()


def test_a_damaged_body_that_finds_no_room_stops_the_pass_before_its_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is removed that could not be moved or set aside; the next pass begins the file anew."""

    async def test(store: Store) -> None:
        await fill(store, 0, 30)
        await store.snapshot()
        name, record = spoil(store, tmp_path, 15)
        log = store._durable_log
        segment = next(one for one in reversed(log.segment_list()) if one.start < name)
        real = log.device.open

        def refused(name: str, **how: bool) -> File:
            file = real(name, **how)
            if name.endswith(".damaged"):
                file.append([record[:10]])
                raise OSError(28, "No space left on device")
            return file

        with monkeypatch.context() as patch:
            patch.setattr(log.device, "open", refused)
            with pytest.raises(DeviceFull, match="setting aside"):
                await expire(store)
        assert log.start == segment.start
        assert (await expire(store)).damaged == 1
        assert (tmp_path / "data" / "log" / aside_name(name)).read_bytes() == record

    on_store(tmp_path, test)


async def revive(store: Store, number: int, id_: str) -> bytes | None:
    """Deliver a message again; return what is read of it, or none when it was refused for now."""
    try:
        placed = (await deliver(store, message(number), id_=id_)).placed[0]
    except StorageError as error:
        assert "expired" in str(error)
        return None
    return store.read(store.messages(placed[2], [placed[3]])[0].body)


def test_a_dead_body_that_comes_back_while_it_expires(tmp_path: Path) -> None:
    """The same message again at any moment of a pass: it is stored anew or the old body stays, never lost."""

    async def test(store: Store) -> None:
        for turn in range(12):
            first = turn * 100
            await fill(store, first, first + 25)
            everything = store.uids(inbox(store))
            await store.submit(Expunge(inbox(store), tuple(everything), False))
            await store.snapshot()
            for one in store.snapshots.pages.snapshots()[:-1]:
                store.snapshots.pages.delete(one.identity)
            store._expiry._idle_bytes = 0
            passing = asyncio.create_task(expire(store))
            for _ in range(turn):
                await asyncio.sleep(0.001)
            found = [await revive(store, first + n, f"again-{first + n}") for n in range(20)]
            await passing
            assert all(one in (message(first + n), None) for n, one in enumerate(found))
            live = store.messages(inbox(store), list(store.uids(inbox(store))))
            assert {store.read(one.body) for one in live} == {one for one in found if one is not None}

    on_store(tmp_path, test)


def test_a_reference_from_before_the_pass_is_kept_or_refused(tmp_path: Path) -> None:
    """A writer was told of a dead body before the pass began, and its change comes during or after it."""

    async def test(store: Store) -> None:
        await fill(store, 0, 25)
        await store.submit(Expunge(inbox(store), tuple(range(1, 26)), False))
        await store.snapshot()
        log = store._durable_log
        end = log.end
        body = write_body(store, message(3))
        assert body.extents[0].position < end  # the dead one
        in_time = write_body(store, message(4))
        waiting = store.submit(delivery(in_time, id_="in-time"))
        await expire(store)
        await waiting
        with pytest.raises(StorageError, match="expired"):
            await store.submit(delivery(body, id_="late"))
        assert body_is(store, await deliver(store, message(3), id_="new"), 3)
        assert sorted(store.read(one.body) for one in store.messages(inbox(store), list(store.uids(inbox(store))))) == [
            message(3),
            message(4),
        ]

    on_store(tmp_path, test)


def body_is(store: Store, delivered: object, number: int) -> bool:
    placed = delivered.placed[0]  # type: ignore[attr-defined]
    return store.read(store.messages(placed[2], [placed[3]])[0].body) == message(number)


def test_expunged_between_a_reference_and_its_change(tmp_path: Path) -> None:
    """The last message with a body goes in the record before the delivery that refers to it: it is pinned."""

    async def test(store: Store) -> None:
        await fill(store, 0, 25)
        await store.snapshot()
        log, once = store._durable_log, store._once
        seen: list[set[int]] = []
        once.floor = log.end  # as a pass does first
        name = store.messages(inbox(store), [4])[0].body.extents[0].position
        body = write_body(store, message(3))
        assert body.extents[0].position == name
        gone = store.submit(Expunge(inbox(store), (4,), False))
        waiting = store.submit(delivery(body, id_="after"))
        seen.append(set(once.pinned))
        await asyncio.gather(gone, waiting)
        assert seen == [{name}]
        check_inbox(store, {uid: uid - 1 for uid in range(1, 26) if uid != 4} | {26: 3})

    on_store(tmp_path, test)


@pytest.mark.parametrize("seed", range(2))
def test_crash_at_every_step_loses_no_live_body(tmp_path: Path, seed: int) -> None:
    """Power is lost at each step of the log's device while a pass runs: all acknowledged messages read back."""
    step, finished = 1, False
    while not finished:
        path = tmp_path / str(step)
        device = CrashDevice(seed * 1000 + step)
        finished, expected = _crashing_pass(path, device, step)
        after = device.crash()

        async def check(path: Path = path, after: CrashDevice = after, expected: dict[int, int] = expected) -> None:
            store = open_small(path, device=after)
            check_inbox(store, expected)
            dump = dump_store(store)
            await expire(store)
            check_inbox(store, expected)
            assert dump_store(store)["messages"] == dump["messages"]
            await store.close()

        run(check)
        step += 1
    assert step > 15


def _crashing_pass(path: Path, device: CrashDevice, step: int) -> tuple[bool, dict[int, int]]:
    """Run a pass that loses power at its step; return whether it did not, and what was acknowledged before."""
    expected: dict[int, int] = {}

    async def body() -> bool:
        store = open_small(path, device=device)
        await store.ensure_account(USER)
        await fill(store, 0, 25)
        await store.submit(Expunge(inbox(store), tuple(range(1, 26, 2)), False))
        await store.submit(CopyMessages(inbox(store), (2, 4), inbox(store), False))
        expected.update({uid: uid - 1 for uid in range(2, 26, 2)} | {26: 1, 27: 3})
        await store.snapshot()
        device.crash_at = device.step_count + step
        passing = asyncio.create_task(expire(store))
        done = False
        try:
            await passing
            done = True
        except (PowerLost, SpinError, asyncio.CancelledError):
            assert device.lost
        _abandon(store)
        return done

    finished = False

    async def outer() -> None:
        nonlocal finished
        finished = await body()

    run(outer)
    return finished, expected


def _abandon(store: Store) -> None:
    """As a process that is killed: nothing is finished, only what would get into the way is given back."""
    store._checkpointer.stop()
    store._index.connection.close()
    store._directory.close()


def test_number_of_bodies_stays_what_is_needed(tmp_path: Path) -> None:
    """After a pass the log has each live body once, but for those in its newest segments."""

    async def test(store: Store) -> None:
        await fill(store, 0, 30)
        await store.submit(Expunge(inbox(store), tuple(range(1, 29)), False))
        await store.snapshot()
        for one in store.snapshots.pages.snapshots()[:-1]:
            store.snapshots.pages.delete(one.identity)
        await expire(store)
        kinds = [record.kind for record in store._durable_log.records()]
        assert kinds.count(KIND_BODY) + kinds.count(1) < 10

    on_store(tmp_path, test)
