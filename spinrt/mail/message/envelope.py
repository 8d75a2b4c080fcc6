"""What IMAP calls the envelope: the fields that a list of messages shows (RFC 3501 7.4.2)."""

from __future__ import annotations

from typing import NamedTuple

from spinrt.mail.message.address import Mailbox, parse_addresses
from spinrt.mail.message.headers import Headers

Addresses = list[Mailbox]


class Envelope(NamedTuple):
    """Values are unfolded bytes as received, none where the field is missing; sender and reply-to default to from."""

    date: bytes | None
    subject: bytes | None
    from_: Addresses
    sender: Addresses
    reply_to: Addresses
    to: Addresses
    cc: Addresses
    bcc: Addresses
    in_reply_to: bytes | None
    message_id: bytes | None


def envelope(headers: Headers) -> Envelope:
    """Read the envelope from a header section; fields that come several times are one list."""
    from_ = _addresses(headers, b"from")
    return Envelope(
        date=headers.value(b"date"),
        subject=headers.value(b"subject"),
        from_=from_,
        sender=_addresses(headers, b"sender") or from_,
        reply_to=_addresses(headers, b"reply-to") or from_,
        to=_addresses(headers, b"to"),
        cc=_addresses(headers, b"cc"),
        bcc=_addresses(headers, b"bcc"),
        in_reply_to=headers.value(b"in-reply-to"),
        message_id=headers.value(b"message-id"),
    )


def _addresses(headers: Headers, name: bytes) -> Addresses:
    values = [value for value in headers.values(name) if value]
    return parse_addresses(b", ".join(values)) if values else []
