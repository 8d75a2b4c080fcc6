"""The server as a peer meets it: TLS, privacy, hostile input, slow clients, time-outs, bounds, hooks."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import socket
import ssl
import struct
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from spinrt.errors import Busy, ConfigError, DeviceFull
from spinrt.mail.imap.connection import Connection
from spinrt.mail.imap.limits import ImapLimits
from spinrt.mail.imap.server import ImapServer
from spinrt.mail.store.model import Body, CreateMailbox, Outcome, Status
from spinrt.mail.store.store import Store
from tests.mail.imap.conftest import PASSWORD, USER, Client, authenticate

Serve = Callable[..., Any]


@pytest.fixture(scope="module")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context and a client's that trusts it."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


@pytest.fixture
def far_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every peer look as if it were not on this machine."""
    monkeypatch.setattr(Connection, "trusted_peer", False)


@pytest.mark.usefixtures("far_away")
def test_passwords_need_tls_from_afar(serve: Serve, contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """Without TLS a login is refused unread and not announced; after STARTTLS it works."""

    async def scenario(server: ImapServer, _: Store) -> None:
        client = await Client.connect(server)
        assert b"LOGINDISABLED" in client.greeting and b"AUTH=PLAIN" not in client.greeting
        assert b"STARTTLS" in client.greeting
        refused = b"NO [PRIVACYREQUIRED] use TLS before sending a password"
        assert await client.run(f"LOGIN {USER} {PASSWORD}") == [refused]
        assert await client.run("AUTHENTICATE PLAIN AGEAYg==") == [refused]
        assert (await client.run("STARTTLS"))[-1].startswith(b"OK begin TLS")
        await client.writer.start_tls(contexts[1], server_hostname="localhost")
        [capabilities, _] = await client.run("CAPABILITY")
        assert b"AUTH=PLAIN" in capabilities and b"STARTTLS" not in capabilities
        assert (await client.run("STARTTLS"))[-1] == b"BAD TLS is active already"
        assert (await client.run(f"LOGIN {USER} {PASSWORD}"))[-1].startswith(b"OK")

    serve(scenario, tls_context=contexts[0])


@pytest.mark.usefixtures("far_away")
def test_commands_sent_ahead_of_tls_are_forgotten(
    serve: Serve, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    """What stands behind STARTTLS in the clear was perhaps put there by another: it is not carried out under TLS."""

    async def scenario(server: ImapServer, _: Store) -> None:
        client = await Client.connect(server)
        client.send(b"a STARTTLS\r\nb ID NIL\r\n")
        assert (await client.until(b"a"))[-1].startswith(b"OK")
        await client.writer.start_tls(contexts[1], server_hostname="localhost")
        assert await client.run("NOOP") == [b"OK NOOP completed"]

    serve(scenario, tls_context=contexts[0])


def test_implicit_tls(serve: Serve, contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """With implicit TLS the greeting comes under TLS and STARTTLS is not offered."""

    async def scenario(server: ImapServer, _: Store) -> None:
        client = await Client.connect(server, ssl=contexts[1], server_hostname="localhost")
        assert b"STARTTLS" not in client.greeting and b"AUTH=PLAIN" in client.greeting
        assert (await client.run(f"LOGIN {USER} {PASSWORD}"))[-1].startswith(b"OK")

    serve(scenario, tls_context=contexts[0], implicit_tls=True)


def test_starting_wrongly_says_why(serve: Serve) -> None:
    """TLS without a certificate and a port in use are one clear line each."""

    async def scenario(server: ImapServer, store: Store) -> None:
        options: dict[str, Any] = {"store": store, "authenticate": authenticate, "hostname": "x"}
        with pytest.raises(ConfigError, match="needs a certificate"):
            await ImapServer().start("127.0.0.1", 0, implicit_tls=True, **options)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Busy, match=f"cannot listen on 127.0.0.1 port {port}"):
            await ImapServer().start("127.0.0.1", port, **options)

    serve(scenario)


@pytest.mark.parametrize(
    "data",
    [
        b"a LOGIN {4294967296+}\r\n",
        b"a SEARCH " + b"(" * 10_000 + b"\r\n",
        b"\0" * 1000 + b"\r\n",
        b"x" * 200_000 + b"\r\n",
        b"\r\n" * 100,
        b"a LOGIN {5}\r\nab",
        b"a APPEND INBOX {100}\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_hostile_peers_disturb_nobody(serve: Serve, data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a peer sends, before or after login, others are served and no error of our own is logged."""

    async def scenario(server: ImapServer, _: Store) -> None:
        good = await Client.logged_in(server)
        for hostile in (await Client.connect(server), await Client.logged_in(server)):
            hostile.send(data)
            hostile.writer.write_eof()
            assert b"SERVERBUG" not in await hostile.reader.read()
        assert await good.run("NOOP") == [b"OK NOOP completed"]

    with caplog.at_level(logging.WARNING):
        serve(scenario)
    assert caplog.text == ""


def test_too_many_bad_commands_end_the_connection(serve: Serve) -> None:
    """A peer that does not speak IMAP is shown the door."""

    async def scenario(server: ImapServer, _: Store) -> None:
        client = await Client.connect(server)
        client.send(b"a NONSENSE\r\n" * 10)
        lines = (await client.reader.read()).splitlines()
        assert lines == [b"a BAD no such command: NONSENSE"] * 4 + [b"* BYE too many commands that cannot be read"]

    serve(scenario, limits=ImapLimits(bad_commands_max=3))


def test_silent_clients_are_told_goodbye(serve: Serve) -> None:
    """Before login the patience is short, in IDLE too there is an end to it."""

    async def scenario(server: ImapServer, _: Store) -> None:
        silent, idle = await Client.connect(server), await Client.logged_in(server)
        idle.send(b"i IDLE\r\n")
        assert await idle.line() == b"+ idling"
        assert await silent.line() == b"* BYE silent for too long"
        assert await idle.line() == b"* BYE silent for too long"
        assert await idle.line() == b""

    serve(scenario, limits=ImapLimits(login_timeout_s=0.1, idle_timeout_s=0.3))


def test_connections_are_bounded_and_given_back(serve: Serve) -> None:
    """One more than allowed is told so; when one leaves, the next may come."""

    async def scenario(server: ImapServer, _: Store) -> None:
        first = await Client.connect(server)
        assert (await Client.connect(server)).greeting == b"* BYE too many connections"
        await first.run("LOGOUT")
        assert await first.line() == b""
        await asyncio.sleep(0)
        assert (await Client.connect(server)).greeting.startswith(b"* OK")

    serve(scenario, limits=ImapLimits(connections_max=1))


def test_commands_before_the_end_of_input_are_answered(serve: Serve) -> None:
    """A client that sends all it has to say and closes its side still gets its answers, then the end."""

    async def scenario(server: ImapServer, _: Store) -> None:
        client = await Client.connect(server)
        client.send(f"a LOGIN {USER} {PASSWORD}\r\nb CREATE x\r\nc STATUS x (MESSAGES)\r\n".encode())
        client.writer.write_eof()
        lines = (await client.reader.read()).splitlines()
        assert lines[1:] == [b"b OK CREATE completed", b"* STATUS x (MESSAGES 0)", b"c OK STATUS completed"]

    serve(scenario)


class CountingThrottle:
    """Refuses the second connection, and logins for one user."""

    def __init__(self) -> None:
        self.open = 0
        self.calls: list[tuple[str, str]] = []

    def connect(self, address: str) -> bool:
        assert address == "127.0.0.1"
        self.open += 1
        return self.open < 3 or bool(self.disconnect(address))

    def disconnect(self, _: str) -> None:
        self.open -= 1

    def login_allowed(self, _: str, user: str) -> float | None:
        return None if user == "mallory" else 0.0

    def login_failed(self, _: str, user: str) -> None:
        self.calls.append(("failed", user))

    def login_succeeded(self, _: str, user: str) -> None:
        self.calls.append(("succeeded", user))


def test_throttle_is_asked_and_told(serve: Serve) -> None:
    """Connections and logins go through the throttle, and each connection is given back."""
    throttle = CountingThrottle()

    async def scenario(server: ImapServer, _: Store) -> None:
        client, other = await Client.connect(server), await Client.connect(server)
        assert (await Client.connect(server)).greeting == b"* BYE too many connections from your address"
        assert (await other.run("LOGIN mallory x"))[-1].startswith(b"NO [UNAVAILABLE] too many failed logins")
        await client.run(f"LOGIN {USER} wrong")
        await client.run(f"LOGIN {USER} {PASSWORD}")

    serve(scenario, throttle=throttle)
    assert throttle.calls == [("failed", USER), ("succeeded", USER)]
    assert throttle.open == 0


def test_a_large_message_streams_to_a_slow_client(serve: Serve) -> None:
    """A message larger than all buffers arrives whole while another session is served."""

    async def scenario(server: ImapServer, _: Store) -> None:
        slow, quick = await Client.logged_in(server), await Client.logged_in(server)
        message = b"Subject: large\r\n\r\n" + bytes(range(1, 256)) * 65536
        assert (await slow.append("INBOX", message)).startswith(b"OK [APPENDUID")
        await slow.run("EXAMINE INBOX")
        slow.writer.transport.pause_reading()
        slow.send(b"f FETCH 1 BODY[]\r\nn NOOP\r\n")
        for _ in range(20):
            assert await quick.run("NOOP") == [b"OK NOOP completed"]
            await asyncio.sleep(0.01)
        slow.writer.transport.resume_reading()
        [answer, _] = await slow.until(b"f")
        assert answer == b"* 1 FETCH (BODY[] {%d}\r\n" % len(message) + message + b")"
        assert await slow.until(b"n") == [b"OK NOOP completed"]

    serve(scenario)


class Doorkeeper:
    """Lets everyone in, and knows when so many are left."""

    def __init__(self) -> None:
        self.open = 0
        self._changed = asyncio.Event()

    async def left(self, count: int) -> None:
        while self.open != count:
            self._changed.clear()
            await self._changed.wait()

    def connect(self, _: str) -> bool:
        self.open += 1
        return True

    def disconnect(self, _: str) -> None:
        self.open -= 1
        self._changed.set()

    def login_allowed(self, _address: str, _user: str) -> float | None:
        return 0.0

    def login_failed(self, _address: str, _user: str) -> None: ...
    def login_succeeded(self, _address: str, _user: str) -> None: ...


def test_a_client_that_leaves_in_the_middle(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """Leaving during FETCH, APPEND, IDLE or a change harms nothing and logs nothing."""
    door = Doorkeeper()

    async def scenario(server: ImapServer, store: Store) -> None:
        message = b"Subject: x\r\n\r\n" + b"y" * 8_000_000
        first = await Client.logged_in(server)
        await first.append("INBOX", message)
        for command in (
            b"f FETCH 1 BODY[]\r\n",
            b"a APPEND INBOX {100+}\r\nhalf",
            b"i IDLE\r\n",
            b"s STORE 1 +FLAGS (\\Seen)\r\n",
            b"p AUTHENTICATE PLAIN\r\n",
        ):
            client = await Client.logged_in(server)
            await client.run("SELECT INBOX")
            client.send(b"n NOOP\r\n" + command)  # what is sent together is taken in together
            await client.until(b"n")  # so the command is begun
            client.writer.transport.abort()
        await door.left(1)
        inbox = store.mailbox(USER, "INBOX")
        assert inbox is not None
        assert store.status(inbox.id).messages == 1
        assert (await first.run("NOOP"))[-1] == b"OK NOOP completed"

    with caplog.at_level(logging.WARNING):
        serve(scenario, throttle=door)
    assert caplog.text == ""


class RecordingHooks:
    """Refuses one message and remembers the rest."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def append(self, user: str, mailbox: str, body: Body) -> str | None:
        self.seen.append((user, mailbox, body.size))
        return "no such mail here" if body.size == 4 else None

    def flags_changed(self, user: str, mailbox: str, uid: int, flags: frozenset[str]) -> None:
        self.seen.append((user, mailbox, uid, sorted(flags)))


def test_hooks_are_told_and_may_refuse(serve: Serve) -> None:
    r"""APPEND asks the hooks before it stores; STORE, and FETCH that sets \Seen, tell them the new flags."""
    hooks = RecordingHooks()

    async def scenario(server: ImapServer, _: Store) -> None:
        client = await Client.logged_in(server)
        assert await client.append("INBOX", b"A: b") == b"NO [CANNOT] no such mail here"
        await client.append("INBOX", b"A: b\r\n")
        await client.run("SELECT INBOX")
        await client.run("STORE 1 +FLAGS (\\Flagged)")
        await client.run("FETCH 1 BODY[]")

    serve(scenario, hooks=hooks)
    assert hooks.seen == [
        (USER, "INBOX", 4),
        (USER, "INBOX", 6),
        (USER, "INBOX", 1, ["\\Flagged"]),
        (USER, "INBOX", 1, ["\\Flagged", "\\Seen"]),
    ]


def test_errors_of_the_store_have_codes(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full device is told as such and the session lives."""

    def full(*_: object) -> asyncio.Future[Outcome]:
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        future.set_exception(DeviceFull("log: no room"))
        return future

    async def scenario(server: ImapServer, store: Store) -> None:
        client = await Client.logged_in(server)
        monkeypatch.setattr(store, "submit", full)
        assert await client.run("CREATE x") == [b"NO [OVERQUOTA] no room is left to store this"]
        assert (await client.append("INBOX", b"A: b\r\n")).startswith(b"NO [OVERQUOTA]")
        assert await client.run("NOOP") == [b"OK NOOP completed"]
        monkeypatch.undo()

    serve(scenario)


def test_pipelined_flood_is_answered_in_bounded_memory(serve: Serve) -> None:
    """A client that sends without reading is not read further; once it reads, every command has its answer."""

    async def scenario(server: ImapServer, _: Store) -> None:
        client = await Client.logged_in(server)
        client.writer.transport.pause_reading()
        count = 20_000
        client.send(b"".join(b"%d CAPABILITY\r\n" % index for index in range(count)))
        await asyncio.sleep(0.2)
        client.writer.transport.resume_reading()
        assert (await client.until(b"%d" % (count - 1)))[-1] == b"OK CAPABILITY completed"

    serve(scenario)


async def longest_share(work: Awaitable[object]) -> float:
    """The longest time that others had to wait for the loop while ``work`` was done, as a part of all its time."""
    longest, task = 0.0, asyncio.ensure_future(work)
    begin = time.perf_counter()
    while not task.done():
        start = time.perf_counter()
        await asyncio.sleep(0)
        longest = max(longest, time.perf_counter() - start)
    await task
    return longest / (time.perf_counter() - begin)


SHARE_MAX = 0.4
"""Each command below takes some hundred milliseconds and is cut into slices of 5; uncut, its share is nearly 1."""


def test_a_costly_list_lets_others_run(serve: Serve) -> None:
    """All patterns that one command may have, against many long names."""

    async def scenario(server: ImapServer, store: Store) -> None:
        names = [f"{n:03d}/" + "a" * 250 for n in range(120)]
        await asyncio.gather(*[store.submit(CreateMailbox(USER, name)) for name in names])
        client = await Client.logged_in(server)
        patterns = " ".join(['"' + "*a" * 30 + '*b"'] * 100)
        assert await longest_share(client.run(f'LIST "" ({patterns})')) < SHARE_MAX
        await client.close()

    serve(scenario)


def test_a_costly_search_lets_others_run(serve: Serve) -> None:
    """Many keys that all read one large message to the end."""

    async def scenario(server: ImapServer, _: Store) -> None:
        client = await Client.logged_in(server)
        await client.append("INBOX", b"Subject: x\r\n\r\n" + b"word \xc3\xbc\r\n" * 60_000)
        await client.run("SELECT INBOX")
        keys = " ".join(f"NOT BODY absent{number}" for number in range(200))
        answers: list[list[bytes]] = []

        async def ask() -> None:
            answers.append(await client.run(f"SEARCH {keys}"))

        assert await longest_share(ask()) < SHARE_MAX
        assert answers == [[b"* SEARCH 1", b"OK SEARCH completed"]]

    serve(scenario)


def test_commands_sent_ahead_let_others_run(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that need not wait take turns with other sessions all the same, and are answered before the end."""

    async def scenario(server: ImapServer, store: Store) -> None:
        client, status = await Client.logged_in(server), store.status

        def slow_status(mailbox_id: int) -> Status:
            time.sleep(0.002)
            return status(mailbox_id)

        monkeypatch.setattr(store, "status", slow_status)
        client.send(b"".join(b"%d STATUS INBOX (MESSAGES)\r\n" % index for index in range(150)))
        client.writer.write_eof()
        assert await longest_share(client.until(b"149")) < SHARE_MAX

    serve(scenario)


def test_a_client_that_leaves_ends_its_command(serve: Serve) -> None:
    """What nobody will read is not worked on: a search of many seconds ends with its connection."""

    async def scenario(server: ImapServer, _: Store) -> None:
        client = await Client.logged_in(server)
        await client.append("INBOX", b"Subject: x\r\n\r\n" + b"word \xc3\xbc\r\n" * 300_000)
        await client.run("SELECT INBOX")
        start = time.perf_counter()
        client.send(b"s SEARCH " + b" ".join(b"NOT BODY absent%d" % n for n in range(450)) + b"\r\n")
        await asyncio.sleep(0.1)
        reset = struct.pack("ii", 1, 0)  # linger for no time: a broken connection, not an end of input
        client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        client.writer.transport.abort()
        await server.close(60.0)
        assert time.perf_counter() - start < 2.0

    serve(scenario)


def test_servers_of_one_store_share_what_is_recent(serve: Serve) -> None:
    """A message is recent to the first session that learns of it, whichever server that came to."""

    async def scenario(server: ImapServer, store: Store) -> None:
        first, second = await Client.logged_in(server), ImapServer()
        await second.start("127.0.0.1", 0, store=store, authenticate=authenticate, hostname="mail.example.org")
        await first.append("INBOX", b"A: b\r\n\r\n")
        assert b"* 1 RECENT" in await first.run("SELECT INBOX")
        other = await Client.logged_in(second)
        assert b"* 0 RECENT" in await other.run("SELECT INBOX")
        await second.close(1.0)

    serve(scenario)


def spoil(directory: Path, found: bytes) -> None:
    """Change bytes of the log under the server."""
    (segment,) = (directory / "data/log").glob("*.log")
    offset = segment.read_bytes().index(found)
    with segment.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(len(found)))


def test_a_damaged_message_is_named_and_the_others_come(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its UID is in the answer and in the server's log; the connection goes on."""

    async def scenario(server: ImapServer, _: Store) -> None:
        client = await Client.logged_in(server)
        for number in range(3):
            await client.append("INBOX", b"Subject: %d\r\n\r\nsay number %d" % (number, number))
        spoil(tmp_path, b"say number 1")
        await client.run("SELECT INBOX")
        *answers, end = await client.run("FETCH 1:* BODY.PEEK[]")
        assert [answer.split()[1] for answer in answers] == [b"1", b"3"]
        assert end.startswith(b"NO [CORRUPTION]")
        assert end.endswith(b"UID 2")
        assert await client.run("NOOP") == [b"OK NOOP completed"]
        await client.close()

    serve(scenario)
    assert "UID 2 in INBOX" in caplog.text


def test_ranges_of_a_damaged_message_are_refused_before_the_first(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A client that fetches in ranges, none of which need hold the damage, gets none of them."""

    async def scenario(server: ImapServer, _: Store) -> None:
        client = await Client.logged_in(server)
        message = b"Subject: long\r\n\r\n" + b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(6_000))
        await client.append("INBOX", message)
        await client.run("SELECT INBOX")
        spoil(tmp_path, message[150_000:150_016])
        for start, count in ((0, 1000), (140_000, 5000), (149_999, 3), (len(message) - 10, 10), (60, 100_000)):
            (end,) = await client.run(f"FETCH 1 BODY.PEEK[]<{start}.{count}>")
            assert end.startswith(b"NO [CORRUPTION]")
        (end,) = await client.run("FETCH 1 BODY.PEEK[TEXT]<0.50>")
        assert end.startswith(b"NO [CORRUPTION]")
        await client.close()

    serve(scenario)
    assert "UID 1 in INBOX of" in caplog.text
    assert "does not match its digest" in caplog.text


def test_damage_behind_what_was_sent_ends_the_connection(serve: Serve, tmp_path: Path) -> None:
    """Inside a literal nothing else can be said: the client must not take an answer for the message."""

    async def scenario(server: ImapServer, _: Store) -> None:
        client = await Client.logged_in(server)
        message = b"Subject: long\r\n\r\n" + b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(20_000))
        await client.append("INBOX", message)
        await client.run("SELECT INBOX")
        (segment,) = (tmp_path / "data/log").glob("*.log")
        content = segment.read_bytes()
        header = content.rindex(b"R\x01\x01\x00", 0, content.index(message[600_000:600_100]))
        spoil(tmp_path, content[header : header + 64])
        client.send(b"f FETCH 1 BODY.PEEK[]\r\n")
        received = await client.reader.read()
        assert len(received) < len(message)
        assert b"f NO" not in received

    serve(scenario)
