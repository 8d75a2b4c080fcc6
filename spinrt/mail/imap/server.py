"""The IMAP server: listens, counts connections, closes in order. What a connection does is in ``connection``."""

from __future__ import annotations

import asyncio
import socket
import ssl
from weakref import WeakKeyDictionary

from spinrt.errors import ConfigError, StateError
from spinrt.mail.imap.connection import Connection, Owner
from spinrt.mail.imap.limits import ImapLimits
from spinrt.mail.imap.session import Authenticator, Hooks, MailStore, Services, Throttle
from spinrt.mail.imap.state import RecentMarks
from spinrt.mail.listen import listen_tcp

_marks_of: WeakKeyDictionary[MailStore, RecentMarks] = WeakKeyDictionary()
"""What is recent in each store that servers of this process have: a message is recent to one session of them all."""


class ImapServer(Owner):
    """An IMAP4rev1 server on one address, in the running event loop.

    Several servers (plain and implicit TLS) may share one store, and then share its marks of what is recent.
    """

    def __init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._connections: dict[Connection, asyncio.Event] = {}
        self._services: Services | None = None
        self._closing = False

    async def start(
        self,
        host: str,
        port: int,
        *,
        store: MailStore,
        authenticate: Authenticator,
        hostname: str,
        limits: ImapLimits | None = None,
        tls_context: ssl.SSLContext | None = None,
        implicit_tls: bool = False,
        hooks: Hooks | None = None,
        throttle: Throttle | None = None,
    ) -> None:
        """Listen on ``host`` and ``port`` (0: any free one, see `sockets`).

        Args:
            authenticate: ``authenticate(user, password, done)``; calls ``done`` once on the loop, with the
                account's name or none.
            tls_context: For STARTTLS, or with ``implicit_tls`` from the first byte.
            hooks: Told of messages appended and flags changed; called only when given.
            throttle: Asked for each connection and login.

        Raises:
            Busy: Another process listens there.
            ConfigError: Implicit TLS without a context, or the address cannot be had for another reason.
            StateError: The server was started before.
        """
        if self._server is not None:
            raise StateError("IMAP server: started already")
        if implicit_tls and tls_context is None:
            raise ConfigError("IMAP server: implicit TLS needs a certificate", hint="set tls in the configuration")
        services = Services(
            store,
            authenticate,
            limits or ImapLimits(),
            hostname,
            hooks,
            throttle,
            can_start_tls=tls_context is not None and not implicit_tls,
            marks=_marks_of.setdefault(store, RecentMarks()),
        )
        self._services = services
        self._server = await listen_tcp(
            lambda: Connection(services, self, tls_context, encrypted=implicit_tls),
            host,
            port,
            ssl=tls_context if implicit_tls else None,
        )

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The listening sockets; empty when closed."""
        return tuple(self._server.sockets) if self._server is not None else ()

    async def close(self, grace_s: float) -> None:
        """Stop listening, tell every client BYE, and wait up to ``grace_s`` seconds for commands to end."""
        if self._server is None:
            return
        self._closing = True
        self._server.close()
        await asyncio.gather(*(connection.shut_down(grace_s) for connection in list(self._connections)))
        await asyncio.gather(*(event.wait() for event in list(self._connections.values())))
        self._server = None

    # --------------------------------------------------------------------------------------------------------- Owner

    def opened(self, connection: Connection) -> str | None:
        assert self._services is not None
        if self._closing:
            return "the server is shutting down"
        if len(self._connections) >= self._services.limits.connections_max:
            return "too many connections"
        throttle = self._services.throttle
        if throttle is not None and not throttle.connect(connection.peer):
            return "too many connections from your address"
        self._connections[connection] = asyncio.Event()
        return None

    def closed(self, connection: Connection) -> None:
        assert self._services is not None
        self._connections.pop(connection).set()
        if self._services.throttle is not None:
            self._services.throttle.disconnect(connection.peer)

    async def gone(self, connection: Connection) -> None:
        event = self._connections.get(connection)
        if event is not None:
            await event.wait()
