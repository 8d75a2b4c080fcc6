"""Load for an SMTP or LMTP server: many clients in one process, as little work for each as can be.

A process of its own, so that the server has a core to itself::

    python benchmarks/smtp_load.py 127.0.0.1 2525 --clients 20 --messages 5000

prints one line of JSON: messages sent, accepted and refused, connections that failed, seconds from the first connection
to the last answer, messages a second. Exit code 1 when not every message was accepted, so that a fast refusal is never
taken for speed.

Each client is a generator that yields what to send and how many replies to await; one epoll loop drives them all.
"""

from __future__ import annotations

import argparse
import errno
import itertools
import json
import select
import socket
import sys
import time
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeAlias

Replies: TypeAlias = list[bytes]
"""Last line of each reply."""
Dialogue: TypeAlias = Generator[tuple[bytes, int], Replies, None]

RECEIVE_BYTES = 65_536


@dataclass(slots=True)
class Options:
    """What to send, and how."""

    host: str
    port: int
    clients: int = 20
    messages: int = 1000
    message_bytes: int = 4096
    content: Path | None = None
    """A directory of messages, one in each file as it is sent, before dots are stuffed; they are sent in the order of
    their names, over and over, in place of one that is made up."""
    reuse: bool = False
    """Many messages on one connection, else one each."""
    pipelining: bool = True
    """Use PIPELINING where it is offered."""
    chunking: bool = False
    """Send by BDAT."""
    lmtp: bool = False
    sender: str = "sender@example.org"
    recipient: str = "user@example.com"
    timeout_s: float = 60.0
    """The run ends when nothing happens for so long."""


@dataclass(slots=True)
class Result:
    """What came of it. ``sent`` counts messages whose content was sent."""

    sent: int = 0
    accepted: int = 0
    refused: int = 0
    refusal: str = ""
    """The first answer that refused a message."""
    failed: int = 0
    seconds: float = 0.0
    per_second: float = 0.0
    message_seconds: list[float] = field(default_factory=list)
    """For each accepted message, from its first command to its last answer."""


