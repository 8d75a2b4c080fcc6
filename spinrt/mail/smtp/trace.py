"""The ``Received:`` field of a delivery (RFC 5321 4.4), for those who want one.

Messages are stored as they were sent; this field goes into the prefix of a copy when the operator asks for it.
"""

from __future__ import annotations

import re
from email.utils import formatdate

from spinrt.mail.smtp.receiver import Envelope, Session

_UNSAFE = re.compile(r"[^!-'*-\[\]-~\u00a0-\U0010ffff]")  # no blanks, controls, parentheses or backslashes


def trace_header(envelope: Envelope, hostname: str, delivery_id: str, time_s: float) -> bytes:
    """Write the field, CRLF at its end, lines folded.

    Args:
        envelope: Who sent what; ``for`` is written only for a single recipient, so that no blind copy shows.
        hostname: Name of this server.
        delivery_id: Names the transaction.
        time_s: Seconds since 1970-01-01 UTC.
    """
    session = envelope.session
    single = f"\r\n\tfor <{envelope.recipients[0]}>" if len(envelope.recipients) == 1 else ""
    return (
        f"Received: from {_clean(session.helo) or 'unknown'} ({_peer(session.peer)})\r\n"
        f"\tby {hostname} with {protocol_keyword(session, smtputf8=envelope.smtputf8)} id {_clean(delivery_id)}"
        f"{single};\r\n\t{formatdate(time_s)}\r\n"
    ).encode()


def protocol_keyword(session: Session, *, smtputf8: bool = False) -> str:
    """The word behind ``with`` (RFC 3848; RFC 6531 4.3)."""
    suffix = ("S" if session.tls else "") + ("A" if session.user is not None else "")
    if session.protocol == "lmtp":
        return f"{'UTF8LMTP' if smtputf8 else 'LMTP'}{suffix}"
    if smtputf8:
        return f"UTF8SMTP{suffix}"
    return f"ESMTP{suffix}" if session.extended else "SMTP"


def _peer(peer: str) -> str:
    if peer == "unix":
        return "local"
    return f"[IPv6:{peer}]" if ":" in peer else f"[{peer}]"


def _clean(text: str) -> str:
    return _UNSAFE.sub("?", text)
