"""`spinrt log` on a data directory: every record on a line, ranges, one record whole, damage, and what comes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from spinrt.cli.main import main
from spinrt.mail.store.model import Copy, Expunge
from spinrt.mail.store.store import Store
from spinrt.storage.log_view import LogView
from spinrt.storage.retention import Retention
from tests.mail.store_support import USER, delivery, inbox, ticking_clock, write_body

MESSAGE = b"Subject: hello\r\n\r\n" + b"a line of it\r\n" * 80


def fill(data: Path, *, expire: bool = False) -> int:
    """A store with 20 messages, of which the first can be expired; return the name of the last one's body."""

    async def body() -> int:
        store = Store.open(data, clock_ns=ticking_clock(), segment_bytes_max=4096)
        await store.ensure_account(USER)
        name = 0
        for number in range(20):
            written = write_body(store, b"%d " % number + MESSAGE)
            name = written.extents[0].position
            change = delivery(written, Copy(USER, "INBOX", ("\\Seen",)), id_=f"id-{number}")
            await store.submit(change._replace(sender=f"s{number}@example.org\x1b[31m"))
        if expire:
            name = store.messages(inbox(store), [1])[0].body.extents[0].position
            await store.submit(Expunge(inbox(store), (3,), False))
            await store.snapshot()
            assert (await store.expire(Retention(log_bytes_max=0), young_s=0)).segments
        await store.close()
        return name

    return asyncio.run(body())


