"""Checking a data directory: what is wrong is found and named, nothing is changed, and --repair mends the index."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from spinrt.cli.main import main
from spinrt.errors import DataLocked, FormatUnknown
from spinrt.mail.store.fsck import DirectoryCheck
from spinrt.mail.store.model import CopyMessages, FlagsMode, StoreFlags
from spinrt.storage.datadir import FORMAT_NAME, held
from spinrt.storage.fsck.finding import Finding, Severity
from tests.mail.store_support import USER, deliver, inbox, open_store, run


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with some of everything, closed."""

    async def body() -> None:
        store = open_store(tmp_path)
        await store.ensure_account(USER)
        for n in range(12):
            await deliver(store, b"message %d " % n * 100, id_=str(n))
        box = inbox(store)
        await store.submit(StoreFlags(box, (1, 2), FlagsMode.ADD, ("\\Seen", "$Work")))
        archive = store.mailbox(USER, "Archive")
        assert archive is not None
        await store.submit(CopyMessages(box, (3, 4), archive.id, False))
        await store.close()

    run(body)
    return tmp_path / "data"


def check(data: Path) -> list[Finding]:
    before = contents(data)
    told: list[int] = []
    check_ = DirectoryCheck(data)
    total = check_.total_bytes
    check_.advance = told.append
    with held(data):
        found = list(check_.findings())
    assert contents(data) == before
    assert sum(told) <= total
    return found


def contents(data: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(data.rglob("*")) if path.is_file()}


def test_good_directory_has_no_findings(data: Path) -> None:
    """Also one whose index was never checkpointed into its file."""
    assert check(data) == []


def change(data: Path, statement: str) -> None:
    with sqlite3.connect(data / "index/mail.sqlite") as connection:
        connection.execute(statement)
    connection.close()


def damage_page(data: Path) -> None:
    path = data / "index/mail.sqlite"
    content = bytearray(path.read_bytes())
    content[4096 * 3 + 5] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda data: change(data, "UPDATE messages SET flags = flags + 4 WHERE uid = 2"), "table messages, row"),
        (lambda data: change(data, "DELETE FROM messages WHERE uid = 5"), "is missing, the log has it"),
        (lambda data: change(data, "UPDATE mailboxes SET uidnext = 3"), "table mailboxes"),
        (lambda data: change(data, "UPDATE state SET next_mailbox_id = 2"), "table state"),
        (lambda data: change(data, "INSERT INTO kv VALUES ('x', 'y', 'z')"), "says that there is none"),
        (lambda data: change(data, "UPDATE deliveries SET position = position + 1"), "more rows differ"),
        (lambda data: change(data, "UPDATE state SET applied = applied + 1000"), "records were lost"),
        (damage_page, "index/mail.sqlite"),
        (lambda data: (data / "index/mail.sqlite").write_bytes(b"no database" * 1000), "not a database"),
        (lambda data: (data / "FORMAT").write_text("nonsense"), "FORMAT"),
        (lambda data: (data / "FORMAT").unlink(), "FORMAT"),
    ],
)
def test_what_is_wrong_is_damage_and_named(data: Path, damage: Callable[[Path], object], expected: str) -> None:
    """One thing at a time, wherever it is."""
    damage(data)
    found = [finding for finding in check(data) if finding.severity is Severity.DAMAGE]
    assert found
    assert any(expected in finding.line() for finding in found), found


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda data: data.chmod(0o755), "others can read mail"),
        (lambda data: (data / "index/mail.sqlite").chmod(0o644), "mode 644"),
        (lambda data: (data / "index/mail.sqlite").unlink(), "builds it anew"),
        (lambda data: change(data, "PRAGMA user_version = 1"), "schema 1"),
    ],
)
def test_what_the_next_start_sets_right_is_a_note(data: Path, damage: Callable[[Path], object], expected: str) -> None:
    """Nothing is lost by it."""
    damage(data)
    found = check(data)
    assert {finding.severity for finding in found} == {Severity.NOTE}
    assert any(expected in finding.line() for finding in found), found


