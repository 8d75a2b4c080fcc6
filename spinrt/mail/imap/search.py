"""SEARCH: which messages a key holds for (RFC 3501 6.4.4).

A key is compiled into tests in three ranks of cost: what the view and the store's flag lists know, what the message's
row in the store knows, and what only its text knows. Keys that must all hold are tried cheap ones first, message
numbers narrow the candidates before anything is tried, and rows are read some at a time. So the cost follows the
candidates, and text is read only of those that everything else holds for.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
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
    """What a key asks: ``holds`` up to rank ``_ROW``; above it ``reads``, which lets others run while it reads."""

    rank: int
    holds: Callable[[_Candidate], bool]
    reads: Callable[[_Candidate], Awaitable[bool]] | None = None

    async def decide(self, candidate: _Candidate) -> bool:
        return self.holds(candidate) if self.reads is None else await self.reads(candidate)


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
        self._compiled: dict[Key, _Test] = {}

    async def run(self, key: Key) -> AsyncIterator[int]:
        """UIDs of the messages that the key holds for, ascending."""
        keys = tuple(dict.fromkeys(key.keys)) if isinstance(key, And) else (key,)
        tests = _by_rank([await self._compile(k) for k in keys if k != All()])
        known = [test.holds for test in tests if test.rank == _KNOWN]
        costly = [test for test in tests if test.rank > _KNOWN]
        candidates = await self._candidates(keys)
        while batch := list(islice(candidates, BATCH_MESSAGES)):
            present = (_Candidate(self._store, uid, None) for uid in batch if not self._view.removed(uid))
            chosen = [candidate for candidate in present if all(test(candidate) for test in known)]
            for candidate in self._with_rows(chosen) if costly else chosen:
                if await _all_hold(costly, candidate):
                    yield candidate.uid
                if costly:
                    await self._session.breathe()
            await self._session.breathe()

    async def _candidates(self, keys: tuple[Key, ...]) -> Iterator[int]:
        """UIDs that need a look: the narrowest set that the keys name outright, or all."""
        narrowest: list[int] | None = None
        for key in keys:
            choice: list[int] | None = None
            if isinstance(key, Numbers):
                choice = self._view.select_uids(key.messages, uid=key.uid)
            elif isinstance(key, HasFlag):
                choice = self._known(self._store.with_flag(self._view.mailbox.id, key.flag))
            elif key == _UNSEEN:
                choice = self._known(self._store.unseen(self._view.mailbox.id))
            if choice is not None:
                narrowest = choice if narrowest is None else min(narrowest, choice, key=len)
                await self._session.breathe()
        return iter(list(self._view.uids) if narrowest is None else narrowest)

    def _known(self, uids: list[int]) -> list[int]:
        """Those that the client was told of."""
        return [uid for uid in uids if self._view.sequence(uid)]

    def _with_rows(self, candidates: list[_Candidate]) -> Iterator[_Candidate]:
        rows = self._store.messages(self._view.mailbox.id, [candidate.uid for candidate in candidates])
        return (_Candidate(self._store, row.uid, row) for row in rows)

    # ------------------------------------------------------------------------------------------------------ compile

    async def _compile(self, key: Key) -> _Test:
        """The test of a key, made once for keys that are equal: most ask the store about all of the mailbox."""
        test = self._compiled.get(key)
        if test is None:
            await self._session.breathe()
            test = self._compiled[key] = await self._compile_new(key)
        return test

    async def _compile_new(self, key: Key) -> _Test:
        match key:
            case All():
                return _Test(_KNOWN, lambda _: True)
            case And(keys):
                return _all_of(_by_rank([await self._compile(k) for k in dict.fromkeys(keys)]))
            case Or(left, right):
                return _either(*_by_rank([await self._compile(left), await self._compile(right)]))
            case Not(HasFlag("\\Seen")):
                return _in_set(self._store.unseen(self._view.mailbox.id))
            case Not(inner):
                return _none_of(await self._compile(inner))
            case _:
                return self._compile_leaf(key)

    def _compile_leaf(self, key: Key) -> _Test:
        match key:
            case Numbers(messages, uid):
                return self._in_ranges(self._view.select(messages, uid=uid))
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
                if key.sent:
                    return self._reading(lambda c: _is_within(_sent_day(c), key))
                return _Test(_ROW, lambda c: _is_within(_internal_day(c.row), key))
            case InHeader(field, text):
                wanted = text.casefold()
                return self._reading(lambda c: _in_header(c, field, wanted))
            case InText(text, header):
                return self._in_text(text.casefold(), header=header)
            case _:
                raise AssertionError(key)

    def _in_ranges(self, indexes: list[range]) -> _Test:
        """Ranges of sequence numbers as ranges of UIDs: a key costs what it takes to write it, not what it means."""
        uids = self._view.uids
        lows = [uids[found[0]] for found in indexes]
        highs = [uids[found[-1]] for found in indexes]

        def holds(candidate: _Candidate) -> bool:
            place = bisect_right(lows, candidate.uid)
            return place > 0 and candidate.uid <= highs[place - 1]

        return _Test(_KNOWN, holds)

    def _reading(self, holds: Callable[[_Candidate], bool]) -> _Test:
        """A test that reads a message's header; others have their turn before it."""

        async def reads(candidate: _Candidate) -> bool:
            await self._session.breathe()
            return holds(candidate)

        return _Test(_TEXT, _never, reads)

    def _in_text(self, wanted: str, *, header: bool) -> _Test:
        """A test that reads all of a message; others have their turn before each part."""

        async def reads(candidate: _Candidate) -> bool:
            for text in _searched(candidate, header=header):
                if wanted in text.casefold():
                    return True
                await self._session.breathe()
            return False

        return _Test(_TEXT, _never, reads)


def _by_rank(tests: list[_Test]) -> list[_Test]:
    """Cheap ones first."""
    return sorted(tests, key=lambda test: test.rank)


async def _all_hold(tests: list[_Test], candidate: _Candidate) -> bool:
    for test in tests:
        if not (test.holds(candidate) if test.reads is None else await test.reads(candidate)):
            return False
    return True


def _never(_: _Candidate) -> bool:
    raise AssertionError("this test reads the message")


def _all_of(tests: list[_Test]) -> _Test:
    if tests[-1].reads is None:
        return _Test(tests[-1].rank, lambda c: all(test.holds(c) for test in tests))
    return _Test(_TEXT, _never, lambda c: _all_hold(tests, c))


def _either(first: _Test, second: _Test) -> _Test:
    if second.reads is None:
        return _Test(second.rank, lambda c: first.holds(c) or second.holds(c))

    async def reads(candidate: _Candidate) -> bool:
        return await first.decide(candidate) or await second.decide(candidate)

    return _Test(_TEXT, _never, reads)


def _none_of(test: _Test) -> _Test:
    if test.reads is None:
        return _Test(test.rank, lambda c: not test.holds(c))

    async def reads(candidate: _Candidate) -> bool:
        return not await test.decide(candidate)

    return _Test(_TEXT, _never, reads)


def _in_set(uids: list[int]) -> _Test:
    ordered = set(uids)
    return _Test(_KNOWN, lambda c: c.uid in ordered)


def _is_within(day: date | None, key: Dated) -> bool:
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


def _searched(candidate: _Candidate, *, header: bool) -> Iterator[str]:
    """What BODY looks at, or with ``header`` TEXT, in pieces."""
    if header:
        yield decode_words(candidate.view.headers.data)
    yield from _texts(candidate.view, candidate.view.tree)


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
