"""The octets of a message on their way in, by searches over whole buffers: what the core's one pass must agree with.

After DATA, a message is lines that end in CRLF; a line of one dot ends it; a dot in front of any other line is taken
away (RFC 5321 4.5.2). *Only* CRLF ends a line here. ``LF . LF``, ``LF . CRLF``, ``CRLF . LF``, ``CR . CR`` and the like
are content: taking one of them for the end is how a second message is smuggled inside the first.

`DataDecoder` works on whole buffers. It puts a CRLF in front of the stream, so that the first line is no special case,
and holds back a tail that may be the start of ``CRLF . CRLF``; what it gives out ends outside of such a tail. That
makes its output independent of how the octets were cut.
"""

from __future__ import annotations

import re

_END = b"\r\n.\r\n"
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")
_HEADER_END = re.compile(rb"\n\r?\n")
_RECEIVED = b"\nreceived:"


class DataDecoder:
    """Decoder of one DATA stream.

    Attributes:
        finished: The end was found.
        rest: Octets of the last input that lie behind the end; they are commands.
        bare: A bare CR or a bare LF was found (also when it was turned into CRLF).
    """

    __slots__ = ("_held", "_normalise", "_skip", "bare", "finished", "rest")

    def __init__(self, *, normalise: bool) -> None:
        self._normalise = normalise
        self._held = b"\r\n"
        self._skip = 2
        self.finished = False
        self.rest = 0
        self.bare = False

    def feed(self, data: bytes) -> bytes:
        """Take the next octets and return the content that is certain now, perhaps none.

        Must not be called after `finished`.

        Cost: a few passes of C over the octets, and no more than two copies of them.
        """
        if self._held:
            data = self._held + data
        end = data.find(_END)
        if end >= 0:
            self.finished = True
            self.rest = len(data) - end - len(_END)
            content = data[: end + 2]
        else:
            held = _open_tail(data)
            self._held = data[len(data) - held :] if held else b""
            content = data[: len(data) - held] if held else data
        return self._decode(content) if content else content

    def _decode(self, content: bytes) -> bytes:
        pairs = content.count(b"\r\n")
        if content.count(b"\n") != pairs or content.count(b"\r") != pairs:
            self.bare = True
        if b"\r\n." in content:
            content = content.replace(b"\r\n.", b"\r\n")
        if self._skip:
            content = content[self._skip :]
            self._skip = 0
        if self.bare and self._normalise:
            content = _BARE.sub(b"\r\n", content)
        return content


def _open_tail(data: bytes) -> int:
    """Length of the longest end of ``data`` that is a proper start of ``CRLF . CRLF``."""
    last = data[-1:]
    if last == b"\r":
        return 4 if data.endswith(b"\r\n.\r") else 1
    if last == b"\n":
        return 2 if data.endswith(b"\r\n") else 0
    if last == b".":
        return 3 if data.endswith(b"\r\n.") else 0
    return 0


class HopCounter:
    """Counts the ``Received:`` fields of a message that arrives in pieces; stops at the end of the header section.

    Bare LF counts as a line end here, because BDAT keeps it.
    """

    __slots__ = ("_tail", "complete", "hops")

    def __init__(self) -> None:
        self._tail = b"\n"
        self.hops = 0
        self.complete = False

    def feed(self, content: bytes) -> None:
        """Count in the next octets. Cost: nothing once `complete`."""
        if self.complete or not content:
            return
        window = self._tail + content
        end = _HEADER_END.search(window)
        if end is not None:
            self.complete = True
            window = window[: end.start() + 1]
        self.hops += window.lower().count(_RECEIVED)
        self._tail = window[1 - len(_RECEIVED) :]
