"""Commands as values, names in modified UTF-7, sets of numbers, patterns, and how answers are written."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinrt.mail.imap import utf7
from spinrt.mail.imap.command import Fetch, SequenceSet, Store
from spinrt.mail.imap.cursor import Cursor, SyntaxProblem
from spinrt.mail.imap.listing import Pattern
from spinrt.mail.imap.parser import parse_command
from spinrt.mail.imap.response import flag_list, internal_date, nstring, number_set, string
from spinrt.mail.imap.state import Exists, Expunged, RecentMarks, View
from spinrt.mail.message.view import Section, SectionKind
from spinrt.mail.store.model import Added, FlagsChanged, FlagsMode, Mailbox, Removed


@given(st.text(st.characters(codec="utf-8")))
def test_names_survive_modified_utf7(name: str) -> None:
    """Every Unicode name comes back, and its spelling is printable ASCII."""
    data = utf7.encode(name)
    assert utf7.decode(data) == name
    assert all(0x20 <= byte <= 0x7E for byte in data)


@given(st.binary(max_size=30) | st.text(alphabet="&-A,BgQ2D", max_size=20).map(str.encode))
def test_one_name_has_one_spelling(data: bytes) -> None:
    """What decodes is exactly what encoding would write; everything else is a ValueError."""
    try:
        name = utf7.decode(data)
    except ValueError:
        return
    assert utf7.encode(name) == data


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"~peter/mail/&U,BTFw-/&ZeVnLIqe-", "~peter/mail/台北/日本語"),
        (b"&-", "&"),
        (b"a&-b", "a&b"),
        (b"&2D3cDA-", "🐌"),
    ],
)
def test_known_names(data: bytes, name: str) -> None:
    """The example of RFC 3501 5.1.3, the ampersand, and a character outside the basic plane."""
    assert utf7.decode(data) == name
    assert utf7.encode(name) == data


def test_fetch_is_read_in_full() -> None:
    """Sections keep their path, kind and names; the label is how the answer writes them."""
    command = parse_command(
        b'a uid fetch 3:1,* (body.peek[1.2.header.fields (To "X y")]<5.9> FLAGS) (CHANGEDSINCE 7)\r\n'
    )
    fetch = command.arguments
    assert isinstance(fetch, Fetch)
    assert command.name == "UID FETCH"
    assert fetch.messages == SequenceSet(((3, 1), (0, 0)))
    assert [item.name for item in fetch.wanted.items] == ["UID", "BODY[]", "FLAGS", "MODSEQ"]
    item = fetch.wanted.items[1]
    assert item.section == Section((1, 2), SectionKind.FIELDS, (b"to", b"x y"))
    assert item.label == b'BODY[1.2.HEADER.FIELDS (To "X y")]<5>'
    assert (item.partial, item.marks_seen, fetch.changed_since) == ((5, 9), False, 7)


def test_store_is_read_in_full() -> None:
    r"""Flags come once each, system flags in their usual case, \Recent left out."""
    store = parse_command(b"a STORE 1 (UNCHANGEDSINCE 12) -flags.silent (\\seen \\SEEN $x \\Recent)\r\n").arguments
    assert store == Store(False, SequenceSet(((1, 1),)), FlagsMode.REMOVE, ("\\Seen", "$x"), True, 12)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"a FETCH 1\r\n", "expected a space, found the end of the command"),
        (b"a FETCH x FLAGS\r\n", "expected a set of message numbers, found x FLAGS"),
        (b"a FETCH 1 FLAG\r\n", "no such FETCH item: FLAG"),
        (b"a STORE 1 FLAGS \\Nonsense\r\n", "flag \\Nonsense cannot be set"),
        (b"a SEARCH SINCE yesterday\r\n", "expected a date such as 1-Jan-2025, found yesterday"),
        (b"a SEARCH SINCE 1-Foo-2025\r\n", "no such month: Foo"),
        (b"a NOOP now\r\n", "expected the end of the command, found  now"),
        (b'a LOGIN "open end\r\n', 'expected a quoted string, found "open end'),
    ],
)
def test_problems_say_what_was_expected_and_found(line: bytes, problem: str) -> None:
    """A refused command is refused in words that help."""
    with pytest.raises(SyntaxProblem) as caught:
        parse_command(line)
    assert str(caught.value) == problem


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=8), st.integers(1, 30))
def test_resolved_sets_hold_each_number_once(ranges: list[tuple[int, int]], largest: int) -> None:
    """Merging ranges changes neither which numbers are meant nor lets one come twice."""
    resolved = SequenceSet(tuple(ranges)).resolved(largest)
    numbers = [number for low, high in resolved for number in range(low, high + 1)]
    expected: set[int] = set()
    for low, high in ranges:
        ends = sorted((low or largest, high or largest))
        expected.update(range(ends[0], ends[1] + 1))
    assert numbers == sorted(expected)


def match_slowly(pattern: str, name: str) -> bool:
    """The definition of a pattern, by trying everything."""
    if not pattern:
        return not name
    if pattern[0] in "*%":
        longest = len(name) if pattern[0] == "*" or "/" not in name else name.index("/")
        return any(match_slowly(pattern[1:], name[count:]) for count in range(longest + 1))
    return bool(name) and name[0] == pattern[0] and match_slowly(pattern[1:], name[1:])


@given(st.text(alphabet="ab/*%", max_size=8), st.text(alphabet="ab/", max_size=8))
def test_patterns_match_what_their_definition_matches(pattern: str, name: str) -> None:
    """The fast matcher and the obvious one agree."""
    assert Pattern(pattern).matches(name) == match_slowly(pattern, name)


def test_a_pattern_full_of_stars_is_quick() -> None:
    """Patterns made to explode a backtracking matcher cost no more than others."""
    assert not Pattern("*a" * 500 + "b").matches("a" * 1000)


def test_a_dotless_i_is_no_inbox() -> None:
    """Only ASCII letters have two cases in INBOX, in names and in patterns."""
    assert Pattern("iNbOx").matches("INBOX")
    assert not Pattern("\u0131nbox").matches("INBOX")


@pytest.mark.parametrize(
    "command",
    [
        b'LIST "" (' + b" ".join([b"a"] * 101) + b")",
        b'LIST "" ' + b"*a" * 501,
        b"LIST " + b"a" * 500 + b" " + b"b" * 501,
        b'LSUB "" ' + b"%" * 1001,
        b"SEARCH " + b" ".join(b"MODSEQ %d" % number for number in range(11)),
    ],
)
def test_commands_that_would_cost_too_much_are_refused(command: bytes) -> None:
    """Patterns have a bound on their number and length, keys that look at a whole mailbox one on their number."""
    with pytest.raises(SyntaxProblem, match=r"at most|more than"):
        parse_command(b"a " + command + b"\r\n")


@pytest.mark.parametrize(
    ("text", "is_date"),
    [
        (b'"31-Dec-9999 23:59:59 -1200"', False),
        (b'"01-Jan-0001 00:00:00 +0100"', False),
        (b'"31-Dec-9999 23:59:59 +1200"', True),
        (b'"01-Jan-0001 00:00:00 +0000"', True),
    ],
)
def test_a_date_is_given_back_or_refused(text: bytes, is_date: bool) -> None:
    """A moment outside of the calendar in UTC could not be told again."""
    if is_date:
        assert internal_date(*Cursor(text).date_time()) == text
    else:
        with pytest.raises(SyntaxProblem):
            Cursor(text).date_time()


def test_commands_at_the_bounds_are_read() -> None:
    """One less is no problem."""
    assert parse_command(b'a LIST "" (' + b" ".join([b"a"] * 100) + b")\r\n").name == "LIST"
    assert parse_command(b"a LSUB " + b"a" * 500 + b" " + b"b" * 500 + b"\r\n").name == "LSUB"


def test_text_is_quoted_or_a_literal() -> None:
    """Quotes where they can hold the text, a literal elsewhere; NUL never goes out."""
    assert string(b'a"b\\') == b'"a\\"b\\\\"'
    assert string(b"a\r\nb") == b"{4}\r\na\r\nb"
    assert string(b"\xff") == b"{1}\r\n\xff"
    assert nstring(None) == b"NIL"
    assert nstring(b"a\0b") == b'"ab"'


def test_flags_dates_and_sets_are_written_as_rfc_3501_does() -> None:
    """Fixed order of flags, two digits of day, runs of numbers."""
    assert flag_list(frozenset(("$z", "\\Seen", "\\Answered")), True) == b"(\\Answered \\Seen $z \\Recent)"
    assert internal_date(0, -90) == b'"31-Dec-1969 22:30:00 -0130"'
    assert internal_date(10**18, 0) == b'"01-Jan-1970 00:00:00 +0000"'
    assert number_set([1, 2, 3, 7, 9, 10]) == b"1:3,7,9:10"


def view(uids: list[int], marks: RecentMarks | None = None, *, read_only: bool = False) -> View:
    mailbox = Mailbox(1, "alice", "INBOX", 1, False, None)
    return View(mailbox, array("I", uids), read_only=read_only, marks=marks or RecentMarks())


def test_view_keeps_numbers_until_expunges_may_be_told() -> None:
    """Removed messages keep their numbers, new ones come behind, flags of removed ones are forgotten."""
    seen = frozenset(("\\Seen",))
    known = view([2, 4, 6])
    known.notice([FlagsChanged(4, 9, seen), Removed(4, 10), Added(8, 11, seen), FlagsChanged(8, 12, seen)])

    assert known.updates(expunge=False) == [Exists(4, 4)]
    assert known.sequence(6) == 3
    assert known.removed(4)
    assert known.updates(expunge=True) == [Expunged(2)]
    assert known.sequence(6) == 2
    assert not known.has_updates(expunge=True)


def test_view_never_tells_of_a_message_that_came_and_went() -> None:
    """A message that was added and removed between two answers was never there."""
    known = view([1])
    known.notice([Added(2, 2, frozenset()), Removed(2, 3)])
    assert known.updates(expunge=True) == []


def test_recent_messages_belong_to_one_session() -> None:
    r"""The first to learn of a message has it as \Recent; EXAMINE looks and does not take."""
    marks = RecentMarks()
    looking, first, second = view([1, 2], marks, read_only=True), view([1, 2], marks), view([1, 2], marks)
    assert [v.recent_count() for v in (looking, first, second)] == [2, 2, 0]
    for session in (second, first):
        session.notice([Added(3, 5, frozenset())])
    assert second.updates(expunge=True) == [Exists(3, 1)]
    assert first.updates(expunge=True) == [Exists(3, 2)]
    assert second.is_recent(3) and not first.is_recent(3)
