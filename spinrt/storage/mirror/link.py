"""Frames over TCP: TLS 1.3, each side knows the other's certificate beforehand, and nobody waits for ever.

A certificate is *pinned*: the peer's own, byte for byte, not who signed it. Until its handshake is done a connection is
a stranger's: it has one of the slots for those, and ``STRANGER_S``; when there is no slot, the oldest of the address
that has most makes room, so who says nothing keeps nobody out. A pinned peer has slots of its own, and is dropped when
it is silent for ``SILENCE_S``.
What the engines do (pages, bodies, syncs) runs on a thread, one call at a time; the event loop carries bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol, TypeVar

from spinrt import trace
from spinrt.errors import ConfigError, PeerFailed, SpinError
from spinrt.storage.mirror import frames
from spinrt.storage.mirror.client import Client
from spinrt.storage.mirror.receiver import Receiver
from spinrt.storage.mirror.throttle import Throttle

HANDSHAKE_S: Final = 10.0
"""For the source, which waits for a mirror that it knows."""
STRANGER_S: Final = 3.0
"""For a handshake, at the mirror."""
SILENCE_S: Final = 120.0
CONNECT_S: Final = 20.0
READ_BYTES: Final = 256 * 1024
STRANGERS_MAX: Final = 64
ADDRESS_STRANGERS_MAX: Final = 8
"""From one address, so that one stranger does not take all."""
PEER_CONNECTIONS_MAX: Final = 8
"""Of one pinned peer, so that one that misbehaves takes no more."""

_LOG = trace.component("mirror")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Identity:
    """What one side shows: its certificate and the key to it, PEM files."""

    certificate: Path
    key: Path


def fingerprint(certificate: bytes) -> bytes:
    """Return the SHA-256 of a certificate in DER."""
    return sha256(certificate).digest()


def load_certificate(path: Path) -> bytes:
    """Return the DER of the one certificate in a PEM file.

    Raises:
        ConfigError: It cannot be read, or is none.
    """
    try:
        return ssl.PEM_cert_to_DER_cert(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path}: found no certificate in PEM form: {error}", hint="`spinrt mirror init` makes one"
        ) from None


def make_context(identity: Identity, pinned: list[bytes], *, server: bool) -> ssl.SSLContext:
    """Return a context that shows ``identity`` and takes none but the pinned certificates (DER).

    Raises:
        ConfigError: Certificate or key cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # the certificate itself is known, whatever it calls itself
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_cert_chain(identity.certificate, identity.key, password=b"")
        for certificate in pinned:
            context.load_verify_locations(cadata=certificate)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"mirror: {identity.certificate} and {identity.key} cannot be used: {error}",
            hint="`spinrt mirror init` makes a pair",
        ) from None
    return context


async def run_client(
    client: Client,
    host: str,
    port: int,
    context: ssl.SSLContext,
    pinned: bytes,
    *,
    bytes_per_s: float | None = None,
    silence_s: float = SILENCE_S,
) -> None:
    """Carry one update or repair through to a mirror that listens there.

    Raises:
        PeerFailed: It cannot be reached, is not the one that is pinned, or went away; try again later.
        SpinError: What either side raised.
    """
    where = f"mirror at {host}:{port}"
    reader, writer = await _connect(host, port, context, where)
    try:
        if _peer_of(writer) != pinned:
            raise PeerFailed(f"{where}: shows another certificate than the one that is pinned")
        await _drive(client, reader, writer, bytes_per_s, silence_s, where)
    except (OSError, EOFError, TimeoutError) as error:
        raise PeerFailed(f"{where}: {_reason(error)}", hint="the next update goes on where this one ended") from None
    finally:
        await _close(writer)


