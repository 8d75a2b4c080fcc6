"""Snapshots of a running mail system, by interval and by hand, and what the command line shows of them."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from spinrt import trace
from spinrt.cli.main import main
from spinrt.errors import StateError, UsageError
from spinrt.mail.asking import ask
from spinrt.mail.config import load
from spinrt.mail.service import running
from spinrt.mail.snapshot_operations import reading
from spinrt.mail.snapshotting import Snapshotting, attachments, check_label, expired
from spinrt.mail.store.snapshots import object_bytes
from spinrt.mail.store.store import Store
from spinrt.mail.store.views import Branch
from spinrt.storage.protocols import Snapshot
from spinrt.storage.schedule import Keep
from spinrt.storage.snapshot import seal
from tests.mail.service_support import config_text
from tests.mail.store_support import delivery, dump_store, run, write_body

DAY_NS = 86400 * 10**9


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SPINRT_CONFIG", raising=False)
    (tmp_path / "spinrt.yaml").write_text(config_text(tmp_path))
    return tmp_path


def asked(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """What a command answers with --json."""
    assert main(["snapshot", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


async def send(store: Store, count: int, start: int = 0) -> None:
    for n in range(start, start + count):
        text = b"From: ann@example.org\r\nSubject: number %d\r\n\r\nhello\r\n" % n
        change = delivery(write_body(store, text), id_=f"{n:05d}")
        await store.submit(change._replace(copies=(change.copies[0]._replace(user="alice"),)))


def with_server(test: Any) -> None:
    """Run a test beside a server; the test's own thread is free for the command line."""

    async def body() -> None:
        async with running(load(Path("spinrt.yaml"))) as service:
            await test(service)

    run(body)


def test_commands_work_beside_a_server_and_without(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    """Create, list, show, diff, open, export, delete: the same answers either way."""

    async def test(service: Any) -> None:
        await send(service.store, 3)
        await asyncio.to_thread(asked, capsys, "create", "--label", "first")
        await send(service.store, 2, start=3)
        await asyncio.to_thread(asked, capsys, "create", "--label", "second")
        await asyncio.to_thread(look, capsys)

    with_server(test)
    look(capsys)
    assert asked(capsys, "export", "first", "then")["log_bytes"] > 0
    store = Store.open(place / "then")
    assert len(dump_store(store)["messages"]) == 3
    store.release()
    assert (place / "then/snapshot/configuration").read_text() == (place / "spinrt.yaml").read_text()
    assert (place / "then/snapshot/extension/delivery/manifest.yaml").exists()
    assert len(asked(capsys, "delete", "first", "second")) == 2
    assert asked(capsys, "list") == []


def look(capsys: pytest.CaptureFixture[str]) -> None:
    """What can be seen of two snapshots."""
    first, second = asked(capsys, "list")
    assert (first["label"], second["label"]) == ("first", "second")
    assert asked(capsys, "show", second["id"][:8]) == second
    names = {item["name"] for item in second["objects"]}
    assert {"index", "configuration", "extension/delivery/manifest.yaml", "extension/audit/audit.wasm"} <= names
    found = asked(capsys, "diff", "first")
    assert [one["name"] for one in found["objects"]] == ["index"]
    (changed,) = found["mailboxes"]
    assert (changed["user"], changed["mailbox"], changed["came"], changed["messages"]) == ("alice", "INBOX", 2, 5)
    assert asked(capsys, "open", "first") == [{"account": "alice"}, {"account": "bob"}]
    assert {"mailbox": "INBOX", "messages": 3}.items() <= asked(capsys, "open", "first", "alice")[2].items()
    messages = asked(capsys, "open", "first", "alice", "inbox")
    assert [one["subject"] for one in messages] == ["number 0", "number 1", "number 2"]
    assert main(["snapshot", "open", "first", "alice", "INBOX", "2"]) == 0
    assert "Subject: number 1" in capsys.readouterr().out
    for arguments in (["list"], ["show", "newest"], ["diff", "first"], ["open", "first", "alice"]):
        assert main(["snapshot", *arguments]) == 0
        assert capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["show", "nothing"], 1),
        (["diff", "first", "nothing"], 1),
        (["open", "newest", "nobody"], 1),
        (["open", "newest", "alice", "no such"], 1),
        (["open", "newest", "alice", "INBOX", "99"], 1),
        (["delete", "nothing"], 1),
        (["export", "newest", "."], 1),
        (["create", "--label", "x" * 300], 2),
    ],
)
def test_what_is_not_there_is_told_in_one_line(
    arguments: list[str], code: int, capsys: pytest.CaptureFixture[str], place: Path
) -> None:
    """No traceback, and an exit code that says which kind."""

    async def test(service: Any) -> None:
        await send(service.store, 1)

    with_server(test)
    asked(capsys, "create", "--label", "first")
    assert main(["snapshot", *arguments]) == code
    error = capsys.readouterr().err
    assert error.startswith("spinrt: ")
    assert error.count("\n") == 1


def test_before_the_first_snapshot_there_is_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """No data directory, or one without snapshots."""
    assert asked(capsys, "list") == []
    assert main(["snapshot", "show", "newest"]) == 1
    assert main(["snapshot", "create"]) == 1
    assert "spinrt serve" in capsys.readouterr().err


