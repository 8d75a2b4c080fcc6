"""MIME by offset: sections of built messages are the bytes they were built from; odd ones are survived."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinrt.mail.imap.response import body_structure, format_envelope
from spinrt.mail.message.address import Mailbox, parse_addresses
from spinrt.mail.message.envelope import envelope
from spinrt.mail.message.headers import parse_headers
from spinrt.mail.message.mime import DEPTH_MAX, PARTS_MAX, SCANS_MAX, Part, parse_mime
from spinrt.mail.message.view import MessageView, Section, SectionKind, Span, find_part
from spinrt.mail.message.words import decode_base64, decode_words


def section(message: bytes, path: tuple[int, ...] = (), kind: SectionKind = SectionKind.WHOLE) -> bytes | None:
    """The bytes that a section means."""
    view = MessageView.of_bytes(message)
    found = view.section(Section(path, kind))
    return message[found.start : found.end] if isinstance(found, Span) else found


# -------------------------------------------------------------------------------------------------- built messages


@dataclass
class Built:
    """A part as it was built: its header, its body, and what is inside."""

    header: bytes
    body: bytes
    children: list[Built] = field(default_factory=list)
    message: Built | None = None

    @property
    def data(self) -> bytes:
        return self.header + self.body


def build(choose: random.Random, depth: int, names: list[int]) -> Built:
    """A part with random contents; every boundary in one message is another."""
    kind = choose.choice(["leaf", "leaf", "multipart", "message"]) if depth else "leaf"
    newline = choose.choice([b"\r\n", b"\r\n", b"\n"])
    extra = choose.choice([b"", b"X-Note: some\r\n fold\r\n"])
    if kind == "leaf":
        body = choose.choice(
            [b"", b"text", b"two\r\nlines\r\n", b"\r\n", b"--\r\n--almost\r\n", b"\xff\x00\r\n--", b"\n\n"]
        )
        return Built(extra + choose.choice([b"", b"Content-Type: text/html\r\n"]) + b"\r\n", body)
    if kind == "message":
        inner = build(choose, depth - 1, names)
        return Built(extra + b"Content-Type: message/rfc822\r\n\r\n", inner.data, message=inner)
    names.append(len(names))
    boundary = b"b%d_" % len(names)
    children = [build(choose, depth - 1, names) for _ in range(choose.randint(1, 3))]
    body = choose.choice([b"", b"preamble\r\n"])
    for child in children:
        body += b"--" + boundary + choose.choice([b"", b" \t"]) + newline + child.data + newline
    body += b"--" + boundary + b"--" + choose.choice([b"", newline, newline + b"epilogue"])
    header = extra + b'Content-Type: multipart/mixed;\r\n boundary="' + boundary + b'"\r\n\r\n'
    return Built(header, body, children)


def check_part(message: bytes, built: Built, part: Part, path: tuple[int, ...]) -> None:
    """A part, and all below it, is what it was built from, by offsets and by sections."""
    assert message[part.start : part.body] == built.header
    assert message[part.body : part.end] == built.body
    if path:
        assert section(message, path) == built.body
        assert section(message, path, SectionKind.MIME) == built.header
    assert len(part.children) == len(built.children)
    for index, (child, inner) in enumerate(zip(built.children, part.children, strict=True), 1):
        check_part(message, child, inner, (*path, index))
    if built.message is not None and path:
        assert part.message is not None
        assert section(message, path, SectionKind.HEADER) == built.message.header
        assert section(message, path, SectionKind.TEXT) == built.message.body
        inside = built.message.children
        numbered = inside or [built.message]
        for index, child in enumerate(numbered, 1):
            assert section(message, (*path, index)) == child.body
        check_children(message, built.message, part.message, path)


def check_children(message: bytes, built: Built, part: Part, path: tuple[int, ...]) -> None:
    """The parts of an enclosed message are numbered below the part that encloses it."""
    assert message[part.start : part.end] == built.data
    for index, (child, inner) in enumerate(zip(built.children, part.children, strict=True), 1):
        check_part(message, child, inner, (*path, index))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32))
def test_sections_are_what_the_message_was_built_from(seed: int) -> None:
    """For any nesting of multiparts and messages, each section gives back the bytes that were put there."""
    choose = random.Random(seed)
    built = build(choose, 4, [])
    message = built.data
    root = parse_mime(message)
    check_part(message, built, root, ())
    if not built.children:
        assert section(message, (1,)) == built.body
    assert section(message) == message
    assert section(message, (), SectionKind.HEADER) == built.header
    assert section(message, (), SectionKind.TEXT) == built.body


def check_inside(part: Part, low: int, high: int, depth: int = 0) -> int:
    """Parts lie inside the part they belong to, in order; returns how many there are."""
    assert low <= part.start <= part.body <= part.end <= high
    assert depth <= DEPTH_MAX + 1
    count, position = 1, part.body
    for child in part.children:
        assert child.start >= position
        count += check_inside(child, part.body, part.end, depth + 1)
        position = child.end
    if part.message is not None:
        count += check_inside(part.message, part.body, part.end, depth + 1)
    return count


FRAGMENTS = [
    b"Content-Type: multipart/mixed; boundary=a\r\n",
    b'content-type: MULTIPART/digest; boundary="b b"; charset="\\"',
    b"Content-Type: message/rfc822\r\n",
    b'Content-Type: ;;;=""\r\n',
    b"Content-Disposition: attachment; filename=\r\n",
    b'From: (((a, <b@c>, g: x@y, ; "',
    b"\r\n",
    b"\n",
    b"\r\n--a\r\n",
    b"\r\n--a--\r\n",
    b"--b b\n",
    b" fold\r\n",
    b"text",
    b"\0\xff",
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=8), max_size=40).map(b"".join))
def test_no_bytes_make_the_parser_raise(data: bytes) -> None:
    """Pieces of mail in any order parse into a tree that lies inside the message and can be written."""
    root = parse_mime(data)
    assert check_inside(root, 0, len(data)) <= PARTS_MAX * 2
    written = body_structure(root, extended=True) + format_envelope(envelope(root.headers))
    assert b"\0" not in written
    for name in (b"from", b"to"):
        parse_addresses(root.headers.value(name) or b"")
    for kind in SectionKind:
        MessageView.of_bytes(data).section(Section((1, 1), kind, (b"from",)))


# ------------------------------------------------------------------------------------------------------ odd messages


def test_line_end_before_a_delimiter_belongs_to_it() -> None:
    """The example of RFC 2046 5.1.1: one part ends without a line end, the other with one."""
    message = (
        b'Content-Type: multipart/mixed; boundary="simple boundary"\r\n\r\npreamble\r\n--simple boundary\r\n\r\n'
        b"no line end\r\n--simple boundary\r\nContent-type: text/plain; charset=us-ascii\r\n\r\nwith line end\r\n\r\n"
        b"--simple boundary--\r\nepilogue\r\n"
    )
    assert section(message, (1,)) == b"no line end"
    assert section(message, (2,)) == b"with line end\r\n"
    assert section(message, (3,)) is None


@pytest.mark.parametrize(
    ("message", "bodies"),
    [
        (b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nopen end\r\n", [b"open end\r\n"]),
        (b"Content-Type: multipart/mixed; boundary=x\r\n\r\nno delimiter\r\n", [b"no delimiter\r\n"]),
        (b"Content-Type: multipart/mixed\r\n\r\nno boundary\r\n", [b"no boundary\r\n"]),
        (b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n--x\r\n--x--", [b"", b""]),
        (b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--xy\r\n\r\nA\r\n--x\r\n\r\nB\r\n--x--", [b"B"]),
        (b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nno: body\r\n--x--", [b""]),
        (b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\n\nA\n--x\n\nB\n--x--\n", [b"A", b"B"]),
        (
            b"Content-Type: multipart/mixed; boundary=x\r\n\r\ntext --x\r\n--x\r\n\r\nA --x\r\n--x--\r\n--x\r\n",
            [b"A --x"],
        ),
    ],
)
def test_malformed_multiparts_have_parts_all_the_same(message: bytes, bodies: list[bytes]) -> None:
    """A missing end, delimiter or boundary, empty parts, prefixes of delimiters: what there is comes out."""
    root = parse_mime(message)
    assert [message[part.body : part.end] for part in root.children] == bodies


def test_outer_delimiter_ends_inner_parts() -> None:
    """An inner multipart without its end stops where the outer one goes on."""
    message = (
        b"Content-Type: multipart/mixed; boundary=out\r\n\r\n--out\r\n"
        b"Content-Type: multipart/mixed; boundary=in\r\n\r\n"
        b"--in\r\n\r\ninner\r\n--out\r\n\r\nsecond\r\n--out--\r\n"
    )
    assert section(message, (1, 1)) == b"inner"
    assert section(message, (2,)) == b"second"


def test_digest_parts_are_messages_unless_they_say_otherwise() -> None:
    """RFC 2046 5.1.5."""
    message = (
        b"Content-Type: multipart/digest; boundary=x\r\n\r\n--x\r\n\r\nSubject: inner\r\n\r\ntext\r\n"
        b"--x\r\nContent-Type: text/plain\r\n\r\nplain\r\n--x--\r\n"
    )
    first, second = parse_mime(message).children
    assert first.message is not None and first.message.headers.value("subject") == b"inner"
    assert second.message is None
    assert section(message, (1, 1)) == b"text"
    assert section(message, (1,), SectionKind.HEADER) == b"Subject: inner\r\n\r\n"
    assert section(message, (2,), SectionKind.HEADER) is None


@pytest.mark.parametrize("kind", ["message", "multipart"])
def test_nesting_and_parts_are_bounded(kind: str) -> None:
    """Thousands of levels and of parts are looked into only so far, in linear time."""
    if kind == "message":
        data = b"Content-Type: message/rfc822\r\n\r\n" * 10_000
    else:
        data = b"".join(
            b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (level, level) for level in range(10_000)
        )
    many = b"Content-Type: multipart/mixed; boundary=x\r\n\r\n" + b"--x\r\n\r\n.\r\n" * 100_000
    started = time.process_time()
    assert check_inside(parse_mime(data), 0, len(data)) <= 2 * DEPTH_MAX
    assert check_inside(parse_mime(many), 0, len(many)) <= PARTS_MAX + 1
    assert time.process_time() - started < 10


def test_bodystructure_of_a_nested_message() -> None:
    """Type, parameters, sizes, lines, disposition, language and location, as RFC 3501 7.4.2 orders them."""
    message = (
        b'Content-Type: multipart/mixed; boundary="x"\r\nContent-Language: en, de\r\n\r\n--x\r\n'
        b'Content-Type: text/plain; charset=utf-8; name="a;\\"b"\r\n'
        b"Content-ID: <1@x>\r\nContent-Disposition: inline\r\n\r\n"
        b"one\r\ntwo\r\n--x\r\nContent-Type: message/rfc822\r\n\r\nSubject: in\r\nFrom: a@b\r\n\r\nhi\r\n--x--\r\n"
    )
    assert body_structure(parse_mime(message), extended=True) == (
        b'(("text" "plain" ("charset" "utf-8" "name" "a;\\"b") "<1@x>" NIL "7bit" 8 1 NIL ("inline" NIL) NIL NIL)'
        b'("message" "rfc822" NIL NIL NIL "7bit" 28 (NIL "in" ((NIL NIL "a" "b")) ((NIL NIL "a" "b")) '
        b'((NIL NIL "a" "b")) NIL NIL NIL NIL NIL) '
        b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 2 0 NIL NIL NIL NIL) 3 NIL NIL NIL NIL) '
        b'"mixed" ("boundary" "x") NIL ("en" "de") NIL)'
    )
    assert body_structure(parse_mime(b"Content-Type: image/png\r\n\r\nxyz"), extended=False) == (
        b'("image" "png" NIL NIL NIL "7bit" 3)'
    )


# --------------------------------------------------------------------------------------------------- addresses, words


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"a@b", [(None, None, b"a", b"b")]),
        (b"A B <a@b>", [(b"A B", None, b"a", b"b")]),
        (b'"B, A" <a@b>, c@d', [(b"B, A", None, b"a", b"b"), (None, None, b"c", b"d")]),
        (b"a@b (A (nested) B)", [(b"A (nested) B", None, b"a", b"b")]),
        (b"<@one,@two:a@b>", [(None, b"@one,@two", b"a", b"b")]),
        (b'"quoted \\"local\\""@b', [(None, None, b'quoted "local"', b"b")]),
        (b"a@[127.0.0.1]", [(None, None, b"a", b"[127.0.0.1]")]),
        (
            b"grp: a@b, C <c@d>;",
            [(None, None, b"grp", None), (None, None, b"a", b"b"), (b"C", None, b"c", b"d"), (None,) * 4],
        ),
        (b"undisclosed-recipients:;", [(None, None, b"undisclosed-recipients", None), (None,) * 4]),
        (b"open: a@b", [(None, None, b"open", None), (None, None, b"a", b"b"), (None,) * 4]),
        (b"=?utf-8?q?J=C3=B6?= <j@x>", [(b"=?utf-8?q?J=C3=B6?=", None, b"j", b"x")]),
        (b"no address", [(None, None, b"no address", b"")]),
        (b"J. Public <j@x>,,", [(b"J. Public", None, b"j", b"x")]),
        (b'"open <a@b>', [(None, None, b"open <a@b>", b"")]),
        (b"<>", [(None, None, b"", b"")]),
        (b"\xff\x00 <a@b", [(b"\xff\x00", None, b"a", b"b")]),
    ],
)
def test_address_lists(value: bytes, expected: list[tuple[bytes | None, ...]]) -> None:
    """Names, routes, groups, comments, quotes, and what is none of them."""
    assert parse_addresses(value) == [Mailbox(*entry) for entry in expected]


@given(st.text(alphabet='a@<>,;:()" \\[].é', max_size=60).map(str.encode) | st.binary(max_size=60))
def test_no_address_list_raises(value: bytes) -> None:
    """Every entry is a mailbox with host, a group's start, or a group's end; starts and ends alternate."""
    inside = False
    for entry in parse_addresses(value):
        if entry.host is None:
            assert inside == (entry.mailbox is None)
            inside = not inside
    assert not inside


def test_address_lists_take_linear_time() -> None:
    """Comments, quotes and routes without an end are read once."""
    started = time.process_time()
    for piece in (b"(", b"\\(", b'"', b"<", b"a@b,", b":", b"[", b"(a)", b" "):
        parse_addresses(piece * 200_000)
    assert time.process_time() - started < 20


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"=?utf-8?q?J=C3=B6rg_X?=", "Jörg X"),
        (b"=?ISO-8859-1?B?SvZyZw==?= rest", "Jörg rest"),
        (b"=?utf-8?q?a?= =?utf-8?q?b?=", "ab"),
        (b"=?utf-8*en?q?a?=", "a"),
        (b"=?nonsense?q?=FF?=", "ÿ"),
        (b"=?hex?q?4142?=", "4142"),
        (b"=?utf-8?b?!?=", ""),
        (b"\xff plain", "ÿ plain"),
    ],
)
def test_encoded_words(value: bytes, text: str) -> None:
    """Words are decoded for searching; unknown character sets are read as Latin-1."""
    assert decode_words(value) == text


@given(st.binary(max_size=60))
def test_decoding_for_search_never_raises(data: bytes) -> None:
    """Any bytes are some text, and some base64."""
    decode_words(data)
    decode_words(b"=?utf-8?b?" + data + b"?=")
    decode_base64(data)


# ------------------------------------------------------------------------------------------------------------ laziness


def test_header_questions_read_only_the_header() -> None:
    """Fields of a large message cost one small read; the whole body costs none and is not parsed."""
    header = b"Subject: x\r\n\r\n"
    size = 10_000_000
    reads: list[tuple[int, int]] = []

    def read(offset: int, length: int) -> bytes:
        reads.append((offset, length))
        return (header + bytes(length))[offset : offset + length]

    view = MessageView(read, size)
    assert view.section(Section()) == Span(0, size)
    assert reads == []
    assert view.section(Section((), SectionKind.FIELDS, (b"subject",))) == header
    assert view.section(Section((), SectionKind.TEXT)) == Span(len(header), size)
    assert sum(length for _, length in reads) <= 64 * 1024
    assert not view.parsed


def test_a_header_without_end_is_read_to_the_end() -> None:
    """A message that is all header is read in growing steps."""
    data = b"X: y\r\n" * 20_000
    view = MessageView.of_bytes(data)
    assert view.headers.body_offset == len(data)
    assert not view.headers.complete


def test_selected_fields_end_with_an_empty_line() -> None:
    """HEADER.FIELDS keeps order, folds and repeats, and always has its empty line."""
    message = b"B: 1\r\nA: 2\r\n more\r\nB: 3"
    view = MessageView.of_bytes(message)
    assert view.section(Section((), SectionKind.FIELDS, (b"b",))) == b"B: 1\r\nB: 3\r\n\r\n"
    assert view.section(Section((), SectionKind.FIELDS_NOT, (b"b",))) == b"A: 2\r\n more\r\n\r\n"
    assert view.section(Section((), SectionKind.FIELDS, (b"c",))) == b"\r\n"


def test_part_numbers_that_lead_nowhere() -> None:
    """Zero, too large, below a leaf: no part."""
    root = parse_mime(b"Subject: x\r\n\r\nleaf")
    assert [find_part(root, path) for path in ((0,), (2,), (1, 1), (2**32,))] == [None] * 4
    assert parse_headers(b"").count == 0


def test_a_large_message_is_searched_only_so_often() -> None:
    """Fifty nested multiparts over a large body that looks like delimiters cost ten searches, not fifty."""
    nested = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(DEPTH_MAX)
    )
    message = nested + (b"-" * 76 + b"\n") * 250_000

    depth, part = 0, parse_mime(message)
    while part.children:
        depth, part = depth + 1, part.children[0]

    assert 5 <= depth <= SCANS_MAX
    assert part.type == b"application"
