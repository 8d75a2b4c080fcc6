"""Mail stores and mirrors in directories, for tests of mirroring the mail store."""

from __future__ import annotations

import asyncio
from pathlib import Path

from spinrt.mail.mirroring import carry_here
from spinrt.mail.store.mirrored import body_names
from spinrt.mail.store.store import Store
from spinrt.storage.mirror.sender import Sender
from spinrt.storage.mirror.source import StoreSource


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
