"""Which bodies a snapshot of the index needs: read from its pages, against what its table says."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

from spinrt.errors import MailError
from spinrt.mail.store.mirrored import body_names
from spinrt.mail.store.model import Expunge, FlagsMode, StoreFlags
from spinrt.mail.store.store import Store
from spinrt.storage.protocols import Snapshot
from spinrt.storage.snapshot import KIND_INDEX, seal
from spinrt.storage.tree import build
from tests.mail.store_support import deliver, inbox, with_store
from tests.storage.mirror_support import MemoryPages


def snapshot(store: Store, pages: MemoryPages, directory: Path, position: int) -> Snapshot:
    """The index as it is now, as a snapshot."""
    copy = directory / f"copy-{position}"
    with sqlite3.connect(copy) as connection:
        store._index.connection.backup(connection)
    connection.close()
    content = copy.read_bytes()
    parts = (content[at : at + 4096] for at in range(0, len(content), 4096))
    index = build(pages, parts, name="index", kind=KIND_INDEX, page_bytes=4096)
    made = seal(parent=None, log_identity=bytes(16), position=position, time_ns=position, objects=(index,))
    pages.commit(made)
    return made


def live(store: Store) -> set[int]:
    return {row[0] for row in store._index.connection.execute("SELECT name FROM bodies")}


def test_names_are_those_that_the_table_has_and_had_not(tmp_path: Path) -> None:
    """Over a history of deliveries, flags and expunges, between any two of its snapshots."""

    async def body(store: Store) -> None:
        choices, pages = random.Random(7), MemoryPages()
        made: list[tuple[Snapshot, set[int]]] = []
        for round_ in range(6):
            for number in range(choices.choice((0, 3, 400))):
                await deliver(store, b"%d" % choices.randrange(2**60), id_=f"{round_}-{number}")
            mailbox_id = inbox(store)
            uids = tuple(choices.sample(range(1, 900), 200))
            for change in (
                StoreFlags(mailbox_id, uids, FlagsMode.ADD, ("\\Seen",), None),
                Expunge(mailbox_id, uids[:100], deleted_only=False),
            ):
                try:
                    await store.submit(change)
                except MailError:
                    continue
            made.append((snapshot(store, pages, tmp_path, round_ + 1), live(store)))

        for target, has in made:
            assert list(body_names(pages, None, target)) == sorted(has)
            for base, had in made:
                assert list(body_names(pages, base, target)) == sorted(has - had)
        assert len(made[-1][1]) > 100

    with_store(tmp_path, body)
