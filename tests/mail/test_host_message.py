"""``spinrt:mail/message``: reading on demand, and only while the message is lent."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinrt._core import LentMessage
from spinrt.errors import CapabilityRevoked
from spinrt.mail.host.message import READ_BYTES_MAX, MessageInterface
from spinrt.mail.message.headers import parse_headers
from tests.mail.host_support import bind, lent

DATA = b"Subject: one\r\nTo: a,\r\n b\r\nsubject: two\r\n\r\n" + b"0123456789" * 10_000
METHODS = {
    "[method]message.size": (),
    "[method]message.body-offset": (),
    "[method]message.header-count": (),
    "[method]message.header-name": (0,),
    "[method]message.header": ("subject", 0),
    "[method]message.read": (0, 10),
}


def ask(message: LentMessage, method: str, *arguments: object) -> object:
    return bind(MessageInterface(), f"[method]message.{method}")(None, message, *arguments)


def test_headers_by_name_and_position() -> None:
    """Values come unfolded, by name without case, from the top; past the end there is none."""
    message = lent(DATA)
    assert ask(message, "size") == len(DATA)
    assert ask(message, "body-offset") == DATA.index(b"\r\n\r\n") + 4
    assert ask(message, "header-count") == 3
    assert [ask(message, "header-name", position) for position in (0, 1, 2, 3, 2**32 - 1)] == [
        "Subject",
        "To",
        "subject",
        None,
        None,
    ]
    assert [ask(message, "header", "SUBJECT", nth) for nth in (0, 1, 2)] == [b"one", b"two", None]
    assert ask(message, "header", "To", 0) == b"a, b"
    assert ask(message, "header", "\xe4", 0) is None


def test_read_is_bounded_and_ends_with_the_message() -> None:
    """One call gives 65,536 bytes at most; past the end it gives none."""
    message = lent(DATA)
    assert ask(message, "read", 0, 2**32 - 1) == DATA[:READ_BYTES_MAX]
    assert ask(message, "read", len(DATA) - 3, 10) == DATA[-3:]
    assert ask(message, "read", len(DATA), 10) == b""
    assert ask(message, "read", 2**64 - 1, 10) == b""


def test_a_header_section_of_any_size_is_found_by_reading_no_body() -> None:
    """Sections beyond the first piece are read on; a body is not."""
    head = b"".join(b"X-%d: %s\r\n" % (n, b"v" * 100) for n in range(400)) + b"Last: here\r\n\r\n"
    data, reads = head + bytes(10_000_000), []

    def read(offset: int, length: int) -> bytes:
        reads.append(length)
        return data[offset : offset + length]

    message = LentMessage(read, len(data))
    assert list(message.values("last")) == [b"here"]
    assert sum(reads) < 2_000_000


PIECES = (b"A", b"a:", b"Ab", b"ab :", b":", b" ", b"\t", b"\n", b"\r\n", b"\r", b"x", b"\xff", b"\0", b"b \t: z\r\n")
pieces = st.sampled_from(PIECES)


@settings(deadline=None)
@given(st.lists(pieces, max_size=40).map(b"".join) | st.binary(max_size=60))
def test_fields_are_those_that_the_parser_finds(data: bytes) -> None:
    """Looking for single fields and parsing the whole section by offsets agree on any bytes."""
    headers = parse_headers(data)
    message = lent(data)
    there = [headers.name(number) for number in range(headers.count)]
    assert message.section == headers.data
    assert message.header_count() == headers.count
    assert [message.header_name(position) for position in range(headers.count + 1)] == [*there, None]
    for name in {"a", "AB", "x", "a:", "a\nab", "", "missing", *there}:
        assert message.values(name) == headers.values(name.lower().encode())
        assert [message.header(name, nth) for nth in range(3)] == [headers.value(name, nth) for nth in range(3)]


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 64, 65, 100])
def test_every_field_of_many_is_found(count: int) -> None:
    """By name and number, whether it is among those that are kept or comes behind them, from the last to the first."""
    data = (
        b"".join(b"%s: %d\r\n %d\r\nno field\r\n" % (b"xXy"[n % 3 : n % 3 + 1], n, n) for n in range(count))
        + b"\r\nx: body"
    )
    headers, message = parse_headers(data), lent(data)
    expected = {name: headers.values(name.encode()) for name in ("x", "y", "z")}
    assert [len(values) for values in expected.values()] == [count - count // 3, count // 3, 0]
    for name, values in expected.items():
        for nth in reversed(range(len(values) + 2)):
            assert message.header(name, nth) == (values[nth] if nth < len(values) else None)


def test_fields_of_one_message_are_not_those_of_another() -> None:
    """What is kept of a message goes with its loan."""
    first, second = lent(b"A: 1\r\n\r\n"), lent(b"A: 2\r\n\r\n")
    assert (first.header("a", 0), second.header("a", 0)) == (b"1", b"2")
    first.take_back()
    assert (first.header("a", 0), second.header("a", 0)) == (b"1", b"2")


@pytest.mark.parametrize("fields", [50, 200, 800])
@pytest.mark.parametrize("at_read", [1, 2, 3])
@pytest.mark.parametrize("taken_back", [False, True])
def test_a_source_that_asks_the_message_itself(fields: int, at_read: int, taken_back: bool) -> None:
    """What it finds stays right, whatever has been freed and filled anew in between, and when the loan ends there."""
    data = b"".join(b"H%d: %s\r\n" % (number, b"%d" % number * 100) for number in range(fields)) + b"\r\nbody"
    reads = 0

    def read(offset: int, length: int) -> bytes:
        nonlocal reads
        reads += 1
        found = bytes(bytearray(data[offset : offset + length]))
        if reads == at_read:
            message.header("h5", 0)
            if taken_back:
                message.take_back()
        return found

    message = LentMessage(read, len(data))
    message.header("h1", 0)
    others = [bytes(bytearray(b"X" * len(data))) for _ in range(10)]
    assert [message.header(f"h{number}", 0) for number in range(fields)] == [b"%d" % n * 100 for n in range(fields)]
    assert len(others) == 10


def test_names_by_position_in_any_order() -> None:
    """Going back and past the end gives what going forward gave."""
    message = lent(b"A: 1\r\nB: 2\r\n folded: no\r\nC: 3\r\n\r\n")
    found = [message.header_name(position) for position in (2, 0, 5, 1, 1, 3, 2)]
    assert found == ["C", "A", None, "B", "B", None, "C"]


@pytest.mark.parametrize("method", METHODS)
def test_nothing_works_when_the_loan_is_over(method: str) -> None:
    """A message that was taken back gives nothing, not even its size."""
    message = lent(DATA)
    closure = bind(MessageInterface(), method)
    closure(None, message, *METHODS[method])
    message.take_back()
    with pytest.raises(CapabilityRevoked):
        closure(None, message, *METHODS[method])
