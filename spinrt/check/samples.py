"""Messages for campaigns: ordinary ones, and ones that nobody should send."""

from __future__ import annotations

from typing import Any, Final

from spinrt._core import DeliveryContext, LentMessage
from spinrt.check.inputs import Resources
from spinrt.mail.host.context import RecipientContext

MESSAGE: Final = "spinrt:mail/message@1.0.0#message"
DELIVER: Final = "spinrt:mail/delivery-events@1.0.0#deliver"
FILED: Final = "spinrt:mail/delivery-events@1.0.0#filed"

_ORDINARY: Final = (
    b"From: Joe <joe@example.net>\r\nTo: bob@example.org\r\nSubject: [dev] weekly notes\r\n"
    b"Message-ID: <1@example.net>\r\nList-Id: developers <dev.example.org>\r\nX-Spam-Flag: NO\r\n"
    b"Date: Sat, 21 Nov 2026 10:00:00 +0000\r\n\r\nHello Bob,\r\nhere they are.\r\n"
)
TEXTS: Final = (
    _ORDINARY,
    b"Subject: \r\nX-Spam-Flag: YES\r\nX-Spam-Flag: YES\r\n\r\nbuy\r\n",
    b"",
    b"\r\n",
    b"\r\nbody without header\r\n",
    b"Subject: no body",
    b"no colon here\r\n: no name\r\nSubject:no blank\r\n folded\r\n\tagain\r\n\r\n",
    b"Subject: \xff\xfe\x00 not text \xc3\x28\r\nMessage-ID: <" + b"i" * 2000 + b"@x>\r\n\r\n",
    b"Subject: " + b"s" * 100_000 + b"\r\n\r\n",
    b"".join(b"X-%d: %d\r\n" % (number, number) for number in range(2000)) + b"\r\n",
    b"Subject: =?utf-8?b?" + b"4pi6" * 200 + b"?=\r\nList-Id: ../../*%\r\n\r\n",
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n" * 50,
)


def lend(text: bytes) -> LentMessage:
    """Return a message of these bytes, lent for as long as it is referred to."""
    return LentMessage(lambda offset, length: text[offset : offset + length], len(text))


def mail_resources() -> Resources:
    """Return what may be passed as resources of mail."""
    return {MESSAGE: [lend(text) for text in TEXTS]}


def context_of(event: str, arguments: tuple[Any, ...]) -> DeliveryContext | None:
    """Return what mail passes along with its events, made to fit their arguments; none for events of others."""
    if event not in (DELIVER, FILED):
        return None
    about, message = arguments
    context = DeliveryContext(about.delivery_id, about.protocol, about.sender, message)
    if event == DELIVER:
        context.recipient = RecipientContext(about.recipient, about.user, about.detail)
    return context
