"""Cutting what a client sends into commands, without I/O.

A command is a line, and for each literal header that the line ends with (``{n}`` or ``{n+}``, RFC 7888) n bytes and
another line. `Reader.feed` takes bytes as they come; `Reader.next` gives one event at a time and reads no further than
that, so that the owner can carry a command out, or take over the connection (STARTTLS, IDLE), before the next is looked
at. Lines may end with CRLF or a bare LF.

The message of an APPEND never lies in memory: it comes as `MessageData` events between `MessageStart` and `MessageEnd`.

States::

    LINE      collecting a line of a command            LITERAL  collecting n bytes of it
    DECISION  the owner must accept or refuse a message  MESSAGE  handing out n bytes of a message
    TAIL      the line behind a message                  DISCARD  passing over n refused bytes
    SKIP      passing over the rest of a refused line    DEAD     nothing more is read
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, auto
from typing import ClassVar, TypeAlias

from spinrt.mail.imap.command import Command
from spinrt.mail.imap.cursor import SyntaxProblem
from spinrt.mail.imap.limits import ImapLimits
from spinrt.mail.imap.parser import parse_append_start, parse_command, tag_of

_LITERAL_END = re.compile(rb"\{(\d{1,20})(\+?)\}\r?\n\Z")
_LITERAL_HEADER_BYTES = 40
"""Longest end of a line that can be a literal header."""
_TAG_BYTES = 300


@dataclass(frozen=True, slots=True)
class Bad:
    """A command that cannot be read. ``tag`` is none when not even that could be."""

    tag: str | None
    text: str


@dataclass(frozen=True, slots=True)
class TooBig:
    """A command or literal over its bound; it is passed over."""

    tag: str | None
    text: str


@dataclass(frozen=True, slots=True)
class Continue:
    """The client waits for ``+`` before it sends a literal."""


@dataclass(frozen=True, slots=True)
class MessageStart:
    """An APPEND up to its message. The owner answers with `accept_message` or `refuse_message`."""

    command: Command
    size: int
    waits: bool
    """Whether the client waits for ``+``."""


@dataclass(frozen=True, slots=True)
class MessageData:
    data: bytes


@dataclass(frozen=True, slots=True)
class MessageEnd:
    """The message is complete; ``problem`` says what is wrong with the line behind it."""

    problem: str | None


@dataclass(frozen=True, slots=True)
class Fatal:
    """The stream cannot be followed any more; nothing further is read."""

    text: str


Event: TypeAlias = Command | Bad | TooBig | Continue | MessageStart | MessageData | MessageEnd | Fatal


class _State(IntEnum):  # whose members are hashed fast
    LINE = auto()
    LITERAL = auto()
    DECISION = auto()
    MESSAGE = auto()
    TAIL = auto()
    DISCARD = auto()
    SKIP = auto()
    DEAD = auto()


class Reader:
    """The input side of one connection."""

    def __init__(self, limits: ImapLimits) -> None:
        self._limits = limits
        self._input = bytearray()
        self._scanned = 0
        self._command = bytearray()
        self._state = _State.LINE
        self._left = 0
        self._message: MessageStart | None = None
        self._literal_count = 0

    @property
    def buffered(self) -> int:
        """Bytes taken in and not yet looked at."""
        return len(self._input)

    def feed(self, data: bytes) -> None:
        """Take in bytes; costs a copy."""
        self._input += data

    def clear(self) -> None:
        """Forget what was taken in: nothing sent before TLS may count after it."""
        self._input.clear()
        self._scanned = 0

    def next(self) -> Event | None:
        """The next event, or none until more bytes come."""
        if not self._input and self._state is _State.LINE:
            return None
        while True:
            event, again = self._STEPS[self._state](self)
            if event is not None or not again:
                return event

    def next_line(self) -> bytes | None:
        """One bare line without its end, for IDLE and SASL; none until it is there. Between commands only.

        A line over its bound is cut there; the owner refuses what it then gets.
        """
        line = self._take_line()
        if line is not None:
            return line.rstrip(b"\r\n")
        if len(self._input) > self._limits.line_bytes_max:
            return bytes(self._cut(len(self._input)))
        return None

    def accept_message(self) -> None:
        """Let the message of the last `MessageStart` come."""
        assert self._message is not None
        self._state, self._left = _State.MESSAGE, self._message.size

    def refuse_message(self) -> None:
        """Do without it: a client that waits will not send it, otherwise it is passed over."""
        assert self._message is not None
        message, self._message = self._message, None
        self._pass_over(message.size, message.waits)

    # --------------------------------------------------------------------------------------------------------- steps
    # Each gives an event or none, and whether to go on when there is none.

    def _line(self) -> tuple[Event | None, bool]:
        line = self._take_line()
        if line is None:
            return self._check_line_length(), False
        if not line.endswith((b"}\r\n", b"}\n")):
            return self._finish(line), False
        self._command += line
        match = _LITERAL_END.search(line, max(0, len(line) - _LITERAL_HEADER_BYTES))
        if match is None:
            return self._finish(b""), False
        return self._literal_header(int(match[1]), waits=not match[2]), True

    def _check_line_length(self) -> Event | None:
        if len(self._input) <= self._limits.line_bytes_max:
            return None
        tag = tag_of(bytes((self._command or self._input)[:_TAG_BYTES]))
        self._drop_command()
        self._state = _State.SKIP
        return TooBig(tag, f"line is longer than {self._limits.line_bytes_max} bytes")

    def _finish(self, line: bytes) -> Event:
        """A whole command is there; ``line`` is its last line."""
        raw = bytes(self._command) + line if self._command else line
        self._drop_command()
        try:
            return parse_command(raw)
        except SyntaxProblem as problem:
            return Bad(tag_of(raw), str(problem))

    def _literal_header(self, size: int, *, waits: bool) -> Event | None:
        self._literal_count += 1
        # The message of an APPEND is its first literal, or its second behind the mailbox: later ones need no look.
        raw = bytes(self._command) if self._literal_count <= 2 else bytes(self._command[:_TAG_BYTES])
        try:
            command = parse_append_start(raw) if self._literal_count <= 2 else None
        except SyntaxProblem as problem:
            self._pass_over(size, waits)
            return Bad(tag_of(raw), str(problem))
        if command is not None:
            self._drop_command()
            self._state, self._message = _State.DECISION, MessageStart(command, size, waits)
            return self._message
        limit = min(self._limits.literal_bytes_max, self._limits.command_bytes_max - len(self._command))
        if size > limit:
            self._pass_over(size, waits)
            return TooBig(tag_of(raw), f"literal of {size} bytes; at most {max(0, limit)} are allowed here")
        self._state, self._left = _State.LITERAL, size
        return Continue() if waits else None

    def _literal(self) -> tuple[Event | None, bool]:
        if len(self._input) < self._left:
            return None, False
        self._command += self._cut(self._left)
        self._state = _State.LINE
        return None, True

    def _pass_over(self, size: int, waits: bool) -> None:
        """Forget the command; a client that does not wait sends its literal all the same."""
        self._drop_command()
        self._state, self._left = (_State.LINE, 0) if waits else (_State.DISCARD, size)

    def _drop_command(self) -> None:
        self._command.clear()
        self._literal_count = 0

    def _decision(self) -> tuple[Event | None, bool]:
        return None, False

    def _message_data(self) -> tuple[Event | None, bool]:
        if self._left == 0:
            self._state = _State.TAIL
            return None, True
        if not self._input:
            return None, False
        data = bytes(self._cut(min(self._left, len(self._input))))
        self._left -= len(data)
        return MessageData(data), False

    def _tail(self) -> tuple[Event | None, bool]:
        line = self._take_line()
        if line is None:
            if len(self._input) <= self._limits.line_bytes_max:
                return None, False
            self._state, self._message = _State.SKIP, None
            return MessageEnd("the line behind the message is too long"), False
        self._message = None
        self._state = _State.LINE
        if line in (b"\r\n", b"\n"):
            return MessageEnd(None), False
        self._resync(line)
        return MessageEnd("APPEND ends with its message"), False

    def _discard(self) -> tuple[Event | None, bool]:
        if self._left > self._limits.discard_bytes_max:
            self._state = _State.DEAD
            return Fatal("literal is too large to pass over"), False
        passed = min(self._left, len(self._input))
        self._cut(passed)
        self._left -= passed
        if self._left:
            return None, False
        self._state = _State.SKIP
        return None, True

    def _skip(self) -> tuple[Event | None, bool]:
        """Pass over a line; what it ends with decides how the client goes on."""
        line = self._take_line()
        if line is None:
            keep = _LITERAL_HEADER_BYTES
            if len(self._input) > keep:
                self._cut(len(self._input) - keep)
            return None, False
        self._state = _State.LINE
        self._resync(line)
        return None, True

    def _resync(self, line: bytes) -> None:
        match = _LITERAL_END.search(line, max(0, len(line) - _LITERAL_HEADER_BYTES))
        if match is not None:
            self._pass_over(int(match[1]), waits=not match[2])

    def _dead(self) -> tuple[Event | None, bool]:
        self.clear()
        return None, False

    # --------------------------------------------------------------------------------------------------------- input

    def _take_line(self) -> bytes | None:
        """A line with its end. Every byte is searched once, however they come."""
        end = self._input.find(b"\n", self._scanned)
        if end < 0:
            self._scanned = len(self._input)
            return None
        if end >= self._limits.line_bytes_max and self._state is _State.LINE:
            self._scanned = 0
            return None
        if end + 1 < len(self._input):
            return bytes(self._cut(end + 1))
        line = bytes(self._input)
        self.clear()
        return line

    def _cut(self, count: int) -> bytearray:
        data = self._input[:count]
        del self._input[:count]
        self._scanned = 0
        return data

    _STEPS: ClassVar[dict[_State, Callable[[Reader], tuple[Event | None, bool]]]] = {
        _State.LINE: _line,
        _State.LITERAL: _literal,
        _State.DECISION: _decision,
        _State.MESSAGE: _message_data,
        _State.TAIL: _tail,
        _State.DISCARD: _discard,
        _State.SKIP: _skip,
        _State.DEAD: _dead,
    }
