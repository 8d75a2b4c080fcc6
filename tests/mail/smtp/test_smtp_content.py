"""Messages on their way in: end of data, dots, newlines, chunks, bounds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinrt._core import DataDecoder, HopCounter, Phase
from spinrt.errors import UsageError
from spinrt.mail.smtp import reply
from spinrt.mail.smtp.limits import SmtpLimits
from spinrt.mail.smtp.reply import Reply
from tests.mail.smtp import reference_data
from tests.mail.smtp.doubles import ENVELOPE, FakeReceiver, codes, opened

PIECES = st.lists(
    st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"\r\n.", b"\r\n.\r", b"a", b"text", b"\r\n.\r\n"]), max_size=30
)


def reference_decode(stream: bytes) -> tuple[bytes, bytes] | None:
    """Content and rest, line by line, as RFC 5321 4.5.2 says it; none when the end is missing."""
    content, position = b"", 0
    while (end := stream.find(b"\r\n", position)) >= 0:
        line, position = stream[position:end], end + 2
        if line == b".":
            return content, stream[position:]
        content += line.removeprefix(b".") + b"\r\n"
    return None


def decode(pieces: list[bytes], *, normalise: bool = False) -> tuple[bytes, bytes, bool] | None:
    """Content, rest and whether a bare newline was seen."""
    decoder = DataDecoder(normalise=normalise)
    content = b""
    for index, piece in enumerate(pieces):
        content += decoder.feed(piece)
        if decoder.finished:
            rest = piece[len(piece) - decoder.rest :] + b"".join(pieces[index + 1 :])
            return content, rest, decoder.bare
    return None


@given(PIECES)
def test_decoder_agrees_with_reference(pieces: list[bytes]) -> None:
    """Whole buffers at a time give what line by line gives, wherever the octets are cut."""
    expected = reference_decode(b"".join(pieces))
    found = decode(pieces)
    assert (found[:2] if found else None) == expected
    if found:
        assert found[2] == has_bare(b"".join(pieces).removesuffix(found[1]))


@given(PIECES, st.booleans(), st.integers(0, 4))
@settings(deadline=None)
def test_decoder_agrees_with_searches(pieces: list[bytes], normalise: bool, start: int) -> None:
    """One pass gives what searches over whole buffers give, and looks at nothing before ``start``."""
    whole = b"".join(pieces) + b"\r\n.\r\nQUIT\r\n"
    twin = reference_data.DataDecoder(normalise=normalise)
    expected = (twin.feed(whole), twin.finished, twin.rest, twin.bare)
    decoder = DataDecoder(normalise=normalise)
    padded = b"\r\n.\n"[:start]
    assert (decoder.feed(padded + whole, start), decoder.finished, decoder.rest, decoder.bare) == expected


def test_decoder_refuses_a_start_outside() -> None:
    """Nothing in front of the octets or behind them is read."""
    for start in (-1, 4):
        with pytest.raises(UsageError):
            DataDecoder(normalise=False).feed(b"abc", start)


@pytest.mark.parametrize("octets", [b"\r", b"\n", b"\r\n", b"\r\n.", b".", b"\r\n.\r", b"a\r"])
def test_decoder_takes_a_mebibyte_of_anything(octets: bytes) -> None:
    """No pattern makes it look at octets again and again, or write outside of what it was given."""
    stream = octets * (1024 * 1024 // len(octets))
    twin = reference_data.DataDecoder(normalise=True)
    decoder = DataDecoder(normalise=True)
    found, expected = decoder.feed(stream), twin.feed(stream)
    assert (decoder.finished, decoder.rest) == (twin.finished, twin.rest)
    if not decoder.finished:
        assert found + decoder.feed(b"x") == expected + twin.feed(b"x")


def has_bare(raw: bytes) -> bool:
    """There is a CR or an LF that is not part of a CRLF."""
    left = raw.replace(b"\r\n", b"")
    return b"\r" in left or b"\n" in left


@given(PIECES)
def test_decoder_output_does_not_depend_on_cuts(pieces: list[bytes]) -> None:
    """Whole, in pieces and octet by octet, with and without normalising."""
    whole = b"".join(pieces)
    for normalise in (False, True):
        octets = [whole[i : i + 1] for i in range(len(whole))]
        assert decode([whole], normalise=normalise) == decode(octets, normalise=normalise)
        assert decode(pieces, normalise=normalise) == decode(octets, normalise=normalise)


@given(st.lists(st.sampled_from([b"\r\n", b".", b"a", b"\r\n."]), max_size=40).map(b"".join))
def test_stuffed_message_comes_out_as_it_went_in(message: bytes) -> None:
    """What a client stuffs, the decoder gives back."""
    message += b"\r\n"
    stuffed = b"\r\n".join(b"." + line if line.startswith(b".") else line for line in message.split(b"\r\n"))
    assert decode([stuffed + b".\r\nQUIT\r\n"]) == (message, b"QUIT\r\n", False)


@given(PIECES)
def test_normalised_message_has_no_bare_newline(pieces: list[bytes]) -> None:
    """Every newline that comes out is CRLF."""
    found = decode([*pieces, b"\r\n.\r\n"], normalise=True)
    assert found is not None and not has_bare(found[0])


@pytest.mark.parametrize("fake", [b"\n.\n", b"\n.\r\n", b"\r.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r\r\n", b"\n\r\n.\n"])
def test_fake_end_does_not_end_data(fake: bytes) -> None:
    """The smuggled commands stay content, the message is refused, the session goes on behind the real end."""
    peer = opened()
    smuggled = b"x" + fake + b"MAIL FROM:<evil@x.test>\r\nRCPT TO:<b@y.test>\r\nDATA\r\nevil\r\n.\r\n"
    assert peer.codes(ENVELOPE + b"DATA\r\n" + smuggled + b"NOOP\r\n") == [250, 250, 354, 554, 250]
    assert peer.receiver.delivered == [] and peer.receiver.aborted == 1


def test_bare_newlines_are_normalised_for_trusted_peers() -> None:
    """The policy turns them into CRLF; a fake end still ends nothing."""
    peer = opened(limits=SmtpLimits(normalise_newlines=True))
    assert peer.codes(ENVELOPE + b"DATA\r\na\nb\rc\n.\nd\r\n.\r\n") == [250, 250, 354, 250]
    assert peer.receiver.delivered[0][2] == b"a\r\nb\r\nc\r\n.\r\nd\r\n"


@pytest.mark.parametrize(("size", "code"), [(100, 250), (101, 552)])
def test_size_is_bounded_to_the_octet(size: int, code: int) -> None:
    """The limit counts content after unstuffing; above it the message is taken, dropped and refused."""
    content = b".." + b"x" * (size - 3) + b"\r\n"
    peer = opened(limits=SmtpLimits(message_bytes_max=100))
    assert peer.codes(ENVELOPE + b"DATA\r\n" + content + b".\r\nNOOP\r\n") == [250, 250, 354, code, 250]
    assert peer.receiver.open_sinks == 0


def test_endless_message_is_cut() -> None:
    """Beyond what is taken and thrown away the connection is closed."""
    peer = opened(limits=SmtpLimits(message_bytes_max=100, discard_bytes_max=100))
    assert peer.codes(ENVELOPE + b"DATA\r\n" + b"x" * 150) == [250, 250, 354]
    assert peer.codes(b"x" * 60) == [552]
    assert peer.engine.phase is Phase.CLOSED


@pytest.mark.parametrize(("hops", "code"), [(3, 250), (4, 554)])
@pytest.mark.parametrize("by_chunk", [False, True])
def test_loop_is_cut(hops: int, code: int, by_chunk: bool) -> None:
    """Too many Received fields are a loop; those in the body do not count."""
    header = b"received: by a\r\nRECEIVED: by b\r\n" + b"Received: by c\r\n" * (hops - 2)
    content = header + b"Not-Received: x\r\n\r\nReceived: no\r\nReceived: no\r\n"
    peer = opened(limits=SmtpLimits(hops_max=3))
    body = b"BDAT %d LAST\r\n%b" % (len(content), content) if by_chunk else b"DATA\r\n" + content + b".\r\n"
    assert peer.codes(ENVELOPE + body)[-1] == code


@given(st.lists(st.sampled_from([b"Received: x\r\n", b"Received", b": y\n", b"X: y\r\n", b"\r\n", b"\n"])), st.data())
def test_hops_do_not_depend_on_cuts(parts: list[bytes], data: st.DataObject) -> None:
    """Counted in pieces as in whole."""
    whole, counter = b"".join(parts), HopCounter()
    counter.feed(whole)
    cut = HopCounter()
    for index in range(len(whole)):
        cut.feed(whole[index : index + 1])
    assert (cut.hops, cut.complete) == (counter.hops, counter.complete)
    at = data.draw(st.integers(0, len(whole)))
    halves = HopCounter()
    halves.feed(whole[:at])
    halves.feed(whole[at:])
    assert halves.hops == counter.hops


@pytest.mark.parametrize("room", [0, 3])
def test_full_storage_refuses_for_now(room: int) -> None:
    """452: at once when there was no room to begin with, else when the message is complete."""
    peer = opened(FakeReceiver(room=room))
    answers = peer.codes(ENVELOPE + b"DATA\r\n")
    if room:
        answers += peer.codes(b"1234\r\n5678\r\n.\r\n")
    assert answers == ([250, 250, 354, 452] if room else [250, 250, 452])
    assert peer.codes(b"NOOP\r\n") == [250] and peer.receiver.open_sinks == 0


HEADER_PIECES = st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n", b"Received:", b"RECEIVED:", b"Rece", b"ived:", b" x", b"X: y\r\n"]),
    max_size=25,
)


@given(HEADER_PIECES)
@settings(deadline=None)
def test_hop_counter_agrees_with_searches(pieces: list[bytes]) -> None:
    """Octet by octet, in pieces and whole, it counts what searches over the whole header section count."""
    twin = reference_data.HopCounter()
    twin.feed(b"".join(pieces))
    for cut in (pieces, [b"".join(pieces)], [bytes((octet,)) for octet in b"".join(pieces)]):
        counter = HopCounter()
        for piece in cut:
            counter.feed(piece)
        assert (counter.hops, counter.complete) == (twin.hops, twin.complete)


# ------------------------------------------------------------------------------------------------------------- BDAT


def test_chunks_are_binary() -> None:
    """Octets of chunks are kept as they are: dots, bare newlines, NUL."""
    peer = opened()
    content = b".\r\n\r\n.\r\n\n\r\0QUIT\r\n"
    sent = ENVELOPE + b"BDAT 3\r\n" + content[:3] + b"BDAT %d LAST\r\n" % (len(content) - 3) + content[3:]
    assert peer.codes(sent + b"NOOP\r\n") == [250, 250, 250, 250, 250]
    assert peer.receiver.delivered[0][2] == content


def test_empty_last_chunk_ends_message() -> None:
    """``BDAT 0 LAST``, behind chunks or alone."""
    peer = opened()
    assert peer.codes(ENVELOPE + b"BDAT 4\r\nab\r\nBDAT 0 LAST\r\n") == [250, 250, 250, 250]
    assert peer.codes(ENVELOPE + b"bdat 0 last\r\n") == [250, 250, 250]
    assert [content for _, _, content in peer.receiver.delivered] == [b"ab\r\n", b""]


@pytest.mark.parametrize(
    "before", [b"", b"MAIL FROM:<a@x.test>\r\n", b"MAIL FROM:<a@x.test>\r\nRCPT TO:<no@y.test>\r\n"]
)
def test_chunk_out_of_place_is_consumed(before: bytes) -> None:
    """A refused chunk's octets are no commands."""
    peer = opened(FakeReceiver(refused=["no@y.test"]))
    answers = peer.codes(before + b"BDAT 12\r\nQUIT\r\nQUIT\r\nBDAT 0 LAST\r\nNOOP\r\n")
    assert answers[-1] == 250 and all(code in (503, 554) for code in answers[-3:-1])
    assert peer.receiver.begun == 0


