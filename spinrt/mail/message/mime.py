"""The tree of MIME parts of a message, as offsets (RFC 2045, RFC 2046).

A multipart's delimiter is ``CRLF "--" boundary``: the line end before it belongs to the delimiter, not to the part
(RFC 2046 5.1.1). A delimiter line may carry white space behind the boundary and nothing else. The closing delimiter may
be missing. A multipart in which no delimiter is found has one part, its whole body as plain text, so that every
multipart has parts. A part below ``DEPTH_MAX``, or past ``PARTS_MAX``, is not looked into; nor is one that would have a
large message searched more than ``SCANS_MAX`` times.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from spinrt.mail.message.headers import Headers, parse_headers

DEPTH_MAX = 50
PARTS_MAX = 1000
PARAMETERS_MAX = 100
SCANS_MAX = 10
"""How many times over a large message is searched for delimiters, all levels of nesting together."""
SCAN_BYTES_MIN = 16 * 1024 * 1024
"""So much may be searched in any message."""

_TYPE = re.compile(rb"\s*+([^\s/;()<>@,\"\\]+)\s*+/\s*+([^\s/;()<>@,\"\\]+)")
_VALUE = re.compile(rb"\s*+([^\s;()]+)")
_PARAMETER = re.compile(rb';\s*+([^\s=;"]++)\s*+=\s*+(?:"((?:[^"\\]|\\.)*+)"?|([^\s;]*+))', re.DOTALL)
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)

Parameters = tuple[tuple[bytes, bytes], ...]


@dataclass(slots=True)
class Part:
    """One part: a leaf, a multipart with ``children``, or an enclosed message (``message``).

    ``start`` is where its header begins, ``body`` where its body does, ``end`` lies behind it; all count from the start
    of the whole message. Type and subtype are as written.
    """

    headers: Headers
    start: int
    body: int
    end: int
    type: bytes = b"text"
    subtype: bytes = b"plain"
    parameters: Parameters = ()
    lines: int = 0
    """Line ends in the body; counted for text and enclosed messages only."""
    children: list[Part] = field(default_factory=list)
    message: Part | None = None

    @property
    def size(self) -> int:
        """Bytes of the body, as transferred."""
        return self.end - self.body

    @property
    def encoding(self) -> bytes:
        """Content-Transfer-Encoding as written, ``7bit`` when there is none."""
        match = _VALUE.match(self.headers.value(b"content-transfer-encoding") or b"")
        return match[1] if match else b"7bit"

    def parameter(self, name: bytes) -> bytes | None:
        """Value of the Content-Type parameter of that name (lower case)."""
        return next((value for key, value in self.parameters if key.lower() == name), None)


def parse_parameters(value: bytes) -> Parameters:
    """The ``; name=value`` pairs of a field, quoted strings unescaped; what cannot be read is left out."""
    pairs = islice(_PARAMETER.finditer(value), PARAMETERS_MAX)
    return tuple((m[1], _ESCAPE.sub(rb"\1", m[2]) if m[2] is not None else m[3]) for m in pairs)


def parse_disposition(headers: Headers) -> tuple[bytes, Parameters] | None:
    """Content-Disposition as (kind, parameters), or none (RFC 2183)."""
    value = headers.value(b"content-disposition")
    match = _VALUE.match(value) if value else None
    return (match[1], parse_parameters(value)) if match and value else None


def parse_mime(data: bytes) -> Part:
    """Parse a whole message; never raises."""
    return _Parser(data).part(0, len(data), digest=False, depth=0)


class _Parser:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.parts_left = PARTS_MAX
        self.scan_bytes_left = max(SCAN_BYTES_MIN, SCANS_MAX * len(data))

    def part(self, start: int, end: int, *, digest: bool, depth: int) -> Part:
        """The part whose header begins at ``start``; in a digest it is message/rfc822 unless it says otherwise."""
        self.parts_left -= 1
        headers = parse_headers(self.data, start, end)
        part = Part(headers, start, start + headers.body_offset, end)
        value = headers.value(b"content-type") or b""
        match = _TYPE.match(value)
        if match:
            part.type, part.subtype, part.parameters = match[1], match[2], parse_parameters(value)
        elif digest:
            part.type, part.subtype = b"message", b"rfc822"
        self._look_inside(part, depth)
        return part

    def _look_inside(self, part: Part, depth: int) -> None:
        kind = part.type.lower()
        multipart = kind == b"multipart"
        enclosed = kind == b"message" and part.subtype.lower() in (b"rfc822", b"global")
        if multipart or enclosed:
            self.scan_bytes_left -= part.size
            if depth >= DEPTH_MAX or self.parts_left <= 0 or self.scan_bytes_left < 0:
                part.type, part.subtype, part.parameters = b"application", b"octet-stream", ()
            elif multipart:
                self._split(part, depth)
            else:
                part.message = self.part(part.body, part.end, digest=False, depth=depth + 1)
        if kind == b"text" or part.message is not None:
            part.lines = self.data.count(b"\n", part.body, part.end)

    def _split(self, part: Part, depth: int) -> None:
        digest = part.subtype.lower() == b"digest"
        for start, end in self._ranges(part):
            if self.parts_left <= 0:
                break
            part.children.append(self.part(start, end, digest=digest, depth=depth + 1))
        if not part.children:
            whole = Part(Headers(b"", complete=False), part.body, part.body, part.end)
            whole.lines = self.data.count(b"\n", part.body, part.end)
            part.children.append(whole)

    def _ranges(self, part: Part) -> Iterator[tuple[int, int]]:
        """(start, end) of each part between delimiters; without a closing one the last ends with the multipart."""
        boundary = part.parameter(b"boundary")
        if not boundary:
            return
        start = -1
        for opens, begins, closing in self._delimiters(boundary, part.body, part.end):
            if start >= 0:
                yield start, max(start, opens)
            start = begins
            if closing:
                return
        if start >= 0:
            yield start, part.end

    def _delimiters(self, boundary: bytes, start: int, end: int) -> Iterator[tuple[int, int, bool]]:
        """(where it begins, where the next part begins, whether it is the closing one) of each delimiter, in order."""
        marker = b"--" + boundary
        tail = rb"(--)?+[ \t]*+(?:\r?\n|\Z)"
        inner = re.compile(rb"\n" + re.escape(marker) + tail)
        match = re.compile(re.escape(marker) + tail).match(self.data, start, end)
        while True:
            if match is not None:
                opens = match.start()
                if self.data[opens] == 0x0A and opens > start and self.data[opens - 1] == 0x0D:
                    opens -= 1
                yield opens, match.end(), match[1] is not None
                start = match.end() - 1  # the line end of one delimiter may be the one before the next
            # `find` passes over bodies several times faster than the expression does.
            candidate = self.data.find(b"\n" + marker, start, end)
            if candidate < 0 or (match := inner.search(self.data, candidate, end)) is None:
                return
