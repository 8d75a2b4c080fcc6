"""One stored message, read as far as it is asked about.

Asking for header fields reads the header section and nothing else; asking for the whole body reads nothing by itself
and parses nothing. Only questions about parts read the message as a whole and parse MIME, once.

Sections are IMAP's (RFC 3501 6.4.5): a path of part numbers, then ``HEADER``, ``HEADER.FIELDS``, ``TEXT`` or ``MIME``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from spinrt.mail.message.headers import Headers, header_end, parse_headers
from spinrt.mail.message.mime import Part, parse_mime

Read = Callable[[int, int], bytes]
"""``read(offset, length)``: at most that many bytes of the message, fewer at its end."""

HEADER_CHUNK_BYTES = 16 * 1024


class SectionKind(Enum):
    WHOLE = ""
    HEADER = "HEADER"
    FIELDS = "HEADER.FIELDS"
    FIELDS_NOT = "HEADER.FIELDS.NOT"
    TEXT = "TEXT"
    MIME = "MIME"


@dataclass(frozen=True, slots=True)
class Section:
    """What is between the brackets of ``BODY[...]``; ``names`` are field names in lower case."""

    path: tuple[int, ...] = ()
    kind: SectionKind = SectionKind.WHOLE
    names: tuple[bytes, ...] = ()


class Span(NamedTuple):
    """The bytes of the message from ``start`` to before ``end``."""

    start: int
    end: int


class MessageView:
    """A message of ``size`` bytes behind a ``read`` function, or ``of_bytes``.

    ``tree`` may be handed in when the message was parsed before; it holds offsets and header sections, no bodies.
    """

    __slots__ = ("_headers", "_read", "_tree", "size")

    def __init__(self, read: Read, size: int, tree: Part | None = None) -> None:
        self._read = read
        self.size = size
        self._tree = tree
        self._headers: Headers | None = tree.headers if tree is not None else None

    @classmethod
    def of_bytes(cls, data: bytes) -> MessageView:
        """View a message that is in memory."""
        return cls(lambda offset, length: data[offset : offset + length], len(data))

    def read(self, offset: int, length: int) -> bytes:
        """At most ``length`` bytes from ``offset``."""
        return self._read(offset, length)

    @property
    def headers(self) -> Headers:
        """The message's own header section."""
        if self._headers is None:
            self._headers = self._read_headers()
        return self._headers

    @property
    def parsed(self) -> bool:
        """Whether the MIME tree is at hand."""
        return self._tree is not None

    @property
    def tree(self) -> Part:
        """The MIME tree; the first call reads the whole message."""
        if self._tree is None:
            self._tree = parse_mime(self._read(0, self.size))
            self._headers = self._tree.headers
        return self._tree

    def section(self, section: Section) -> Span | bytes | None:
        """The bytes that a section means: a span of the message, or bytes chosen from it; none if it does not exist."""
        if not section.path:
            return self._of_message(section, self.headers, 0, self.size) if section.kind.value else Span(0, self.size)
        part = find_part(self.tree, section.path)
        if part is None:
            return None
        if section.kind is SectionKind.WHOLE:
            return Span(part.body, part.end)
        if section.kind is SectionKind.MIME:
            return Span(part.start, part.body)
        inner = part.message
        return self._of_message(section, inner.headers, inner.start, inner.end) if inner is not None else None

    def _of_message(self, section: Section, headers: Headers, start: int, end: int) -> Span | bytes | None:
        """A section of the message, or enclosed message, that lies from ``start`` to ``end``."""
        body = start + headers.body_offset
        match section.kind:
            case SectionKind.HEADER:
                return Span(start, body)
            case SectionKind.TEXT:
                return Span(body, end)
            case SectionKind.FIELDS:
                return select_fields(headers, section.names, wanted=True)
            case SectionKind.FIELDS_NOT:
                return select_fields(headers, section.names, wanted=False)
            case _:
                return None  # MIME needs a part number

    def _read_headers(self) -> Headers:
        length = HEADER_CHUNK_BYTES
        while True:
            data = self._read(0, min(length, self.size))
            if len(data) >= self.size or header_end(data) >= 0:
                return parse_headers(data)
            if len(data) < length:
                return parse_headers(data)  # the source ended early: its size was wrong
            length *= 4


def select_fields(headers: Headers, names: tuple[bytes, ...], *, wanted: bool) -> bytes:
    """Whole fields whose name is (or is not) among ``names``, in the order of the message, and an empty line."""
    chosen = [headers.raw(field) for field in headers.fields if (field.name in names) == wanted]
    text = b"".join(chosen)
    return text + (b"\r\n" if not text or text.endswith(b"\n") else b"\r\n\r\n")


def find_part(root: Part, path: tuple[int, ...]) -> Part | None:
    """The part that the numbers lead to, counted from 1; part 1 of a message without parts is its body."""
    part: Part | None = None
    for number in path:
        if part is None:
            part = _numbered(root, number)
        elif part.children:
            part = _child(part, number)
        elif part.message is not None:
            part = _numbered(part.message, number)
        else:
            return None
        if part is None:
            return None
    return part


def _numbered(message: Part, number: int) -> Part | None:
    if message.children:
        return _child(message, number)
    return message if number == 1 else None


def _child(part: Part, number: int) -> Part | None:
    return part.children[number - 1] if 1 <= number <= len(part.children) else None
