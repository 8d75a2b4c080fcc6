"""``spinrt demo`` against its real server: what it shows, what it detects, and that nothing is left."""

from __future__ import annotations

import json
import mailbox
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spinrt.cli import demo_run
from spinrt.cli.demo_client import Found, Target, read_back
from spinrt.cli.main import main

MAILS = [
    b"Subject: plain\n\nhello\n",
    b"Subject: 8-bit \xe9\n\n.dot\n..\n\xff\xfe\n",
    b"Subject: bare\n\na\rb\nno end",
    b"List-Id: <dev.example.net>\n\n" + b"x" * 3000 + b"\n",
    b"not a header\n",
    b"From: a@blocked.example\n\nbuy\n",
]


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """After each test no temporary directory and no server process of ours is there."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    yield
    assert list(scratch.iterdir()) == []
    assert servers_of(scratch) == []


def servers_of(directory: Path) -> list[str]:
    """Command lines of demo servers whose configuration lies below a directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue  # it ended meanwhile
        if "spinrt.cli.demo_server" in words and any(word.startswith(str(directory)) for word in words):
            found.append(" ".join(words))
    return found


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    code = main(["demo", "--json", *arguments])
    return code, json.loads(capsys.readouterr().out)


@pytest.fixture
def mails(tmp_path: Path) -> Path:
    directory = tmp_path / "mails"
    directory.mkdir()
    for number, mail in enumerate(MAILS):
        (directory / f"{number}.eml").write_bytes(mail)
    return directory


def test_samples_go_where_the_rules_say(capsys: pytest.CaptureFixture[str]) -> None:
    """Every sample is answered as expected, filed and flagged by its rule, and read back byte for byte."""
    code, result = run_json(capsys)

    assert code == 0
    assert result["problems"] == []
    places = {
        message["name"]: [(place["user"], place["mailbox"], place["flags"]) for place in message["places"]]
        for message in result["messages"]
    }
    assert places["plain text"] == [("alice", "INBOX", [])]
    assert places["plus-address"] == [("alice", "INBOX/receipts", [])]
    assert places["mailing list"] == [("alice", "INBOX/lists/hackers", [])]
    assert places["marked as spam"] == [("alice", "Junk", ["$Junk"])]
    assert places["urgent"] == [("alice", "INBOX", ["\\Flagged"])]
    assert places["invoice"] == [("alice", "INBOX/invoices", [])]
    assert places["two recipients"] == [("alice", "INBOX", []), ("bob", "INBOX", [])]
    assert places["large, 2 MiB"] == [("alice", "INBOX/large", [])]
    assert places["refused by rule"] == places["unknown user"] == places["relay attempt"] == []


def test_samples_show_what_each_extension_did_and_measured_times(capsys: pytest.CaptureFixture[str]) -> None:
    """All three extensions took part in each message that reached them; no time is zero."""
    _, result = run_json(capsys, "--count", "6")

    assert len(result["messages"]) == 6
    for message in result["messages"]:
        assert set(message["extensions"]) == {"delivery", "audit", "undo-hook"}
        assert message["extensions"]["audit"]["effects"] == ["log delivery"]
        assert any(effect.startswith("tag ") for effect in message["extensions"]["undo-hook"]["effects"])
    timings = result["timings"]
    assert timings["transactions"] == 6
    assert 0 < max(timings["call_us"].values()) <= timings["extensions_us"] < timings["work_us"] < timings["message_us"]
    assert timings["message_us"] < timings["client_us"]


def test_tables_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """The three tables are there, and the last line says how it went."""
    assert main(["demo"]) == 0
    text = capsys.readouterr().out
    assert "What each extension did" in text
    assert "Where each message lies" in text
    assert "one call of delivery" in text
    assert text.rstrip().endswith("mismatches: 0")


