"""What the engine answers to each command in each state."""

from __future__ import annotations

import pytest

from spinrt._core import Phase
from spinrt.mail.smtp.limits import SmtpLimits
from tests.mail.smtp.doubles import ENVELOPE, FakeReceiver, Peer, codes, opened


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"EHLO client\r\n", [250]),
        (b"helo client\r\n", [250]),
        (b"EHLO\r\n", [501]),
        (b"EHLO [192.0.2.7]\r\nEHLO under_score\r\nEHLO -odd-.\r\n", [250] * 3),
        (b"LHLO client\r\n", [500]),
        (b"MAIL FROM:<a@x.test>\r\n", [503]),
        (b"RCPT TO:<a@x.test>\r\nDATA\r\nAUTH PLAIN\r\nSTARTTLS\r\n", [503] * 4),
        (b"NOOP\r\nNOOP with words\r\nHELP\r\nRSET\r\nVRFY someone\r\nEXPN list\r\n", [250, 250, 214, 250, 252, 502]),
        (b"VRFY\r\nRSET now\r\nQUIT now\r\n", [501] * 3),
        (b"BOGUS\r\n\r\nEHLO\tclient\r\n", [500] * 3),
        (b"QUIT\r\nNOOP\r\n", [221]),
    ],
)
def test_command_before_greeting(sent: bytes, expected: list[int]) -> None:
    """Before EHLO only harmless commands are taken."""
    assert Peer().codes(sent) == expected


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (ENVELOPE + b"DATA\r\nhi\r\n.\r\n", [250, 250, 354, 250]),
        (b"RCPT TO:<b@y.test>\r\nDATA\r\n", [503, 503]),
        (b"MAIL FROM:<a@x.test>\r\nDATA\r\n", [250, 503]),
        (b"MAIL FROM:<a@x.test>\r\nMAIL FROM:<a@x.test>\r\n", [250, 503]),
        (b"MAIL FROM:<a@x.test>\r\nRCPT TO:<no@y.test>\r\nDATA\r\n", [250, 550, 554]),
        (b"MAIL FROM:<no@y.test>\r\nRCPT TO:<b@y.test>\r\n", [550, 503]),
        (ENVELOPE + b"RSET\r\nDATA\r\n", [250, 250, 250, 503]),
        (ENVELOPE + b"EHLO again\r\nDATA\r\n", [250, 250, 250, 503]),
        (ENVELOPE + b"DATA now\r\nSTARTTLS\r\nAUTH PLAIN\r\n", [250, 250, 501, 503, 503]),
        (b"mail from:<>\r\nrcpt to:<POSTMASTER>\r\ndata\r\n.\r\n", [250, 250, 354, 250]),
        (b"MAIL FROM: <a@x.test>  \r\nRCPT TO: \t<b@y.test> \r\n", [250, 250]),
        (b"MAIL FROM:a@x.test\r\nMAIL FROM:<a@x.test\r\nMAIL <a@x.test>\r\nMAIL\r\n", [501] * 4),
        (b"MAIL FROM:<a@-x.test>\r\nMAIL FROM:<a@x..test>\r\nMAIL FROM:<.a@x>\r\nMAIL FROM:<a b@x>\r\n", [501] * 4),
        (b"MAIL FROM:<a@x.test> SIZE=100 BODY=8BITMIME SMTPUTF8 AUTH=<>\r\n", [250]),
        (b"MAIL FROM:<a@x.test> body=7bit size=0 auth=e+3Dmc2@example.com\r\n", [250]),
        (b"MAIL FROM:<a@x.test> SIZE=abc\r\nMAIL FROM:<a@x.test> SIZE\r\n", [501, 501]),
        (b"MAIL FROM:<a@x.test> SIZE=1 SIZE=1\r\nMAIL FROM:<a@x.test> SMTPUTF8=1\r\n", [501, 501]),
        (b"MAIL FROM:<a@x.test> BODY=BINARYMIME\r\nMAIL FROM:<a@x.test>SIZE=1\r\n", [501, 501]),
        (b"MAIL FROM:<a@x.test> =1\r\nMAIL FROM:<a@x.test> AUTH=a+3dz\r\n", [501, 501]),
        (b"MAIL FROM:<a@x.test> RET=HDRS\r\nMAIL FROM:<a@x.test> ENVID=1\r\n", [555, 555]),
        (b"MAIL FROM:<>\r\nRCPT TO:<b@y.test> NOTIFY=NEVER\r\nRCPT TO:<b@y.test> ORCPT=rfc822;b\r\n", [250, 555, 555]),
        (b"MAIL FROM:<a@x.test> SIZE=99999999999\r\n", [552]),
        ("MAIL FROM:<ä@x>\r\nMAIL FROM:<ä@x> SMTPUTF8\r\nRCPT TO:<b@bücher.test>\r\n".encode(), [553, 250, 250]),
        ("MAIL FROM:<a@x.test>\r\nRCPT TO:<ß@y.test>\r\n".encode(), [250, 553]),
        (b"MAIL FROM:<\xff@x.test> SMTPUTF8\r\n", [501]),
        (b'MAIL FROM:<"a b\\"c"@[192.0.2.1]>\r\nRCPT TO:<@r1,@r2:b@[IPv6:2001:db8::1]>\r\n', [250, 250]),
        (b"MAIL FROM:<a@[192.0.2.256]>\r\nMAIL FROM:<a@[IPv6:1]>\r\n", [501, 501]),
        (b"MAIL FROM:<" + b"a" * 64 + b"@x.test>\r\n", [250]),
        (b"MAIL FROM:<" + b"a" * 65 + b"@x.test>\r\n", [501]),
    ],
)  # fmt: skip
def test_transaction(sent: bytes, expected: list[int]) -> None:
    """Commands of a transaction, in order and out of it."""
    assert opened(FakeReceiver(refused=["no@y.test"])).codes(sent) == expected


