"""Damage in the log at a start: a message's body costs that message alone, and what was acknowledged is never cut."""

from __future__ import annotations

from pathlib import Path

import pytest

from spinrt.errors import CorruptRecord
from spinrt.mail.mending import mend_directory
from spinrt.mail.store.fsck import DirectoryCheck
from spinrt.mail.store.model import Message
from spinrt.mail.store.recovery import SUSPECT_NAME
from spinrt.mail.store.store import Store
from spinrt.storage.fsck.finding import Finding, Severity
from spinrt.storage.log import Log
from tests.mail.store_support import USER, deliver, inbox, open_store, run

COUNT = 6


def text(n: int) -> bytes:
    return b"number %d " % n * 40


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with messages, closed."""

    async def body() -> None:
        store = open_store(tmp_path)
        await store.ensure_account(USER)
        for n in range(COUNT):
            await deliver(store, text(n), id_=str(n))
        await store.close()

    run(body)
    return tmp_path / "data"


def segment(data: Path) -> Path:
    (found,) = (data / "log").glob("*.log")
    return found


def spoil(data: Path, offset: int, count: int = 8) -> bytes:
    """Change bytes of the log, more than trying finds again; return all of it as it is then."""
    content = bytearray(segment(data).read_bytes())
    for at in range(offset, offset + count):
        content[at] ^= 0xFF
    segment(data).write_bytes(content)
    return bytes(content)


def body_offset(data: Path, n: int) -> int:
    offset = segment(data).read_bytes().find(text(n)[:32])
    assert offset > 0
    return offset


def messages(store: Store) -> list[Message]:
    return store.messages(inbox(store), list(store.uids(inbox(store))))


def damaged(data: Path) -> list[Finding]:
    return [one for one in DirectoryCheck(data).findings() if one.severity is Severity.DAMAGE]


@pytest.mark.parametrize("rebuild", [False, True])
@pytest.mark.parametrize("victim", [0, 3, COUNT - 1])
def test_a_damaged_body_costs_its_message_alone(tmp_path: Path, data: Path, victim: int, rebuild: bool) -> None:
    """Also when the index is built anew: the changes are all there."""
    spoil(data, body_offset(data, victim) + 10)
    store = open_store(tmp_path, rebuild=rebuild)
    try:
        for n, message in enumerate(messages(store)):
            if n == victim:
                with pytest.raises(CorruptRecord, match="digest"):
                    store.read(message.body)
            else:
                assert store.read(message.body) == text(n)
    finally:
        store.release()
    assert any("body" in finding.subject for finding in damaged(data))


def test_the_store_goes_on_behind_a_damaged_body(tmp_path: Path, data: Path) -> None:
    """What is written then is there at the next start."""
    spoil(data, body_offset(data, 2) + 10)

    async def more() -> None:
        store = open_store(tmp_path)
        await deliver(store, b"new", id_="new")
        await store.close()

    run(more)
    store = open_store(tmp_path)
    try:
        assert store.read(messages(store)[-1].body) == b"new"
    finally:
        store.release()


def test_a_damaged_change_is_refused(tmp_path: Path, data: Path) -> None:
    """Nobody knows what it said."""
    content = spoil(data, segment(data).read_bytes().find(b"ann@example.org"))
    with pytest.raises(CorruptRecord, match="log segment"):
        open_store(tmp_path)
    assert segment(data).read_bytes() == content


@pytest.mark.parametrize("back", [1, 100])
def test_an_acknowledged_last_record_is_not_cut(tmp_path: Path, data: Path, back: int) -> None:
    """The index covers it: the start is refused before anything is changed, and fsck says so, too."""
    content = spoil(data, segment(data).stat().st_size - back, 1)
    with pytest.raises(CorruptRecord, match="cover"):
        open_store(tmp_path)
    assert segment(data).read_bytes() == content
    assert damaged(data)


@pytest.mark.parametrize("without_index", [False, True])
def test_a_snapshot_knows_of_the_last_record(tmp_path: Path, data: Path, without_index: bool) -> None:
    """As the index does."""

    async def cut() -> None:
        store = open_store(tmp_path)
        await store.snapshot()
        await store.close()

    run(cut)
    if without_index:
        (data / "index/mail.sqlite").unlink()
    content = spoil(data, segment(data).stat().st_size - 1, 1)
    with pytest.raises(CorruptRecord, match="cover"):
        open_store(tmp_path)
    assert segment(data).read_bytes() == content
    assert damaged(data)


def test_a_log_that_ends_before_a_snapshot_is_damage(tmp_path: Path, data: Path) -> None:
    """Cleanly cut, so that no record is wrong, and without an index."""

    async def cut() -> None:
        store = open_store(tmp_path)
        await store.snapshot()
        await store.close()

    run(cut)
    (data / "index/mail.sqlite").unlink()
    segment(data).write_bytes(segment(data).read_bytes()[: body_offset(data, COUNT - 1) - 64])
    assert any("snapshots cover the log" in finding.problem for finding in damaged(data))


def test_a_torn_end_that_nothing_covers_is_cut(tmp_path: Path, data: Path) -> None:
    """As a crash leaves it."""
    size = segment(data).stat().st_size
    with segment(data).open("ab") as file:
        file.write(b"R\x01 half of a record")
    assert damaged(data) == []
    open_store(tmp_path).release()
    assert segment(data).stat().st_size == size


@pytest.mark.parametrize("loss", ["page", "mark", "gone"])
def test_an_index_that_cannot_be_built_anew_is_damage_and_stays(
    data: Path, loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the log's beginning and without a snapshot nothing is repaired, and nothing is said to be."""
    index = data / "index/mail.sqlite"
    match loss:
        case "page":
            content = bytearray(index.read_bytes())
            content[4096 * 3 : 4096 * 3 + 8] = b"\xff" * 8
            index.write_bytes(content)
        case "mark":
            (data / "index" / SUSPECT_NAME).touch()
        case "gone":
            index.unlink()
    before = sorted(data.rglob("*"))
    monkeypatch.setattr(Log, "whole", False)
    found = mend_directory(data, DirectoryCheck(data).findings())
    assert any(one.severity is Severity.DAMAGE and "built anew" in one.problem for one in found), found
    assert sorted(data.rglob("*")) == before


def test_whose_mail_is_damaged_is_said(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By UID, mailbox and user, as IMAP names it; for one damaged record of many, and for more than are shown."""

    def said() -> list[str]:
        found = DirectoryCheck(data).findings()
        return [finding.line() for finding in found if "damaged record" in finding.problem]

    assert said() == []
    spoil(data, body_offset(data, 3))
    (line,) = said()
    assert line.startswith(
        f"note: index/mail.sqlite: UID 4 of {USER}, mailbox 'INBOX': has bytes in the damaged record at "
    )
    for n in (1, 2):
        spoil(data, body_offset(data, n))
    monkeypatch.setattr("spinrt.mail.store.fsck.MESSAGES_SHOWN", 2)
    assert [line.split(" of ")[0] for line in said()] == [
        "note: index/mail.sqlite: UID 2",
        "note: index/mail.sqlite: UID 3",
        "note: index/mail.sqlite: table messages: 1 more have bytes in damaged records",
    ]
