r"""``spinrt:mail/delivery``: decide where the message under delivery goes.

A grant may carry ``mailboxes``, ``flags`` and ``headers`` (patterns, see ``patterns``; none means all), ``reject`` and
``discard`` (false forbids). Every text is checked before it is promised, so that no guest can put a line break into a
header or a reply, a wildcard into a mailbox name, or a blank into a flag.
"""

from __future__ import annotations

import re
from email.header import Header
from typing import ClassVar, Final

from spinrt._core import AddHeader, AddHeaderFunction, Call, PromiseFunction, Wish
from spinrt.errors import QuotaExceeded, UsageError
from spinrt.mail.host.context import current_recipient
from spinrt.mail.host.effects import Discard, FileInto, MailEffect, Refusal, Reject, SetFlag
from spinrt.mail.host.patterns import read_patterns, read_switch
from spinrt.mail.store.flags import SYSTEM_FLAGS, check_flags
from spinrt.mail.store.names import INBOX, SEPARATOR, canonical_name, is_inbox
from spinrt.runtime.capability import Closure, Grant, HostInterface
from spinrt.runtime.domain import Domain
from spinrt.sandbox.types import Err, Ok, Result

HEADER_NAME_BYTES_MAX: Final = 76
HEADER_VALUE_BYTES_MAX: Final = 900
"""Name, colon, value and CRLF stay on one line below 998 octets (RFC 5322 2.1.1)."""
REJECT_TEXT_MAX: Final = 400
CODE_MIN, CODE_MAX = 450, 599

