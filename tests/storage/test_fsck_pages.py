"""Checking a page store: every flipped byte is found and named, what a crash left is not damage, nothing is changed."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest

from spinrt.storage.fsck.finding import Finding, Severity
from spinrt.storage.fsck.pages import PagesCheck
from spinrt.storage.page_table import TABLE_NAME
from spinrt.storage.pages import LocalPages
from spinrt.storage.readonly import ReadOnlyDevice
from spinrt.storage.tree import build, update
from spinrt.testing.page_store import snapshot_of

PAGE = 64


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A closed page store with two snapshots in several small packs, one compressed page among random ones."""
    store = LocalPages.open(tmp_path / "pages", pack_bytes_max=500)
    rng = random.Random(1)
    pages = [rng.randbytes(PAGE), b"x" * PAGE, rng.randbytes(PAGE)]
    first = build(store, pages, name="thing", kind=9, page_bytes=PAGE)
    store.commit(snapshot_of(first, position=100))
    second = update(store, first, {1: rng.randbytes(PAGE)})
    store.commit(snapshot_of(second, position=200))
    store.close()
    return tmp_path / "pages"


def check(directory: Path) -> list[Finding]:
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    found = list(PagesCheck(ReadOnlyDevice(directory)).findings())
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before
    return found


def damaged(found: list[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.severity is Severity.DAMAGE]


def test_good_store_has_no_findings(directory: Path) -> None:
    """Nor has a directory without one."""
    assert check(directory) == []
    assert list(PagesCheck(ReadOnlyDevice(directory / "nowhere")).findings()) == []


def test_every_flipped_byte_of_packs_and_snapshots_is_damage_and_named(directory: Path) -> None:
    """One after the other: the file is named."""
    files = sorted(path for path in directory.iterdir() if path.suffix in (".pack", ".snap"))
    assert len(files) > 3
    for path in files:
        whole = path.read_bytes()
        for offset in range(len(whole)):
            content_ = bytearray(whole)
            content_[offset] ^= 1 << offset % 8
            path.write_bytes(content_)
            found = damaged(check(directory))
            assert any(finding.place == f"pages/{path.name}" for finding in found), (path.name, offset, found)
        path.write_bytes(whole)
    assert check(directory) == []


def test_damaged_page_is_named_by_the_snapshot_that_needs_it(directory: Path) -> None:
    """Position, object and number of the page."""
    pack = sorted(directory.glob("*.pack"))[0]
    data = bytearray(pack.read_bytes())
    data[64 + 52 + 10] ^= 1
    pack.write_bytes(data)
    lines = [finding.line() for finding in damaged(check(directory))]
    assert any("snapshot at 100" in line and "page 0" in line for line in lines), lines


def test_missing_pack_is_damage(directory: Path) -> None:
    """Each page of it that something refers to."""
    sorted(directory.glob("*.pack"))[0].unlink()
    assert damaged(check(directory))


def test_table_that_is_wrong_is_damage_that_can_be_mended(directory: Path) -> None:
    """Counts and places follow from packs and snapshots."""
    for statement in (
        "UPDATE pages SET leaves = leaves + 1",
        "DELETE FROM pages WHERE digest = (SELECT min(digest) FROM pages)",
        "INSERT INTO pages VALUES (x'00', 1, 64, 100, 0, 0, 0, NULL)",
        "UPDATE pages SET base = digest WHERE base IS NOT NULL",
        "UPDATE pages SET base = NULL",
        "UPDATE counted SET stored = x'00'",
        "UPDATE pages SET offset = -1",
        "UPDATE pages SET offset = offset + 1",
        "UPDATE pages SET bytes = 1 << 62",
        "UPDATE pages SET bytes = bytes + 1",
        "UPDATE pages SET pack = pack + 1",
        "UPDATE pages SET pack = 'x'",
        "UPDATE pages SET put_s = 'x'",
        "UPDATE packs SET covered = 'abc'",
        "INSERT INTO pages VALUES ('text', 1, 64, 100, 0, 0, 0, NULL)",
        "CREATE TABLE other (thing)",
    ):
        path = directory / TABLE_NAME
        whole = path.read_bytes()
        with sqlite3.connect(path) as connection:
            connection.execute(statement)
        connection.close()
        (found, *_) = damaged(check(directory))
        assert found.place == f"pages/{TABLE_NAME}"
        assert "removes the table" in found.remedy
        path.write_bytes(whole)


def test_missing_table_is_a_note(directory: Path) -> None:
    """It is derived."""
    (directory / TABLE_NAME).unlink()
    (found,) = check(directory)
    assert found.severity is Severity.NOTE


def test_table_of_another_version_is_a_note(directory: Path) -> None:
    """The next start builds it anew, as after every upgrade."""
    with sqlite3.connect(directory / TABLE_NAME) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    (found,) = check(directory)
    assert found.severity is Severity.NOTE
    assert "schema 99" in found.problem


def test_torn_tail_of_a_pack_is_a_note(directory: Path) -> None:
    """Bytes behind what the table covers were never durable."""
    pack = sorted(directory.glob("*.pack"))[-1]
    with pack.open("ab") as file:
        file.write(b"P\x01" + b"half an entry" * 20)
    (found,) = check(directory)
    assert found.severity is Severity.NOTE
    assert found.place == f"pages/{pack.name}"