def lines(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> list[str]:
    assert main(["log", *map(str, arguments)]) == code
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("action", ["list", "follow"])
def test_log_whose_only_segment_is_empty_is_told(
    tmp_path: Path, action: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a crash leaves it that came while the first segment was created; also when a range is asked for."""
    (tmp_path / "data" / "log").mkdir(parents=True)
    (tmp_path / "data" / "log" / f"{0:020}.log").touch()
    for more in ([], ["--from", "2h"], ["--from", "64"]):
        assert main(["log", action, "--data", str(tmp_path / "data"), *more]) == 2
        said = capsys.readouterr().err
        assert "its only segment has no header" in said and "internal" not in said


def test_list_has_a_line_for_each_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Position, time, bytes, kind, fields; nothing that a terminal obeys; JSON has the same, one object a line."""
    fill(tmp_path / "data")
    found = lines(capsys, "list", "--data", tmp_path / "data")
    assert len(found) == 41
    deliveries = [line for line in found if " deliver " in line]
    assert len(deliveries) == 20 and "delivery_id=id-7" in deliveries[7] and "sender=s7@example.org" in deliveries[7]
    assert "\x1b" not in "".join(found)
    assert deliveries[0].split()[1].startswith("2023-11-14T22:13:20")
    parsed = [json.loads(line) for line in lines(capsys, "list", "--json", "--data", tmp_path / "data")]
    assert [one["position"] for one in parsed] == [int(line.split()[0]) for line in found]
    assert parsed[2]["body"]["names"] == [parsed[1]["position"]]


def test_ranges(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By position, by time, the last ones, one kind; a border need not be a record's start."""
    fill(tmp_path / "data")
    data = ("--data", tmp_path / "data")
    every = [json.loads(line) for line in lines(capsys, "list", "--json", *data)]
    positions = [one["position"] for one in every]

    def listed(*arguments: object) -> list[int]:
        return [int(line.split()[0]) for line in lines(capsys, "list", *data, *arguments)]

    assert listed("--from", positions[5]) == positions[5:]
    assert listed("--from", positions[5] - 1, "--to", positions[30] + 1) == positions[5:31]
    assert listed("--last", 3) == positions[-3:]
    assert listed("--from", every[10]["time"]) == positions[10:]
    assert listed("--to", every[10]["time"]) == positions[:10]
    assert listed("--from", "2020-01-01", "--to", "2023-11-14") == []
    assert listed("--from", "1h") == []
    assert listed("--kind", "body") == [one["position"] for one in every if one["kind"] == "body"]
    assert listed("--kind", "0x0002") == listed("--kind", "promoted") == []
    assert listed("--kind", "0x0100") == listed("--kind", "body") != []
    assert main(["log", "list", *map(str, data), "--kind", "bodies"]) == 2
    assert "expected one of body, carried, promoted, deliver, append" in capsys.readouterr().err
    for wrong in (["--from", "yesterday"], ["--last", "0"], ["--to", "5x"]):
        assert main(["log", "list", *map(str, data), *wrong]) == 2
        assert "expected" in capsys.readouterr().err


def test_show_and_body(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """All fields of a change; the plain body of a compressed record, also where it was carried to."""
    for number, expire in enumerate((False, True)):
        data = tmp_path / str(number)
        name = fill(data, expire=expire)
        assert main(["log", "show", str(name), "--body", "--data", str(data)]) == 0
        assert capfdbinary.readouterr().out.endswith(MESSAGE)
        assert main(["log", "show", str(name), "--json", "--data", str(data)]) == 0
        said = json.loads(capfdbinary.readouterr().out)
        assert (said["position"], said["kind"], said["compressed"]) == (name, "body", True)
        assert main(["log", "show", "1", "--data", str(data)]) != 0
        assert b"1" in capfdbinary.readouterr().err
    assert main(["log", "list", "--kind", "carried", "--data", str(data)]) == 0
    assert b" name=%d " % name in capfdbinary.readouterr().out


def test_damage_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`verify` names segment and offset and goes on; `list` stops there; both say so by their exit code."""
    fill(tmp_path / "data")
    data = ("--data", tmp_path / "data")
    assert "nothing is wrong" in lines(capsys, "verify", *data)[-1]
    victim = sorted((tmp_path / "data" / "log").glob("*.log"))[1]
    content = bytearray(victim.read_bytes())
    content[300] ^= 1
    victim.write_bytes(content)
    found = lines(capsys, "verify", *data, code=3)
    assert any(victim.name in line for line in found)
    assert found[-1].endswith(": 1 finding")
    assert main(["log", "list", "--data", str(tmp_path / "data")]) == 3
    captured = capsys.readouterr()
    assert victim.name in captured.err and "Traceback" not in captured.err and captured.out


@pytest.mark.parametrize("content", [None, "empty"])
def test_no_log_is_a_mistake_of_the_caller(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    """Nothing is made there."""
    if content:
        (tmp_path / "log").mkdir()
    before = sorted(tmp_path.rglob("*"))
    for action in (["list"], ["show", "5"], ["verify"], ["follow"]):
        assert main(["log", *action, "--data", str(tmp_path)]) == 2
        assert "no segment" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.fixture
def follower(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    fill(tmp_path / "data")
    command = [sys.executable, "-m", "spinrt", "log", "follow", "--json", "--from", "0", "--data", tmp_path / "data"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_follow_tells_what_comes(tmp_path: Path, follower: subprocess.Popen[str]) -> None:
    """What is there, and what a running store adds, over the border of segments."""
    assert follower.stdout is not None
    for _ in range(41):
        follower.stdout.readline()

    async def body() -> list[int]:
        store = Store.open(tmp_path / "data", segment_bytes_max=1000)
        positions = []
        for number in range(10):
            written = write_body(store, b"new %d " % number + MESSAGE)
            positions.append(written.extents[0].position)
            await store.submit(delivery(written, id_=f"new-{number}"))
        await store.close()
        return positions

    positions = asyncio.run(body())
    told = [json.loads(follower.stdout.readline()) for _ in range(20)]
    assert [one["position"] for one in told if one["kind"] == "body"] == positions


def test_what_is_being_written_is_not_damage(tmp_path: Path) -> None:
    """A record cut anywhere at the end of the newest segment ends the walk, and it is there when it is whole."""
    fill(tmp_path / "data")
    newest = sorted((tmp_path / "data" / "log").glob("*.log"))[-1]
    content = newest.read_bytes()
    view = LogView(tmp_path / "data" / "log")
    every = list(view.records())
    for size in range(64, len(content), 37):
        newest.write_bytes(content[:size])
        found = list(view.records())
        assert found == every[: len(found)]
    newest.write_bytes(content)
    assert list(view.records()) == every
