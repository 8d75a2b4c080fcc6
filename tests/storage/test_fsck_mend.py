"""Single flipped bytes are found again by trying, in the log and in packs: every byte of small ones."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spinrt.storage.fsck.finding import Finding, Mend, Severity
from spinrt.storage.fsck.log import LogCheck
from spinrt.storage.fsck.packs import mend_packs
from spinrt.storage.log import Log
from spinrt.storage.pages import LocalPages
from spinrt.storage.readonly import ReadOnlyDevice
from spinrt.storage.tree import build
from spinrt.testing.page_store import snapshot_of

Mender = Callable[[Path], Iterator[Finding]]


def writer(directory: Path) -> Mend:
    def write(name: str, offset: int, byte: int) -> None:
        data = bytearray((directory / name).read_bytes())
        data[offset] = byte
        (directory / name).write_bytes(data)

    return write


def mend_log(directory: Path) -> Iterator[Finding]:
    return LogCheck(ReadOnlyDevice(directory), mend=writer(directory)).findings()


def mend_pages(directory: Path) -> Iterator[Finding]:
    return mend_packs(ReadOnlyDevice(directory), "pages", writer(directory))


def make_log(directory: Path) -> None:
    log = Log.open(directory, segment_bytes_max=150)
    for n in range(2):
        log.append(0x100, (b"%d" % n * 30,), time_ns=n)
        log.sync()
    log.close()


def make_pages(directory: Path) -> None:
    store = LocalPages.open(directory, pack_bytes_max=200)
    rng = random.Random(1)
    pages = [rng.randbytes(40), b"x" * 40]
    store.commit(snapshot_of(build(store, pages, name="thing", kind=9, page_bytes=40)))
    store.close()


@pytest.mark.parametrize(
    ("make", "mend", "suffix"), [(make_log, mend_log, ".log"), (make_pages, mend_pages, ".pack")], ids=["log", "packs"]
)
def test_every_flipped_byte_is_put_right(
    tmp_path: Path, make: Callable[[Path], None], mend: Mender, suffix: str
) -> None:
    """One after the other, one bit or several of it; the file is what it was."""
    make(tmp_path)
    files = sorted(path for path in tmp_path.iterdir() if path.suffix == suffix)
    assert len(files) > 1
    masks = random.Random(2)
    for path in files:
        whole = path.read_bytes()
        for offset in range(len(whole)):
            data = bytearray(whole)
            data[offset] ^= masks.choice((1, 0x80, 0x55, 0xFF))
            path.write_bytes(data)
            found = list(mend(tmp_path))
            assert path.read_bytes() == whole, (path.name, offset, found)
            assert [finding.severity for finding in found] == [Severity.REPAIRED]
            assert (found[0].place.rpartition("/")[2], found[0].offset) == (path.name, offset)


def test_nothing_is_tried_on_what_is_good(tmp_path: Path) -> None:
    """And nothing is written."""
    make_log(tmp_path / "log")
    make_pages(tmp_path / "pages")
    assert list(mend_log(tmp_path / "log")) == []
    assert list(mend_pages(tmp_path / "pages")) == []


def test_more_than_one_byte_stays_damage(tmp_path: Path) -> None:
    """Nothing is guessed: what cannot be found stays as it is."""
    make_log(tmp_path)
    path = sorted(tmp_path.glob("*.log"))[0]
    data = bytearray(path.read_bytes())
    data[130] ^= 1
    data[150] ^= 1
    path.write_bytes(data)
    assert Severity.DAMAGE in {finding.severity for finding in mend_log(tmp_path)}
    assert path.read_bytes() == data
