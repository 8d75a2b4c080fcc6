"""The arguments of SEARCH (RFC 3501 6.4.4, RFC 7162 3.1.5)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta

from spinrt.mail.imap.command import (
    All,
    And,
    Arguments,
    Dated,
    HasFlag,
    InHeader,
    InText,
    IsRecent,
    Key,
    Larger,
    ModifiedSince,
    Not,
    Numbers,
    Or,
    Search,
    SequenceSet,
    Smaller,
)
from spinrt.mail.imap.cursor import MODSEQ_MAX, Cursor, SyntaxProblem

KEYS_MAX = 1000
MODSEQ_KEYS_MAX = 10
"""Each asks the store about all of the mailbox, and keeps the answer."""
CHARSETS = ("US-ASCII", "UTF-8")

_SIMPLE: dict[str, Key] = {
    "ALL": All(),
    "ANSWERED": HasFlag("\\Answered"),
    "DELETED": HasFlag("\\Deleted"),
    "DRAFT": HasFlag("\\Draft"),
    "FLAGGED": HasFlag("\\Flagged"),
    "SEEN": HasFlag("\\Seen"),
    "UNANSWERED": Not(HasFlag("\\Answered")),
    "UNDELETED": Not(HasFlag("\\Deleted")),
    "UNDRAFT": Not(HasFlag("\\Draft")),
    "UNFLAGGED": Not(HasFlag("\\Flagged")),
    "UNSEEN": Not(HasFlag("\\Seen")),
    "RECENT": IsRecent(),
    "OLD": Not(IsRecent()),
    "NEW": And((IsRecent(), Not(HasFlag("\\Seen")))),
}
_ADDRESS_FIELDS = {"BCC": b"bcc", "CC": b"cc", "FROM": b"from", "SUBJECT": b"subject", "TO": b"to"}


def parse_search(*, uid: bool) -> Callable[[Cursor], Arguments]:
    """Make the reader of SEARCH or UID SEARCH."""

    def parse(cursor: Cursor) -> Arguments:
        cursor.space()
        charset = _charset(cursor)
        if charset is not None and charset not in CHARSETS:
            cursor.position = cursor.end  # its strings mean nothing to us: the answer is BADCHARSET
            return Search(uid, charset, All(), modseq=False)
        reader = _KeyReader(cursor)
        key = reader.keys(closing=False)
        return Search(uid, charset, key, reader.modseq)

    return parse


def _charset(cursor: Cursor) -> str | None:
    if cursor.data[cursor.position : cursor.position + 8].upper() != b"CHARSET ":
        return None
    cursor.position += 8
    charset = cursor.astring("a character set").decode("ascii", "replace").upper()
    cursor.space()
    return charset


class _KeyReader:
    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        self.count = 0
        self.modseq_count = 0

    @property
    def modseq(self) -> bool:
        """Whether a key asks for MODSEQ."""
        return self.modseq_count > 0

    def keys(self, *, closing: bool) -> Key:
        """One or more keys, all of which must hold, up to the end or the closing parenthesis."""
        keys = [self.key()]
        while not (self.cursor.accept(b")") if closing else self.cursor.at_end()):
            self.cursor.space()
            keys.append(self.key())
        return keys[0] if len(keys) == 1 else And(tuple(keys))

    def key(self) -> Key:
        """One key; nesting and number are bounded."""
        self.count += 1
        if self.count > KEYS_MAX:
            raise SyntaxProblem(f"more than {KEYS_MAX} search keys")
        cursor = self.cursor
        cursor.enter()
        try:
            if cursor.accept(b"("):
                return self.keys(closing=True)
            if cursor.position < cursor.end and cursor.data[cursor.position] in b"0123456789*":
                return Numbers(SequenceSet(cursor.sequence_set()), uid=False)
            return self._named(cursor.keyword("a search key"))
        finally:
            cursor.leave()

    def _named(self, name: str) -> Key:
        simple = _SIMPLE.get(name)
        if simple is not None:
            return simple
        reader = _READERS.get(name)
        if reader is None and name not in _ADDRESS_FIELDS:
            raise SyntaxProblem(f"no such search key: {name}")
        self.cursor.space()
        if reader is None:
            return InHeader(_ADDRESS_FIELDS[name], self._text())
        return reader(self)

    def _text(self) -> str:
        data = self.cursor.astring("a search string")
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            return data.decode("latin-1")

    def _header(self) -> Key:
        field = self.cursor.astring("a field name").lower()
        self.cursor.space()
        return InHeader(field, self._text())

    def _not(self) -> Key:
        return Not(self.key())

    def _or(self) -> Key:
        left = self.key()
        self.cursor.space()
        return Or(left, self.key())

    def _keyword(self) -> Key:
        return HasFlag(self.cursor.flag())

    def _unkeyword(self) -> Key:
        return Not(HasFlag(self.cursor.flag()))

    def _uid(self) -> Key:
        return Numbers(SequenceSet(self.cursor.sequence_set()), uid=True)

    def _modseq(self) -> Key:
        if self.cursor.peek(b'"'):  # RFC 7162 3.1.5: which entry; we keep one MODSEQ for a whole message
            self.cursor.string()
            self.cursor.space()
            self.cursor.keyword("priv, shared or all")
            self.cursor.space()
        self.modseq_count += 1
        if self.modseq_count > MODSEQ_KEYS_MAX:
            raise SyntaxProblem(f"more than {MODSEQ_KEYS_MAX} MODSEQ keys")
        return ModifiedSince(self.cursor.number(high=MODSEQ_MAX))


def _dated(sent: bool, relation: str) -> Callable[[_KeyReader], Key]:
    def read(reader: _KeyReader) -> Key:
        day = reader.cursor.date()
        following = day + timedelta(days=1) if day < date.max else None
        if relation == "BEFORE":
            return Dated(sent, None, day)
        return Dated(sent, day, following if relation == "ON" else None)

    return read


_READERS: dict[str, Callable[[_KeyReader], Key]] = {
    "BODY": lambda reader: InText(reader._text(), header=False),
    "TEXT": lambda reader: InText(reader._text(), header=True),
    "HEADER": _KeyReader._header,
    "NOT": _KeyReader._not,
    "OR": _KeyReader._or,
    "KEYWORD": _KeyReader._keyword,
    "UNKEYWORD": _KeyReader._unkeyword,
    "LARGER": lambda reader: Larger(reader.cursor.number()),
    "SMALLER": lambda reader: Smaller(reader.cursor.number()),
    "UID": _KeyReader._uid,
    "MODSEQ": _KeyReader._modseq,
    **{name: _dated(False, name) for name in ("BEFORE", "ON", "SINCE")},
    **{f"SENT{name}": _dated(True, name) for name in ("BEFORE", "ON", "SINCE")},
}