class Load:
    """One run."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.result = Result()
        self._left = options.messages
        stuffed = (content if options.chunking else stuff(content) for content in _contents(options))
        self._messages = itertools.cycle(list(stuffed))
        self._envelope = (
            f"MAIL FROM:<{options.sender}>\r\n".encode(),
            f"RCPT TO:<{options.recipient}>\r\n".encode(),
        )
        self._poll = select.epoll()
        self._open: dict[int, _Client] = {}

    def run(self) -> Result:
        """Send everything and return the counts."""
        began = time.perf_counter()
        for _ in range(min(self.options.clients, self.options.messages)):
            self._connect()
        while self._open:
            events = self._poll.poll(self.options.timeout_s)
            if not events:
                self.result.failed += len(self._open)
                break
            for number, event in events:
                self._drive(self._open[number], event)
        result = self.result
        result.seconds = time.perf_counter() - began
        result.per_second = result.accepted / result.seconds
        return result

    def take(self) -> bytes | None:
        """Take one message of those left to send."""
        if self._left <= 0:
            return None
        self._left -= 1
        return next(self._messages)

    def dialogue(self) -> Dialogue:
        """One connection from greeting to QUIT."""
        yield b"", 1
        (hello,) = yield (b"LHLO load\r\n" if self.options.lmtp else b"EHLO load\r\n"), 1
        pipelining = self.options.pipelining and b"PIPELINING" in hello
        while (message := self.take()) is not None:
            began = time.perf_counter()
            if self.options.chunking:
                yield from self._send_chunk(message, began)
            else:
                last = not self.options.reuse
                if pipelining:
                    yield from self._send_pipelined(message, began, last)
                else:
                    yield from self._send_in_steps(message, began)
                if pipelining and last:
                    return
            if not self.options.reuse:
                break
        yield b"QUIT\r\n", 1

    def _send_pipelined(self, message: bytes, began: float, last: bool) -> Dialogue:
        replies = yield b"".join((*self._envelope, b"DATA\r\n")), 3
        if not replies[2].startswith(b"354"):
            self._refuse(replies[2])
            return
        self.result.sent += 1
        replies = yield message + b"\r\n.\r\n" + (b"QUIT\r\n" if last else b""), 2 if last else 1
        self._judge(replies[0], began)

    def _send_in_steps(self, message: bytes, began: float) -> Dialogue:
        for command in (*self._envelope, b"DATA\r\n"):
            (answer,) = yield command, 1
            if answer[:1] not in b"23":
                self._refuse(answer)
                return
        self.result.sent += 1
        (answer,) = yield message + b"\r\n.\r\n", 1
        self._judge(answer, began)

    def _send_chunk(self, message: bytes, began: float) -> Dialogue:
        content = message + b"\r\n"
        self.result.sent += 1
        replies = yield b"".join((*self._envelope, b"BDAT %d LAST\r\n" % len(content), content)), 3
        self._judge(replies[2], began)

    def _judge(self, answer: bytes, began: float) -> None:
        if answer.startswith(b"250"):
            self.result.accepted += 1
            self.result.message_seconds.append(time.perf_counter() - began)
        else:
            self._refuse(answer)

    def _refuse(self, answer: bytes) -> None:
        self.result.refused += 1
        self.result.refusal = self.result.refusal or answer.decode(errors="replace").strip()

    def _connect(self) -> None:
        link = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        link.setblocking(False)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = link.connect_ex((self.options.host, self.options.port))
        if code not in (0, errno.EINPROGRESS):
            link.close()
            self.result.failed += 1
            return
        client = _Client(link, self.dialogue())
        self._open[link.fileno()] = client
        self._poll.register(link.fileno(), select.EPOLLIN)

    def _drive(self, client: _Client, event: int) -> None:
        """Something happened on a connection: go on with its dialogue, and begin the next one behind it."""
        try:
            going = client.advance(event)
        except (OSError, EOFError):
            self.result.failed += 1
            going = False
        if going:
            if client.watches != client.wants:
                client.watches = client.wants
                self._poll.modify(client.link.fileno(), client.wants)
            return
        number = client.link.fileno()
        self._poll.unregister(number)
        del self._open[number]
        client.link.close()
        if self._left > 0 and not self.result.failed:
            self._connect()


class _Client:
    """One connection and where its dialogue stands."""

    __slots__ = ("_awaited", "_dialogue", "_input", "_output", "_replies", "link", "wants", "watches")

    def __init__(self, link: socket.socket, dialogue: Dialogue) -> None:
        self.link = link
        self.wants = self.watches = select.EPOLLIN
        self._dialogue = dialogue
        self._output, self._awaited = next(dialogue)
        self._input = b""
        self._replies: Replies = []

    def advance(self, event: int) -> bool:
        """Read, go on, write; false when the dialogue is over."""
        if event & ~select.EPOLLOUT:
            data = self.link.recv(RECEIVE_BYTES)
            if not data:
                raise EOFError
            self._replies.extend(self._split(data))
            while len(self._replies) >= self._awaited:
                try:
                    output, self._awaited = self._dialogue.send(self._replies)
                except StopIteration:
                    return False
                self._replies = []
                self._output += output
        self._write()
        return True

    def _split(self, data: bytes) -> Iterator[bytes]:
        """Whole replies in the input."""
        self._input += data
        while True:
            start = 0
            while True:
                end = self._input.find(b"\n", start)
                if end < 0:
                    return
                if self._input[start + 3 : start + 4] != b"-":
                    break
                start = end + 1
            reply, self._input = self._input[: end + 1], self._input[end + 1 :]
            yield reply

    def _write(self) -> None:
        if self._output:
            try:
                sent = self.link.send(self._output)
            except BlockingIOError:
                sent = 0
            self._output = self._output[sent:]
        self.wants = select.EPOLLIN | (select.EPOLLOUT if self._output else 0)


def _contents(options: Options) -> list[bytes]:
    """Messages without their last CRLF."""
    if options.content is None:
        return [make_message(options.message_bytes)]
    return [path.read_bytes().removesuffix(b"\r\n") for path in sorted(options.content.iterdir())]


def stuff(content: bytes) -> bytes:
    """Double the dots that begin a line (RFC 5321 4.5.2)."""
    stuffed = content.replace(b"\r\n.", b"\r\n..")
    return b"." + stuffed if stuffed.startswith(b".") else stuffed


def make_message(message_bytes: int) -> bytes:
    """A message of that many octets, its last CRLF included in the count but left for the end of data."""
    names = b"From: <sender@example.org>\r\nTo: <user@example.com>\r\nSubject: load\r\n"
    head = names + b"Message-ID: <load@example.org>\r\n\r\n"
    line = b"The quick brown fox jumps over the lazy dog, again and again and again.\r\n"
    room = max(1, message_bytes - len(head) - 2)
    return head + (line * (room // len(line) + 1))[:room].rstrip(b"\r\n").ljust(room, b"x")


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Send messages to an SMTP or LMTP server and count the answers.")
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--messages", type=int, default=1000)
    parser.add_argument("--message-bytes", type=int, default=4096)
    parser.add_argument("--content", type=Path, help="directory of messages to send")
    parser.add_argument("--times", action="store_true", help="print the seconds of each message, too")
    parser.add_argument("--reuse", action="store_true", help="many messages on one connection")
    parser.add_argument("--no-pipelining", dest="pipelining", action="store_false")
    parser.add_argument("--chunking", action="store_true", help="send by BDAT")
    parser.add_argument("--lmtp", action="store_true")
    parser.add_argument("--sender", default="sender@example.org")
    parser.add_argument("--recipient", default="user@example.com")
    parsed = vars(parser.parse_args(arguments))
    times = parsed.pop("times")
    options = Options(**parsed)
    result = Load(options).run()
    shown = asdict(result)
    shown |= {key: round(shown[key], 4) for key in ("seconds", "per_second")}
    if not times:
        del shown["message_seconds"]
    print(json.dumps(shown))
    return 0 if result.accepted == options.messages else 1


if __name__ == "__main__":
    sys.exit(main())
