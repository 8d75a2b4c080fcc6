"""What `spinrt mirror status` tells an operator: how much was saved, and what was set aside, why, and where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from spinrt.cli.main import FAILED, OK, USAGE, main
from spinrt.mail.mirroring import TargetRecord, describe_target
from spinrt.mail.store.promote import promote, step_down
from spinrt.mail.store.store import Store
from tests.mail.mirror_support import mirror_to
from tests.mail.service_support import config_text
from tests.mail.store_support import USER, deliver, open_store, run


def test_the_first_update_has_saved_nothing_that_can_be_told() -> None:
    """It sends what the log is made of, and an index beside."""
    first = TargetRecord(updated_s=1.0, updates=1, sent_bytes=2020, written_bytes=1000)
    more = TargetRecord(
        updated_s=1.0,
        updates=3,
        sent_bytes=2520,
        written_bytes=3000,
        onward_sent_bytes=500,
        onward_written_bytes=2000,
    )

    assert describe_target("a", first, None, 0)["saved"] is None
    assert describe_target("a", more, None, 0)["saved"] == 0.75


def test_saved_is_shown_from_the_second_update_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "spinrt.yaml"
    mirror = {"targets": {"disk": {"directory": str(tmp_path / "disk"), "interval": "1 h"}}}
    path.write_text(config_text(tmp_path, mirror=mirror))

    async def mail(first: int, count: int) -> None:
        store = open_store(tmp_path)
        await store.ensure_account(USER)
        for number in range(first, first + count):
            await deliver(store, b"text" * 50, id_=f"{number}")
        await store.close()

    def status() -> str:
        assert main(["mirror", "push", "--config", str(path)]) == OK
        capsys.readouterr()
        assert main(["mirror", "status", "--config", str(path)]) == OK
        (row,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("disk "))
        return row

    run(lambda: mail(0, 3))
    row = status()
    assert "%" not in row
    run(lambda: mail(10, 1))
    row = status()
    assert "%" in row
    assert "-" not in row.partition("%")[0].rpartition(" ")[2]


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """A mirror that was a primary, with a history that was left; the configuration that keeps it."""
    old, new = tmp_path / "data", tmp_path / "mirror"

    async def begin() -> None:
        store = open_store(tmp_path)
        await store.ensure_account(USER)
        await deliver(store, b"Subject: common\r\n\r\n", id_="1")
        await mirror_to(store, new)
        await deliver(store, b"Subject: nobody mirrored it\r\n\r\n", id_="2")
        await store.close()

    async def follow() -> None:
        store = Store.open(new)
        await deliver(store, b"Subject: since\r\n\r\n", id_="3")
        await mirror_to(store, old)
        await store.close()

    run(begin)
    promote(new)
    step_down(old)
    run(follow)
    path = tmp_path / "standby.yaml"
    sources = {"mailhost": {"directory": str(old), "certificate": str(tmp_path / "none.pem")}}
    elsewhere = str(tmp_path / "elsewhere")
    path.write_text(
        config_text(tmp_path, data_directory=elsewhere, mirror={"listen": "127.0.0.1:0", "sources": sources})
    )
    return path


def spoken(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    capsys.readouterr()
    assert main(["mirror", *map(str, arguments), "--json"]) == OK
    return json.loads(capsys.readouterr().out)


def test_what_was_set_aside_is_told_can_be_read_and_removed(
    left: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    (source,) = spoken(capsys, "status", "--config", left)["sources"]
    assert source["directory"] == str(data)
    (aside,) = source["aside"]
    assert aside["label"].startswith("set aside")
    assert aside["aside_s"] >= aside["taken_s"] > 0
    assert "never had" in aside["reason"]

    assert main(["mirror", "status", "--config", str(left)]) == OK
    out = capsys.readouterr().out
    identity = aside["snapshot"][:12]
    for said in (f"set aside in {data}:", identity, aside["label"], aside["reason"]):
        assert said in out

    def subjects(*more: object) -> list[str]:
        return [row["subject"] for row in spoken(capsys, "open", *more, data, USER, "INBOX")]

    assert subjects() == ["common", "since"]
    assert subjects("--snapshot", identity) == ["common", "nobody mirrored it"]

    assert main(["mirror", "discard", str(data), source["snapshot"]]) == USAGE
    assert "is what it has now" in capsys.readouterr().err
    assert spoken(capsys, "discard", data, identity) == [aside["snapshot"]]
    (source,) = spoken(capsys, "status", "--config", left)["sources"]
    assert source["aside"] == []
    assert subjects() == ["common", "since"]


def test_a_target_that_fails_does_not_keep_the_others_from_their_turn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no directory")
    path = tmp_path / "spinrt.yaml"
    targets = {name: {"directory": str(tmp_path / where)} for name, where in (("bad", "file/mirror"), ("good", "good"))}
    path.write_text(config_text(tmp_path, mirror={"targets": targets}))

    async def mail() -> None:
        store = open_store(tmp_path)
        await store.ensure_account(USER)
        await deliver(store, b"text", id_="1")
        await store.close()

    run(mail)
    assert main(["mirror", "push", "--config", str(path)]) == FAILED
    said = capsys.readouterr()
    assert said.err.startswith("spinrt: mirror bad: not brought up to date: ")
    assert said.out.startswith("good: up to date; ")
    assert main(["mirror", "push", "bad", "--config", str(path)]) == USAGE
    assert main(["mirror", "push", "good", "--config", str(path)]) == OK
