"""Damage in the log of a mirror: what is read all the same, what is fetched again, what is never cut."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from spinrt.errors import CorruptRecord
from spinrt.mail.store.changes import KIND_BODY
from spinrt.mail.store.fsck import DirectoryCheck
from spinrt.mail.store.mirrored import open_mirror
from spinrt.mail.store.promote import promote, step_down
from spinrt.mail.store.store import Store
from spinrt.storage.log import Log
from spinrt.storage.record import HEADER_BYTES, KIND_CARRIED
from tests.mail.mirror_support import messages, mirror_to
from tests.mail.store_support import USER, deliver, open_store, run


async def some(store: Store, first: int, count: int) -> None:
    for number in range(first, first + count):
        await deliver(store, os.urandom(600), id_=f"id-{number}")


def flip(data: Path, kind: int, which: int, at: int) -> None:
    """Change a byte of a record of that kind, counted from its header."""
    log = Log.open(data / "log")
    position = [one.position for one in log.records() if one.kind == kind][which]
    start = log.start
    (name,) = (one for one, _ in log.segments())
    log.close()
    file = data / "log" / name
    content = bytearray(file.read_bytes())
    content[position - start + at] ^= 1
    file.write_bytes(content)


class Pair:
    """A store that was taken over by its mirror and follows it now, and what the new one has."""

    def __init__(self, path: Path) -> None:
        self.path, self.old, self.new = path, path / "data", path / "mirror"
        run(self._begin)
        promote(self.new)
        step_down(self.old)

    async def _begin(self) -> None:
        store = open_store(self.path)
        await store.ensure_account(USER)
        await some(store, 0, 3)
        await mirror_to(store, self.new)
        await some(store, 10, 2)
        await store.close()

    def follow(self) -> None:
        async def body() -> None:
            store = Store.open(self.new)
            await some(store, 20, 2)
            await mirror_to(store, self.old)
            await store.close()

        run(body)


def test_an_old_primary_with_a_damaged_message_follows_and_takes_over(tmp_path: Path) -> None:
    """The start of a primary goes on with such damage, and so does that of a mirror."""
    pair = Pair(tmp_path)
    flip(pair.old, KIND_BODY, 0, HEADER_BYTES + 100)

    pair.follow()
    promote(pair.old)

    async def body() -> None:
        store = Store.open(pair.old)
        with pytest.raises(CorruptRecord):
            messages(store, USER)
        await store.close()

    run(body)


def test_an_end_that_snapshots_cover_is_not_cut_from_an_old_primary(tmp_path: Path) -> None:
    """What was set aside is in its log alone."""
    pair = Pair(tmp_path)
    size = sum(one.stat().st_size for one in (pair.old / "log").glob("*.log"))
    flip(pair.old, KIND_BODY, -1, 5)

    with pytest.raises(CorruptRecord, match=r"log segment"):
        open_mirror(pair.old)

    assert sum(one.stat().st_size for one in (pair.old / "log").glob("*.log")) == size


def test_bodies_that_were_cut_off_with_an_end_are_fetched_again(tmp_path: Path) -> None:
    """The last body of a mirror cannot be told from one that was never durable, but the book says how far it was."""
    mirror = tmp_path / "mirror"

    async def body() -> None:
        store = open_store(tmp_path)
        await store.ensure_account(USER)
        await some(store, 0, 4)
        await mirror_to(store, mirror)
        flip(mirror, KIND_CARRIED, -1, 5)
        await some(store, 10, 1)
        sender = await mirror_to(store, mirror)
        assert sender.traffic.bodies_moved == 2
        await store.close()

    run(body)
    assert [one.line() for one in DirectoryCheck(mirror).findings()] == []
