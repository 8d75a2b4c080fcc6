"""FETCH beside slower ways to the same answer: items read anew, sets of numbers in general, dates, small pieces."""

from __future__ import annotations

import asyncio
import re
from array import array
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from itertools import chain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinrt.mail.imap import fetch, parser_fetch
from spinrt.mail.imap.command import Fetch, SequenceSet
from spinrt.mail.imap.connection import Connection
from spinrt.mail.imap.cursor import MONTHS, Cursor, SyntaxProblem
from spinrt.mail.imap.limits import ImapLimits
from spinrt.mail.imap.parser import parse_command
from spinrt.mail.imap.response import internal_date
from spinrt.mail.imap.server import ImapServer
from spinrt.mail.imap.state import NoSuchMessage, RecentMarks, View
from spinrt.mail.store.model import Mailbox, Message
from spinrt.mail.store.store import Store
from tests.mail.imap.conftest import Client

Serve = Callable[..., Any]

ITEMS = (
    *("FLAGS", "uid", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY", "BODYSTRUCTURE", "MODSEQ", "RFC822", "FAST"),
    *("ALL", "BODY[]", "BODY.PEEK[]", "BODY[]<0.10>", "BODY[]<7.100000>", "BODY.PEEK[HEADER]", "BODY[TEXT]", "BODY[1]"),
    *(
        "body[2.mime]",
        "RFC822.HEADER",
        "BODY[HEADER.FIELDS (To {7+}\r\nSubject)]",
        "BODY.PEEK[HEADER.FIELDS.NOT (From)]",
    ),
    *("(", ")", "BODY[0]", "X"),
)
ENDS = ("", " (CHANGEDSINCE 7)", " (CHANGEDSINCE 0)", " ", " x", "\r\n")


@st.composite
def wishes(draw: st.DrawFn) -> bytes:
    """What may stand behind the numbers of a FETCH; not all of it can be read."""
    items = " ".join(draw(st.lists(st.sampled_from(ITEMS), min_size=1, max_size=5)))
    listed = f"({items})" if draw(st.booleans()) else items
    return (listed + draw(st.sampled_from(ENDS)) + draw(st.sampled_from(("\r\n", "\n")))).encode()


def read(line: bytes) -> Fetch | str:
    try:
        arguments = parse_command(line).arguments
    except SyntaxProblem as problem:
        return str(problem)
    assert isinstance(arguments, Fetch)
    return arguments


def read_any(line: bytes) -> object:
    try:
        return parse_command(line)
    except SyntaxProblem as problem:
        return str(problem)


@given(wishes(), st.booleans())
def test_what_is_remembered_is_what_would_be_read(wish: bytes, uid: bool) -> None:
    """The second time, and behind other numbers, the same; and the same as without a memory, problems too."""
    name = b"UID FETCH" if uid else b"FETCH"
    first, again = read(b"a " + name + b" 1 " + wish), read(b"b " + name.lower() + b" 1 " + wish)
    other = read(b"a " + name.title() + b" 3:*,7 " + wish)
    try:
        expected: Any = parser_fetch._wanted(wish, uid)
    except SyntaxProblem as problem:
        expected = str(problem)
    assert first == again
    if isinstance(first, Fetch) and isinstance(other, Fetch):
        assert (first.wanted, first.changed_since) == (other.wanted, other.changed_since) == expected
        assert other.messages == SequenceSet(((3, 0), (7, 7)))
    else:
        assert first == other == expected


RANGES = st.from_regex(rb" [0-9]{1,11}(:[0-9*]{1,11})? x?", fullmatch=True)


@given(st.text(" 0123456789:*,x", max_size=12).map(str.encode) | RANGES)
def test_one_range_is_read_as_a_set_is(text: bytes) -> None:
    """The short way and the general one: the same numbers, the same place behind them, the same problems."""

    def outcome(numbers: Callable[[Cursor], tuple[tuple[int, int], ...]]) -> tuple[Any, ...]:
        cursor = Cursor(text)
        try:
            return numbers(cursor), cursor.position
        except SyntaxProblem as problem:
            return (str(problem),)

    def generally(cursor: Cursor) -> tuple[tuple[int, int], ...]:
        cursor.space()
        ranges = cursor.sequence_set()
        cursor.space()
        return ranges

    assert outcome(Cursor.numbered) == outcome(generally)


@pytest.mark.parametrize("name", [b"NOOP", b"UID NOOP", b"UID FETCHX", b"UID", b"UID 1", b"UID FETCH-X", b"FETCH"])
def test_a_name_is_the_same_in_any_case(name: bytes) -> None:
    """What is looked up as it is spelled, and what has to be put in capitals first; known or not."""
    for rest in (b" 1 FLAGS\r\n", b"\r\n"):
        assert read_any(b"a " + name + rest) == read_any(b"a " + name.lower() + rest)


def test_what_is_remembered_is_bounded() -> None:
    """Neither many wishes nor long ones fill the memory."""
    for number in range(1, 2 * parser_fetch.KNOWN_COUNT_MAX):
        read(b"a FETCH 1 BODY[%d]\r\n" % number)
    known = parser_fetch._wanted_again.cache_info()
    assert known.currsize <= parser_fetch.KNOWN_COUNT_MAX
    long = b"(" + b" ".join([b"BODY[1]"] * 90) + b")\r\n"
    assert len(long) > parser_fetch.KNOWN_BYTES_MAX
    assert isinstance(read(b"a FETCH 1 " + long), Fetch)
    assert parser_fetch._wanted_again.cache_info() == known


@given(st.lists(st.integers(1, 40), unique=True).map(sorted), st.integers(0, 42), st.integers(0, 42))
def test_one_range_selects_what_two_of_it_do(uids: list[int], low: int, high: int) -> None:
    """The short way for one range against the general way, which the same range twice takes."""
    view = View(Mailbox(1, "a", "INBOX", 1, False, None), array("I", uids), read_only=True, marks=RecentMarks())
    once, twice = SequenceSet(((low, high),)), SequenceSet(((low, high), (low, high)))
    assert view.by_uid(once) == view.by_uid(twice)
    try:
        expected = view.by_sequence(twice)
    except NoSuchMessage as problem:
        with pytest.raises(NoSuchMessage) as caught:
            view.by_sequence(once)
        assert str(caught.value) == str(problem)
    else:
        assert view.by_sequence(once) == expected


def date_slowly(seconds: int, zone_minutes: int) -> bytes:
    """As the calendar of the standard library has it."""
    try:
        moment = datetime.fromtimestamp(seconds, timezone(timedelta(minutes=zone_minutes)))
    except (ValueError, OverflowError, OSError):
        moment = datetime.fromtimestamp(0, UTC)
    month = MONTHS[moment.month - 1]
    return f'"{moment.day:02d}-{month}-{moment.year:04d} {moment:%H:%M:%S %z}"'.encode("ascii")


SECONDS = st.integers(-(2**63), 2**63 - 1) | st.integers(-62_135_700_000, -62_135_500_000) | st.integers(0, 2**33)


@given(SECONDS | st.integers(253_402_200_000, 253_402_400_000), st.integers(-1500, 1500))
def test_dates_are_those_of_the_calendar(seconds: int, zone_minutes: int) -> None:
    """Every second and zone that may be stored, and those that no calendar has."""
    assert internal_date(seconds, zone_minutes) == date_slowly(seconds, zone_minutes)


PARTS = (
    b"From: a@example.org\r\nSubject: parts\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\n\r\n" + b"first line\r\n" * 40 + b"--b\r\nContent-Type: text/html\r\n\r\n<p>\r\n--b--\r\n"
)
COMMANDS = (
    "FETCH 1:5 (FLAGS UID)",
    "UID FETCH 1:* (RFC822.SIZE INTERNALDATE FLAGS MODSEQ)",
    "FETCH 2:4 (UID BODY.PEEK[] BODY.PEEK[TEXT] ENVELOPE)",
    "FETCH 1,3,5 (BODY.PEEK[HEADER.FIELDS (Subject)] BODY.PEEK[1] BODY.PEEK[2] BODY.PEEK[3] BODYSTRUCTURE)",
    "FETCH 1:* (BODY.PEEK[]<3.50> BODY.PEEK[]<100000.5> RFC822.HEADER)",
    "UID FETCH 2:9 (FLAGS) (CHANGEDSINCE 3)",
    "FETCH 1:2 BODY[]",
    "UID FETCH 1:* (UID RFC822 FLAGS)",
    "FETCH 1:* FULL",
    "FETCH 1:* FAST",
    "FETCH 2,4:5 (UID MODSEQ INTERNALDATE RFC822.SIZE FLAGS)",
)


def without_modseq(line: bytes) -> bytes:
    r"""A response but for its MODSEQ: messages that are marked ``\Seen`` together share one."""
    return re.sub(rb"MODSEQ \(\d+\)", b"MODSEQ", line)


def test_pieces_and_batches_show_in_no_answer(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    r"""Messages one by one, in pieces of a few bytes, with a turn for others after each: the same, and ``\Seen``.

    Nor does it show which were written in the short way, for those that need no text of the messages.
    """

    def generally(writer: Any, messages: list[Message]) -> Iterator[bytes]:
        return chain.from_iterable(map(writer._answer, messages))

    async def scenario(server: ImapServer, store: Store) -> None:
        client = await Client.logged_in(server)
        for mailbox in ("whole", "cut"):
            await client.run(f"CREATE {mailbox}")
            for index in range(5):
                options = f'({"$k" if index % 2 else ""}) "0{index + 1}-Feb-2024 12:00:00 +0130" '
                await client.append(mailbox, PARTS.replace(b"first", b"line %d" % index), options)
        expected, found = [], []
        await client.run("SELECT whole")
        for command in COMMANDS:
            expected.append(await client.run(command))
        await client.run("SELECT cut")
        monkeypatch.setattr(fetch, "PIECE_BYTES", 11)
        monkeypatch.setattr(fetch, "BATCH_MESSAGES", 1)
        monkeypatch.setattr(Connection, "pressed", lambda _: True)
        monkeypatch.setattr(fetch._Writer, "answers", generally)
        for command in COMMANDS:
            found.append(await client.run(command))
        assert [list(map(without_modseq, answer)) for answer in found] == [
            list(map(without_modseq, answer)) for answer in expected
        ]
        assert sum(len(answer) for answer in expected) > 30

    serve(scenario)


def test_commands_that_need_not_wait_make_no_task(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    r"""Ordinary FETCHes are answered where they are read; one that sets ``\Seen`` waits until that is durable."""

    async def scenario(server: ImapServer, _: Store) -> None:
        client = await Client.logged_in(server)
        await client.append("INBOX", PARTS)
        await client.run("SELECT INBOX")
        made: list[str] = []
        create_task = asyncio.get_running_loop().create_task

        def counted(work: Any, **options: Any) -> asyncio.Task[Any]:
            made.append(work.__qualname__)
            return create_task(work, **options)

        monkeypatch.setattr(asyncio.get_running_loop(), "create_task", counted)
        for command in COMMANDS[:3]:
            await client.run(command.replace("5", "1").replace("2:4", "1"))
        assert made == []
        await client.run("FETCH 1 BODY[]")
        assert made == ["Connection._go_on"]

    serve(scenario, limits=ImapLimits(slice_s=60.0))