_HEADER_NAME = re.compile(r"[!-9;-~]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_ENHANCED = re.compile(r"([45]\.[0-9]{1,3}\.[0-9]{1,3}) +")
_SYSTEM_BY_LOWER = {name.lower(): name for name in SYSTEM_FLAGS}
_OK: Ok[None] = Ok()
_NO_DELIVERY, _NOT_GRANTED, _MALFORMED, _TOO_MANY = (
    Err("no-delivery"),
    Err("not-granted"),
    Err("malformed"),
    Err("too-many"),
)


class DeliveryInterface(HostInterface):
    """``spinrt:mail/delivery``; see the head of this file."""

    interface_id = "spinrt:mail/delivery@1.0.0"
    attenuations: ClassVar = {
        "mailboxes": "patterns of mailboxes that may be filed into",
        "flags": "patterns of flags that may be set",
        "headers": "patterns of names of header fields that may be added",
        "reject": "false: may not refuse messages",
        "discard": "false: may not discard messages",
    }

    def bind(self, function: str, grant: Grant, domain: Domain) -> Closure:
        bound = _Bound(grant, domain.name)
        closures: dict[str, Closure] = {
            "file-into": PromiseFunction(bound.filing, bound.file_into),
            "set-flag": PromiseFunction(bound.flagging, bound.set_flag),
            "add-header": AddHeaderFunction(domain.name, HEADER_VALUE_BYTES_MAX, bound.adding, bound.add_header),
            "reject": bound.reject,
            "discard": bound.discard,
        }
        return closures[function]


class _Bound:
    """The closures of one grant for one extension."""

    def __init__(self, grant: Grant, extension: str) -> None:
        self._extension = extension
        self._mailbox_granted = read_patterns(grant, "mailboxes", _mailbox_pattern)
        self._flag_granted = read_patterns(grant, "flags", str.lower)
        self._header_granted = read_patterns(grant, "headers", str.lower)
        self._may_reject = read_switch(grant, "reject")
        self._may_discard = read_switch(grant, "discard")

    def file_into(self, call: Call | None, mailbox: str) -> Result:
        return _NO_DELIVERY if current_recipient(call) is None else promise(call, self.filing(mailbox))

    def filing(self, mailbox: str) -> MailEffect | Err[str]:
        """What that mailbox comes to under the grant."""
        try:
            name = canonical_name(mailbox)
        except UsageError:
            return _MALFORMED
        return FileInto(self._extension, name) if self._mailbox_granted(name) else _NOT_GRANTED

    def set_flag(self, call: Call | None, flag: str) -> Result:
        return _NO_DELIVERY if current_recipient(call) is None else promise(call, self.flagging(flag))

    def flagging(self, flag: str) -> MailEffect | Err[str]:
        """What that flag comes to under the grant."""
        lower = flag.lower()
        try:
            check_flags((flag,))
        except UsageError:
            return _MALFORMED
        if lower == "\\recent":  # the session's, never stored
            return _MALFORMED
        if not self._flag_granted(lower):
            return _NOT_GRANTED
        return SetFlag(self._extension, _SYSTEM_BY_LOWER.get(lower, flag))

    def add_header(self, call: Call | None, name: str, value: str) -> Result:
        if current_recipient(call) is None:
            return _NO_DELIVERY
        line = header_line(name, value)
        if line is None:
            return _MALFORMED
        found = self.adding(name)
        return found if isinstance(found, Err) else promise(call, AddHeader(self._extension, found, line))

    def adding(self, name: str) -> str | Err[str]:
        """The name of a field that may be added under the grant."""
        if not _is_field_name(name):
            return _MALFORMED
        return name if self._header_granted(name.lower()) else _NOT_GRANTED

    def reject(self, call: Call | None, code: int, text: str) -> Result:
        if current_recipient(call) is None:
            return _NO_DELIVERY
        if not CODE_MIN <= code <= CODE_MAX or not text or len(text) > REJECT_TEXT_MAX or _CONTROL.search(text):
            return _MALFORMED
        if not self._may_reject:
            return _NOT_GRANTED
        return promise(call, Reject(self._extension, make_refusal(code, text)))

    def discard(self, call: Call | None) -> Result:
        if current_recipient(call) is None:
            return _NO_DELIVERY
        if not self._may_discard:
            return _NOT_GRANTED
        return promise(call, Discard(self._extension))


def promise(call: Call | None, effect: Wish | Err[str]) -> Result:
    """Put an effect into the journal of a running call; ``too-many`` when the extension has used up its effects."""
    assert call is not None
    if isinstance(effect, Err):
        return effect
    try:
        call.journal.append(effect)
    except QuotaExceeded:
        return _TOO_MANY
    return _OK


def header_line(name: str, value: str) -> bytes | None:
    """Write one header field with CRLF, beyond ASCII as encoded words (RFC 2047); none when it cannot be one."""
    if not _is_field_name(name) or _CONTROL.search(value):
        return None
    if value.isascii():
        return f"{name}: {value}\r\n".encode("ascii") if len(value) <= HEADER_VALUE_BYTES_MAX else None
    if len(value.encode()) > HEADER_VALUE_BYTES_MAX:
        return None
    encoded = Header(value, "utf-8", header_name=name, maxlinelen=76).encode(linesep="\r\n")
    return f"{name}: {encoded}\r\n".encode("ascii")


def _is_field_name(name: str) -> bool:
    return len(name) <= HEADER_NAME_BYTES_MAX and _HEADER_NAME.fullmatch(name) is not None


def make_refusal(code: int, text: str) -> Refusal:
    """Make a refusal; an enhanced status at the start of the text is used when it is of the code's class."""
    status = _ENHANCED.match(text)
    if status is not None and status[1][0] == str(code)[0]:
        return Refusal(code, status[1], text[status.end() :])
    return Refusal(code, f"{code // 100}.7.1", text)


def _mailbox_pattern(pattern: str) -> str:
    """Bring a pattern into the form of canonical names: ``inbox`` as first part means ``INBOX``."""
    first, separator, rest = pattern.partition(SEPARATOR)
    try:
        canonical_name(re.sub(r"\*+", "x", pattern))
    except UsageError as error:
        raise ValueError(f"a pattern of mailbox names: {error}") from None
    return f"{INBOX}{separator}{rest}" if is_inbox(first) else pattern
