"""One SMTP or LMTP connection: octets between a transport and an `Engine`, deadlines, back pressure, TLS.

A connection has no task and no timer of its own. The engine runs inside ``data_received`` and its replies go out in one
write (`SmtpLink`, in the core); the server's sweep looks at ``deadline``. TLS, at once or by STARTTLS, begins under the
same protocol object, so that a connection counts from its first packet.

Back pressure goes both ways: reading pauses while the receiver owes an answer and enough input waits, and while the
peer does not read its replies.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, cast

from spinrt._core import Phase, SmtpLink
from spinrt.mail.smtp import reply
from spinrt.mail.smtp.receiver import Session
from spinrt.mail.smtp.state import Engine
from spinrt.mail.throttle import is_local

if TYPE_CHECKING:
    from spinrt.mail.smtp.server import SmtpServer

logger = logging.getLogger(__name__)

LINGER_S = 2.0
"""How long the peer may take to read our last reply."""


class Connection(SmtpLink, asyncio.Protocol):
    """One connection. When its ``deadline`` has passed, `time_out` is due."""

    __slots__ = ("_admitted", "_early", "_hung_up", "_server")

    _engine: Engine
    _transport: asyncio.Transport
    _upgrade: asyncio.Task[None] | None

    def __init__(self, server: SmtpServer) -> None:
        super().__init__(server.loop.time, server.limits)
        self._server = server
        self._admitted = False
        self._hung_up = False
        self._early = b""

    # ------------------------------------------------------------------------------------ called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        server = self._server
        address = "unix" if server.unix else _peer_address(transport)
        session = Session("lmtp" if server.offer.lmtp else "smtp", address, is_local(address), server.implicit_tls)
        self._engine = Engine(server.receiver, session, server.offer, server.limits, self._flush)
        refusal = server.admit(self, address) if address else reply.SERVER_BUSY
        if refusal is not None:
            self._turn_away(refusal)
            return
        self._admitted = True
        self._flush()

    def eof_received(self) -> bool:
        """The peer has said all it will; it still gets the answer that is due."""
        if self._engine.phase is not Phase.RECEIVER or self._engine.session.tls:
            return False
        self._peer_done = True
        return True

    def pause_writing(self) -> None:
        """The peer does not read: take no more commands from it."""
        self._choked = True
        self._adjust_reading()

    def resume_writing(self) -> None:
        self._choked = False
        self._adjust_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._engine.lost()
        self.deadline = float("inf")
        if self._admitted:
            self._admitted = False
            self._server.forget(self, self._engine.session.peer)

    # --------------------------------------------------------------------------------------- called by the server

    def time_out(self) -> None:
        """The deadline has passed."""
        if self._engine.phase is Phase.CLOSED or self._upgrade is not None:
            self.abort()
            return
        self._engine.time_out()
        self._flush()

    def shut_down(self) -> None:
        """End the session as soon as nothing is lost by it."""
        self._engine.shut_down()
        self._flush()

    def abort(self) -> None:
        """Cut the connection now."""
        self._engine.lost()
        self._transport.abort()

    # ----------------------------------------------------------------------------------------------------- inside

    def _turn_away(self, refusal: reply.Reply) -> None:
        self._engine.lost()
        self._transport.write(refusal.wire)
        self._transport.close()

    def _receive_early(self, data: bytes) -> None:
        self._early += data

    def _adjust_reading(self) -> None:
        """Read only when the peer takes its replies, and when what waits for the receiver's answer is not too much."""
        engine = self._engine
        if engine.phase is Phase.CLOSED or self._upgrade is not None:
            return
        crowded = engine.phase is Phase.RECEIVER and engine.buffered >= self._server.limits.input_bytes_max
        paused = self._choked or crowded
        if paused is self._paused:
            return
        self._paused = paused
        if paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _hang_up(self) -> None:
        """Close. A peer that we cut short gets time to read why: closing on unread input would reset the connection."""
        if self._hung_up:
            return
        self._hung_up = True
        self.deadline = self._server.loop.time() + LINGER_S
        transport, last = self._transport, self._engine.last
        if last is None or last is reply.BYE or self._peer_done or not transport.can_write_eof():
            transport.close()
            return
        try:
            transport.write_eof()
        except OSError:  # the peer has reset the connection meanwhile: nobody is left to read why
            transport.close()
            return
        if self._paused:
            transport.resume_reading()

    def _start_tls(self) -> None:
        """Begin the handshake; until it is done no octet of the peer reaches the engine."""
        self._transport.pause_reading()
        self._paused = True
        self.deadline = self._server.loop.time() + self._server.limits.tls_handshake_timeout_s
        self._upgrade = self._server.loop.create_task(self._shake_hands())

    async def _shake_hands(self) -> None:
        server = self._server
        assert server.tls_context is not None
        try:
            transport = await server.loop.start_tls(
                self._transport,
                self,
                server.tls_context,
                server_side=True,
                ssl_handshake_timeout=server.limits.tls_handshake_timeout_s,
            )
        except (OSError, EOFError, asyncio.CancelledError) as error:
            logger.info("TLS handshake with %s failed: %s", self._engine.session.peer, error)
            self._transport.abort()
            self.connection_lost(None)
            return
        self._upgrade = None
        self._paused = False
        if transport is None or not self._admitted:
            self.abort()
            return
        self._transport = transport
        self._engine.tls_started()
        early, self._early = self._early, b""
        if early:
            self._engine.receive(early)
        self._flush()


def _peer_address(transport: asyncio.BaseTransport) -> str:
    """IP address of the peer; empty when it is gone already."""
    name = transport.get_extra_info("peername")
    return str(name[0]) if name else ""
