"""A snapshot exported: from a store that was promoted, one whose log has given up segments, and a history set aside."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from spinrt.errors import AlreadyExists, CorruptRecord, StateError
from spinrt.mail.snapshot_operations import reading
from spinrt.mail.store.changes import OPAQUE_KINDS
from spinrt.mail.store.export import export_snapshot
from spinrt.mail.store.fsck import DirectoryCheck
from spinrt.mail.store.promote import promote, step_down
from spinrt.mail.store.snapshots import find_snapshot
from spinrt.mail.store.store import Store
from spinrt.mail.store.views import Branch
from spinrt.storage.log import Log
from spinrt.storage.readonly import ReadOnlyDevice
from spinrt.storage.retention import Retention
from tests.mail.mirror_support import messages, mirror_to
from tests.mail.store_support import USER, deliver, open_store, run

Mail = dict[str, list[tuple[int, tuple[str, ...], bytes]]]


def exported(data: Path, named: str, target: Path) -> None:
    """As the command does it: beside whoever runs there."""
    log = Log.open(data / "log", device=ReadOnlyDevice(data / "log"), opaque_kinds=OPAQUE_KINDS)
    try:
        with reading(data) as pages:
            export_snapshot(pages, find_snapshot(data, pages.snapshots(), named), log, target)
    finally:
        log.close()


def stored(path: Path) -> Mail:
    found: Mail = {}

    async def body() -> None:
        store = Store.open(path)
        found.update(messages(store, USER))
        await deliver(store, b"more", id_="more")
        assert len(messages(store, USER)["INBOX"]) == len(found["INBOX"]) + 1
        await store.close()

    run(body)
    return found


def check(target: Path, expected: Mail) -> None:
    assert [one.line() for one in DirectoryCheck(target).findings()] == []
    assert stored(target) == expected
    assert [one.line() for one in DirectoryCheck(target).findings()] == []


async def some(store: Store, first: int, count: int) -> None:
    for number in range(first, first + count):
        await deliver(store, b"Subject: %d\r\n\r\n" % number + os.urandom(2000), id_=f"id-{number}")


def test_of_a_promoted_primary_and_of_what_was_set_aside(tmp_path: Path) -> None:
    """What it had when it was promoted, what came since; and at the old one, what nobody had mirrored."""
    old, new = tmp_path / "data", tmp_path / "mirror"
    had: dict[str, Mail] = {}

    async def begin() -> None:
        store = open_store(tmp_path)
        await store.ensure_account(USER)
        await some(store, 0, 4)
        await mirror_to(store, new)
        had["promoted"] = messages(store, USER)
        await some(store, 10, 2)
        had["aside"] = messages(store, USER)
        await store.close()

    async def go_on(path: Path, other: Path | None, first: int, label: str) -> None:
        store = Store.open(path)
        await some(store, first, 2)
        await store.snapshot(label)
        had[label] = messages(store, USER)
        if other is not None:
            await mirror_to(store, other)
        await store.close()

    run(begin)
    promote(new)
    run(lambda: go_on(new, None, 20, "since"))
    for label in ("promoted", "since"):
        exported(new, label, tmp_path / label)
        check(tmp_path / label, had[label])

    aside = step_down(old)
    assert aside is not None
    run(lambda: go_on(new, old, 30, "further"))
    promote(old)
    run(lambda: go_on(old, None, 40, "back"))
    for label, named in (("aside", aside.identity.hex()), ("further", "further"), ("back", "newest")):
        exported(old, named, tmp_path / label)
        check(tmp_path / label, had[label])


def test_of_a_store_whose_first_segments_are_gone(tmp_path: Path) -> None:
    had: Mail = {}

    async def test() -> None:
        store = Store.open(tmp_path / "data", segment_bytes_max=8192)
        await store.ensure_account(USER)
        await some(store, 0, 20)
        await store.snapshot()
        await store.expire(Retention(log_bytes_max=1), young_s=0)
        assert not store.log.whole
        await store.snapshot("kept")
        had.update(messages(store, USER))
        await store.close()

    run(test)
    exported(tmp_path / "data", "kept", tmp_path / "target")
    check(tmp_path / "target", had)


def test_what_cannot_be_exported_leaves_nothing(tmp_path: Path) -> None:
    """A branch; a body that is not there any more; a target that holds something."""
    data, mirror, target = tmp_path / "data", tmp_path / "mirror", tmp_path / "target"

    async def begin() -> None:
        store = open_store(tmp_path)
        await store.ensure_account(USER)
        await some(store, 0, 2)
        await mirror_to(store, mirror)
        await store.close()

    async def branch() -> None:
        store = Store.open(mirror)
        pages = store.snapshots.pages
        made = Branch.create(mirror, pages, pages.snapshots()[-1], "try")
        made.snapshot(1, "of a branch")
        made.close()
        await store.close()

    run(begin)
    promote(mirror)
    run(branch)
    target.mkdir()
    with pytest.raises(StateError, match="is of a branch"):
        exported(mirror, "of a branch", target)
    (segment,) = (mirror / "log").glob("*.log")
    content = segment.read_bytes()
    start = int(segment.stem)
    first = next(one for one in Log.open(mirror / "log").records() if one.kind == 1).position - start
    segment.write_bytes(content[: first + 100] + bytes([content[first + 100] ^ 1]) + content[first + 101 :])
    with pytest.raises(CorruptRecord):
        exported(mirror, "newest", target)
    assert list(target.iterdir()) == []
    (target / "mine").touch()
    with pytest.raises(AlreadyExists):
        exported(data, "newest", target)
