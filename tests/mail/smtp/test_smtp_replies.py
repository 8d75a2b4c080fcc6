"""How replies and trace fields are written."""

from __future__ import annotations

import email
import email.policy
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinrt._core import REPLY_LINES_MAX
from spinrt.errors import ConfigError
from spinrt.mail.address import Address
from spinrt.mail.smtp import reply
from spinrt.mail.smtp.limits import SmtpLimits
from spinrt.mail.smtp.receiver import Envelope, Session
from spinrt.mail.smtp.reply import Reply
from spinrt.mail.smtp.trace import protocol_keyword, trace_header
from tests.mail.smtp.doubles import codes

REPLIES = {name: value for name, value in vars(reply).items() if isinstance(value, Reply)}


@pytest.mark.parametrize("name", REPLIES)
def test_enhanced_code_agrees_with_code(name: str) -> None:
    """The class of the enhanced code is the first digit (RFC 2034 4), and the wire form is one well-formed reply."""
    one = REPLIES[name]
    assert codes(one.wire) == [one.code]
    assert one.enhanced.startswith(f"{one.code // 100}.") or (one.code == 354 and not one.enhanced)


@pytest.mark.parametrize(
    ("text", "wire"),
    [
        ("", b"550 5.7.1 \r\n"),
        ("one\ntwo", b"550-5.7.1 one\r\n550 5.7.1 two\r\n"),
        ("one\r\n250 OK", b"550-5.7.1 one\r\n550 5.7.1 250 OK\r\n"),
        ("b\u00fccher\x1b[0m\x00", b"550 5.7.1 b?cher?[0m?\r\n"),
    ],
)
def test_text_cannot_forge_replies(text: str, wire: bytes) -> None:
    """Text may come from an extension."""
    assert Reply(550, "5.7.1", text).wire == wire


@given(st.integers(200, 599), st.sampled_from(["", "2.1.5"]), st.text() | st.text(st.characters(max_codepoint=127)))
def test_wire_form_is_one_rule_for_every_text(code: int, enhanced: str, text: str) -> None:
    """What is written in one go, one line of printable ASCII, is written as everything else is."""
    lines = [re.sub(r"[^ -~]", "?", line)[:480] for line in text.splitlines()[:REPLY_LINES_MAX]] or [""]
    mark = f"{enhanced} " if enhanced else ""
    written = [f"{code}-{mark}{line}\r\n" for line in lines[:-1]] + [f"{code} {mark}{lines[-1]}\r\n"]
    assert Reply(code, enhanced, text).wire == "".join(written).encode("ascii")


def test_reply_is_a_value() -> None:
    """Equal by code and text, whatever way it was made; nothing of it can be changed."""
    one = Reply(250, "2.0.0", "OK")
    assert one == reply.OK and hash(one) == hash(reply.OK) and one != Reply(250, "2.0.0", "ok") and one != "OK"
    assert repr(one) == "Reply(code=250, enhanced='2.0.0', text='OK')"
    with pytest.raises(AttributeError):
        one.code = 251


def test_long_text_is_cut() -> None:
    """No reply line is longer than 512 octets, and there are not too many."""
    wire = Reply(550, "5.7.1", "\n".join(["x" * 2000] * 100)).wire
    assert codes(wire) == [550] and wire.count(b"\r\n") == REPLY_LINES_MAX


def envelope(*recipients: str, **session: object) -> Envelope:
    known = Session(**{"peer": "192.0.2.1", "helo": "client.test", "extended": True} | session)  # type: ignore[arg-type]
    return Envelope(known, None, tuple(Address(name, "y.test") for name in recipients), 10)


def test_trace_header_is_a_received_field() -> None:
    """Parsed by Python's email package; one recipient is named, several are not."""
    single = trace_header(envelope("b"), "mx.test", "d-1", 0.0)
    assert single == (
        b"Received: from client.test ([192.0.2.1])\r\n\tby mx.test with ESMTP id d-1\r\n"
        b"\tfor <b@y.test>;\r\n\tThu, 01 Jan 1970 00:00:00 -0000\r\n"
    )
    assert b"for <" not in trace_header(envelope("b", "c"), "mx.test", "d-1", 0.0)
    parsed = email.message_from_bytes(single + b"\r\n", policy=email.policy.SMTP)
    assert parsed.keys() == ["Received"] and not parsed.defects


def test_trace_header_cannot_be_forged() -> None:
    """The peer's name is its own invention."""
    header = trace_header(envelope("b", helo="x) by evil (\ttest\x85\r\nX: y", peer="2001:db8::1"), "mx.test", "d", 0.0)
    assert header.startswith(b"Received: from x??by?evil") and header.count(b"\r\n") == 4
    assert b"([IPv6:2001:db8::1])" in header and b"evil (" not in header


@pytest.mark.parametrize(
    ("session", "smtputf8", "word"),
    [
        ({}, False, "SMTP"),
        ({"extended": True}, False, "ESMTP"),
        ({"extended": True, "tls": True}, False, "ESMTPS"),
        ({"extended": True, "tls": True, "user": "u"}, False, "ESMTPSA"),
        ({"extended": True, "user": "u"}, True, "UTF8SMTPA"),
        ({"protocol": "lmtp", "extended": True, "tls": True}, False, "LMTPS"),
        ({"protocol": "lmtp", "extended": True}, True, "UTF8LMTP"),
    ],
)
def test_protocol_keyword(session: dict[str, object], smtputf8: bool, word: str) -> None:
    """As registered (RFC 3848, RFC 6531)."""
    assert protocol_keyword(Session(**session), smtputf8=smtputf8) == word  # type: ignore[arg-type]


def test_limits_are_checked() -> None:
    """A bound of nothing, and a line too short for RFC 5321."""
    with pytest.raises(ConfigError, match="recipients_max is 0"):
        SmtpLimits(recipients_max=0)
    with pytest.raises(ConfigError, match="line_bytes_max"):
        SmtpLimits(line_bytes_max=511)
