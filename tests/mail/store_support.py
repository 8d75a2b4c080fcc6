"""What the tests of the mail store share: a store with a clock of its own, and short ways to say changes."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from pathlib import Path

from spinrt.mail.store.model import Append, Body, Copy, Deliver, Delivered, KvWrite, Outbound
from spinrt.mail.store.schema import dump
from spinrt.mail.store.store import Store
from spinrt.storage.device import Device

START_S = 1_700_000_000
USER = "bob"


def ticking_clock() -> Callable[[], int]:
    """Return a clock that moves one millisecond at each look."""
    ticks: Iterator[int] = count(START_S * 1_000_000_000, 1_000_000)
    return lambda: next(ticks)


def open_store(path: Path, *, device: Device | None = None, rebuild: bool = False) -> Store:
    return Store.open(path / "data", device=device, rebuild=rebuild, clock_ns=ticking_clock())


def run(test: Callable[[], Awaitable[None]], *, limit_s: float = 60) -> None:
    """Run a test's coroutine on a fresh loop, within a time limit."""

    async def limited() -> None:
        async with asyncio.timeout(limit_s):
            await test()

    asyncio.run(limited())


def with_store(path: Path, test: Callable[[Store], Awaitable[None]]) -> None:
    """Run a test on an open store with one account, and close it."""

    async def body() -> None:
        store = open_store(path)
        try:
            await store.ensure_account(USER)
            await test(store)
        finally:
            await store.close()

    run(body)


def write_body(store: Store, data: bytes) -> Body:
    writer = store.body_writer()
    writer.write(data)
    return writer.finish()


def fake_body(size: int = 100) -> Body:
    """A body that names no bytes in the log; for changes whose messages are not read."""
    return Body(hashlib.sha256(b"%d" % size).digest(), 0, ())


def delivery(
    body: Body,
    *copies: Copy,
    id_: str = "id-1",
    outbound: tuple[Outbound, ...] = (),
    kv: tuple[KvWrite, ...] = (),
    tags: tuple[tuple[str, str, bytes], ...] = (),
) -> Deliver:
    return Deliver(
        delivery_id=id_,
        protocol="SMTP",
        peer="192.0.2.1",
        sender="ann@example.org",
        recipients=("bob@example.org",),
        body=body,
        copies=copies or (Copy(USER, "INBOX"),),
        received_s=START_S,
        outbound=outbound,
        kv=kv,
        tags=tags,
    )


async def deliver(store: Store, data: bytes, *copies: Copy, id_: str) -> Delivered:
    outcome = await store.submit(delivery(write_body(store, data), *copies, id_=id_))
    assert isinstance(outcome, Delivered)
    return outcome


def inbox(store: Store) -> int:
    mailbox = store.mailbox(USER, "INBOX")
    assert mailbox is not None
    return mailbox.id


async def fill(store: Store, count_: int, flags: tuple[str, ...] = ()) -> int:
    """Append that many messages to the inbox; return its id."""
    mailbox_id = inbox(store)
    body = fake_body()
    await asyncio.gather(*[store.submit(Append(mailbox_id, body, flags, START_S + n, 60)) for n in range(count_)])
    return mailbox_id


def dump_store(store: Store) -> dict[str, list[tuple[object, ...]]]:
    """Return every row of the index."""
    return dump(store._index.connection)