def test_greetings_name_what_is_offered() -> None:
    """EHLO lists each extension once; STARTTLS and AUTH only when they can be used."""
    remote = Peer(starttls=True)
    assert remote.greeting == b"220 mx.test ESMTP spinrt\r\n"
    lines = [line[4:] for line in remote.say(b"EHLO client\r\n").split(b"\r\n")[:-1]]
    assert lines == [
        b"mx.test", b"PIPELINING", b"SIZE 33554432", b"8BITMIME", b"SMTPUTF8", b"CHUNKING", b"ENHANCEDSTATUSCODES",
        b"STARTTLS", b"HELP",
    ]  # fmt: skip
    remote.say(b"STARTTLS\r\n")
    remote.engine.tls_started()
    secured = remote.say(b"EHLO client\r\n")
    assert b"STARTTLS" not in secured and b"AUTH PLAIN LOGIN" in secured


def test_delivery_carries_envelope_and_session() -> None:
    """The receiver learns what the peer said."""
    peer = opened()
    peer.say(b"MAIL FROM:<a@x.test> BODY=8BITMIME SMTPUTF8\r\nRCPT TO:<b+lists@y.test>\r\nRCPT TO:<c@z.test>\r\n")
    assert [str(address) for address in peer.session.recipients] == ["b+lists@y.test", "c@z.test"]
    assert peer.codes(b"DATA\r\nSubject: x\r\n\r\n..dot\r\n.\r\n") == [354, 250]

    (envelope,) = peer.receiver.envelopes
    assert (envelope.body, envelope.smtputf8, envelope.size) == ("8BITMIME", True, 20)
    assert envelope.recipients[0].detail == "lists"
    assert (peer.session.helo, peer.session.extended) == ("client", True)
    assert peer.receiver.delivered[0][2] == b"Subject: x\r\n\r\n.dot\r\n"
    assert peer.session.sender is None and peer.session.recipients == []


@pytest.mark.parametrize(
    "line",
    [
        b"NOOP\n",
        b"\n",
        b"NO\rOP\r\n",
        b"NOOP\0\r\n",
        b"NOOP \x7f\r\n",
        b"\rNOOP\r\n",
        b"NOOP\r\r\n",
        b"NOOP \x1b[0m\r\n",
    ],
)
def test_line_that_is_none_is_refused_and_next_taken(line: bytes) -> None:
    """Bare LF, bare CR and control characters: 500, then the session goes on behind the LF."""
    assert Peer().codes(line + b"NOOP\r\n") == [500, 250]


@pytest.mark.parametrize("length", [2048, 2049, 5000])
def test_long_line(length: int) -> None:
    """A line of 2,048 octets is read, a longer one is refused, and the next is read either way."""
    line = b"NOOP " + b"x" * (length - 7) + b"\r\n"
    assert Peer().codes(line + b"NOOP\r\n") == [250 if length <= 2048 else 500, 250]


def test_too_many_errors_close() -> None:
    """The tenth protocol error is the last; nothing behind it is read."""
    peer = Peer()
    assert peer.codes(b"BOGUS\r\n" * 9 + b"NOOP\r\n") == [500] * 9 + [250]
    assert peer.codes(b"BOGUS\r\nNOOP\r\n") == [500, 421]
    assert peer.engine.phase is Phase.CLOSED
    assert peer.say(b"NOOP\r\n") == b""


def test_browser_is_turned_away() -> None:
    """A command of HTTP ends the session: its body could hold SMTP commands."""
    peer = Peer()
    assert peer.codes(b"POST / HTTP/1.1\r\nHost: x\r\n\r\nMAIL FROM:<a@x.test>\r\n") == [521]
    assert peer.engine.phase is Phase.CLOSED


def test_recipients_are_bounded() -> None:
    """One more than the limit is put off, and the accepted ones are served."""
    peer = opened(limits=SmtpLimits(recipients_max=2))
    assert peer.codes(ENVELOPE + b"RCPT TO:<c@y.test>\r\nRCPT TO:<d@y.test>\r\n") == [250, 250, 250, 452]
    assert peer.codes(b"DATA\r\n.\r\n") == [354, 250]
    assert peer.receiver.delivered[0][1] == ("b@y.test", "c@y.test")


