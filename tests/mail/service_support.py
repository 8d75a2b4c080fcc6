"""A whole mail system on loopback for tests: real sockets, real extensions, a thread for its event loop."""

from __future__ import annotations

import asyncio
import contextlib
import imaplib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import argon2
import yaml

from spinrt.mail.config import Config, parse
from spinrt.mail.config_values import TcpEndpoint
from spinrt.mail.report import DeliveryReport
from spinrt.mail.service import MailService, running

PASSWORD = "correct horse"
_HASH = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
"""A weak hash: tests are about mail, not about waiting."""
GRANTS = {
    "delivery": [
        "spinrt:extension/config@1.0.0",
        "spinrt:mail/message@1.0.0",
        "spinrt:mail/delivery@1.0.0",
    ],
    "audit": ["spinrt:logging/logging@1.0.0"],
    "undo-hook": ["spinrt:mail/message@1.0.0", "spinrt:undo/tags@1.0.0", "spinrt:logging/logging@1.0.0"],
}


def shipped(rules: str | None = None) -> dict[str, object]:
    """The three shipped extensions with all that they ask for."""
    found: dict[str, dict[str, object]] = {
        name: {"grants": {interface: {} for interface in interfaces}} for name, interfaces in GRANTS.items()
    }
    if rules is not None:
        found["delivery"]["config"] = {"rules": rules}
    return dict(found)


def config_text(directory: Path, *, users: tuple[str, ...] = ("alice", "bob"), **changes: object) -> str:
    """A configuration with free ports, for example.org; ``changes`` are top-level keys."""
    free = "127.0.0.1:0"
    content: dict[str, object] = {
        "data_directory": str(directory / "data"),
        "hostname": "mail.example.org",
        "domains": ["example.org"],
        "listen": {"smtp": free, "lmtp": free, "imap": free},
        "accounts": {user: {"password_hash": _HASH} for user in users},
        "extensions": shipped(),
        "event_loop": "asyncio",
        "drain_timeout": "2 s",
    }
    return yaml.safe_dump({**content, **changes})


def config_of(directory: Path, **changes: object) -> Config:
    """The same, read."""
    return parse(config_text(directory, **changes), directory / "spinrt.yaml")  # type: ignore[arg-type]


class Running:
    """A service in a thread of its own, as its clients see it."""

    def __init__(self, config: Config) -> None:
        self.reports: list[DeliveryReport] = []
        self._config = config
        self._up = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._main, daemon=True)
        self._thread.start()
        assert self._up.wait(30)
        if self._error is not None:
            raise self._error

    def _main(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._error = error
            self._up.set()

    async def _serve(self) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        async with running(self._config) as self.service:
            self.service.observers.append(self.reports.append)
            self._up.set()
            await self._stopped.wait()

    service: MailService

    def address(self, name: str) -> tuple[str, int]:
        endpoint = self.service.endpoints[name]
        assert isinstance(endpoint, TcpEndpoint)
        return endpoint.host, endpoint.port

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(30)
        if self._error is not None:
            raise self._error


@contextlib.contextmanager
def serving(config: Config) -> Iterator[Running]:
    """Serve for the length of a ``with`` block."""
    service = Running(config)
    try:
        yield service
    finally:
        service.stop()


class Dialogue:
    """An SMTP or LMTP client that says exactly what it is told and gives back whole replies."""

    def __init__(self, address: tuple[str, int], greeting: str = "EHLO client.example") -> None:
        self._socket = socket.create_connection(address, timeout=20)
        self._file = self._socket.makefile("rb")
        self.reply()
        self.say(greeting)

    def reply(self) -> str:
        """One whole reply. Raises ConnectionError when the server is gone."""
        lines = []
        while True:
            line = self._file.readline().decode()
            if not line.endswith("\n"):
                raise ConnectionResetError("the server closed the connection inside a reply")
            lines.append(line.rstrip("\r\n"))
            if line[3:4] != "-":
                return "\n".join(lines)

    def say(self, line: str) -> str:
        self._socket.sendall(line.encode() + b"\r\n")
        return self.reply()

    def begin(self, *recipients: str, sender: str = "s@example.net") -> list[str]:
        """MAIL and RCPT; the replies to the latter."""
        self.say(f"MAIL FROM:<{sender}>")
        return [self.say(f"RCPT TO:<{recipient}>") for recipient in recipients]

    def data(self, message: bytes, replies: int = 1) -> list[str]:
        """A whole message; the replies to its end."""
        self.say("DATA")
        return [self.end_data(message), *(self.reply() for _ in range(replies - 1))]

    def end_data(self, message: bytes) -> str:
        """The octets of a message behind DATA; the first reply."""
        stuffed = message.replace(b"\r\n.", b"\r\n..")
        self._socket.sendall(stuffed + (b".\r\n" if stuffed.endswith(b"\r\n") else b"\r\n.\r\n"))
        return self.reply()

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Dialogue:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def free_port() -> int:
    """A TCP port that nobody listens on, for servers that must know it beforehand."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def send(
    service: Running, message: bytes, *recipients: str, protocol: str = "smtp", sender: str = "s@example.net"
) -> list[str]:
    """Send one message; the replies to its end."""
    greeting = "LHLO client.example" if protocol == "lmtp" else "EHLO client.example"
    with Dialogue(service.address(protocol), greeting) as peer:
        answers = peer.begin(*recipients, sender=sender)
        assert all(answer.startswith("250") for answer in answers), answers
        return peer.data(message, len(recipients) if protocol == "lmtp" else 1)


def fetch(service: Running, user: str, mailbox: str = "INBOX") -> list[tuple[bytes, str]]:
    """Body and flags of every message of a mailbox; see `fetch_at`."""
    return fetch_at(service.address("imap"), user, mailbox)


def fetch_at(
    address: tuple[str, int], user: str, mailbox: str = "INBOX", what: str = "BODY.PEEK[]"
) -> list[tuple[bytes, str]]:
    """An item and the flags of every message of a mailbox, by imaplib; empty when there is no such mailbox."""
    client = imaplib.IMAP4(*address, timeout=60)
    try:
        client.login(user, PASSWORD)
        status, count = client.select(f'"{mailbox}"', readonly=True)
        if status != "OK" or count == [b"0"]:
            return []
        _, found = client.fetch("1:*", f"(FLAGS {what})")
        return [(part[1], part[0].decode()) for part in found if isinstance(part, tuple)]
    finally:
        client.logout()


def message(subject: str = "hello", *fields: str, body: str = "text\r\n") -> bytes:
    head = ["From: s@example.net", "To: alice@example.org", f"Subject: {subject}", *fields]
    return ("\r\n".join(head) + "\r\n\r\n" + body).encode()