async def _connect(
    host: str, port: int, context: ssl.SSLContext, where: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        async with asyncio.timeout(CONNECT_S):
            return await asyncio.open_connection(host, port, ssl=context, ssl_handshake_timeout=HANDSHAKE_S)
    except (OSError, EOFError, TimeoutError) as error:
        raise PeerFailed(f"{where}: cannot be reached: {_reason(error)}", hint="is it running, is it pinned?") from None


async def _drive(
    client: Client,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    bytes_per_s: float | None,
    silence_s: float,
    where: str,
) -> None:
    loop = asyncio.get_running_loop()
    throttle = Throttle(bytes_per_s, loop.time())
    while not client.done:
        try:
            data = await in_thread(client.produce)
        except SpinError as error:
            await _tell(writer, error, silence_s)
            raise
        if data:
            await asyncio.sleep(throttle.spend(len(data), loop.time()))
            writer.write(data)
            async with asyncio.timeout(silence_s):
                await writer.drain()
        elif not client.done:
            async with asyncio.timeout(silence_s):
                received = await reader.read(READ_BYTES)
            if not received:
                raise PeerFailed(f"{where}: ended the connection", hint="its log says why")
            await in_thread(client.receive, received)


async def in_thread(call: Callable[..., T], *arguments: object) -> T:
    """Run a call of an engine on a thread, to its end: nobody may use the engine while it is still in there."""
    running = asyncio.ensure_future(asyncio.to_thread(call, *arguments))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        with contextlib.suppress(Exception):
            await running
        raise


class LinkServer:
    """The mirror's side: takes connections of pinned sources and hands each to a receiver.

    Args:
        context: From `make_context`, with every peer pinned.
        receivers: Fingerprint of a peer's certificate → function that makes a `Receiver` for its connection (may raise
            SpinError), and function that is told how it went.
    """

    def __init__(
        self, context: ssl.SSLContext, receivers: Mapping[bytes, Peer], *, silence_s: float = SILENCE_S
    ) -> None:
        self._context = context
        self._peers = receivers
        self._silence_s = silence_s
        self._connections: set[asyncio.Task[None]] = set()
        self._strangers: dict[asyncio.Task[None], str] = {}
        """Handshakes under way and where they come from, the oldest first."""
        self._served: Counter[bytes] = Counter()
        """Connections of each pinned peer."""

    def protocol(self) -> asyncio.StreamReaderProtocol:
        """Make the protocol of one connection; for ``loop.create_server``."""
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(limit=READ_BYTES), self._accept)

    async def close(self) -> None:
        """End the connections that there are; the caller closes the listening socket first."""
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        address = str((writer.get_extra_info("peername") or ("unknown",))[0])
        self._make_room(address)
        self._connections.add(task)
        self._strangers[task] = address
        try:
            await writer.start_tls(self._context, ssl_handshake_timeout=STRANGER_S)
            self._strangers.pop(task, None)
            try:
                await self._serve(reader, writer)
            finally:
                await _close(writer)
        except (OSError, EOFError, TimeoutError, SpinError) as error:
            reason = error.line() if isinstance(error, SpinError) else _reason(error)
            trace.log(_LOG, logging.WARNING, "connection ended", peer=address, reason=reason)
        except asyncio.CancelledError:
            pass  # the server closes, or another stranger needed the slot
        except Exception:
            _LOG.exception("connection failed")
        finally:
            self._connections.discard(task)
            self._strangers.pop(task, None)
            writer.transport.abort()

    def _make_room(self, address: str) -> None:
        """Drop the oldest stranger of an address that has as many as it may, or of the one that has most."""
        counts = Counter(self._strangers.values())
        crowded = address if counts[address] >= ADDRESS_STRANGERS_MAX else None
        if crowded is None and len(self._strangers) >= STRANGERS_MAX:
            crowded = counts.most_common(1)[0][0]
        oldest = next((task for task, its in self._strangers.items() if its == crowded), None)
        if oldest is not None:
            del self._strangers[oldest]
            oldest.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        known = fingerprint(_peer_of(writer))
        peer = self._peers.get(known)
        if peer is None:
            raise PeerFailed("mirror: a certificate that is not pinned")
        if self._served[known] >= PEER_CONNECTIONS_MAX:
            raise PeerFailed(f"mirror: a peer has {PEER_CONNECTIONS_MAX} connections, and no more")
        self._served[known] += 1
        try:
            await self._serve_peer(peer, reader, writer)
        finally:
            self._served[known] -= 1

    async def _serve_peer(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        receiver: Receiver | None = None
        try:
            receiver = await peer.begin()
            await self._receive(receiver, reader, writer)
            await peer.end(receiver, None)
        except BaseException as error:
            await peer.end(receiver, error)
            if isinstance(error, SpinError):
                await _tell(writer, error, self._silence_s)
            raise

    async def _receive(self, receiver: Receiver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not receiver.done:
            async with asyncio.timeout(self._silence_s):
                received = await reader.read(READ_BYTES)
            if not received:
                if receiver.idle:
                    return
                raise PeerFailed("mirror: the source ended the connection in the middle of an update")
            while answer := await in_thread(receiver.receive, received):
                writer.write(answer)
                async with asyncio.timeout(self._silence_s):
                    await writer.drain()
                received = b""


class Peer(Protocol):
    """One pinned source, as `LinkServer` sees it."""

    def begin(self) -> Awaitable[Receiver]:
        """Make a receiver for a connection. Raises SpinError."""
        ...

    def end(self, receiver: Receiver | None, error: BaseException | None) -> Awaitable[None]:
        """Give up what `begin` took; called also when that failed, then without a receiver."""
        ...


def _peer_of(writer: asyncio.StreamWriter) -> bytes:
    """The certificate that the other side proved to have, in DER."""
    connection = writer.get_extra_info("ssl_object")
    certificate = connection.getpeercert(binary_form=True) if connection is not None else None
    return certificate or b""


async def _tell(writer: asyncio.StreamWriter, error: SpinError, silence_s: float) -> None:
    """Say why, if the other side still listens."""
    with contextlib.suppress(OSError, TimeoutError, RuntimeError):
        writer.write(frames.encode_refused(error))
        async with asyncio.timeout(min(silence_s, 5.0)):
            await writer.drain()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError, TimeoutError, asyncio.CancelledError):
        async with asyncio.timeout(5.0):
            await writer.wait_closed()
    writer.transport.abort()


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "nothing came in time"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    if isinstance(error, OSError):
        return error.strerror or str(error) or "the other side went away"
    return str(error) or type(error).__name__