def test_harvesting_is_bounded() -> None:
    """Guessing recipients ends the session."""
    peer = opened(FakeReceiver(refused=["no@y.test"]), limits=SmtpLimits(rejections_max=3))
    assert peer.codes(b"MAIL FROM:<>\r\n" + b"RCPT TO:<no@y.test>\r\n" * 5) == [250, 550, 550, 550, 421]


def test_commands_without_message_are_bounded() -> None:
    """A session must get somewhere; a message starts the count anew."""
    peer = opened(limits=SmtpLimits(commands_per_message_max=5))
    assert peer.codes(b"NOOP\r\n" + ENVELOPE + b"DATA\r\n.\r\n" + b"NOOP\r\n" * 6)[5:] == [250] * 5 + [421]


def test_nothing_is_parsed_while_an_answer_is_due() -> None:
    """Pipelined input waits for the receiver's answer, and replies stay in order."""
    peer = opened(FakeReceiver(late=True))
    sent = ENVELOPE + b"DATA\r\none\r\n.\r\nNOOP\r\nBOGUS\r\nQUIT\r\n"
    assert peer.codes(sent) == [250, 250, 354]
    assert peer.engine.phase is Phase.RECEIVER
    assert peer.engine.buffered == len(b"NOOP\r\nBOGUS\r\nQUIT\r\n")
    peer.receiver.answer()
    assert peer.woken == 1
    assert codes(peer.engine.take_output()) == [250, 250, 500, 221]


def test_answer_after_loss_is_dropped() -> None:
    """The peer is gone when the receiver answers."""
    peer = opened(FakeReceiver(late=True))
    peer.say(ENVELOPE + b"DATA\r\none\r\n.\r\n")
    peer.engine.lost()
    peer.receiver.answer()
    assert peer.engine.take_output() == b"" and peer.woken == 0


def test_second_answer_is_dropped() -> None:
    """Only the first answer to a delivery counts."""
    peer = opened(FakeReceiver(late=True))
    peer.say(ENVELOPE + b"DATA\r\none\r\n.\r\n")
    done, result = peer.receiver.waiting[0]
    done(result)
    done(result)
    assert codes(peer.engine.take_output()) == [250]


def test_loss_inside_message_aborts_sink() -> None:
    """No sink is left open."""
    peer = opened()
    peer.say(ENVELOPE + b"DATA\r\nhalf a mess")
    peer.engine.lost()
    assert (peer.receiver.begun, peer.receiver.aborted, peer.receiver.delivered) == (1, 1, [])


@pytest.mark.parametrize(
    ("sent", "code"),
    [(b"", 421), (b"MAIL FROM:<a@x.test>\r\n", 421), (ENVELOPE + b"DATA\r\nx", 421), (ENVELOPE + b"BDAT 9\r\nx", 421)],
)
def test_time_out_says_so(sent: bytes, code: int) -> None:
    """421, and the sink is let go."""
    peer = opened()
    peer.say(sent)
    peer.engine.time_out()
    assert codes(peer.engine.take_output()) == [code]
    assert peer.engine.phase is Phase.CLOSED and peer.receiver.open_sinks == 0


def test_time_out_of_delivery_says_nothing() -> None:
    """Whether the message is stored is not known, so neither 250 nor a failure is claimed."""
    peer = opened(FakeReceiver(late=True))
    peer.say(ENVELOPE + b"DATA\r\nx\r\n.\r\n")
    peer.engine.time_out()
    assert peer.engine.take_output() == b"" and peer.engine.phase is Phase.CLOSED


def test_shut_down_idle_session() -> None:
    """An idle session, or one with only an envelope, ends at once."""
    peer = opened()
    peer.say(ENVELOPE)
    peer.engine.shut_down()
    assert codes(peer.engine.take_output()) == [421]


def test_shut_down_lets_message_finish() -> None:
    """A message on its way in is taken and answered, then the session ends."""
    peer = opened(FakeReceiver(late=True))
    peer.say(ENVELOPE + b"DATA\r\nha")
    peer.engine.shut_down()
    assert peer.say(b"lf\r\n.\r\nNOOP\r\n") == b""
    peer.receiver.answer()
    assert codes(peer.engine.take_output()) == [250, 421]
    assert peer.engine.phase is Phase.CLOSED


def test_fault_of_receiver_closes_session(caplog: pytest.LogCaptureFixture) -> None:
    """A mistake of ours is logged with its traceback; the peer gets one line."""
    peer = opened()
    peer.receiver.begin = lambda session: 1 / 0  # type: ignore[method-assign,assignment,return-value]
    assert peer.codes(ENVELOPE + b"DATA\r\n") == [250, 250, 421]
    assert "ZeroDivisionError" in caplog.text and peer.engine.phase is Phase.CLOSED
