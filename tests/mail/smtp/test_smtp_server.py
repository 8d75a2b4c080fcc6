"""The server on real sockets, on asyncio's event loop and on uvloop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import smtplib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop

from spinrt.errors import Busy, ConfigError, UsageError
from spinrt.mail.smtp.limits import SmtpLimits
from spinrt.mail.smtp.server import SmtpServer
from spinrt.mail.throttle import Throttle, ThrottleLimits
from tests.mail.smtp.doubles import ENVELOPE, FakeReceiver, codes

Scenario = Callable[[], Awaitable[None]]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Scenario], None]:
    """Run a scenario on one of the event loops; it must not take 20 s."""
    factory = asyncio.new_event_loop if request.param == "asyncio" else uvloop.new_event_loop

    def runner(scenario: Scenario) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(20):
                await scenario()

        with asyncio.Runner(loop_factory=factory) as loop:
            loop.run(bounded())

    return runner


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(scope="session")
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@contextlib.asynccontextmanager
async def serving(receiver: FakeReceiver | None = None, **options: Any) -> AsyncIterator[tuple[SmtpServer, int]]:
    """A server on a free port of the loopback interface."""
    server = await SmtpServer.start("127.0.0.1", 0, receiver=receiver or FakeReceiver(), hostname="mx.test", **options)
    try:
        yield server, server.sockets[0].getsockname()[1]
    finally:
        await server.close()
        assert not server.connections


class Wire:
    """A client that sends octets and reads lines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, port: int) -> Wire:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def send(self, octets: bytes) -> None:
        self.writer.write(octets)

    async def code(self) -> int:
        """Code of the next reply; 0 when the connection was closed instead."""
        while line := await self.reader.readline():
            if line[3:4] == b" ":
                return int(line[:3])
        return 0

    async def ask(self, octets: bytes) -> int:
        self.send(octets)
        return await self.code()

    async def rest(self) -> bytes:
        """What comes until the server closes."""
        return await self.reader.read()


def read_codes(link: socket.socket, count: int) -> list[int]:
    """Codes of so many replies from a blocking socket."""
    output, found = b"", list[int]()
    while len(found) < count:
        data = link.recv(65_536)
        assert data, output
        output += data
        found = codes(output[: output.rfind(b"\n") + 1])
    return found


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until something is so; the scenario's time-out bounds it."""
    while not condition():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0.005)