def test_directory_of_a_newer_version_is_refused(data: Path) -> None:
    """What it holds is not known."""
    (data / "FORMAT").write_text("spinrt-data 99\n")
    with pytest.raises(FormatUnknown):
        check(data)


def test_directory_in_use_is_refused(data: Path) -> None:
    """Checking what changes meanwhile would find ghosts."""
    store = open_store(data.parent)
    with pytest.raises(DataLocked, match=str(os.getpid())), held(data):
        pass
    store.release()
    assert check(data) == []


def flip_log(data: Path, offset: int) -> None:
    (path,) = (data / "log").iterdir()
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x10
    path.write_bytes(content)


def test_command_says_it_in_exit_code_and_json(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0 for good, 3 for damage."""
    assert main(["fsck", "--data", str(data)]) == 0
    assert "nothing is damaged" in capsys.readouterr().out
    flip_log(data, 700)
    assert main(["fsck", "--data", str(data), "--json"]) == 3
    result = json.loads(capsys.readouterr().out)
    assert result["damaged"]
    assert result["findings"][0]["place"].startswith("log/")
    assert isinstance(result["findings"][0]["offset"], int)


def test_command_repairs_an_index(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The next start builds it anew; then all is well."""
    change(data, "UPDATE mailboxes SET uidnext = 3 WHERE id = 1")
    assert main(["fsck", "--data", str(data)]) == 3
    assert main(["fsck", "--data", str(data), "--repair"]) == 0
    assert "damaged: 0, repaired: 1" in capsys.readouterr().out
    open_store(data.parent).release()
    assert check(data) == []


def test_command_without_a_directory_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And makes none."""
    assert main(["fsck", "--data", str(tmp_path / "nowhere")]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()


def test_what_is_no_data_directory_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing of ours is there, so nothing is said to be whole."""
    (tmp_path / "letter.txt").touch()
    assert main(["fsck", "--data", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert "is no data directory" in err


@pytest.mark.parametrize(
    "spoil", [Path.unlink, lambda path: path.write_bytes(b"spinrt-dat\xe1 1\n")], ids=["lost", "bad"]
)
def test_format_is_written_when_all_else_says_which(
    data: Path, spoil: Callable[[Path], object], capsys: pytest.CaptureFixture[str]
) -> None:
    """It is damage, and mended by --repair."""
    spoil(data / FORMAT_NAME)
    assert main(["fsck", "--data", str(data)]) == 3
    assert main(["fsck", "--data", str(data), "--repair"]) == 0
    assert "repaired: 1" in capsys.readouterr().out
    assert (data / FORMAT_NAME).read_text() == "spinrt-data 1\n"
    assert main(["fsck", "--data", str(data)]) == 0


def test_format_of_half_a_copy_is_not_written(data: Path) -> None:
    """A copy that was cut off has no format either: its log ends before what its index covers."""
    (data / FORMAT_NAME).unlink()
    (segment,) = (data / "log").glob("*.log")
    segment.write_bytes(segment.read_bytes()[:4096])
    assert main(["fsck", "--data", str(data), "--repair"]) == 3
    assert not (data / FORMAT_NAME).exists()


@pytest.mark.parametrize(
    "name", ["log/00000000000000000000.log", "pages/00000000000000000001.pack", "index/mail.sqlite"]
)
def test_what_is_no_file_is_named(data: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A FIFO with the name of one of our files: nobody waits for it, and nothing is said to be whole."""
    (data / name).parent.mkdir(exist_ok=True)
    (data / name).unlink(missing_ok=True)
    os.mkfifo(data / name)
    assert main(["fsck", "--data", str(data)]) == 3
    assert f"damage: {name}: file: is no regular file" in capsys.readouterr().out
