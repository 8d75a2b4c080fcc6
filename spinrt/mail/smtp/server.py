"""SMTP and LMTP over sockets: one `Engine` for each connection, on any asyncio event loop.

The server listens, counts connections, and sweeps once a second over those whose deadline has passed; what happens on
one connection is in ``connection``.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from functools import partial
from pathlib import Path
from typing import Any

from spinrt.errors import Busy, ConfigError, UsageError
from spinrt.mail.listen import listen_tcp, listen_unix
from spinrt.mail.smtp import reply
from spinrt.mail.smtp.connection import LINGER_S, Connection
from spinrt.mail.smtp.limits import SmtpLimits
from spinrt.mail.smtp.login import ThrottledReceiver
from spinrt.mail.smtp.offer import Offer
from spinrt.mail.smtp.receiver import Receiver
from spinrt.mail.smtp.reply import Reply
from spinrt.mail.throttle import Throttle, ThrottleLimits

logger = logging.getLogger(__name__)


class SmtpServer:
    """One listener and its connections. Made by `start`."""

    def __init__(
        self,
        *,
        receiver: Receiver,
        limits: SmtpLimits,
        offer: Offer,
        throttle: Throttle,
        tls_context: ssl.SSLContext | None,
        implicit_tls: bool,
        unix: bool,
    ) -> None:
        self.limits = limits
        self.offer = offer
        self.throttle = throttle
        self.tls_context = tls_context
        self.implicit_tls = implicit_tls
        self.unix = unix
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.receiver = ThrottledReceiver(receiver, throttle, self.loop.call_later)
        self.connections: set[Connection] = set()
        self._listener: asyncio.Server | None = None
        self._idle: asyncio.Event | None = None
        self._sweep_s = max(0.01, min(1.0, _shortest_timeout(limits) / 4))
        self._sweep_timer = self.loop.call_later(self._sweep_s, self._sweep)

    @classmethod
    async def start(
        cls,
        host: str | None = None,
        port: int | None = None,
        *,
        path: str | Path | None = None,
        receiver: Receiver,
        hostname: str,
        limits: SmtpLimits | None = None,
        tls_context: ssl.SSLContext | None = None,
        implicit_tls: bool = False,
        lmtp: bool = False,
        throttle: Throttle | None = None,
    ) -> SmtpServer:
        """Listen on a TCP port (0: any that is free) or on a Unix socket, and serve.

        Args:
            host: Address to listen on.
            port: TCP port.
            path: Unix socket instead; only its owner and group can connect.
            receiver: Who gets the mail.
            hostname: Name in the greeting.
            limits: Bounds and time-outs.
            tls_context: Certificate. With it STARTTLS is offered, or with ``implicit_tls`` TLS begins at once.
            implicit_tls: See above (RFC 8314 3.3).
            lmtp: Speak LMTP (RFC 2033).
            throttle: Shared with other servers; none makes one for this server.

        Raises:
            Busy: Another process listens there.
            ConfigError: Cannot listen there: no permission, no such address.
            UsageError: Neither or both of port and path; implicit TLS without a certificate.
        """
        if (path is None) == (port is None):
            raise UsageError("SMTP server takes either host and port, or path")
        if implicit_tls and tls_context is None:
            raise UsageError("SMTP server has implicit TLS but no TLS context")
        limits = limits or SmtpLimits()
        server = cls(
            receiver=receiver,
            limits=limits,
            offer=Offer(
                hostname,
                message_bytes_max=limits.message_bytes_max,
                lmtp=lmtp,
                starttls=tls_context is not None and not implicit_tls,
            ),
            throttle=throttle or _own_throttle(limits),
            tls_context=tls_context,
            implicit_tls=implicit_tls,
            unix=path is not None,
        )
        try:
            if path is not None:
                server._listener = await listen_unix(partial(Connection, server), Path(path))
            else:
                server._listener = await listen_tcp(
                    partial(Connection, server), host or "localhost", port or 0, **server._tls_options()
                )
        except (Busy, ConfigError):
            server._sweep_timer.cancel()
            raise
        return server

    @property
    def sockets(self) -> tuple[Any, ...]:
        """Listening sockets, as ``asyncio.Server.sockets``."""
        return tuple(self._listener.sockets) if self._listener is not None else ()

    async def close(self, grace_s: float = 0.0) -> None:
        """Stop listening, end idle sessions with 421, let messages under way finish, then cut what is left.

        Args:
            grace_s: How long messages under way may take.
        """
        listener, self._listener = self._listener, None
        if listener is None:
            return
        listener.close()
        for connection in list(self.connections):
            connection.shut_down()
        await self._wait_idle(grace_s)
        for connection in list(self.connections):
            connection.abort()
        await self._wait_idle(LINGER_S)
        self._sweep_timer.cancel()
        await listener.wait_closed()

    def admit(self, connection: Connection, address: str) -> Reply | None:
        """Count a new connection, or say why it is refused."""
        if len(self.connections) >= self.limits.connections_max:
            return reply.SERVER_BUSY
        if not self.throttle.connect(address):
            return reply.TOO_MANY_CONNECTIONS
        self.connections.add(connection)
        return None

    def forget(self, connection: Connection, address: str) -> None:
        """An admitted connection is gone."""
        self.connections.discard(connection)
        self.throttle.disconnect(address)
        if self._idle is not None and not self.connections:
            self._idle.set()

    def _tls_options(self) -> dict[str, Any]:
        """With implicit TLS the loop shakes hands: a transport may read on before a protocol can ask it to wait."""
        if not self.implicit_tls:
            return {}
        return {"ssl": self.tls_context, "ssl_handshake_timeout": self.limits.tls_handshake_timeout_s}

    def _sweep(self) -> None:
        now = self.loop.time()
        for connection in [c for c in self.connections if c.deadline <= now]:
            connection.time_out()
        self._sweep_timer = self.loop.call_later(self._sweep_s, self._sweep)

    async def _wait_idle(self, timeout_s: float) -> None:
        if not self.connections:
            return
        self._idle = asyncio.Event()
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            logger.info("%d SMTP connections still open after %.1f s", len(self.connections), timeout_s)


def _own_throttle(limits: SmtpLimits) -> Throttle:
    by_address = ThrottleLimits(connections_per_address_max=limits.connections_per_address_max)
    return Throttle(by_address, asyncio.get_running_loop().time)


def _shortest_timeout(limits: SmtpLimits) -> float:
    return min(
        limits.command_timeout_s,
        limits.data_timeout_s,
        limits.message_timeout_s,
        limits.delivery_timeout_s,
        LINGER_S,
    )