def test_chunk_before_greeting_is_consumed() -> None:
    """Even before EHLO."""
    peer = opened()
    assert peer.codes(b"RSET\r\nBDAT 6\r\nQUIT\r\nNOOP\r\n") == [250, 503, 250]


@pytest.mark.parametrize("other", [b"DATA\r\n", b"RCPT TO:<c@y.test>\r\n", b"MAIL FROM:<a@x.test>\r\n"])
def test_command_between_chunks_is_refused(other: bytes) -> None:
    """Between chunks come only chunks, and RSET."""
    peer = opened()
    assert peer.codes(ENVELOPE + b"BDAT 2\r\nab" + other) == [250, 250, 250, 503]
    assert peer.codes(b"BDAT 2 LAST\r\ncd") == [250]
    assert peer.receiver.delivered[0][2] == b"abcd"


def test_reset_between_chunks_drops_message() -> None:
    """RSET lets the sink go."""
    peer = opened()
    assert peer.codes(ENVELOPE + b"BDAT 2\r\nabRSET\r\nBDAT 1 LAST\r\nx") == [250, 250, 250, 250, 503]
    assert peer.receiver.aborted == 1


@pytest.mark.parametrize("argument", [b"", b"x", b"-1", b"1 FIRST", b"1LAST", b"1 LAST LAST", b"9" * 21, b"0x10"])
def test_chunk_of_unknown_size_closes(argument: bytes) -> None:
    """Nobody can tell commands from content any more."""
    peer = opened()
    assert peer.codes(ENVELOPE + b"BDAT " + argument + b"\r\nNOOP\r\n") == [250, 250, 521]
    assert peer.engine.phase is Phase.CLOSED


