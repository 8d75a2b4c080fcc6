"""Arguments of SMTP commands, read strictly where it matters and kindly where it does not.

Each function gives what it read, or the `Reply` that refuses it. White space after the colon of ``MAIL FROM:`` and at
the end of a line is forgiven; angle brackets are not. A parameter that was not offered is refused by name with 555,
those of DSN (RET, ENVID, NOTIFY, ORCPT) included.

Peers repeat themselves, so the last results for MAIL and RCPT are kept; they depend on the arguments alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from spinrt.mail.address import Address, parse_path
from spinrt.mail.smtp import reply
from spinrt.mail.smtp.reply import Reply

HELO_CHARACTERS_MAX = 255
SIZE_DIGITS_MAX = 20
"""Digits of SIZE and of a BDAT size (RFC 1870 3, RFC 3030 2)."""
KEPT_MAX = 512
"""Results that are kept of each of MAIL and RCPT; an argument is shorter than a line, 2 KiB."""

_FROM = re.compile(r"FROM:[ \t]*+", re.IGNORECASE)
_TO = re.compile(r"TO:[ \t]*+", re.IGNORECASE)
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*+)(?:=([!-<>-~\u00a0-\U0010ffff]++))?")
_CHUNK = re.compile(rb"([0-9]{1,20})(?:[ \t]++(LAST))?", re.IGNORECASE)
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})+")
_BODIES = {"7BIT", "8BITMIME"}


@dataclass(frozen=True, slots=True)
class MailRequest:
    """A ``MAIL`` command: sender (none: the null sender) and parameters."""

    sender: Address | None
    size: int | None = None
    body: str = ""
    smtputf8: bool = False


@dataclass(frozen=True, slots=True)
class Chunk:
    """A ``BDAT`` command: so many octets follow its line."""

    size: int
    last: bool


def parse_helo(argument: bytes) -> str | Reply:
    """The name that the peer gives itself. Anything printable will do (RFC 5321 4.1.4 forbids to refuse it)."""
    name = argument.decode("utf-8", "replace")
    if not name or len(name) > HELO_CHARACTERS_MAX:
        return reply.HELO_MALFORMED
    return name


@lru_cache(maxsize=KEPT_MAX)
def parse_mail(argument: bytes) -> MailRequest | Reply:
    """Source: RFC 5321 4.1.1.2; SIZE RFC 1870; BODY RFC 6152; SMTPUTF8 RFC 6531; AUTH RFC 4954 5."""
    text = _decode(argument)
    if text is None:
        return reply.SENDER_MALFORMED
    prefix = _FROM.match(text)
    if prefix is None:
        return reply.SENDER_SYNTAX
    path = text[prefix.end() :]
    sender: Address | None = None
    if path.startswith("<>"):
        rest = path[2:]
    else:
        found = parse_path(path)
        if found is None:
            return reply.SENDER_MALFORMED
        sender, rest = found
    request = _with_parameters(sender, rest) if rest else MailRequest(sender)
    if isinstance(request, MailRequest) and sender is not None and not request.smtputf8 and not sender.isascii():
        return reply.UTF8_NEEDED
    return request


@lru_cache(maxsize=KEPT_MAX)
def parse_rcpt(argument: bytes, smtputf8: bool, domainless: bool) -> Address | Reply:
    """Source: RFC 5321 4.1.1.3. ``domainless`` as in `parse_path`."""
    text = _decode(argument)
    if text is None:
        return reply.RECIPIENT_MALFORMED
    prefix = _TO.match(text)
    if prefix is None:
        return reply.RECIPIENT_SYNTAX
    found = parse_path(text[prefix.end() :], domainless=domainless)
    if found is None:
        return reply.RECIPIENT_MALFORMED
    address, rest = found
    if rest:
        parameters = _parse_parameters(rest)
        return parameters if isinstance(parameters, Reply) else reply.unknown_parameter(next(iter(parameters)))
    if not smtputf8 and not address.isascii():
        return reply.UTF8_NEEDED
    return address


def parse_chunk(argument: bytes) -> Chunk | None:
    """Size of a chunk, or none when it cannot be known: then nobody can tell commands from content any more.

    Source: RFC 3030 2.
    """
    match = _CHUNK.fullmatch(argument)
    return Chunk(int(match[1]), match[2] is not None) if match is not None else None


def _decode(argument: bytes) -> str | None:
    try:
        return argument.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _with_parameters(sender: Address | None, rest: str) -> MailRequest | Reply:
    parameters = _parse_parameters(rest)
    if isinstance(parameters, Reply):
        return parameters
    size: int | None = None
    body, smtputf8 = "", False
    for name, value in parameters.items():
        refusal: Reply | None = None
        if name == "SIZE":
            size, refusal = _size(value)
        elif name == "BODY":
            body = (value or "").upper()
            refusal = None if body in _BODIES else reply.BODY_UNKNOWN
        elif name == "SMTPUTF8":
            smtputf8 = True
            refusal = reply.PARAMETER_MALFORMED if value is not None else None
        elif name == "AUTH":
            # Who may vouch for a sender is a matter of policy; the value is checked and not used (RFC 4954 5).
            refusal = None if _XTEXT.fullmatch(value or "") else reply.PARAMETER_MALFORMED
        else:
            refusal = reply.unknown_parameter(name)
        if refusal is not None:
            return refusal
    return MailRequest(sender, size, body, smtputf8)


def _parse_parameters(rest: str) -> dict[str, str | None] | Reply:
    """Parameters behind a path, by name in upper case; at least one."""
    if rest[0] not in " \t":
        return reply.PARAMETER_MALFORMED
    parameters: dict[str, str | None] = {}
    for word in rest.split():
        match = _PARAMETER.fullmatch(word)
        if match is None:
            return reply.PARAMETER_MALFORMED
        name = match[1].upper()
        if name in parameters:
            return reply.PARAMETER_REPEATED
        parameters[name] = match[2]
    return parameters or reply.PARAMETER_MALFORMED


def _size(value: str | None) -> tuple[int | None, Reply | None]:
    if value is None or not (value.isascii() and value.isdigit()) or len(value) > SIZE_DIGITS_MAX:
        return None, reply.SIZE_MALFORMED
    return int(value), None
