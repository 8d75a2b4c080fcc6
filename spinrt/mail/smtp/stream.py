"""The octet side of a session: input cut into lines and content, output collected, the end.

`Stream` knows nothing of SMTP but what a line is: octets up to CRLF, without control characters, of bounded length. A
line that is none (bare LF, bare CR, NUL, too long) is refused, and the next one begins behind its LF.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from enum import Enum, auto

from spinrt.mail.smtp import reply
from spinrt.mail.smtp.reply import Reply

logger = logging.getLogger(__name__)

_CONTROLS = bytes(code for code in range(32) if code != 9) + b"\x7f"
_CR = 0x0D


class Phase(Enum):
    """What a session waits for; time-outs go by it."""

    COMMAND = auto()
    CONTENT = auto()
    RECEIVER = auto()
    TLS = auto()
    CLOSED = auto()


def _ignore() -> None:
    """Stands for the connection when it is gone."""


class Stream(ABC):
    """Input and output of one session.

    Attributes:
        phase: What is waited for. `Phase.TLS`: send the output, then do the handshake. `Phase.CLOSED`: send the output,
            then close.
        steps: Lines so far; the time-out of a command starts anew when it grows.
        last: The reply that closed the session; none when it was closed without one.
    """

    __slots__ = (
        "_input",
        "_line_bytes_max",
        "_on_output",
        "_output",
        "_position",
        "_running",
        "_skipping",
        "last",
        "phase",
        "steps",
    )

    def __init__(self, greeting: Reply, line_bytes_max: int, on_output: Callable[[], None]) -> None:
        """``line_bytes_max``: octets of the longest line, CRLF included."""
        self.phase = Phase.COMMAND
        self.steps = 0
        self.last: Reply | None = None
        self._line_bytes_max = line_bytes_max
        self._on_output = on_output
        self._input = b""
        self._position = 0
        self._output: list[bytes] = [greeting.wire]
        self._running = False
        self._skipping = False

    def receive(self, data: bytes) -> None:
        """Take octets from the peer. Behind STARTTLS, and once closed, they are dropped."""
        if self.phase is Phase.CLOSED or self.phase is Phase.TLS:
            return
        self._input = self._input + data if self._input else data
        self._run()

    def take_output(self) -> bytes:
        """Return what is to be sent, and forget it."""
        output = self._output
        if not output:
            return b""
        self._output = []
        return output[0] if len(output) == 1 else b"".join(output)

    @property
    def buffered(self) -> int:
        """Octets that were received and not looked at yet."""
        return len(self._input)

    def lost(self) -> None:
        """The connection is gone: let go of everything; late answers of the receiver are dropped."""
        self._close(None)
        self._on_output = _ignore

    # ------------------------------------------------------------------------------------------- for the engine

    @abstractmethod
    def _take_content(self) -> None:
        """Take octets of a message from the input: at least one, at most all."""

    @abstractmethod
    def _take_line(self, line: bytes) -> None:
        """Take one line, without its CRLF."""

    @abstractmethod
    def _refuse_line(self, refusal: Reply) -> None:
        """There was a line that is none."""

    @abstractmethod
    def _drop(self) -> None:
        """The session ends: let go of what is under way."""

    def _close(self, last: Reply | None) -> None:
        """End the session: nothing is parsed any more, a message on its way in is dropped."""
        if self.phase is Phase.CLOSED:
            return
        if last is not None:
            self._output.append(last.wire)
        self.last = last
        self._drop()
        self.phase = Phase.CLOSED
        self._input, self._position = b"", 0

    def _resume(self) -> None:
        """An answer came: go on with the input, unless it came inside a call of ours."""
        if not self._running:
            self._run()
            self._on_output()

    # ------------------------------------------------------------------------------------------------------- input

    def _run(self) -> None:
        """Work through the input as far as it goes."""
        self._running = True
        try:
            while self._position < len(self._input):
                if self.phase is Phase.COMMAND:
                    if not self._find_line():
                        break
                elif self.phase is Phase.CONTENT:
                    self._take_content()
                else:
                    break
        except Exception:
            logger.exception("SMTP session failed")
            self._close(reply.SERVER_FAULT)
        finally:
            self._running = False
        if self._position:
            self._input = self._input[self._position :]
            self._position = 0

    def _find_line(self) -> bool:
        """Take one line from the input; false when it is not all there."""
        start, data = self._position, self._input
        end = data.find(b"\n", start)
        if end < 0:
            if self._skipping or len(data) - start >= self._line_bytes_max:
                self._skipping = True
                self._position = len(data)
            return False
        self._position = end + 1
        self.steps += 1
        if self._skipping or end + 1 - start > self._line_bytes_max:
            self._skipping = False
            self._refuse_line(reply.LINE_TOO_LONG)
        elif end == start or data[end - 1] != _CR:
            self._refuse_line(reply.BARE_LINE)
        else:
            line = data[start : end - 1]
            if len(line.translate(None, _CONTROLS)) == len(line):
                self._take_line(line)
            else:
                self._refuse_line(reply.BARE_LINE)
        return True