def test_smtplib_sends_over_plain_tls_and_login(
    run: Callable[[Scenario], None], server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """Python's client: EHLO, STARTTLS, login, several messages on one connection, the octets as sent."""
    receiver = FakeReceiver()
    message = b"Subject: x\r\n\r\n.dot\r\n..\r\n" + b"y" * 200_000 + b"\r\n"

    def client(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port) as smtp:
            smtp.starttls(context=client_tls)
            assert smtp.login("user", "secret")[0] == 235
            for _ in range(2):
                assert smtp.sendmail("a@x.test", ["b@y.test", "c@y.test"], message) == {}

    async def scenario() -> None:
        async with serving(receiver, tls_context=server_tls) as (_, port):
            await asyncio.to_thread(client, port)

    run(scenario)
    assert receiver.delivered == [("a@x.test", ("b@y.test", "c@y.test"), message)] * 2
    session = receiver.envelopes[0].session
    assert (session.tls, session.user, session.peer) == (True, "user", "127.0.0.1")


def test_implicit_tls(run: Callable[[Scenario], None], server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    """TLS from the first octet; STARTTLS is not offered then."""
    receiver = FakeReceiver()

    def client(port: int) -> None:
        with smtplib.SMTP_SSL("127.0.0.1", port, context=client_tls) as smtp:
            smtp.ehlo()
            assert not smtp.has_extn("starttls") and smtp.has_extn("auth")
            smtp.sendmail("a@x.test", ["b@y.test"], b"hi\r\n")

    async def scenario() -> None:
        async with serving(receiver, tls_context=server_tls, implicit_tls=True) as (_, port):
            await asyncio.to_thread(client, port)

    run(scenario)
    assert receiver.delivered[0][2] == b"hi\r\n" and receiver.envelopes[0].session.tls


def test_commands_injected_before_tls_are_dropped(
    run: Callable[[Scenario], None], server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """What came in the same segment as STARTTLS is not answered behind the handshake, nor remembered."""
    receiver = FakeReceiver()

    def client(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as link:
            assert read_codes(link, 1) == [220]
            link.sendall(b"EHLO c\r\n")
            assert read_codes(link, 1) == [250]
            link.sendall(b"STARTTLS\r\nEHLO evil\r\nMAIL FROM:<evil@x.test>\r\n")
            assert read_codes(link, 1) == [220]
            with client_tls.wrap_socket(link, server_hostname="localhost") as secured:
                secured.sendall(b"RCPT TO:<b@y.test>\r\nEHLO c\r\nQUIT\r\n")
                assert read_codes(secured, 3) == [503, 250, 221]

    async def scenario() -> None:
        async with serving(receiver, tls_context=server_tls) as (_, port):
            await asyncio.to_thread(client, port)

    run(scenario)
    assert receiver.begun == 0


def test_octets_right_behind_the_handshake_are_read(
    run: Callable[[Scenario], None], server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """A command in the same segment as the handshake's end is answered: it was encrypted."""

    async def scenario() -> None:
        async with serving(tls_context=server_tls) as (_, port):
            wire = await Wire.connect(port)
            assert [await wire.code(), await wire.ask(b"EHLO c\r\n"), await wire.ask(b"STARTTLS\r\n")] == [
                220,
                250,
                220,
            ]
            await wire.writer.start_tls(client_tls, server_hostname="localhost")
            assert await wire.ask(b"EHLO c\r\n") == 250
            wire.writer.close()

    run(scenario)


def test_failed_handshake_closes(run: Callable[[Scenario], None], server_tls: ssl.SSLContext) -> None:
    """Plain octets instead of a handshake end the connection, and nothing is left of it."""

    async def scenario() -> None:
        async with serving(tls_context=server_tls) as (server, port):
            wire = await Wire.connect(port)
            assert [await wire.code(), await wire.ask(b"EHLO c\r\n"), await wire.ask(b"STARTTLS\r\n")] == [
                220,
                250,
                220,
            ]
            wire.send(b"MAIL FROM:<evil@x.test>\r\n" * 10)
            with contextlib.suppress(ConnectionError):
                assert b"250" not in await wire.rest()
            await until(lambda: not server.connections)
            wire.writer.close()

    run(scenario)


def test_silent_handshake_is_timed_out(run: Callable[[Scenario], None], server_tls: ssl.SSLContext) -> None:
    """A peer that never begins its handshake is cut off, and never becomes a session."""

    async def scenario() -> None:
        limits = SmtpLimits(tls_handshake_timeout_s=0.1)
        async with serving(tls_context=server_tls, implicit_tls=True, limits=limits) as (server, port):
            wire = await Wire.connect(port)
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(wire.rest(), 10) == b""
            assert not server.connections
            wire.writer.close()

    run(scenario)


def test_lmtp_over_unix_socket(run: Callable[[Scenario], None], tmp_path: Path) -> None:
    """One reply for each recipient; the socket is for owner and group; a stale one is replaced."""
    receiver = FakeReceiver()
    path = tmp_path / "lmtp"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()

    def client() -> None:
        with smtplib.LMTP(str(path)) as lmtp:
            lmtp.sendmail("a@x.test", ["b@y.test"], b"hi\r\n")
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(str(path))
            link.sendall(b"LHLO c\r\n" + ENVELOPE + b"RCPT TO:<c>\r\nBDAT 2 LAST\r\nhiQUIT\r\n")
            assert read_codes(link, 8) == [220, 250, 250, 250, 250, 250, 250, 221]

    async def scenario() -> None:
        server = await SmtpServer.start(path=path, receiver=receiver, hostname="mx.test", lmtp=True)
        assert path.stat().st_mode & 0o777 == 0o660
        await asyncio.to_thread(client)
        with pytest.raises(Busy, match="another process listens"):
            await SmtpServer.start(path=path, receiver=receiver, hostname="mx.test")
        await server.close()

    run(scenario)
    assert receiver.delivered == [("a@x.test", ("b@y.test",), b"hi\r\n"), ("a@x.test", ("b@y.test", "c"), b"hi")]
    assert receiver.envelopes[0].session.peer == "unix"


def test_nodelay_is_set(run: Callable[[Scenario], None]) -> None:
    """Small replies do not wait for acknowledgements."""

    async def scenario() -> None:
        async with serving() as (server, port):
            wire = await Wire.connect(port)
            await wire.code()
            (connection,) = server.connections
            link = connection._transport.get_extra_info("socket")
            assert link.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            wire.writer.close()

    run(scenario)


def test_pipelined_replies_come_in_one_segment(run: Callable[[Scenario], None]) -> None:
    """A batch of commands is answered by one write."""

    async def scenario() -> None:
        async with serving() as (_, port):
            wire = await Wire.connect(port)
            await wire.code()
            wire.send(b"EHLO c\r\n" + ENVELOPE + b"DATA\r\n")
            output = await wire.reader.read(65_536)
            assert output.endswith(b"354 end data with <CRLF>.<CRLF>\r\n")
            wire.writer.close()

    run(scenario)


@pytest.mark.parametrize(
    ("sent", "limit"),
    [
        (b"", {"command_timeout_s": 0.05}),
        (b"EHLO c\r\nNO", {"command_timeout_s": 0.05}),
        (b"EHLO c\r\n" + ENVELOPE + b"DATA\r\nhalf", {"data_timeout_s": 0.05}),
        (b"EHLO c\r\n" + ENVELOPE + b"DATA\r\nhalf", {"message_timeout_s": 0.05}),
    ],
)
def test_silent_peer_is_timed_out(run: Callable[[Scenario], None], sent: bytes, limit: dict[str, float]) -> None:
    """421 and close; the sink is let go."""
    receiver = FakeReceiver()

    async def scenario() -> None:
        async with serving(receiver, limits=SmtpLimits(**limit)) as (_, port):  # type: ignore[arg-type]
            wire = await Wire.connect(port)
            wire.send(sent)
            assert (await wire.rest()).splitlines()[-1].startswith(b"421 4.4.2")
            wire.writer.close()

    run(scenario)
    assert receiver.open_sinks == 0


def test_dripping_peer_is_timed_out(run: Callable[[Scenario], None]) -> None:
    """Single octets do not keep a command's time-out from passing."""

    async def scenario() -> None:
        async with serving(limits=SmtpLimits(command_timeout_s=0.1)) as (server, port):
            wire = await Wire.connect(port)
            await wire.code()
            while server.connections:
                with contextlib.suppress(ConnectionError):
                    wire.send(b"N")
                await asyncio.sleep(0.01)
            assert b"421 4.4.2" in await wire.rest()
            wire.writer.close()

    run(scenario)


def test_receiver_that_does_not_answer_is_timed_out(run: Callable[[Scenario], None]) -> None:
    """The connection is closed without an answer."""

    async def scenario() -> None:
        async with serving(FakeReceiver(late=True), limits=SmtpLimits(delivery_timeout_s=0.05)) as (_, port):
            wire = await Wire.connect(port)
            wire.send(b"EHLO c\r\n" + ENVELOPE + b"DATA\r\nx\r\n.\r\n")
            assert (await wire.rest()).splitlines()[-1].startswith(b"354")
            wire.writer.close()

    run(scenario)


def test_reading_pauses_while_an_answer_is_due(run: Callable[[Scenario], None]) -> None:
    """Input kept unparsed is bounded; after the answer everything is worked off in order."""
    receiver = FakeReceiver(late=True)
    limits = SmtpLimits(input_bytes_max=1000, commands_per_message_max=1_000_000)
    count = 400_000

    async def scenario() -> None:
        async with serving(receiver, limits=limits) as (server, port):
            wire = await Wire.connect(port)
            wire.send(b"EHLO c\r\n" + ENVELOPE + b"DATA\r\nx\r\n.\r\n" + b"NOOP\r\n" * count + b"QUIT\r\n")
            await until(lambda: bool(receiver.waiting))
            (connection,) = server.connections
            await until(lambda: connection._paused)
            kept = connection._engine.buffered
            await asyncio.sleep(0.05)
            assert connection._engine.buffered == kept < 2**20 < 6 * count
            receiver.answer()
            output = await wire.rest()
            assert output.count(b"250 2.0.0 OK\r\n") == count and output.endswith(b"221 2.0.0 closing connection\r\n")
            wire.writer.close()

    run(scenario)


def test_reading_pauses_while_peer_does_not_read(run: Callable[[Scenario], None]) -> None:
    """A peer that sends and never reads cannot make the server keep replies without bound."""

    async def scenario() -> None:
        async with serving(limits=SmtpLimits(commands_per_message_max=10_000_000)) as (server, port):
            with socket.create_connection(("127.0.0.1", port)) as link:
                link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                link.setblocking(False)
                sent = 0
                block = b"HELP\r\n" * 5000
                await until(lambda: bool(server.connections))
                (connection,) = server.connections
                while not connection._choked and sent < 100_000_000:
                    with contextlib.suppress(BlockingIOError):
                        sent += link.send(block)
                    await asyncio.sleep(0)
                assert connection._choked and connection._paused
                assert connection._transport.get_write_buffer_size() < 16 * 2**20

    run(scenario)


def test_half_closed_peer_gets_its_answer(run: Callable[[Scenario], None]) -> None:
    """A client that shuts its sending side down still learns what became of its message."""
    receiver = FakeReceiver(late=True)

    async def scenario() -> None:
        async with serving(receiver) as (_, port):
            wire = await Wire.connect(port)
            wire.send(b"EHLO c\r\n" + ENVELOPE + b"DATA\r\nx\r\n.\r\n")
            wire.writer.write_eof()
            await until(lambda: bool(receiver.waiting))
            await asyncio.sleep(0.02)
            receiver.answer()
            assert (await wire.rest()).endswith(b"250 2.6.0 message accepted\r\n")
            wire.writer.close()

    run(scenario)


def test_last_reply_survives_unread_input(run: Callable[[Scenario], None]) -> None:
    """A peer that is cut while it sends can still read why."""

    async def scenario() -> None:
        async with serving() as (_, port):
            wire = await Wire.connect(port)
            wire.send(b"BOGUS\r\n" * 200_000)
            assert (await wire.rest()).endswith(b"421 4.7.0 too many errors, closing connection\r\n")
            wire.writer.close()

    run(scenario)


def test_connections_are_bounded(run: Callable[[Scenario], None]) -> None:
    """By listener, and by address; a closed one makes room."""

    async def scenario() -> None:
        throttle = Throttle(ThrottleLimits(connections_per_address_max=2, exempt_local=False), lambda: 0.0)
        async with serving(throttle=throttle) as (server, port):
            first, second, third = [await Wire.connect(port) for _ in range(3)]
            assert [await first.code(), await second.code(), await third.code()] == [220, 220, 421]
            assert await third.rest() == b""
            assert await first.ask(b"QUIT\r\n") == 221
            await until(lambda: len(server.connections) == 1)
            fourth = await Wire.connect(port)
            assert await fourth.code() == 220
            for wire in (first, second, third, fourth):
                wire.writer.close()
        async with serving(limits=SmtpLimits(connections_max=1)) as (_, port):
            first, second = await Wire.connect(port), await Wire.connect(port)
            assert [await first.code(), await second.code()] == [220, 421]
            first.writer.close()
            second.writer.close()

    run(scenario)


def test_close_drains(run: Callable[[Scenario], None]) -> None:
    """Idle sessions get 421 at once; a message under way is answered; a stuck one is cut; nobody new is let in."""
    receiver = FakeReceiver(late=True)

    async def scenario() -> None:
        async with serving(receiver) as (server, port):
            idle, busy, stuck = [await Wire.connect(port) for _ in range(3)]
            assert [await wire.code() for wire in (idle, busy, stuck)] == [220] * 3
            busy.send(b"EHLO c\r\n" + ENVELOPE + b"DATA\r\nx\r\n.\r\n")
            stuck.send(b"EHLO c\r\n" + ENVELOPE + b"DATA\r\nhalf")
            await until(lambda: receiver.begun == 2 and bool(receiver.waiting))
            closing = asyncio.ensure_future(server.close(grace_s=0.2))
            assert await idle.code() == 421
            with pytest.raises(ConnectionError):
                await Wire.connect(port)
            receiver.answer()
            assert (await busy.rest()).splitlines()[-2:] == [
                b"250 2.6.0 message accepted", b"421 4.3.2 the server is shutting down, try again later"
            ]  # fmt: skip
            await closing
            with contextlib.suppress(ConnectionError):
                assert not (await stuck.rest()).endswith(b"250 2.6.0 message accepted\r\n")
            for wire in (idle, busy, stuck):
                wire.writer.close()

    run(scenario)
    assert receiver.open_sinks == 0


def test_lost_connection_aborts_message(run: Callable[[Scenario], None]) -> None:
    """A reset in the middle of a message lets its sink go."""
    receiver = FakeReceiver()

    async def scenario() -> None:
        async with serving(receiver) as (server, port):
            wire = await Wire.connect(port)
            wire.send(b"EHLO c\r\n" + ENVELOPE + b"DATA\r\nhalf")
            await until(lambda: receiver.begun == 1)
            wire.writer.transport.abort()
            await until(lambda: not server.connections)

    run(scenario)
    assert receiver.aborted == 1


def test_where_it_cannot_listen_it_says_so(run: Callable[[Scenario], None], tmp_path: Path) -> None:
    """One clear error, whatever is wrong with the address."""

    async def scenario() -> None:
        async with serving() as (_, port):
            with pytest.raises(Busy, match="Address already in use"):
                await SmtpServer.start("127.0.0.1", port, receiver=FakeReceiver(), hostname="mx.test")
            for host, other, words in [
                ("192.0.2.1", 0, "cannot listen on 192.0.2.1"),
                ("127.0.0.1", 70_000, "cannot listen on 127.0.0.1 port 70000"),
            ]:
                with pytest.raises(ConfigError, match=words):
                    await SmtpServer.start(host, other, receiver=FakeReceiver(), hostname="mx.test")
        plain = tmp_path / "file"
        plain.write_text("")
        with pytest.raises(ConfigError, match="not a socket"):
            await SmtpServer.start(path=plain, receiver=FakeReceiver(), hostname="mx.test")
        with pytest.raises(ConfigError, match="cannot listen"):
            await SmtpServer.start(path=tmp_path / "no" / "dir", receiver=FakeReceiver(), hostname="mx.test")
        with pytest.raises(UsageError):
            await SmtpServer.start(receiver=FakeReceiver(), hostname="mx.test")
        with pytest.raises(UsageError):
            await SmtpServer.start("127.0.0.1", 0, receiver=FakeReceiver(), hostname="mx.test", implicit_tls=True)

    run(scenario)


def test_reset_while_hanging_up_only_closes(run: Callable[[Scenario], None]) -> None:
    """A peer that resets the connection just when it is cut short: shutting down its half fails, and that is all."""

    class Reset:
        """The transport of a connection that the peer has reset."""

        def __init__(self, transport: asyncio.Transport) -> None:
            self.transport = transport

        def __getattr__(self, name: str) -> Any:
            return getattr(self.transport, name)

        def write_eof(self) -> None:
            raise OSError(errno.ENOTCONN, "not connected")

    async def scenario() -> None:
        async with serving() as (server, port):
            wire = await Wire.connect(port)
            await until(lambda: len(server.connections) == 1)
            (connection,) = server.connections
            connection._transport = Reset(connection._transport)  # type: ignore[assignment]
            connection.shut_down()
            await until(lambda: not server.connections)
            wire.writer.close()

    run(scenario)
