"""The header section: fields by offset, folding, and what malformed mail gives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinrt.mail.message.headers import parse_headers

PLAIN = b"From: a@example.org\r\nSubject: one\r\n two\r\nX-Empty:\r\nsubject: second\r\n\r\nbody: not a field\r\n"


def test_fields_are_found_with_their_offsets() -> None:
    """Every field is named, in order, and its raw bytes are the bytes of the message."""
    headers = parse_headers(PLAIN)

    assert [headers.name(i) for i in range(headers.count)] == ["From", "Subject", "X-Empty", "subject"]
    assert headers.raw(headers.fields[1]) == b"Subject: one\r\n two\r\n"
    assert PLAIN[headers.body_offset :] == b"body: not a field\r\n"
    assert headers.complete


def test_value_is_unfolded_and_counts_repeated_fields() -> None:
    """``nth`` counts fields of one name, case aside; unfolding removes line ends and nothing else."""
    headers = parse_headers(PLAIN)

    assert headers.value("SUBJECT") == b"one two"
    assert headers.value(b"Subject", 1) == b"second"
    assert headers.value("subject", 2) is None
    assert headers.value("x-empty") == b""
    assert headers.values(b"subject") == [b"one two", b"second"]


@pytest.mark.parametrize(
    ("data", "body_offset", "names"),
    [
        (b"", 0, []),
        (b"\r\nbody", 2, []),
        (b"\nbody", 1, []),
        (b"A: 1\nB: 2\n\nbody", 11, ["A", "B"]),
        (b"A: 1\n\nbody\n\r\nmore", 6, ["A"]),
        (b"A: 1\r\n\nbody", 7, ["A"]),
        (b"A: 1\r\nno colon here\r\n folded\r\nB: 2\r\n\r\n", 38, ["A", "B"]),
        (b"A : spaced\r\n\r\n", 14, ["A"]),
        (b" leading: fold\r\nA: 1\r\n\r\n", 24, ["A"]),
        (b"A: no end", 9, ["A"]),
        (b"\xffA: 1\r\nB: \xff\x00\r\n\r\n", 16, ["B"]),
    ],
)
def test_malformed_sections_end_where_the_first_empty_line_is(data: bytes, body_offset: int, names: list[str]) -> None:
    """What is no field is skipped, and the section still ends at the first empty line, with CRLF or LF."""
    headers = parse_headers(data)

    assert headers.body_offset == body_offset
    assert [headers.name(i) for i in range(headers.count)] == names


@given(st.binary(max_size=400))
def test_any_bytes_give_fields_inside_the_section(data: bytes) -> None:
    """Whatever the bytes, nothing raises and every field lies in order inside the section."""
    headers = parse_headers(data)

    edges = [edge for field in headers.fields for edge in (field.start, field.value, field.end)]
    assert edges == sorted(edges)
    assert all(edge <= headers.body_offset <= len(data) for edge in edges)
    for index in range(headers.count):
        assert headers.value(headers.name(index)) is not None


@given(
    st.lists(
        st.tuples(
            st.from_regex(r"[A-Za-z][A-Za-z-]{0,10}", fullmatch=True), st.from_regex(r"[!-~]{0,30}", fullmatch=True)
        )
    )
)
def test_written_fields_are_read_back(fields: list[tuple[str, str]]) -> None:
    """A section that was written well is read as it was written."""
    data = b"".join(f"{name}: {value}\r\n".encode() for name, value in fields) + b"\r\n"

    headers = parse_headers(data + b"body")

    assert [headers.name(i) for i in range(headers.count)] == [name for name, _ in fields]
    assert [headers.field_value(field).decode() for field in headers.fields] == [value for _, value in fields]
    assert headers.body_offset == len(data)


def test_long_lines_take_linear_time() -> None:
    """Lines made to force backtracking are read at once (a quadratic reader would take minutes)."""
    parse_headers(b"a" * 1_000_000 + b" " * 1_000_000 + b"\r\n" + b"b:" + b"\n " * 500_000)
