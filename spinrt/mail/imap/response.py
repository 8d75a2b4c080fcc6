"""Writing the pieces of responses (RFC 3501 9): strings, flags, dates, sets, envelopes, body structures.

Text goes out quoted where it may (printable ASCII, not too long), else as a literal. NUL cannot be sent in a string and
is left out of ENVELOPE and BODYSTRUCTURE; message bytes are never touched.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from time import gmtime

from spinrt.mail.imap.cursor import MONTHS
from spinrt.mail.message.address import Mailbox
from spinrt.mail.message.envelope import Envelope, envelope
from spinrt.mail.message.mime import Parameters, Part, parse_disposition

QUOTED_BYTES_MAX = 1000

_ATOM = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\\]]+\Z')
_QUOTABLE = re.compile(rb"[\x01-\x09\x0b\x0c\x0e-\x7f]*\Z")
_NO_TEXT = re.compile(r"[^\x20-\x7e]")
_MONTHS = tuple(name.encode("ascii") for name in MONTHS)
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799
"""Start of year 1 and end of year 9999, in seconds since 1970."""
_FLAG_ORDER = {flag: index for index, flag in enumerate(("\\Answered", "\\Flagged", "\\Deleted", "\\Seen", "\\Draft"))}


def string(data: bytes) -> bytes:
    """A quoted string, or a literal where quotes cannot hold it. ``data`` has no NUL."""
    if len(data) <= QUOTED_BYTES_MAX and _QUOTABLE.match(data):
        if b"\\" in data or b'"' in data:
            data = data.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
        return b'"' + data + b'"'
    return b"{%d}\r\n" % len(data) + data


def nstring(data: bytes | None) -> bytes:
    """A string, or NIL; NULs are left out."""
    if data is None:
        return b"NIL"
    return string(data.replace(b"\0", b"") if b"\0" in data else data)


def astring(data: bytes) -> bytes:
    """An atom where it is one, else a string."""
    return data if _ATOM.match(data) else nstring(data)


def text(line: str) -> bytes:
    """Human-readable text of a response: printable ASCII on one line."""
    return _NO_TEXT.sub("?", line).encode("ascii") or b"?"


@lru_cache(maxsize=512)
def flag_list(flags: frozenset[str], recent: bool = False) -> bytes:
    r"""Flags in parentheses in a fixed order: system flags, keywords, ``\Recent``."""
    ordered = sorted(flags, key=lambda flag: (_FLAG_ORDER.get(flag, 9), flag))
    if recent:
        ordered.append("\\Recent")
    return ("(" + " ".join(ordered) + ")").encode("ascii")


def internal_date(seconds: int, zone_minutes: int) -> bytes:
    """A date and time in the zone it was given in: ``"01-Jan-2025 12:00:00 +0000"``.

    What has no date in the zone or in UTC, years 1 to 9999, is shown as the start of 1970.
    """
    local = seconds + zone_minutes * 60
    if min(seconds, local) < _FIRST_SECOND or max(seconds, local) > _LAST_SECOND or abs(zone_minutes) >= 1440:
        local = zone_minutes = 0
    year, month, day, hour, minute, second, *_ = gmtime(local)
    zone_hours, zone_rest = divmod(abs(zone_minutes), 60)
    sign = b"-" if zone_minutes < 0 else b"+"
    moment = day, _MONTHS[month - 1], year, hour, minute, second, sign, zone_hours, zone_rest
    return b'"%02d-%b-%04d %02d:%02d:%02d %b%02d%02d"' % moment


def number_set(numbers: Sequence[int]) -> bytes:
    """Numbers as a set, runs joined (``1:3,5``), in the order given: COPYUID pairs sets by position."""
    pieces: list[str] = []
    index = 0
    while index < len(numbers):
        first = last = numbers[index]
        while index + 1 < len(numbers) and numbers[index + 1] == last + 1:
            index += 1
            last = numbers[index]
        pieces.append(str(first) if first == last else f"{first}:{last}")
        index += 1
    return ",".join(pieces).encode("ascii")


# ------------------------------------------------------------------------------------------ envelope, body structure


def _addresses(addresses: list[Mailbox]) -> bytes:
    if not addresses:
        return b"NIL"
    return b"(" + b"".join(b"(" + b" ".join(map(nstring, address)) + b")" for address in addresses) + b")"


def format_envelope(values: Envelope) -> bytes:
    """ENVELOPE (RFC 3501 7.4.2)."""
    fields = (
        nstring(values.date),
        nstring(values.subject),
        *map(_addresses, (values.from_, values.sender, values.reply_to, values.to, values.cc, values.bcc)),
        nstring(values.in_reply_to),
        nstring(values.message_id),
    )
    return b"(" + b" ".join(fields) + b")"


def body_structure(part: Part, *, extended: bool) -> bytes:
    """BODYSTRUCTURE, or with ``extended`` false BODY (RFC 3501 7.4.2). Depth is bounded by the MIME parser."""
    if part.children:
        fields = [b"".join(body_structure(child, extended=extended) for child in part.children), nstring(part.subtype)]
        if extended:
            fields += [_parameters(part.parameters), *_extension(part)]
        return b"(" + b" ".join(fields) + b")"
    fields = [nstring(part.type), nstring(part.subtype), _parameters(_leaf_parameters(part))]
    fields += [nstring(part.headers.value(b"content-id")), nstring(part.headers.value(b"content-description"))]
    fields += [nstring(part.encoding), b"%d" % part.size]
    if part.message is not None:
        fields.append(format_envelope(envelope(part.message.headers)))
        fields.append(body_structure(part.message, extended=extended))
        fields.append(b"%d" % part.lines)
    elif part.type.lower() == b"text":
        fields.append(b"%d" % part.lines)
    if extended:
        fields += [nstring(part.headers.value(b"content-md5")), *_extension(part)]
    return b"(" + b" ".join(fields) + b")"


def _leaf_parameters(part: Part) -> Parameters:
    """Plain text without a character set is US-ASCII (RFC 2045 5.2)."""
    if not part.parameters and part.type.lower() == b"text" and part.subtype.lower() == b"plain":
        return ((b"charset", b"us-ascii"),)
    return part.parameters


def _parameters(parameters: Parameters) -> bytes:
    if not parameters:
        return b"NIL"
    return b"(" + b" ".join(nstring(name) + b" " + nstring(value) for name, value in parameters) + b")"


def _extension(part: Part) -> tuple[bytes, bytes, bytes]:
    """Disposition, language and location."""
    disposition = parse_disposition(part.headers)
    shown = b"NIL"
    if disposition is not None:
        shown = b"(" + nstring(disposition[0]) + b" " + _parameters(disposition[1]) + b")"
    languages = (part.headers.value(b"content-language") or b"").replace(b",", b" ").split()
    language = b"(" + b" ".join(map(nstring, languages)) + b")" if languages else b"NIL"
    return shown, language, nstring(part.headers.value(b"content-location"))