def test_directory_of_mail_is_delivered_once_and_read_back(mails: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """8-bit, dots, bare CR, no last line end: all come back; the one that a rule refuses is said to be."""
    code, result = run_json(capsys, "--mail", str(mails))

    assert code == 0
    assert result["summary"] | {"send_s": 0, "read_s": 0} == {
        "sent": 6,
        "accepted": 5,
        "refused": 1,
        "delivered": 5,
        "lost": 0,
        "altered": 0,
        "repeated": 0,
        "send_s": 0,
        "read_s": 0,
        "connections": 8,
    }
    assert [(refused["name"], refused["code"]) for refused in result["refused"]] == [("5.eml", 550)]
    assert result["mailboxes"] == {"alice:INBOX": 4, "alice:INBOX/lists/dev": 1}


def test_mbox_and_maildir(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As written by Python's mailbox module; the same message twice is delivered twice."""
    mbox, maildir = mailbox.mbox(tmp_path / "box"), mailbox.Maildir(tmp_path / "dir")
    for box in (mbox, maildir):
        for mail in (MAILS[0], MAILS[0], MAILS[4]):
            box.add(mail)
        box.flush()

    for path, kind in ((tmp_path / "box", "mbox"), (tmp_path / "dir", "Maildir")):
        code, result = run_json(capsys, "--mail", str(path))
        assert code == 0
        assert result["source"] == f"{kind} {path}"
        assert (result["summary"]["sent"], result["summary"]["delivered"]) == (3, 3)


def altered(found: list[Found]) -> list[Found]:
    return [replace(found[0], data=found[0].data[:-1]), *found[1:]]


def lost(found: list[Found]) -> list[Found]:
    return found[1:]


def repeated(found: list[Found]) -> list[Found]:
    return [*found, replace(found[0], uid=999)]


@pytest.mark.parametrize("damage", [altered, lost, repeated])
def test_damage_between_server_and_reader_is_detected(
    damage: Any, mails: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One byte cut off, one message missing or one there twice: exit code 1, and it is said which."""

    def damaged(target: Target, user: str, password: str) -> list[Found]:
        found = list(read_back(target, user, password))
        return damage(found) if found else found

    monkeypatch.setattr(demo_run, "read_back", damaged)
    code, result = run_json(capsys, "--mail", str(mails))

    assert code == 1
    assert result["summary"][damage.__name__] == 1
    assert result["problems"]


def test_keep_leaves_a_server_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Configuration, passwords for the owner only, and the data; a directory with something in it is not touched."""
    directory = tmp_path / "kept"
    assert main(["demo", "--count", "1", "--keep", str(directory)]) == 0
    assert {path.name for path in directory.iterdir()} == {"spinrt.yaml", "passwords.yaml", "server.log", "data"}
    assert (directory / "passwords.yaml").stat().st_mode & 0o777 == 0o600
    assert main(["config", "check", "--config", str(directory / "spinrt.yaml")]) == 0
    capsys.readouterr()

    assert main(["demo", "--keep", str(directory)]) == 2
    assert "not an empty directory" in capsys.readouterr().err


def test_wrong_paths_are_one_line_and_exit_code_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is started for them."""
    for path, text in ((tmp_path / "nowhere", "does not exist"), (tmp_path / "scratch", "no mail")):
        assert main(["demo", "--mail", str(path)]) == 2
        error = capsys.readouterr().err
        assert text in error
        assert error.count("\n") == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_ends_the_demo_in_order(number: signal.Signals, code: int, tmp_path: Path) -> None:
    """In the middle of sending: the server ends, its directory goes (see ``nothing_left``), no traceback."""
    pipe = tmp_path / "endless" / "mail"
    pipe.parent.mkdir()
    with pipe.open("wb") as file:
        for index in range(6000):
            file.write(b"From a@example.net Thu Jan  1 00:00:00 2026\nSubject: %d\n\n%s\n\n" % (index, b"x" * 2000))
    process = subprocess.Popen(
        [sys.executable, "-m", "spinrt", "demo", "--mail", str(pipe)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(tmp_path / "scratch")},
        preexec_fn=_let_interrupts_through,  # noqa: PLW1509 - it sets one signal handler and takes no lock
    )
    deadline = time.monotonic() + 30
    while not servers_of(tmp_path / "scratch") and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)

    assert process.returncode == code
    assert error == (b"spinrt: interrupted\n" if number == signal.SIGINT else b"")


def _let_interrupts_through() -> None:
    """A shell that runs the tests in the background has SIGINT ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
