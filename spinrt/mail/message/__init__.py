"""Messages as bytes: header fields, addresses and MIME structure found by offset, never written again.

Nothing here changes a byte of a message, and nothing here raises on a malformed one: what cannot be understood is left
out, or is seen as plain text. Time is linear in the bytes looked at; nesting and the number of parts are bounded.

``headers``: the header section. ``address``: address lists. ``envelope``: IMAP's summary of both. ``mime``: the tree of
parts. ``words``: text for searching. ``view``: one stored message, read as far as it is asked about.
"""

from __future__ import annotations

from spinrt.mail.message.address import parse_addresses
from spinrt.mail.message.envelope import Envelope, envelope
from spinrt.mail.message.headers import Headers, parse_headers
from spinrt.mail.message.mime import Part, parse_mime
from spinrt.mail.message.view import MessageView, Section, SectionKind, Span

__all__ = [
    "Envelope",
    "Headers",
    "MessageView",
    "Part",
    "Section",
    "SectionKind",
    "Span",
    "envelope",
    "parse_addresses",
    "parse_headers",
    "parse_mime",
]
