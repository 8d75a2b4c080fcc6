"""AUTH: who may use it, what it takes, what it says."""

from __future__ import annotations

from base64 import b64encode

import pytest

from spinrt._core import Phase
from spinrt.mail.smtp.limits import SmtpLimits
from spinrt.mail.smtp.login import ThrottledReceiver
from spinrt.mail.smtp.receiver import Session
from spinrt.mail.smtp.reply import LOGIN_LATER, Reply
from spinrt.mail.throttle import Throttle, ThrottleLimits
from tests.mail.smtp.doubles import FakeReceiver, Peer, codes, opened

GOOD = b64encode(b"\0user\0secret")
WRONG = b64encode(b"\0user\0wrong")


def secured(receiver: FakeReceiver | None = None, limits: SmtpLimits | None = None) -> Peer:
    """A peer behind TLS that has said EHLO."""
    return opened(receiver, session=Session(peer="192.0.2.1", tls=True), limits=limits)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"AUTH PLAIN " + GOOD + b"\r\n", [235]),
        (b"auth plain\r\n" + GOOD + b"\r\n", [334, 235]),
        (b"AUTH LOGIN\r\ndXNlcg==\r\nc2VjcmV0\r\n", [334, 334, 235]),
        (b"AUTH LOGIN dXNlcg==\r\nc2VjcmV0\r\n", [334, 235]),
        (b"AUTH PLAIN " + b64encode(b"user\0user\0secret") + b"\r\n", [235]),
        (b"AUTH PLAIN " + WRONG + b"\r\n", [535]),
        (b"AUTH PLAIN " + b64encode(b"other\0user\0secret") + b"\r\n", [501]),
        (b"AUTH PLAIN " + b64encode(b"user\0secret") + b"\r\n", [501]),
        (b"AUTH PLAIN " + b64encode(b"\0\0secret") + b"\r\n", [501]),
        (b"AUTH PLAIN " + b64encode(b"\0us\xffer\0secret") + b"\r\n", [501]),
        (b"AUTH PLAIN =\r\nAUTH PLAIN a\r\nAUTH PLAIN " + GOOD + b" x\r\n", [501] * 3),
        (b"AUTH PLAIN\r\n*\r\nNOOP\r\n", [334, 501, 250]),
        (b"AUTH LOGIN\r\ndXNlcg==\r\n*\r\nNOOP\r\n", [334, 334, 501, 250]),
        (b"AUTH LOGIN\r\n!!!\r\nNOOP\r\n", [334, 501, 250]),
        (b"AUTH LOGIN\r\n" + b"A" * 3000 + b"\r\nNOOP\r\n", [334, 500, 250]),
        (b"AUTH LOGIN\r\nQUIT\nNOOP\r\n", [334, 501, 250]),
        (b"AUTH\r\nAUTH CRAM-MD5\r\nAUTH XOAUTH2 abc\r\n", [501, 504, 504]),
        (b"AUTH PLAIN " + GOOD + b"\r\nAUTH PLAIN " + GOOD + b"\r\n", [235, 503]),
        (b"MAIL FROM:<a@x.test>\r\nAUTH PLAIN " + GOOD + b"\r\n", [250, 503]),
    ],
)
def test_login(sent: bytes, expected: list[int]) -> None:
    """Mechanisms, initial responses, cancelling, errors."""
    peer = secured()
    assert peer.codes(sent) == expected
    assert peer.session.user == ("user" if 235 in expected else None)


def test_login_needs_tls_or_loopback() -> None:
    """Over plain text from elsewhere AUTH is neither offered nor taken; the password is not looked at."""
    peer = Peer()
    assert b"AUTH" not in peer.say(b"EHLO client\r\n")
    assert peer.codes(b"AUTH PLAIN " + GOOD + b"\r\n") == [538] and peer.receiver.logins == []
    local = Peer(session=Session(peer="127.0.0.1", local=True))
    assert b"AUTH PLAIN LOGIN" in local.say(b"EHLO client\r\n")
    assert local.codes(b"AUTH PLAIN " + GOOD + b"\r\n") == [235]


def test_failed_logins_end_session() -> None:
    """Three wrong passwords."""
    peer = secured(limits=SmtpLimits(login_failures_max=3))
    assert peer.codes((b"AUTH PLAIN " + WRONG + b"\r\n") * 4) == [535, 535, 535, 421]
    assert peer.engine.phase is Phase.CLOSED


def test_late_login_answer() -> None:
    """Pipelined input waits for it."""
    peer = secured(FakeReceiver(late=True))
    assert peer.codes(b"AUTH PLAIN " + GOOD + b"\r\nNOOP\r\n") == []
    peer.receiver.answer()
    assert codes(peer.engine.take_output()) == [235, 250]


def test_starttls_forgets_what_was_said_before() -> None:
    """Input behind STARTTLS, the name and the envelope are gone after the handshake."""
    peer = opened(starttls=True)
    assert peer.codes(b"STARTTLS now\r\n") == [501]
    assert peer.codes(b"STARTTLS\r\nEHLO evil\r\nMAIL FROM:<evil@x.test>\r\n") == [220]
    assert peer.say(b"RCPT TO:<b@y.test>\r\n") == b"" and peer.engine.buffered == 0
    peer.engine.tls_started()
    assert (peer.session.tls, peer.session.helo) == (True, "")
    assert peer.codes(b"MAIL FROM:<a@x.test>\r\nEHLO c\r\nSTARTTLS\r\n") == [503, 250, 503]


def test_starttls_without_certificate() -> None:
    """Not offered, not taken."""
    assert opened().codes(b"STARTTLS\r\n") == [502]


def test_logins_are_throttled() -> None:
    """A delay after some failures, refusal after many, and the receiver is not asked then."""
    receiver, calls, results = FakeReceiver(), [], list[str | Reply | None]()
    limits = ThrottleLimits(login_failures_free=1, login_delay_s=2.0, login_failures_max=3, login_forget_s=1e9)
    throttled = ThrottledReceiver(
        receiver, Throttle(limits, lambda: 0.0), lambda delay, call, *a: calls.append((delay, call, a))
    )
    session = Session(peer="192.0.2.1", tls=True)
    for _ in range(4):
        throttled.authenticate(session, "user", "wrong", results.append)
        for _, call, arguments in calls[len(results) - 1 :]:
            call(*arguments)
    assert [delay for delay, _, _ in calls] == [2.0, 4.0]
    assert results == [None, None, None, LOGIN_LATER] and len(receiver.logins) == 3
