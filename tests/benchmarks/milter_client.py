"""The mail server's side of the milter protocol (version 6), as far as one message needs it: one step at a time."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

VERSION = 6
ACTIONS = 0x1FF
STEPS = 0x1FFFFF
NO_CONNECT, NO_HELO, NO_MAIL, NO_RCPT, NO_EOH, NO_DATA = 0x1, 0x2, 0x4, 0x8, 0x40, 0x200
NO_REPLY_HEADER, SKIP = 0x80, 0x400
TIMEOUT_S = 10.0
BODY_CHUNK_BYTES = 65_535


class MilterClient:
    """One session with a milter at a Unix socket; steps and replies that it asked to be left out are left out."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(TIMEOUT_S)
        self._socket.connect(str(path))
        self._send(b"O", struct.pack(">III", VERSION, ACTIONS, STEPS))
        kind, data = self._receive()
        assert kind == b"O"
        self.steps = struct.unpack(">III", data[:12])[2]
        self.round_trips = 0
        self._step(NO_CONNECT, b"C", b"client.example\0004\x30\x39127.0.0.1\0")
        self._step(NO_HELO, b"H", b"client.example\0")

    def ask(self, fields: Sequence[tuple[bytes, bytes]], body: bytes) -> list[tuple[bytes, bytes]]:
        """Send one message and return the header fields that the milter adds."""
        self.round_trips = 0
        self._step(NO_MAIL, b"M", b"<sender@example.org>\0")
        self._step(NO_RCPT, b"R", b"<user@example.com>\0")
        self._step(NO_DATA, b"T", b"")
        for name, value in fields:
            self._step(0, b"L", name + b"\0" + value + b"\0", answered=not self.steps & NO_REPLY_HEADER)
        self._step(NO_EOH, b"N", b"")
        for start in range(0, len(body), BODY_CHUNK_BYTES):
            if self._step(0, b"B", body[start : start + BODY_CHUNK_BYTES]) == b"s":
                break
        return self._end()

    def _end(self) -> list[tuple[bytes, bytes]]:
        self._send(b"E", b"")
        self.round_trips += 1
        added = []
        while (received := self._receive())[0] == b"h":
            name, value, _ = received[1].split(b"\0")
            added.append((name, value))
        assert received[0] == b"c"
        return added

    def _step(self, left_out: int, kind: bytes, data: bytes, *, answered: bool = True) -> bytes:
        if left_out & self.steps:
            return b""
        self._send(kind, data)
        if not answered:
            return b""
        self.round_trips += 1
        answer = self._receive()[0]
        assert answer in (b"c", b"s"), answer
        return answer

    def _send(self, kind: bytes, data: bytes) -> None:
        self._socket.sendall(struct.pack(">I", len(data) + 1) + kind + data)

    def _receive(self) -> tuple[bytes, bytes]:
        (length,) = struct.unpack(">I", self._exactly(4))
        packet = self._exactly(length)
        return packet[:1], packet[1:]

    def _exactly(self, count: int) -> bytes:
        received = b""
        while len(received) < count:
            chunk = self._socket.recv(count - len(received))
            assert chunk, "the milter closed the connection"
            received += chunk
        return received

    def __enter__(self) -> MilterClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