def test_chunks_beyond_the_size_are_refused_and_consumed() -> None:
    """The chunk that goes over the limit is answered with 552, later ones with 503."""
    peer = opened(limits=SmtpLimits(message_bytes_max=10))
    sent = ENVELOPE + b"BDAT 8\r\n12345678BDAT 8\r\n12345678BDAT 8 LAST\r\n12345678NOOP\r\n"
    assert peer.codes(sent) == [250, 250, 250, 552, 503, 250]
    assert peer.receiver.open_sinks == 0


def test_chunk_far_beyond_the_size_closes_before_it_comes() -> None:
    """A size that will not be taken ends the session at once."""
    peer = opened(limits=SmtpLimits(message_bytes_max=10, discard_bytes_max=10))
    assert peer.codes(ENVELOPE + b"BDAT 21\r\n") == [250, 250, 552]
    assert peer.engine.phase is Phase.CLOSED


@pytest.mark.parametrize("room", [0, 3])
def test_full_storage_refuses_chunks(room: int) -> None:
    """452 behind the chunk, whose octets are consumed."""
    peer = opened(FakeReceiver(room=room))
    assert peer.codes(ENVELOPE + b"BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n") == [250, 250, 452, 250]
    assert peer.receiver.open_sinks == 0


# ------------------------------------------------------------------------------------------------------------- LMTP

