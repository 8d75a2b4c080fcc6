"""Address lists of header fields (RFC 5322 3.4, with the obsolete forms), read as IMAP's ENVELOPE gives them.

The reader never raises: text that is no address becomes a mailbox without a host. Encoded words (RFC 2047) stay as they
are. The obsolete source route is kept apart, as ENVELOPE asks (RFC 3501 7.4.2).
"""

from __future__ import annotations

import re
from typing import NamedTuple

ADDRESSES_MAX = 10_000
"""Addresses read from one field; what comes behind is left out."""

_TOKEN = re.compile(
    rb'(?P<blank>[ \t\r\n]++)|"(?P<quoted>(?:[^"\\]|\\.)*+)(?:"|\\?\Z)|(?P<literal>\[[^\]]*+\]?)'
    rb'|(?P<special>[<>@,;:(])|(?P<atom>[^ \t\r\n"\[<>@,;:(]++)',
    re.DOTALL,
)
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
_COMMENT_EDGE = re.compile(rb"\\.|[()]", re.DOTALL)


class Mailbox(NamedTuple):
    """One entry of an address list.

    A mailbox has a ``host``, empty when the field gave none. A group starts with an entry whose ``mailbox`` is the
    group's name and whose host is none, and ends with one where both are none.
    """

    name: bytes | None
    route: bytes | None
    mailbox: bytes | None
    host: bytes | None


class _Token(NamedTuple):
    kind: str
    text: bytes
    spaced: bool
    """White space or a comment stood before it."""


GROUP_END = Mailbox(None, None, None, None)


def _comment_end(data: bytes, start: int) -> int:
    """Offset behind the comment that opens at ``start``; comments nest (RFC 5322 3.2.2)."""
    depth = 0
    for edge in _COMMENT_EDGE.finditer(data, start):
        if edge[0] == b"(":
            depth += 1
        elif edge[0] == b")":
            depth -= 1
            if depth == 0:
                return edge.end()
    return len(data)


def _tokens(data: bytes) -> list[_Token]:
    tokens: list[_Token] = []
    position, spaced = 0, False
    while position < len(data):
        match = _TOKEN.match(data, position)
        if match is None:  # only an impossible byte, kept as an atom so that the reader always goes on
            tokens.append(_Token("atom", data[position : position + 1], spaced))
            position, spaced = position + 1, False
            continue
        kind = match.lastgroup or "quoted"
        position = match.end()
        if kind == "blank":
            spaced = True
        elif match[0] == b"(":
            position = _comment_end(data, match.start())
            tokens.append(_Token("comment", data[match.start() + 1 : position - 1], spaced))
            spaced = True
        else:
            text = _ESCAPE.sub(rb"\1", match["quoted"]) if kind == "quoted" else match[0]
            tokens.append(_Token(kind, text, spaced))
            spaced = False
    return tokens


def _join(tokens: list[_Token]) -> bytes:
    """Words as one text, with a space where the field had white space."""
    pieces: list[bytes] = []
    for token in tokens:
        if pieces and token.spaced:
            pieces.append(b" ")
        pieces.append(token.text)
    return b"".join(pieces)


def _addr_spec(tokens: list[_Token]) -> tuple[bytes, bytes]:
    """Split at the last ``@``; the local part without one is everything, the host empty."""
    for index in range(len(tokens) - 1, -1, -1):
        if tokens[index].text == b"@" and tokens[index].kind == "special":
            local, host = tokens[:index], tokens[index + 1 :]
            return b"".join(t.text for t in local), b"".join(t.text for t in host)
    return _join(tokens), b""


class _Reader:
    """The state between two separators: what was collected of one address."""

    def __init__(self) -> None:
        self.found: list[Mailbox] = []
        self.words: list[_Token] = []
        self.angle: list[_Token] | None = None
        self.in_angle = False
        self.comment: bytes | None = None
        self.in_group = False

    def flush(self) -> None:
        """End the address that was being collected, if there is one."""
        words, angle = self.words, self.angle
        if angle is not None:
            self.found.append(self._angle_address(words, angle))
        elif words:
            local, host = _addr_spec(words)
            self.found.append(Mailbox(self.comment, None, local, host))
        self.words, self.angle, self.comment, self.in_angle = [], None, None, False

    def _angle_address(self, words: list[_Token], angle: list[_Token]) -> Mailbox:
        route = None
        for index, token in enumerate(angle):  # obsolete route: <@one,@two:local@host>
            if token.kind == "special" and token.text == b":":
                route = b"".join(t.text for t in angle[:index])
                angle = angle[index + 1 :]
                break
        local, host = _addr_spec(angle)
        return Mailbox(_join(words) or self.comment, route, local, host)

    def take(self, token: _Token) -> None:
        if token.kind == "comment":
            self.comment = token.text
        elif token.kind != "special":
            self._collect(token)
        elif self.in_angle:
            self._take_in_angle(token)
        else:
            self._take_special(token)

    def _collect(self, token: _Token) -> None:
        if self.in_angle and self.angle is not None:
            self.angle.append(token)
        elif self.angle is None:
            self.words.append(token)

    def _take_in_angle(self, token: _Token) -> None:
        if token.text == b">":
            self.in_angle = False
        elif token.text != b"<":
            self._collect(token)

    def _take_special(self, token: _Token) -> None:
        match token.text:
            case b",":
                self.flush()
            case b"<":
                self.angle, self.in_angle = self.angle or [], True
            case b":" if not self.in_group and self.angle is None:
                self.found.append(Mailbox(None, None, _join(self.words), None))
                self.words, self.in_group = [], True
            case b";":
                self.flush()
                self.close_group()
            case b"@":
                self._collect(token)

    def close_group(self) -> None:
        if self.in_group:
            self.found.append(GROUP_END)
            self.in_group = False


def parse_addresses(value: bytes) -> list[Mailbox]:
    """Read an unfolded address list; never raises, linear time, at most ``ADDRESSES_MAX`` entries and a group's end."""
    reader = _Reader()
    for token in _tokens(value):
        reader.take(token)
        if len(reader.found) >= ADDRESSES_MAX:
            break
    reader.flush()
    reader.close_group()
    return reader.found
