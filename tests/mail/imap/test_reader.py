"""Framing: whole, byte by byte and pipelined input give the same events; refused literals leave the stream in step."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinrt.mail.imap.command import AppendTo, Command, Login, NoArguments
from spinrt.mail.imap.limits import ImapLimits
from spinrt.mail.imap.reader import (
    Bad,
    Continue,
    Event,
    Fatal,
    MessageData,
    MessageEnd,
    MessageStart,
    Reader,
    TooBig,
)

LIMITS = ImapLimits(line_bytes_max=200, literal_bytes_max=50, command_bytes_max=300, discard_bytes_max=1000)

STREAM = (
    b"a1 LOGIN {5+}\r\nalice {6}\r\nsesame\r\n"
    b'a2 SELECT "in\\"box"\r\n'
    b"a3 BOGUS\r\n"
    b"\r\n"
    b"a4 APPEND {5+}\r\ninbox (\\Seen) {4}\r\nA: b\r\n"
    b"a5 FETCH 1:* (FLAGS BODY.PEEK[HEADER.FIELDS (To {7+}\r\nSubject)]<0.9>)\r\n"
    b"a6 LOGIN {60+}\r\n" + b"x" * 60 + b" {3+}\r\nabc\r\n"
    b"a7 SEARCH SUBJECT {999999999}\r\n"
    b"a8 " + b"y" * 500 + b"\r\n"
    b"a9 NOOP\n"
)


def drain(reader: Reader) -> list[Event]:
    """All events that are there; messages are accepted."""
    events: list[Event] = []
    while (event := reader.next()) is not None:
        events.append(event)
        if isinstance(event, MessageStart):
            reader.accept_message()
        if isinstance(event, Fatal):
            break
    return events


def joined(events: list[Event]) -> list[Event]:
    """Events with the pieces of one message made one: only their cut depends on how bytes come."""
    found: list[Event] = []
    for event in events:
        if isinstance(event, MessageData) and found and isinstance(found[-1], MessageData):
            found[-1] = MessageData(found[-1].data + event.data)
        else:
            found.append(event)
    return found


def read(data: bytes, step: int, limits: ImapLimits = LIMITS) -> list[Event]:
    reader = Reader(limits)
    events: list[Event] = []
    for start in range(0, len(data), step):
        reader.feed(data[start : start + step])
        events += drain(reader)
    return joined(events)


def test_stream_gives_its_events() -> None:
    """The events of a stream with every kind of literal, good and bad."""
    events = read(STREAM, len(STREAM))

    assert events[:2] == [Continue(), Command("a1", "LOGIN", Login(b"alice", b"sesame"))]
    assert isinstance(events[2], Command) and events[2].name == "SELECT"
    assert events[3] == Bad("a3", "no such command: BOGUS")
    assert events[4] == Bad(None, "a command is a tag, a space and a name")
    append = Command("a4", "APPEND", AppendTo("INBOX", ("\\Seen",), None))
    assert events[5:8] == [MessageStart(append, 4, True), MessageData(b"A: b"), MessageEnd(None)]
    assert isinstance(events[8], Command) and events[8].tag == "a5"
    assert isinstance(events[9], TooBig) and events[9].tag == "a6"
    assert isinstance(events[10], TooBig) and events[10].tag == "a7"
    assert events[11:] == [
        TooBig("a8", "line is longer than 200 bytes"),
        Command("a9", "NOOP", NoArguments()),
    ]


@pytest.mark.parametrize("step", [1, 2, 3, 7, 64])
def test_how_bytes_arrive_changes_nothing(step: int) -> None:
    """Byte by byte, in pieces or all at once: the same events."""
    assert read(STREAM, step) == read(STREAM, len(STREAM))


@given(st.binary(max_size=300) | st.text(alphabet='a1 {}+"()\r\n*:BODY[]NOPE', max_size=200).map(str.encode))
def test_any_bytes_are_read_without_raising(data: bytes) -> None:
    """Random input, cut anywhere, gives the same events and never raises."""
    assert read(data, 1) == read(data, max(1, len(data)))


@pytest.mark.parametrize(
    "data",
    [
        b"a LOGIN {4294967296}\r\n",
        b"a LOGIN {4294967296+}\r\n",
        b"a LOGIN {99999999999999999999}\r\n",
        b"a APPEND x {99999999999999999999+}\r\n",
        b"a SEARCH " + b"(" * 10_000 + b"\r\n",
        b"a SEARCH " + b"NOT " * 10_000 + b"ALL\r\n",
        b"a SEARCH " + b"OR " * 10_000 + b"\r\n",
        b"a FETCH 1 (" + b"(" * 10_000 + b"\r\n",
        b"a FETCH 1 BODY[" + b"1." * 10_000 + b"1]\r\n",
        b"a FETCH " + b"1:*," * 10_000 + b"1 UID\r\n",
        b"a LIST " + b"(" * 10_000 + b"\r\n",
        b"a STORE 1 FLAGS (" + b"x " * 10_000 + b")\r\n",
        b"a NO\0OP\r\n",
        b"a LOGIN \0 \0\r\n",
        b'a LOGIN "a\0" b\r\n',
        b"a SELECT &\r\n",
        b"a SELECT &AAAA\r\n",
        b"a SELECT &2D0-\r\n",
        b"a SELECT &AGE-\r\n",
        b"a SELECT \xff\r\n",
        b'a SELECT "\r\n',
        b"a SELECT {3+}\r\n",
        b"a UID\r\n",
        b"a UID UID FETCH\r\n",
        b"a FETCH 18446744073709551616 UID\r\n",
        b"a FETCH 1 BODY[]<0.0>\r\n",
        b"a FETCH 1 BODY[0]\r\n",
        b"a FETCH 1 BODY[MIME]\r\n",
        b"a FETCH 1 BODY[HEADER.FIELDS ()]\r\n",
        b'a APPEND x "31-Feb-2024 12:00:00 +0000" {3+}\r\nabc\r\n',
        b'a APPEND x "01-Jan-2024 12:00:00 +9999" {3+}\r\nabc\r\n',
        b"a SEARCH BEFORE 99-Jan-2024\r\n",
        b"a SEARCH ON 31-Dec-9999\r\n",
        b"a STATUS x ()\r\n",
        b"+ NOOP\r\n",
        b"* NOOP\r\n",
        b"a\r\n",
        b" \r\n",
        b"a  NOOP\r\n",
        b"a NOOP \r\n",
        b"a SELECT INBOX (\r\n",
        b"\r" * 1000 + b"\n",
    ],
)
def test_hostile_commands_are_refused_and_the_next_is_read(data: bytes) -> None:
    """Whatever came, nothing raises, and a command on the next line is understood unless a literal is outstanding."""
    reader = Reader(ImapLimits())
    reader.feed(data)
    events = drain(reader)

    assert all(isinstance(event, Bad | TooBig | Command | MessageStart | Continue | Fatal) for event in events)
    if any(isinstance(event, Fatal | Continue | MessageStart) for event in events) or data.endswith(b"+}\r\n"):
        return
    reader.feed(b"z NOOP\r\n")
    assert drain(reader)[-1:] == [Command("z", "NOOP", NoArguments())]


def test_refused_message_of_a_client_that_does_not_wait_is_passed_over() -> None:
    """The owner may refuse a message; its bytes, and the line behind them, are not taken for commands."""
    reader = Reader(LIMITS)
    reader.feed(b"a APPEND x {12+}\r\nb LOGOUT\r\n\r\n\r\nc NOOP\r\n")
    assert isinstance(reader.next(), MessageStart)
    assert reader.next() is None
    reader.refuse_message()
    assert reader.next() == Command("c", "NOOP", NoArguments())


def test_refused_message_of_a_client_that_waits_is_not_awaited() -> None:
    """After a refusal the client sends its next command."""
    reader = Reader(LIMITS)
    reader.feed(b"a APPEND x {12}\r\n")
    assert isinstance(reader.next(), MessageStart)
    reader.refuse_message()
    reader.feed(b"c NOOP\r\n")
    assert reader.next() == Command("c", "NOOP", NoArguments())


def test_literal_too_large_to_pass_over_is_the_end() -> None:
    """A client cannot make the server read for ever."""
    events = read(b"a LOGIN {1001+}\r\nxxxx\r\nb NOOP\r\n", 1)
    assert isinstance(events[-1], Fatal)


def test_many_empty_literals_are_bounded() -> None:
    """The bound on a command counts all of its pieces."""
    events = read(b"a ID (" + b"{0+}\r\n " * 200 + b")\r\nb NOOP\r\n", 1000)
    assert isinstance(events[0], TooBig)
    assert events[-1] == Command("b", "NOOP", NoArguments())


def test_a_line_in_single_bytes_is_searched_once() -> None:
    """A megabyte in single bytes takes a moment, not minutes."""
    reader = Reader(ImapLimits(line_bytes_max=2**21))
    started = time.process_time()
    for _ in range(300_000):
        reader.feed(b"x")
        assert reader.next() is None
    assert time.process_time() - started < 10


def test_bare_lines_for_idle_and_sasl() -> None:
    """Between commands the owner may read a line as it is; an endless one is cut."""
    reader = Reader(LIMITS)
    reader.feed(b"DO")
    assert reader.next_line() is None
    reader.feed(b"NE\r\nrest")
    assert reader.next_line() == b"DONE"
    assert reader.next_line() is None
    reader.feed(b"x" * 300)
    line = reader.next_line()
    assert line is not None and len(line) > LIMITS.line_bytes_max
