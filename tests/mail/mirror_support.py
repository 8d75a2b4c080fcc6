"""Mail stores and mirrors in directories, for tests of mirroring the mail store."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from spinrt.mail.mirroring import carry_here
from spinrt.mail.store.mirrored import body_names
from spinrt.mail.store.store import Store
from spinrt.storage.mirror.sender import Sender
from spinrt.storage.mirror.source import StoreSource
from tests.mail.store_support import USER, deliver, open_store, run


async def mirror_to(store: Store, directory: Path) -> Sender:
    """Take a snapshot and bring a mirror in a directory up to it."""
    snapshot = await store.snapshot()
    sender = Sender(StoreSource(store.snapshots.pages, store.log, snapshot, body_names))
    await asyncio.to_thread(carry_here, sender, directory)
    return sender


def messages(store: Store, user: str) -> dict[str, list[tuple[int, tuple[str, ...], bytes]]]:
    """Every message of an account: mailbox → UID, flags, bytes."""
    found = {}
    for mailbox in store.mailboxes(user):
        rows = store.messages(mailbox.id, list(store.uids(mailbox.id)))
        found[mailbox.name] = [(row.uid, tuple(sorted(row.flags)), store.read(row.body)) for row in rows]
    return found


def stored(path: Path) -> dict[str, Any]:
    """All of a store, opened and closed again."""
    found: dict[str, Any] = {}

    async def body() -> None:
        store = Store.open(path)
        found.update(messages(store, USER))
        await store.close()

    run(body)
    return found


class Site:
    """A store with a mirror that lacks its last message."""

    def __init__(self, path: Path) -> None:
        self.path, self.old, self.new = path, path / "data", path / "mirror"
        self.mirrored: dict[str, Any] = {}
        self.all: dict[str, Any] = {}
        run(self._begin)

    async def _begin(self) -> None:
        store = open_store(self.path)
        await store.ensure_account(USER)
        for number in range(3):
            await deliver(store, b"Subject: %d\r\n\r\n" % number, id_=f"{number}")
        await mirror_to(store, self.new)
        self.mirrored = messages(store, USER)
        await deliver(store, b"Subject: not mirrored\r\n\r\n", id_="more")
        self.all = messages(store, USER)
        await store.close()
