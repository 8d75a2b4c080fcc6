"""What fsck says of one damage: one finding of damage, with the file's own name, whatever else follows from it."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from spinrt.cli.main import main
from spinrt.errors import CorruptRecord
from spinrt.mail.store.store import Store
from spinrt.storage.page_table import TABLE_NAME
from spinrt.storage.pages import LocalPages
from spinrt.storage.places import PLACES_NAME
from spinrt.storage.record import HEADER_BYTES
from spinrt.storage.tree import walk
from tests.mail.store_support import deliver, fill, with_store

Spoil = Callable[[Path], str]
"""Damages a page store in one way; returns the name of the file."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with three snapshots, closed."""

    async def test(store: Store) -> None:
        for label in ("one", "two", "three"):
            await fill(store, 100)
            await store.snapshot(label)

    with_store(tmp_path, test)
    return tmp_path / "data"


def flip(path: Path, *offsets: int) -> str:
    content = bytearray(path.read_bytes())
    for offset in offsets:
        content[offset] ^= 4
    path.write_bytes(content)
    return path.name


def largest(pages: Path) -> Path:
    return max(pages.glob("*.pack"), key=lambda path: path.stat().st_size)


def without_table(spoil: Spoil) -> Spoil:
    def both(pages: Path) -> str:
        name = spoil(pages)
        (pages / TABLE_NAME).unlink()
        return name

    return both


def removed(pages: Path) -> str:
    path = largest(pages)
    path.unlink()
    return path.name


def entry_of(level: int, part: str) -> Spoil:
    """Damage the stored form of a page or node of the index: its body, or the header in front of it."""

    def spoil(pages: Path) -> str:
        store = LocalPages.open(pages, read_only=True)
        item = store.snapshots()[-1].objects[-1]
        digest = next(entry.digest for entry in walk(store, item) if entry.level == level)
        place = store._find(digest)
        store.close()
        (path,) = (one for one in pages.glob("*.pack") if int(one.stem) == place.pack)
        return flip(path, place.offset + (8 if part == "header" else place.entry_bytes - 3))

    return spoil


CAUSES: dict[str, Spoil] = {
    "head": lambda pages: flip(largest(pages), 30),
    "head-twice": lambda pages: flip(largest(pages), 30, 31),
    "head-tableless": without_table(lambda pages: flip(largest(pages), 30)),
    "head-hopeless": without_table(lambda pages: flip(largest(pages), 30, 31)),
    "gone": removed,
    "page": entry_of(0, "body"),
    "page-header": entry_of(0, "header"),
    "node": entry_of(1, "body"),
    "node-header": entry_of(1, "header"),
    "node-tableless": without_table(entry_of(1, "body")),
}


@pytest.mark.parametrize("name", CAUSES)
def test_one_cause_is_one_finding_of_damage(
    data: Path, name: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the file's own name; nothing is told of temporary places, and what follows from it is a note at most."""
    temporary = data.parent / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    spoiled = CAUSES[name](data / "pages")
    before = {path.name: path.read_bytes() for path in (data / "pages").iterdir()}

    assert main(["fsck", "--data", str(data)]) == 3

    out, err = capfd.readouterr()
    lines = [line for line in out.splitlines() if not line.startswith("note: ")]
    assert len(lines) == 2, out
    assert lines[0].startswith(f"damage: pages/{spoiled}"), out
    assert lines[1].endswith("damaged: 1, repaired: 0")
    assert str(temporary) not in out + err
    assert out.count("\n") <= 5, out
    assert not err
    assert {path.name: path.read_bytes() for path in (data / "pages").iterdir()} == before


@pytest.mark.parametrize("name", ["head", "head-tableless", "page-header", "node"])
def test_what_one_byte_damaged_is_mended(data: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """By trying; and then nothing is wrong."""
    CAUSES[name](data / "pages")
    assert main(["fsck", "--data", str(data), "--repair"]) == 0, capfd.readouterr()
    assert "damaged: 0, repaired: " in capfd.readouterr().out
    assert main(["fsck", "--data", str(data)]) == 0


def test_damaged_file_of_a_snapshot_is_not_said_to_be_written(data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Without --repair nothing is; with it, it is."""
    path = sorted((data / "pages").glob("*.snap"))[0]
    flip(path, 100)
    before = path.read_bytes()
    assert main(["fsck", "--data", str(data)]) == 3
    out, err = capfd.readouterr()
    assert "written anew" not in out + err
    assert path.name in out
    assert path.read_bytes() == before
    assert main(["fsck", "--data", str(data), "--repair"]) == 0
    assert "repaired: 1" in capfd.readouterr().out
    assert path.read_bytes() != before
    assert main(["fsck", "--data", str(data)]) == 0


def test_repair_removes_the_derived_table_that_is_wrong_and_no_other(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows of pages that lie, a table of places that is none: each by itself, and whole after the next start."""
    pages, places = data / "pages" / TABLE_NAME, data / "log" / PLACES_NAME
    for statement in ("UPDATE pages SET offset = -1", "UPDATE pages SET bytes = 1 << 62"):
        LocalPages.open(data / "pages").close()
        with closing(sqlite3.connect(pages)) as connection:
            connection.executescript(statement)
        assert main(["fsck", "--data", str(data), "--repair"]) == 0
        assert not pages.exists()
    LocalPages.open(data / "pages").close()
    places.write_bytes(b"no table" * 512)
    assert main(["fsck", "--data", str(data), "--repair"]) == 0
    assert pages.exists() and not places.exists()
    capsys.readouterr()
    assert main(["fsck", "--data", str(data)]) == 0
    assert "nothing is damaged" in capsys.readouterr().out


def test_table_that_is_far_too_long_is_damage_and_is_not_copied(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A sparse file, as the table or beside it: told before it is copied, and removed."""
    for name in (f"pages/{TABLE_NAME}", f"pages/{TABLE_NAME}-wal", f"log/{PLACES_NAME}"):
        (data / name).touch()
        os.truncate(data / name, 1 << 28)
        assert main(["fsck", "--data", str(data), "--quick", "--repair"]) == 0
        said = capsys.readouterr().out
        assert "what it is made of allows" in said
        assert not (data / name).exists()
        LocalPages.open(data / "pages").close()


def cut(segment: Path) -> None:
    os.truncate(segment, segment.stat().st_size // 2 + 5)


def cut_to_the_header(segment: Path) -> None:
    os.truncate(segment, HEADER_BYTES)


@pytest.mark.parametrize("with_snapshot", [False, True])
@pytest.mark.parametrize("harm", [cut, cut_to_the_header, Path.unlink])
def test_a_lost_end_of_the_log_is_one_finding(
    tmp_path: Path, harm: Callable[[Path], None], with_snapshot: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not one for each that knows of it: record, snapshot, index, bodies. What to do is what a start says."""

    async def test(store: Store) -> None:
        for number in range(10):
            await deliver(store, b"text %d" % number, id_=f"{number}")
        if with_snapshot:
            await store.snapshot()

    with_store(tmp_path, test)
    (segment,) = (tmp_path / "data" / "log").glob("*.log")
    harm(segment)

    assert main(["fsck", "--data", str(tmp_path / "data")]) == 3
    (line,) = (one for one in capsys.readouterr().out.splitlines() if one.startswith("damage: "))
    assert "records were lost (promote the mirror, or restore a backup)" in line
    with pytest.raises(CorruptRecord) as caught:
        Store.open(tmp_path / "data")
    assert "promote the mirror" in (caught.value.hint or "")
