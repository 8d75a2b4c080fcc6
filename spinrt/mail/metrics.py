"""The metrics endpoint: ``GET /metrics`` over HTTP, for Prometheus. Off unless configured; it asks for no password.

The event loop reads the runtime's counters, which takes microseconds for each handler; the text is written on a thread.
One request a connection, a few connections at a time, and no client is waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from prometheus_client.registry import Collector

from spinrt import trace
from spinrt.mail.listen import listen_tcp
from spinrt.runtime.metrics import Exposition

CONNECTIONS_MAX: Final = 8
HEAD_BYTES_MAX: Final = 8192
TIMEOUT_S: Final = 10.0
"""For the request to come, and for the answer to be taken."""
PATH: Final = "/metrics"
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_LOG = trace.component("metrics")


class MetricsServer:
    """Serves the metrics of one runtime.

    Args:
        describe: Returns what `spinrt.runtime.inspect.describe` does; called on the event loop for each scrape.
        others: Collectors of what is no runtime; they collect on a thread.
        timeout_s: See `TIMEOUT_S`.
    """

    def __init__(
        self,
        describe: Callable[[], Mapping[str, Any]],
        others: Iterable[Collector] = (),
        *,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._describe = describe
        self._timeout_s = timeout_s
        self._exposition = Exposition(others)
        self._writing = asyncio.Lock()
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def sockets(self) -> tuple[Any, ...]:
        """Where it listens."""
        return () if self._server is None else self._server.sockets

    async def start(self, host: str, port: int) -> None:
        """Listen.

        Raises:
            Busy, ConfigError: It cannot listen there.
        """
        self._server = await listen_tcp(self._protocol, host, port)

    async def close(self) -> None:
        """Take no more connections, and end those that there are."""
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _protocol(self) -> asyncio.StreamReaderProtocol:
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(limit=HEAD_BYTES_MAX), self._accept)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._connections) >= CONNECTIONS_MAX:
            writer.transport.abort()
            return
        self._connections.add(task)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._serve(reader, writer)
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, ConnectionError, asyncio.CancelledError):
            pass  # whoever asked is gone or too slow
        except Exception:
            _LOG.exception("scrape failed")
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            writer.write(_answer("431 Request Header Fields Too Large"))
            return
        except asyncio.IncompleteReadError:
            return
        status, with_body = _read_request(head)
        body = await self._write() if status == "200 OK" else b""
        writer.write(_answer(status, body, with_body=with_body))

    async def _write(self) -> bytes:
        async with self._writing:
            return await asyncio.to_thread(self._exposition.write, self._describe())


def _read_request(head: bytes) -> tuple[str, bool]:
    """The status that a request deserves (RFC 9112 3), and whether a body goes with it."""
    parts = head.split(b"\r\n", 1)[0].split(b" ")
    if len(parts) != 3 or not parts[2].startswith(b"HTTP/1."):
        return "400 Bad Request", True
    if parts[0] not in (b"GET", b"HEAD"):
        return "405 Method Not Allowed", True
    found = parts[1].split(b"?", 1)[0] == PATH.encode()
    return "200 OK" if found else "404 Not Found", parts[0] == b"GET"


def _answer(status: str, body: bytes = b"", *, with_body: bool = True) -> bytes:
    if status != "200 OK":
        body = f"{status}\n".encode()
    fields = [
        f"HTTP/1.1 {status}",
        f"Content-Type: {CONTENT_TYPE if status == '200 OK' else 'text/plain'}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *(["Allow: GET, HEAD"] if status.startswith("405") else []),
    ]
    return "\r\n".join(fields).encode() + b"\r\n\r\n" + (body if with_body else b"")
