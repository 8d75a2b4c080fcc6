"""An IMAP client that costs next to nothing: one socket with TCP_NODELAY, one command at a time, no parsing.

It waits for the tagged answer, skipping literals by their length, and measures from the first octet sent to the last
octet received.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable
from types import TracebackType

from benchmarks.peers.process import HOST, PeerFailed

RECEIVE_BYTES = 1 << 18
TIMEOUT_S = 60.0


class ImapClient:
    """One connection, logged in."""

    def __init__(self, port: int, user: str, password: str) -> None:
        self._socket = socket.create_connection((HOST, port), TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._input = b""
        self._line()
        self.command(f"LOGIN {user} {password}".encode())

    def command(self, command: bytes) -> bytes:
        """Run one command and return all that was answered before the tagged line.

        Raises:
            PeerFailed: The answer is not OK, or the connection ended.
        """
        self._socket.sendall(b"A " + command + b"\r\n")
        parts: list[bytes] = []
        while True:
            line = self._line()
            if line.startswith(b"A "):
                if not line.startswith(b"A OK"):
                    raise PeerFailed(f"IMAP: {command.decode()} was answered {line.decode(errors='replace').strip()}")
                return b"".join(parts)
            parts.append(line)
            parts.append(self._literal(line))

    def select(self, mailbox: str) -> int:
        """SELECT a mailbox and return the number of its messages."""
        answer = self.command(b"SELECT " + mailbox.encode())
        for line in answer.splitlines():
            if line.endswith(b" EXISTS"):
                return int(line.split()[1])
        raise PeerFailed(f"IMAP: SELECT {mailbox} gave no EXISTS")

    def mailboxes(self) -> list[str]:
        """Names of all mailboxes of the account, as the server writes them, without quotes."""
        answer = self.command(b'LIST "" "*"')
        return [line.rpartition(b'"/" ')[2].strip(b'"').decode() for line in answer.splitlines()]

    def message_count(self, mailbox: str) -> int:
        """Messages in a mailbox, by STATUS."""
        answer = self.command(f'STATUS "{mailbox}" (MESSAGES)'.encode())
        return int(answer.rpartition(b"(MESSAGES ")[2].split(b")")[0])

    def time(self, commands: Iterable[bytes]) -> float:
        """Run commands one after the other and return the seconds that one took on average."""
        prepared = list(commands)
        began = time.perf_counter()
        for command in prepared:
            self.command(command)
        return (time.perf_counter() - began) / len(prepared)

    def close(self) -> None:
        """Close the connection without a word."""
        self._socket.close()

    def __enter__(self) -> ImapClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _line(self) -> bytes:
        end = self._input.find(b"\n")
        while end < 0:
            self._receive()
            end = self._input.find(b"\n")
        line, self._input = self._input[: end + 1], self._input[end + 1 :]
        return line

    def _literal(self, line: bytes) -> bytes:
        """The literal that a line announces, if it does."""
        if not line.endswith(b"}\r\n"):
            return b""
        size = int(line[line.rindex(b"{") + 1 : -3])
        while len(self._input) < size:
            self._receive()
        literal, self._input = self._input[:size], self._input[size:]
        return literal

    def _receive(self) -> None:
        data = self._socket.recv(RECEIVE_BYTES)
        if not data:
            raise PeerFailed("IMAP: the server closed the connection")
        self._input += data
