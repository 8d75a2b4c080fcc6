"""spinrt as its users run it: ``spinrt serve`` in a process of its own, the three shipped extensions, durable.

The configuration is the one that ``spinrt config init`` writes, so every extension is granted what its manifest asks;
the delivery rules are those of a small office, and the last of them files what the load sends.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

import yaml

from benchmarks.peers.process import HOST, ServerProcess, free_port
from spinrt.cli import starter
from spinrt.mail.accounts import hash_password
from spinrt.mail.store.model import Copy, Deliver
from spinrt.mail.store.store import Store

DOMAIN: Final = "example.com"
USER, PASSWORD = "user", "sesame"
RULES: Final = (
    "header From contains @blocked.example -> reject 550 '5.7.1 the operator does not take mail from there'",
    "header X-Spam-Flag is YES -> file Junk; flag $Junk; stop",
    "header X-Priority matches '1*' -> flag \\Flagged",
    "list exists -> file 'INBOX/lists/${list}'; stop",
    "detail exists -> file 'INBOX/${detail}'; stop",
    "size over 1M -> file INBOX/large",
    "header Subject contains load -> file INBOX/load; flag $Load; stop",
)
BATCH: Final = 500
"""Deliveries in flight while a mailbox is filled: one group commit for so many."""


class SpinrtServer:
    """One server; enter ``process`` to run it.

    Args:
        directory: An empty directory for configuration and data.
        loop: ``uvloop`` or ``asyncio``.
        extensions: That part of the configuration; the shipped ones by default.
    """

    def __init__(self, directory: Path, *, loop: str, extensions: Mapping[str, Any] | None = None) -> None:
        self.smtp_port, self.imap_port = free_port(), free_port()
        self.data = directory / "data"
        self.configuration = directory / "spinrt.yaml"
        self.configuration.write_text(yaml.safe_dump(self._content(loop, extensions), sort_keys=False))
        self.process = ServerProcess(
            f"spinrt-{loop}",
            [sys.executable, "-m", "spinrt", "serve", "--config", str(self.configuration)],
            directory,
            [self.smtp_port, self.imap_port],
        )

    def _content(self, loop: str, extensions: Mapping[str, Any] | None) -> dict[str, Any]:
        content: dict[str, Any] = yaml.safe_load(starter.text(DOMAIN))
        content["listen"] = {"smtp": f"{HOST}:{self.smtp_port}", "lmtp": None, "imap": f"{HOST}:{self.imap_port}"}
        content["tls"] = {"self_signed": False}
        content["accounts"] = {USER: {"password_hash": hash_password(PASSWORD)}}
        content["event_loop"] = loop
        content["logging"] = {"level": "warning"}
        content["extensions"]["delivery"]["config"] = {"rules": list(RULES)}
        if extensions is not None:
            content["extensions"] = dict(extensions)
        return content

    def fill(self, mailboxes: dict[str, Iterable[bytes]]) -> None:
        """Fill mailboxes of the account before the start, as deliveries through the store, without SMTP."""
        asyncio.run(_fill(self.data, mailboxes))


async def _fill(data: Path, mailboxes: dict[str, Iterable[bytes]]) -> None:
    store = Store.open(data)
    try:
        await store.ensure_account(USER)
        for mailbox, messages in mailboxes.items():
            for batch in _batches(enumerate(messages)):
                await asyncio.gather(*(store.submit(_delivery(store, mailbox, *one)) for one in batch))
    finally:
        await store.close()


def _delivery(store: Store, mailbox: str, number: int, message: bytes) -> Deliver:
    writer = store.body_writer()
    writer.write(message)
    return Deliver(
        delivery_id=hashlib.sha256(f"{mailbox}/{number}".encode()).hexdigest()[:24],
        protocol="local",
        peer="",
        sender="sender@example.org",
        recipients=(f"{USER}@{DOMAIN}",),
        body=writer.finish(),
        copies=(Copy(USER, mailbox),),
        received_s=int(time.time()),
    )


def _batches(messages: Iterable[tuple[int, bytes]]) -> Iterator[list[tuple[int, bytes]]]:
    remaining = iter(messages)
    while batch := list(islice(remaining, BATCH)):
        yield batch
