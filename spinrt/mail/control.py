"""The control socket: how ``spinrt queue``, ``inspect`` and others speak to the server that owns the data directory.

A Unix socket called ``control`` in the data directory, which only its owner may enter. One request is one line of JSON,
and so is its answer; then the next request may come:

    {"operation": "queue.list", "arguments": {}}
    {"ok": true, "result": [...]}
    {"ok": false, "error": {"code": "mail.not-found", "message": "queue entry 7: …", "hint": ""}}

Requests of one connection are answered in order. This module carries them; what they do is in ``operations``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from spinrt import limits, trace
from spinrt.errors import InternalError, PeerProtocolError, SpinError, UsageError, error_of

Handler: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[Any]]
"""Carries out one operation; the result is what JSON can hold. A SpinError becomes the answer."""

SOCKET_NAME = "control"
REQUEST_BYTES_MAX = limits.MIB
ANSWER_BYTES_MAX = 256 * limits.MIB
CONNECTIONS_MAX = 16
CONNECT_TIMEOUT_S = 5.0
SOCKET_PATH_BYTES_MAX = 107
"""What ``sun_path`` holds less its terminator (unix(7))."""

_LOG = trace.component("control")


class ControlServer:
    """Serves operations on the control socket of a data directory that this process owns."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        self._path = path
        self._handlers = handlers
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    @classmethod
    async def start(cls, data_directory: Path, handlers: Mapping[str, Handler]) -> ControlServer:
        """Listen; what a server that died left behind is removed. The caller holds the lock of the data directory.

        Raises:
            OSError: The socket cannot be made.
        """
        server = cls(data_directory / SOCKET_NAME, handlers)
        server._path.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _socket_address(server._path) as address:
                listening.bind(address)
            server._path.chmod(0o600)  # nobody can connect before listen()
            server._server = await asyncio.start_unix_server(server._accept, sock=listening, limit=REQUEST_BYTES_MAX)
        except BaseException:
            listening.close()
            raise
        return server

    async def close(self) -> None:
        """Take no more requests, end what runs, remove the socket. Closing twice does nothing."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        self._path.unlink(missing_ok=True)
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._connections) >= CONNECTIONS_MAX:
            writer.close()
            return
        self._connections.add(task)
        try:
            await self._serve(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass  # the client is gone, or the server closes: there is nobody to tell
        finally:
            self._connections.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                line = await reader.readline()
            except ValueError:  # longer than the limit
                writer.write(_refusal(PeerProtocolError(f"request: longer than {REQUEST_BYTES_MAX} bytes")))
                await writer.drain()
                return
            if not line:
                return
            writer.write(await self._answer(line))
            await writer.drain()

    async def _answer(self, line: bytes) -> bytes:
        try:
            operation, arguments = _read_request(line)
            handler = self._handlers.get(operation)
            if handler is None:
                raise UsageError(f"control: unknown operation {operation!r}", hint="is the server of another version?")
            result = await handler(arguments)
            return json.dumps({"ok": True, "result": result}).encode() + b"\n"
        except SpinError as error:
            return _refusal(error)
        except Exception as error:
            _LOG.exception("operation failed")
            return _refusal(InternalError(f"control: {type(error).__name__}: {error}"))


def _read_request(line: bytes) -> tuple[str, Mapping[str, Any]]:
    try:
        request = json.loads(line)
        operation, arguments = request["operation"], request.get("arguments", {})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise PeerProtocolError("control: found no request, expected an object with an operation") from None
    if not isinstance(operation, str) or not isinstance(arguments, dict):
        raise PeerProtocolError("control: the operation is no text, or its arguments no object")
    return operation, arguments


def _refusal(error: SpinError) -> bytes:
    trace.log(_LOG, logging.INFO, "refused", code=error.code, reason=error)
    problem = {"code": error.code, "message": str(error), "hint": error.hint}
    return json.dumps({"ok": False, "error": problem}).encode() + b"\n"


class NoServer(Exception):
    """Nobody listens on the control socket."""


def request(data_directory: Path, operation: str, arguments: Mapping[str, Any]) -> Any:
    """Ask the server that owns the data directory, and wait for its answer.

    Raises:
        NoServer: None runs.
        SpinError: What the server answered: the same class and code as there.
        PeerProtocolError: Something else listens there.
    """
    with _connect(data_directory) as connection:
        try:
            connection.sendall(json.dumps({"operation": operation, "arguments": arguments}).encode() + b"\n")
            with connection.makefile("rb") as stream:
                line = stream.readline(ANSWER_BYTES_MAX)
        except ConnectionError as error:
            raise PeerProtocolError(f"control: the server ended the connection: {error.strerror}") from None
    return _read_answer(line)


def _connect(data_directory: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(CONNECT_TIMEOUT_S)
        with _socket_address(data_directory / SOCKET_NAME) as address:
            connection.connect(address)
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
        connection.close()
        raise NoServer from None
    except OSError as error:
        connection.close()
        path = data_directory / SOCKET_NAME
        raise UsageError(f"{path}: cannot be reached: {error}", hint="run this as the server's user") from None
    connection.settimeout(None)  # a backup takes as long as it takes
    return connection


def _read_answer(line: bytes) -> Any:
    if not line.endswith(b"\n"):
        raise PeerProtocolError("control: the server ended the connection without an answer", hint="see its log")
    try:
        answer = json.loads(line)
        if answer["ok"]:
            return answer["result"]
        problem = answer["error"]
        raise error_of(problem["code"], problem["message"], problem["hint"])
    except (ValueError, KeyError, TypeError):
        raise PeerProtocolError("control: found no answer, expected one line of JSON") from None


@contextlib.contextmanager
def _socket_address(path: Path) -> Iterator[str]:
    """Yield a name for the socket that fits: a path that is too long goes through its directory's descriptor."""
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
        yield str(path)
        return
    descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)