LMTP_ENVELOPE = b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\nRCPT TO:<no@y.test>\r\nRCPT TO:<c>\r\n"


@pytest.mark.parametrize("body", [b"DATA\r\nhi\r\n.\r\n", b"BDAT 4 LAST\r\nhi\r\n"])
def test_lmtp_answers_for_each_recipient(body: bytes) -> None:
    """One reply for each accepted recipient, in order (RFC 2033 4.2)."""
    receiver = FakeReceiver(refused=["no@y.test"], late=True)
    peer = opened(receiver, lmtp=True)
    assert peer.codes(LMTP_ENVELOPE) == [250, 250, 550, 250]
    peer.say(body + b"NOOP\r\n")
    done, _ = receiver.waiting.pop()
    done([Reply(250, "2.1.5", "stored for b"), Reply(452, "4.2.2", "mailbox full")])
    output = peer.engine.take_output()
    assert codes(output) == [250, 452, 250]
    assert output.startswith(b"250 2.1.5 stored for b\r\n452 4.2.2 mailbox full\r\n")
    assert receiver.delivered[0][1] == ("b@y.test", "c")


def test_lmtp_refusal_is_given_for_each_recipient() -> None:
    """What is wrong with the message is wrong for all."""
    peer = opened(FakeReceiver(refused=["no@y.test"]), lmtp=True)
    assert peer.codes(LMTP_ENVELOPE + b"DATA\r\nbare\nLF\r\n.\r\n") == [250, 250, 550, 250, 354, 554, 554]


def test_lmtp_without_recipient_takes_no_data() -> None:
    """No recipient, no message, one reply."""
    peer = opened(FakeReceiver(refused=["no@y.test"]), lmtp=True)
    assert peer.codes(b"MAIL FROM:<>\r\nRCPT TO:<no@y.test>\r\nDATA\r\nBDAT 2 LAST\r\nxxNOOP\r\n") == [
        250,
        550,
        554,
        554,
        250,
    ]


def test_lmtp_greets_with_lhlo_only() -> None:
    """EHLO and HELO get no positive reply (RFC 2033 4.1), and there is no login."""
    peer = opened(lmtp=True)
    assert peer.greeting == b"220 mx.test LMTP spinrt\r\n"
    assert peer.codes(b"EHLO x\r\nHELO x\r\nAUTH PLAIN\r\n") == [500, 500, 502]


def test_wrong_number_of_answers_is_our_fault(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody is told that a message is stored when it is not known for whom."""
    receiver = FakeReceiver()
    receiver.replies = [reply.MESSAGE_OK] * 3
    peer = opened(receiver, lmtp=True)
    assert peer.codes(b"MAIL FROM:<>\r\nRCPT TO:<b@y>\r\nRCPT TO:<c@y>\r\nDATA\r\n.\r\n")[-2:] == [451, 451]
    assert "3 replies for 2 recipients" in caplog.text
