"""``spinrt:mail/outbound``: effects that leave the system. Exported only where a smarthost is configured.

A grant may carry ``addresses`` (patterns, none means all) and ``redirect_max``, how many redirects one recipient's
delivery may make.

Loops end here. What is redirected carries a ``Delivered-To:`` field with the recipient that it was redirected for; a
message that comes back with it is not redirected again (``too-many``). No notice is sent about a message that a program
sent by itself, nor to anyone about a bounce (RFC 3834 2), and notices have the null sender, so that nothing answers
them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from email import policy
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import ClassVar, Final

from spinrt._core import Call, DeliveryContext
from spinrt.errors import AddressMalformed
from spinrt.mail.address import Address, parse_address
from spinrt.mail.host.context import RecipientContext, current_delivery
from spinrt.mail.host.delivery import promise
from spinrt.mail.host.effects import Notify, Redirect
from spinrt.mail.host.patterns import read_patterns
from spinrt.runtime.capability import Closure, Grant, HostInterface
from spinrt.runtime.domain import Domain
from spinrt.sandbox.types import Err, Result

REDIRECT_MAX_DEFAULT: Final = 4
REDIRECT_MAX_HIGHEST: Final = 100
SUBJECT_CHARACTERS_MAX: Final = 200
TEXT_CHARACTERS_MAX: Final = 16_384


class OutboundInterface(HostInterface):
    """``spinrt:mail/outbound``; see the head of this file.

    Args:
        hostname: Name of this system, in trace fields and in the sender of notices.
        now_s: Seconds since 1970-01-01 UTC.
    """

    interface_id = "spinrt:mail/outbound@1.0.0"
    attenuations: ClassVar = {
        "addresses": "patterns of addresses that mail may be sent to",
        "redirect_max": "redirects that one recipient's delivery may make",
    }
    outside: ClassVar = frozenset({"redirect", "notify"})

    def __init__(self, hostname: str, now_s: Callable[[], float] = time.time) -> None:
        self._hostname, self._now_s = hostname, now_s

    def bind(self, function: str, grant: Grant, domain: Domain) -> Closure:
        bound = _Bound(grant, domain.name, self._hostname, self._now_s)
        closures: dict[str, Closure] = {"redirect": bound.redirect, "notify": bound.notify}
        return closures[function]


@dataclass(frozen=True, slots=True)
class _Target:
    """A checked wish to send something out."""

    delivery: DeliveryContext
    recipient: RecipientContext
    address: Address


class _Bound:
    """The closures of one grant for one extension."""

    def __init__(self, grant: Grant, extension: str, hostname: str, now_s: Callable[[], float]) -> None:
        self._extension, self._hostname, self._now_s = extension, hostname, now_s
        self._address_granted = read_patterns(grant, "addresses", str.lower)
        self._redirect_max = _read_redirect_max(grant)

    def redirect(self, call: Call | None, address: str) -> Result:
        target = self._target(call, address)
        if isinstance(target, Err):
            return target
        assert call is not None
        own = [e for e in call.journal.effects if isinstance(e, Redirect) and e.recipient is target.recipient]
        if len(own) >= self._redirect_max or _went_through(target.delivery, target.recipient):
            return Err("too-many")
        return promise(call, Redirect(self._extension, str(target.address), target.recipient, _trace(target.recipient)))

    def notify(self, call: Call | None, address: str, subject: str, text: str) -> Result:
        target = self._target(call, address)
        if isinstance(target, Err):
            return target
        if len(subject) > SUBJECT_CHARACTERS_MAX or not subject.isprintable() or len(text) > TEXT_CHARACTERS_MAX:
            return Err("malformed")
        if not target.address.isascii():
            return Err("malformed")
        if _is_automatic(target.delivery):
            return Err("too-many")
        notice = self._notice(target.address, subject, text)
        return promise(call, Notify(self._extension, str(target.address), notice))

    def _target(self, call: Call | None, address: str) -> _Target | Err[str]:
        delivery = current_delivery(call)
        if delivery is None or delivery.recipient is None:
            return Err("no-delivery")
        try:
            parsed = parse_address(address)
        except AddressMalformed:
            return Err("malformed")
        if not self._address_granted(str(parsed).lower()):
            return Err("not-granted")
        return _Target(delivery, delivery.recipient, parsed)

    def _notice(self, address: Address, subject: str, text: str) -> bytes:
        message = EmailMessage(policy.SMTP)
        message["From"] = f"Mail Delivery System <MAILER-DAEMON@{self._hostname}>"
        message["To"] = str(address)
        message["Subject"] = subject
        message["Date"] = formatdate(self._now_s())
        message["Message-ID"] = make_msgid(domain=self._hostname)
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd"))
        return message.as_bytes()


def _read_redirect_max(grant: Grant) -> int:
    found = grant.attenuations.get("redirect_max", REDIRECT_MAX_DEFAULT)
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found <= REDIRECT_MAX_HIGHEST:
        raise grant.refuse("redirect_max", found, f"a number from 0 to {REDIRECT_MAX_HIGHEST}")
    return found


def _trace(recipient: RecipientContext) -> bytes:
    """What tells that a message was here (RFC 9228); the queue adds ``Received:`` when it sends."""
    return f"Delivered-To: {recipient.address}\r\n".encode()


def _went_through(delivery: DeliveryContext, recipient: RecipientContext) -> bool:
    """Whether the message was redirected for this recipient before."""
    own = recipient.address.lower().encode()
    return any(value.lower() == own for value in delivery.message.values("delivered-to"))


def _is_automatic(delivery: DeliveryContext) -> bool:
    """Whether nobody should be told anything about this message (RFC 3834 2)."""
    if not delivery.sender:
        return True
    marks = delivery.message.values("auto-submitted")
    return any(mark.split(b";")[0].strip().lower() != b"no" for mark in marks)
