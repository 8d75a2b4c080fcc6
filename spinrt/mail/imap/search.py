"""SEARCH: which messages a key holds for (RFC 3501 6.4.4).

A key is compiled into tests in three ranks of cost: what the view and the store's flag lists know, what the message's
row in the store knows, and what only its text knows. Keys that must all hold are tried cheap ones first, message
numbers narrow the candidates before anything is tried, and rows are read some at a time. So the cost follows the
candidates, and text is read only of those that everything else holds for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_tz
from itertools import islice

from spinrt.mail.imap.command import (
    All,
    And,
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
    Smaller,
)
from spinrt.mail.imap.parser_search import CHARSETS
from spinrt.mail.imap.session import Refused, Session, selected
from spinrt.mail.imap.state import View
from spinrt.mail.message.mime import Part
from spinrt.mail.message.view import MessageView
from spinrt.mail.message.words import decode_text, decode_transfer, decode_words
from spinrt.mail.store.model import MailboxReader, Message

BATCH_MESSAGES = 128
TEXT_BYTES_MAX = 4 * 1024 * 1024
"""Of one text part, looked at by BODY and TEXT."""

_KNOWN, _ROW, _TEXT = range(3)
_UNSEEN = Not(HasFlag("\\Seen"))


class _Candidate:
    """One message under the test, with what was read of it."""

    __slots__ = ("_store", "_view", "message", "uid")

    def __init__(self, store: MailboxReader, uid: int, message: Message | None) -> None:
        self._store = store
        self.uid = uid
        self.message = message
        self._view: MessageView | None = None

    @property
    def row(self) -> Message:
        assert self.message is not None
        return self.message

    @property
    def view(self) -> MessageView:
        if self._view is None:
            body = self.row.body
            self._view = MessageView(lambda offset, length: self._store.read(body, offset, length), body.size)
        return self._view


@dataclass(frozen=True, slots=True)
class _Test:
    rank: int
    holds: Callable[[_Candidate], bool]


async def search(session: Session, arguments: Search) -> bytes:
    """SEARCH and UID SEARCH."""
    if arguments.charset is not None and arguments.charset not in CHARSETS:
        raise Refused("that character set is not supported", code=f"BADCHARSET ({' '.join(CHARSETS)})")
    view = selected(session)
    if arguments.modseq:
        session.state.condstore = True
    found = [uid async for uid in _Evaluation(session, view).run(arguments.key)]
    numbers = found if arguments.uid else [view.sequence(uid) for uid in found]
    line = "* SEARCH" + "".join(f" {number}" for number in numbers)
    if arguments.modseq and found:
        highest = max(m.modseq for m in session.services.store.messages(view.mailbox.id, found))
        line += f" (MODSEQ {highest})"
    session.write(line.encode("ascii") + b"\r\n")
    return b"OK SEARCH completed"


class _Evaluation:
    def __init__(self, session: Session, view: View) -> None:
        self._session = session
        self._store = session.services.store
        self._view = view

    async def run(self, key: Key) -> AsyncIterator[int]:
        """UIDs of the messages that the key holds for, ascending."""
        keys = key.keys if isinstance(key, And) else (key,)
        tests = sorted((self._compile(k) for k in keys if k != All()), key=lambda test: test.rank)
        known = [test.holds for test in tests if test.rank == _KNOWN]
        costly = [test.holds for test in tests if test.rank > _KNOWN]
        candidates = self._candidates(keys)
        while batch := list(islice(candidates, BATCH_MESSAGES)):
            present = (_Candidate(self._store, uid, None) for uid in batch if not self._view.removed(uid))
            chosen = [candidate for candidate in present if all(test(candidate) for test in known)]
            for candidate in self._with_rows(chosen) if costly else chosen:
                if all(test(candidate) for test in costly):
                    yield candidate.uid
                if costly:
                    await self._session.breathe()
            await self._session.breathe()

    def _candidates(self, keys: tuple[Key, ...]) -> Iterator[int]:
        """UIDs that need a look: the narrowest set that the keys name outright, or all."""
        choices: list[list[int]] = []
        for key in keys:
            if isinstance(key, Numbers):
                choices.append(self._view.select_uids(key.messages, uid=key.uid))
            elif isinstance(key, HasFlag):
                choices.append(self._known(self._store.with_flag(self._view.mailbox.id, key.flag)))
            elif key == _UNSEEN:
                choices.append(self._known(self._store.unseen(self._view.mailbox.id)))
        narrowest: list[int] = min(choices, key=len) if choices else list(self._view.uids)
        return iter(narrowest)

    def _known(self, uids: list[int]) -> list[int]:
        """Those that the client was told of."""
        return [uid for uid in uids if self._view.sequence(uid)]

    def _with_rows(self, candidates: list[_Candidate]) -> Iterator[_Candidate]:
        rows = self._store.messages(self._view.mailbox.id, [candidate.uid for candidate in candidates])
        return (_Candidate(self._store, row.uid, row) for row in rows)

    # ------------------------------------------------------------------------------------------------------ compile

    def _compile(self, key: Key) -> _Test:
        match key:
            case All():
                return _Test(_KNOWN, lambda _: True)
            case And(keys):
                tests = sorted((self._compile(k) for k in keys), key=lambda test: test.rank)
                return _Test(tests[-1].rank, lambda c: all(test.holds(c) for test in tests))
            case Or(left, right):
                first, second = sorted((self._compile(left), self._compile(right)), key=lambda test: test.rank)
                return _Test(second.rank, lambda c: first.holds(c) or second.holds(c))
            case Not(HasFlag("\\Seen")):
                return _in_set(self._store.unseen(self._view.mailbox.id))
            case Not(inner):
                test = self._compile(inner)
                return _Test(test.rank, lambda c: not test.holds(c))
            case _:
                return self._compile_leaf(key)

    def _compile_leaf(self, key: Key) -> _Test:
        match key:
            case Numbers(messages, uid):
                return _in_set(self._view.select_uids(messages, uid=uid))
            case HasFlag(flag):
                return _in_set(self._store.with_flag(self._view.mailbox.id, flag))
            case ModifiedSince(modseq):
                return _in_set(self._store.changed_since(self._view.mailbox.id, max(0, modseq - 1)))
            case IsRecent():
                return _Test(_KNOWN, lambda c: self._view.is_recent(c.uid))
            case Larger(size):
                return _Test(_ROW, lambda c: c.row.body.size > size)
            case Smaller(size):
                return _Test(_ROW, lambda c: c.row.body.size < size)
            case Dated():
                return _Test(_TEXT if key.sent else _ROW, lambda c: _in_days(c, key))
            case InHeader(field, text):
                wanted = text.casefold()
                return _Test(_TEXT, lambda c: _in_header(c, field, wanted))
            case InText(text, header):
                wanted = text.casefold()
                return _Test(_TEXT, lambda c: _in_text(c, wanted, header=header))
            case _:
                raise AssertionError(key)


def _in_set(uids: list[int]) -> _Test:
    ordered = set(uids)
    return _Test(_KNOWN, lambda c: c.uid in ordered)


def _in_days(candidate: _Candidate, key: Dated) -> bool:
    day = _sent_day(candidate) if key.sent else _internal_day(candidate.row)
    if day is None:
        return False
    return (key.first is None or key.first <= day) and (key.end is None or day < key.end)


def _internal_day(message: Message) -> date | None:
    try:
        return (datetime.fromtimestamp(message.internal_date, UTC) + timedelta(minutes=message.internal_zone)).date()
    except (ValueError, OverflowError, OSError):
        return None


def _sent_day(candidate: _Candidate) -> date | None:
    value = candidate.view.headers.value(b"date")
    try:
        parsed = parsedate_tz(value.decode("latin-1")) if value else None
        return date(*parsed[:3]) if parsed else None
    except (ValueError, IndexError, TypeError):
        return None


def _in_header(candidate: _Candidate, field: bytes, wanted: str) -> bool:
    return any(wanted in decode_words(value).casefold() for value in candidate.view.headers.values(field))


def _in_text(candidate: _Candidate, wanted: str, *, header: bool) -> bool:
    if header and wanted in decode_words(candidate.view.headers.data).casefold():
        return True
    return any(wanted in text.casefold() for text in _texts(candidate.view, candidate.view.tree))


def _texts(view: MessageView, root: Part) -> Iterator[str]:
    """The decoded text parts of a message; of enclosed messages the header too."""
    parts = [root]
    while parts:
        part = parts.pop()
        parts.extend(reversed(part.children))
        if part.message is not None:
            yield decode_words(part.message.headers.data)
            parts.append(part.message)
        elif not part.children and part.type.lower() == b"text":
            data = decode_transfer(view.read(part.body, min(part.size, TEXT_BYTES_MAX)), part.encoding)
            yield decode_text(data, part.parameter(b"charset") or b"utf-8")
