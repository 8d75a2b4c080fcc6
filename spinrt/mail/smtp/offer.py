"""What a listener offers: its greeting and its answers to EHLO and LHLO, written once."""

from __future__ import annotations

from spinrt.mail.smtp.auth import MECHANISMS
from spinrt.mail.smtp.reply import Reply


class Offer:
    """The greetings of one listener.

    Attributes:
        lmtp: It speaks LMTP (RFC 2033), else SMTP.
        starttls: It has a certificate.
        greeting: First reply of a session.
        helo: Answer to HELO.
    """

    __slots__ = ("_extended", "greeting", "helo", "lmtp", "starttls")

    def __init__(self, hostname: str, *, message_bytes_max: int, lmtp: bool = False, starttls: bool = False) -> None:
        self.lmtp = lmtp
        self.starttls = starttls
        self.greeting = Reply(220, "", f"{hostname} {'LMTP' if lmtp else 'ESMTP'} spinrt")
        self.helo = Reply(250, "", hostname)
        self._extended = {
            (tls, auth): Reply(250, "", "\n".join([hostname, *_extensions(message_bytes_max, tls, auth)]))
            for tls in (False, True)
            for auth in (False, True)
        }

    def ehlo(self, *, starttls: bool, auth: bool) -> Reply:
        """Answer to EHLO or LHLO: whether STARTTLS and AUTH can be used now."""
        return self._extended[starttls, auth]


def _extensions(message_bytes_max: int, starttls: bool, auth: bool) -> list[str]:
    """Source: RFC 2920, 1870, 6152, 6531, 3030, 2034, 3207, 4954, 5321 4.1.1.8."""
    lines = ["PIPELINING", f"SIZE {message_bytes_max}", "8BITMIME", "SMTPUTF8", "CHUNKING", "ENHANCEDSTATUSCODES"]
    if starttls:
        lines.append("STARTTLS")
    if auth:
        lines.append(f"AUTH {' '.join(MECHANISMS)}")
    return [*lines, "HELP"]
