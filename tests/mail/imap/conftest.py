"""A real store and a real server on loopback, for every test that talks IMAP."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from spinrt.mail.imap.limits import ImapLimits
from spinrt.mail.imap.server import ImapServer
from spinrt.mail.store.store import Store

T = TypeVar("T")
USER, PASSWORD = "alice", "sesame"


def authenticate(user: str, password: str, done: Callable[[str | None], None]) -> None:
    """Let one user in, one turn of the loop later."""
    account = user if (user, password) in ((USER, PASSWORD), ("bob", PASSWORD)) else None
    asyncio.get_running_loop().call_soon(done, account)


@asynccontextmanager
async def running(directory: Path, **options: Any) -> AsyncIterator[tuple[ImapServer, Store]]:
    """A server over a store in ``directory``, with accounts for both users."""
    store = Store.open(directory)
    server = ImapServer()
    try:
        await store.ensure_account(USER)
        await store.ensure_account("bob")
        options.setdefault("limits", ImapLimits())
        await server.start(
            "127.0.0.1", 0, store=store, authenticate=authenticate, hostname="mail.example.org", **options
        )
        yield server, store
    finally:
        await server.close(1.0)
        await store.close()


class Client:
    """A client that speaks lines; answers are bytes as the server wrote them."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._count = 0

    @classmethod
    async def connect(cls, server: ImapServer, **options: Any) -> Client:
        port = server.sockets[0].getsockname()[1]
        client = cls(*await asyncio.open_connection("127.0.0.1", port, limit=2**26, **options))
        client.greeting = await client.line()  # type: ignore[attr-defined]
        return client

    @classmethod
    async def logged_in(cls, server: ImapServer, user: str = USER) -> Client:
        client = await cls.connect(server)
        assert (await client.run(f"LOGIN {user} {PASSWORD}"))[-1].startswith(b"OK")
        return client

    async def line(self) -> bytes:
        """One response with its literals, without its line end; empty when the server closed."""
        data = await self.reader.readline()
        while data.endswith(b"}\r\n") and b"{" in data:
            size = data[data.rindex(b"{") + 1 : -3]
            if not size.isdigit():
                break
            data += await self.reader.readexactly(int(size)) + await self.reader.readline()
        return data.removesuffix(b"\r\n")

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def run(self, command: str | bytes) -> list[bytes]:
        """Send one command; returns the untagged responses, then the tagged one without its tag."""
        self._count += 1
        tag = b"t%d" % self._count
        self.send(tag + b" " + (command.encode() if isinstance(command, str) else command) + b"\r\n")
        return await self.until(tag)

    async def until(self, tag: bytes) -> list[bytes]:
        lines = []
        while True:
            line = await self.line()
            assert line, f"the server closed the connection after {lines}"
            if line.startswith(tag + b" "):
                return [*lines, line[len(tag) + 1 :]]
            lines.append(line)

    async def append(self, mailbox: str, message: bytes, options: str = "") -> bytes:
        """APPEND with LITERAL+; returns the tagged answer."""
        return (await self.run(f"APPEND {mailbox} {options}{{{len(message)}+}}\r\n".encode() + message))[-1]

    async def close(self) -> None:
        self.writer.close()


@pytest.fixture
def serve(tmp_path: Path) -> Callable[[Callable[[ImapServer, Store], Coroutine[Any, Any, T]]], T]:
    """Run a coroutine function with a server and its store."""

    def run(scenario: Callable[[ImapServer, Store], Coroutine[Any, Any, T]], **options: Any) -> T:
        async def main() -> T:
            async with running(tmp_path / "data", **options) as (server, store):
                return await asyncio.wait_for(scenario(server, store), 60)

        return asyncio.run(main())

    return run


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """The port of a server that runs in a thread of its own, for clients that block."""
    ready = threading.Event()
    found: list[int] = []
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def main() -> None:
        async with running(tmp_path / "data") as (server, _):
            found.append(server.sockets[0].getsockname()[1])
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
    thread.start()
    try:
        assert ready.wait(20)
        yield found[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        loop.close()
