"""Messages that the mail benchmarks store and read: alike in size, no two the same."""

from __future__ import annotations

from collections.abc import Iterator

MESSAGE_BYTES = 4096
_LINE = b"The quick brown fox jumps over the lazy dog, again and again and again.\r\n"


def messages(count: int, message_bytes: int = MESSAGE_BYTES) -> Iterator[bytes]:
    """So many messages of that many bytes, CRLF line ends, each with its number in it."""
    for number in range(1, count + 1):
        yield numbered_message(number, message_bytes)


def numbered_message(number: int, message_bytes: int = MESSAGE_BYTES) -> bytes:
    """The message of that number, counted from 1."""
    head = (
        f"From: Sender <sender@example.org>\r\nTo: <user@example.com>\r\nSubject: message {number}\r\n"
        f"Date: Sat, 21 Nov 2026 10:00:00 +0000\r\nMessage-ID: <{number}@example.org>\r\n"
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n"
    ).encode()
    room = max(1, message_bytes - len(head) - 2)
    body = (_LINE * (room // len(_LINE) + 1))[:room].rstrip(b"\r\n").ljust(room, b"x")
    return head + body + b"\r\n"