def test_table_that_is_missing_is_built_by_who_looks(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    """It is derived: without a server whoever asks builds it; beside one it is there."""
    with_server(lambda service: send(service.store, 1))
    made = asked(capsys, "create")
    for path in (place / "data/pages").glob("pages.sqlite*"):
        path.unlink()
    assert [one["id"] for one in asked(capsys, "list")] == [made["id"]]


def test_snapshots_are_taken_by_interval_and_thinned_out(place: Path) -> None:
    """The server takes them by itself; a stop in between does not delay the next one."""
    text = config_text(place, snapshots={"interval": "200 ms", "keep": {"hourly": 1, "daily": 0, "weekly": 0}})
    (place / "spinrt.yaml").write_text(text)

    async def test(service: Any) -> None:
        deadline = time.monotonic() + 20
        seen: set[bytes] = set()
        count = 0
        while len(seen) < 3 and time.monotonic() < deadline:
            count += 1
            await send(service.store, 1, start=count)
            if (place / "data/pages").exists():
                seen |= {one.identity for one in service.store.snapshots.pages.snapshots()}
            await asyncio.sleep(0.05)
        assert len(seen) >= 3

    with_server(test)
    with reading(place / "data") as pages:
        assert 1 <= len(pages.snapshots()) <= 2


def test_retention_leaves_what_others_need() -> None:
    """Labels, other logs, what is pinned, and the newest, whatever its time says."""

    def made(n: int, *, label: str = "", log: bytes = b"l" * 16, time_ns: int | None = None) -> Snapshot:
        moment = n * DAY_NS if time_ns is None else time_ns
        return seal(parent=None, log_identity=log, position=n, time_ns=moment, objects=(), label=label)

    plain = [made(n) for n in range(10, 20)]
    pinned, named, foreign = made(1), made(2, label="kept"), made(3, log=b"m" * 16)
    early = made(30, time_ns=5)
    every = [pinned, named, foreign, *plain, early]
    keep = Keep(hourly=0, daily=3, weekly=0, monthly=0, yearly=0)
    assert expired(every, b"l" * 16, keep, {pinned.identity}) == plain[:-3]


def test_what_a_branch_builds_on_is_not_deleted(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    """Nor by retention, nor by hand, until it is discarded."""
    with_server(lambda service: send(service.store, 1))
    made = asked(capsys, "create")
    config = load(place / "spinrt.yaml")
    store = Store.open(place / "data")
    (snapshot,) = store.snapshots.pages.snapshots()
    Branch.create(place / "data", store.snapshots.pages, snapshot, "try").close()

    async def expire() -> None:
        await store.snapshot("another")
        assert await Snapshotting(config, store).expire() == []
        await store.close()

    run(expire)
    with pytest.raises(StateError, match="branch"):
        ask(config, "snapshot.delete", snapshots=[made["id"]])


def test_attached_is_what_there_is(place: Path) -> None:
    """Files that are missing are left out; what is there comes back byte for byte."""
    config = load(place / "spinrt.yaml")
    names = [one.name for one in attachments(config)]
    assert "configuration" in names
    assert "accounts" not in names
    (place / "accounts.yaml").write_text("accounts: {}\n")
    assert [one.name for one in attachments(config)][:2] == ["configuration", "accounts"]
    store = Store.open(place / "data")

    async def take() -> None:
        snapshot = await Snapshotting(config, store).take("x")
        for item, given in zip(
            [one for one in snapshot.objects if one.name != "index"],
            sorted(attachments(config)),
            strict=True,
        ):
            assert isinstance(given.content, Path)
            assert object_bytes(store.snapshots.pages, item, 10**8) == given.content.read_bytes()
        await store.close()

    run(take)


@pytest.mark.parametrize("label", ["newest", " ", "a/b", "a\nb", "a\\b"])
def test_a_label_that_names_no_snapshot_is_refused(label: str) -> None:
    """What an operator says must mean one snapshot."""
    with pytest.raises(UsageError, match="label"):
        check_label(label, [])


def test_a_label_names_one_snapshot() -> None:
    """The second of that name is refused, and an empty one."""

    async def body(_: Any) -> None:
        assert await asyncio.to_thread(main, ["snapshot", "create", "--label", "before"]) == 0
        assert await asyncio.to_thread(main, ["snapshot", "create", "--label", "before"]) != 0
        assert await asyncio.to_thread(main, ["snapshot", "create", "--label", ""]) != 0
        assert await asyncio.to_thread(main, ["snapshot", "create"]) == 0

    with_server(body)


def test_a_snapshot_is_told_with_what_expired_if_anything_did(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is said of none."""
    config = load(place / "spinrt.yaml")
    taken = seal(parent=None, log_identity=b"l" * 16, position=7, time_ns=1, objects=())
    gone: list[list[Snapshot]] = [[], [taken, taken]]

    async def test() -> None:
        snapshotting = Snapshotting(config, cast(Store, None))
        done = asyncio.Event()

        async def take(label: str = "") -> Snapshot:
            return taken

        async def expire() -> list[Snapshot]:
            if not gone:
                done.set()
                await asyncio.Event().wait()
            return gone.pop(0)

        async def first_wait_s(interval_s: float) -> float:
            return 0.0

        monkeypatch.setattr(snapshotting, "take", take)
        monkeypatch.setattr(snapshotting, "expire", expire)
        monkeypatch.setattr(snapshotting, "_first_wait_s", first_wait_s)
        snapshotting.config = replace(config, snapshots=replace(config.snapshots, interval_s=0.0))
        snapshotting.start()
        await asyncio.wait_for(done.wait(), 10)
        await snapshotting.close()

    told: list[dict[str, object]] = []
    monkeypatch.setattr(trace, "log", lambda logger, level, text, **fields: told.append(fields))
    asyncio.run(test())
    assert told == [{"id": taken.identity.hex()[:12]}, {"id": taken.identity.hex()[:12], "expired": 2}]
