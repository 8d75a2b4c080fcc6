"""Mailbox addresses as SMTP paths carry them (RFC 5321 4.1.2, with the UTF-8 of RFC 6531 3.3).

An `Address` holds the *meaning* of a mailbox: the local part without quotes, the domain as written. ``str(address)``
writes it back in the shortest valid form. Source routes are read and forgotten (RFC 5321 appendix C). Header fields
have a grammar of their own; see ``spinrt.mail.message.address``.

Beyond RFC 5321, as real mail needs it: an underscore may stand in a domain's label.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from functools import lru_cache
from typing import Final, NamedTuple

from spinrt.errors import AddressMalformed

LOCAL_BYTES_MAX = 64
"""Octets of a local part as written, its quotes included (RFC 5321 4.5.3.1.1)."""
DOMAIN_BYTES_MAX = 255
"""Octets of a domain or address literal (RFC 5321 4.5.3.1.2)."""
KEPT_MAX = 4096
"""Addresses whose written form is kept: each delivery writes the same few."""

_WIDE = "\u00a0-\U0010ffff"  # UTF-8 beyond the C1 controls
_DOT_STRING = rf"[\w!#$%&'*+/=?^`{{|}}~{_WIDE}\-]++(?:\.[\w!#$%&'*+/=?^`{{|}}~{_WIDE}\-]++)*+"
_LABEL = rf"(?!-)[\w{_WIDE}\-]{{1,63}}+(?<!-)"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*+"
_QUOTED = rf'"(?:[ !#-\[\]-~{_WIDE}]|\\[ -~])*+"'

# No alternative is tried twice (possessive), so the time is linear on any input.
_ORDINARY = re.compile(rf"<({_DOT_STRING})@({_DOMAIN})>", re.ASCII)
_UNUSUAL = re.compile(
    rf'<(?:@[^:<>"]*+:)?({_DOT_STRING}|{_QUOTED})(?:@({_DOMAIN}|\[[!-Z^-~]++\]))?>',
    re.ASCII,
)
_PLAIN_LOCAL = re.compile(_DOT_STRING, re.ASCII)
_ESCAPED = re.compile(r"\\(.)")
_TO_ESCAPE = re.compile(r'(["\\])')
_GENERAL_LITERAL = re.compile(r"[A-Za-z0-9-]*[A-Za-z0-9]:[!-Z^-~]+")


class Address(NamedTuple):
    """One mailbox.

    Attributes:
        local: Local part, quotes and backslashes resolved; its case is kept.
        domain: Domain as written, or an address literal with its brackets (``[192.0.2.1]``). Empty only for
            ``<Postmaster>`` (RFC 5321 4.5.1) and, over LMTP, for names that the peer already made local.
    """

    local: str
    domain: str

    def __str__(self) -> str:
        local = quote_local(self.local)
        return f"{local}@{self.domain}" if self.domain else local

    @property
    def user(self) -> str:
        """The local part in front of the first ``+``; all of it when there is no detail."""
        user, plus, _ = self.local.partition("+")
        return user if plus and user else self.local

    @property
    def detail(self) -> str | None:
        """What stands behind the first ``+`` of the local part (RFC 5233), or none."""
        user, plus, detail = self.local.partition("+")
        return detail if plus and user else None

    def isascii(self) -> bool:
        """Whether the address can be used without SMTPUTF8."""
        return self.local.isascii() and self.domain.isascii()

    def normalised(self) -> Address:
        """Return the form to compare by: local part in NFC and lower case, domain as `normalise_domain` gives it."""
        return Address(unicodedata.normalize("NFC", self.local).lower(), normalise_domain(self.domain))


def normalise_domain(domain: str) -> str:
    """Return the form of a domain to compare by: lower case, A-labels.

    A name that has no A-label form is given in NFC and lower case, so that comparing never fails.
    """
    if domain.isascii():
        return domain.lower()
    try:
        return domain.encode("idna").decode("ascii").lower()
    except UnicodeError:
        return unicodedata.normalize("NFC", domain).lower()


def quote_local(local: str) -> str:
    """Write a local part as RFC 5321 asks: as a dot-string when it is one, else quoted."""
    if _PLAIN_LOCAL.fullmatch(local):
        return local
    return '"' + _TO_ESCAPE.sub(r"\\\1", local) + '"'


address_text: Final = lru_cache(maxsize=KEPT_MAX)(str)
"""``address_text(address)`` is ``str(address)``, remembered."""


def parse_address(text: str) -> Address:
    """Read one address without angle brackets, as configuration and extensions write it.

    Raises:
        AddressMalformed: Not ``local@domain`` as RFC 5321 and RFC 6531 define it.
    """
    found = parse_path(f"<{text}>")
    if found is None or found[1]:
        raise AddressMalformed(f"address {text[:80]!r} is malformed", hint="write it as local@domain")
    if not found[0].domain:
        raise AddressMalformed(f"address {text[:80]!r} has no domain", hint="write it as local@domain")
    return found[0]


def parse_path(text: str, *, domainless: bool = False) -> tuple[Address, str] | None:
    """Read the path at the start of ``text``, angle brackets included, and return it with what stands behind it.

    The null path ``<>`` is not an address; the caller looks for it first.

    Args:
        text: The path and whatever follows.
        domainless: Accept a local part alone. ``<Postmaster>`` is always accepted so.

    Returns:
        The address and the rest of the text, or none when no valid path stands there.

    Source: RFC 5321 4.1.2, 4.1.3; limits of 4.5.3.1.
    """
    match = _ORDINARY.match(text)
    if match is not None:
        local, domain = match.groups()
        if _fits(local, domain):
            return Address(local, domain), text[match.end() :]
        return None
    return _parse_unusual(text, domainless)


def _parse_unusual(text: str, domainless: bool) -> tuple[Address, str] | None:
    """Quoted local parts, address literals, source routes, and local parts alone."""
    match = _UNUSUAL.match(text)
    if match is None:
        return None
    local, domain = match[1], match[2] or ""
    if not _fits(local, domain):
        return None
    if not domain and not domainless and local.lower() != "postmaster":
        return None
    if domain.startswith("[") and not _is_literal(domain[1:-1]):
        return None
    if local.startswith('"'):
        local = _ESCAPED.sub(r"\1", local[1:-1])
    return Address(local, domain), text[match.end() :]


def _fits(local: str, domain: str) -> bool:
    """Both parts are within their limits, counted in octets."""
    if local.isascii() and domain.isascii():
        return len(local) <= LOCAL_BYTES_MAX and len(domain) <= DOMAIN_BYTES_MAX
    return len(local.encode()) <= LOCAL_BYTES_MAX and len(domain.encode()) <= DOMAIN_BYTES_MAX


def _is_literal(content: str) -> bool:
    """The text between the brackets is an IPv4, an IPv6 or a general address literal (RFC 5321 4.1.3)."""
    tag, colon, address = content.partition(":")
    try:
        if not colon:
            ipaddress.IPv4Address(content)
        elif tag.lower() == "ipv6":
            ipaddress.IPv6Address(address)
        else:
            return _GENERAL_LITERAL.fullmatch(content) is not None
    except ValueError:
        return False
    return True
