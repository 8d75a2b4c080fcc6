r"""FETCH: each message's data items, written in pieces (RFC 3501 6.4.5, 7.4.2).

Messages are taken from the store some at a time, and a body leaves in pieces, so that neither the size of the mailbox
nor that of a message is ever in memory. What an item does not need is not read: FLAGS reads no message, header fields
read the header, BODY[] parses nothing.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from operator import itemgetter

from spinrt.errors import CorruptRecord
from spinrt.mail.imap.command import ROW_FORMS, Fetch, FetchItem, Wanted
from spinrt.mail.imap.response import body_structure, flag_list, format_envelope, internal_date
from spinrt.mail.imap.session import Disconnected, Refused, Services, Session, selected, submit
from spinrt.mail.imap.state import Phase, View
from spinrt.mail.message.envelope import envelope
from spinrt.mail.message.view import MessageView, Section, SectionKind, Span
from spinrt.mail.store.model import Body, FlagsMode, Message, Stored, StoreFlags

BATCH_MESSAGES = 64
PIECE_BYTES = 64 * 1024
DAMAGED_TOLD_MAX = 20
"""UIDs of damaged messages in one answer; of all of them there are lines in the server's log."""

_LOG = logging.getLogger("spinrt.mail.imap")

_NO_BODY = Body(b"", 0, ())
_WHOLE = SectionKind.WHOLE


async def fetch(session: Session, arguments: Fetch) -> bytes:
    """FETCH and UID FETCH."""
    view, wanted = selected(session), arguments.wanted
    if arguments.changed_since is not None or wanted.modseq:
        session.state.condstore = True
    uids = _chosen(session, view, arguments)
    writer = _Writer(session, view, wanted)
    missing = False
    while batch := list(islice(uids, BATCH_MESSAGES)):
        messages = _read(session, view, batch, rows=wanted.rows)
        missing |= len(messages) < len(batch)
        if wanted.marks_seen and not view.read_only:
            messages = await writer.mark_seen(messages)
        for piece in writer.answers(messages):
            session.write(piece)
            if session.pressed():
                await session.breathe()
    if writer.damaged:
        uids_told = ", ".join(map(str, writer.damaged[:DAMAGED_TOLD_MAX]))
        raise Refused(f"damaged where it is stored, and left out: UID {uids_told}", code="CORRUPTION")
    if missing and not arguments.uid:
        raise Refused("some of the messages are gone", code="EXPUNGEISSUED")
    return b"OK FETCH completed"


def _chosen(session: Session, view: View, arguments: Fetch) -> Iterator[int]:
    """UIDs of the messages to answer for, ascending; with CHANGEDSINCE only those that changed."""
    ranges = view.select(arguments.messages, uid=arguments.uid)
    uids = chain.from_iterable([view.uids[indexes.start : indexes.stop] for indexes in ranges])
    if arguments.changed_since is None:
        return uids
    changed = set(session.services.store.changed_since(view.mailbox.id, arguments.changed_since))
    return (uid for uid in uids if uid in changed)


def _read(session: Session, view: View, uids: list[int], *, rows: bool) -> list[Message]:
    """The messages that exist; without ``rows`` only UID, MODSEQ and flags are filled in."""
    store = session.services.store
    if rows:
        return store.messages(view.mailbox.id, uids)
    return [Message(uid, modseq, flags, 0, 0, _NO_BODY) for uid, modseq, flags in store.flags(view.mailbox.id, uids)]


class _Writer:
    """Writes the answers of one FETCH."""

    def __init__(self, session: Session, view: View, wanted: Wanted) -> None:
        self._session = session
        self._view = view
        self._wanted = wanted
        self._marked: set[int] = set()
        self.damaged: list[int] = []
        """UIDs of messages that cannot be read."""

    async def mark_seen(self, messages: list[Message]) -> list[Message]:
        r"""Set ``\Seen`` where it is missing; returns the messages that are still there."""
        unseen = tuple(message.uid for message in messages if "\\Seen" not in message.flags)
        if not unseen:
            return messages
        change = StoreFlags(self._view.mailbox.id, unseen, FlagsMode.ADD, ("\\Seen",))
        outcome = await submit(self._session, change)
        assert isinstance(outcome, Stored)
        self._marked.update(uid for uid, _, _ in outcome.changed)
        tell_hooks(self._session, self._view, outcome)
        return _read(self._session, self._view, [message.uid for message in messages], rows=True)

    def answers(self, messages: list[Message]) -> Iterable[bytes]:
        """The FETCH responses for these messages, in pieces between which others may run."""
        if self._wanted.form:
            return (self._lines(messages),)
        return chain.from_iterable(map(self._answer, messages))

    def _lines(self, messages: list[Message]) -> bytes:
        """The responses that need no text of the messages. All of them are in the view."""
        form, uids = self._wanted.form, self._view.uids
        values = [self._value(item.name) for item in self._wanted.items]
        lines, last = [], 0
        for message in messages:
            last = bisect_left(uids, message.uid, last)
            lines.append(form % (last + 1, *[value(message) for value in values]))
        return b"".join(lines)

    def _answer(self, message: Message) -> Iterator[bytes]:
        """One FETCH response, in pieces of about ``PIECE_BYTES``: one piece, unless sections are long or many.

        That of a damaged message is left out; when a part of it is on its way already, the connection ends.
        """
        begun = False
        try:
            for piece in self._pieces(message):
                yield piece
                begun = True
        except CorruptRecord as error:
            view, state = self._view, self._session.state
            _LOG.error("IMAP: UID %d in %s of %s is damaged: %s", message.uid, view.mailbox.name, state.user, error)
            if begun:  # inside a literal: whatever follows would be taken for the message
                state.phase = Phase.LOGOUT
                raise Disconnected from error
            self.damaged.append(message.uid)

    def _pieces(self, message: Message) -> Iterator[bytes]:
        stored = _StoredMessage(self._session.services, message)
        parts, held = [b"* %d FETCH (" % self._view.sequence(message.uid)], 0
        separator = b""
        for item in self._wanted.items:
            parts.append(separator)
            separator = b" "
            if item.section is None:
                parts.append(self._plain(item, stored))
                continue
            for piece in _section(item, stored):
                parts.append(piece)
                held += len(piece)
                if held >= PIECE_BYTES:
                    yield b"".join(parts)
                    parts, held = [], 0
        if message.uid in self._marked:
            parts.append(self._news(message))
        parts.append(b")\r\n")
        yield b"".join(parts)

    def _plain(self, item: FetchItem, stored: _StoredMessage) -> bytes:
        """An item that is no section, with its name."""
        text = _TEXTS.get(item.name)
        if text is not None:
            return item.label + b" " + text(stored)
        return ROW_FORMS[item.name] % self._value(item.name)(stored.message)

    def _value(self, name: str) -> Callable[[Message], object]:
        """What gives the value for an item's form in `ROW_FORMS`."""
        return _VALUES.get(name) or self._flag_list

    def _flag_list(self, message: Message) -> bytes:
        uid, modseq, flags, *_ = message
        self._view.told(uid, modseq)
        return flag_list(flags, self._view.is_recent(uid))

    def _news(self, message: Message) -> bytes:
        r"""What the client is told unasked of a message that was marked ``\Seen``."""
        if self._wanted.flags:
            return b""
        news = b" FLAGS " + self._flag_list(message)
        if self._session.state.condstore and not self._wanted.modseq:
            news += b" MODSEQ (%d)" % message.modseq
        return news


def _section(item: FetchItem, stored: _StoredMessage) -> Iterable[bytes]:
    """A section with its name, in pieces."""
    assert item.section is not None
    found = stored.section(item.section)
    if found is None:
        return (item.label, b" NIL")
    if isinstance(found, bytes):
        first, count = item.partial or (0, len(found))
        data = found[first : first + count]
        return (item.label, b" {%d}\r\n" % len(data), data)
    start, end = found
    if item.partial is not None:
        first, count = item.partial
        start = min(start + first, end)
        end = min(start + count, end)
    return chain((item.label, b" {%d}\r\n" % (end - start)), stored.pieces(start, end))


class _StoredMessage:
    """One message and its bytes, read when they are needed."""

    __slots__ = ("_parsed", "_services", "_view", "message")

    def __init__(self, services: Services, message: Message) -> None:
        self._services = services
        self.message = message
        self._view: MessageView | None = None
        self._parsed = False

    def read(self, offset: int, length: int) -> bytes:
        data = self._services.store.read(self.message.body, offset, length)
        if not data and length:
            raise RuntimeError(f"message of {self.message.body.size} bytes ends at {offset}")
        return data

    def pieces(self, start: int, end: int) -> Iterable[bytes]:
        """The bytes from ``start`` to before ``end``, ``PIECE_BYTES`` at a time."""
        if end - start <= PIECE_BYTES:
            return (self.read(start, end - start),)
        return (self.read(at, min(PIECE_BYTES, end - at)) for at in range(start, end, PIECE_BYTES))

    def section(self, section: Section) -> Span | bytes | None:
        """As `MessageView.section`; the whole message is not looked at for it."""
        if not section.path and section.kind is _WHOLE:
            return Span(0, self.message.body.size)
        found = self.view().section(section)
        self.keep_tree()
        return found

    def view(self) -> MessageView:
        if self._view is None:
            tree = self._services.trees.get(self.message.body)
            self._parsed = tree is not None
            self._view = MessageView(
                lambda offset, length: self._services.store.read(self.message.body, offset, length),
                self.message.body.size,
                tree,
            )
        return self._view

    def keep_tree(self) -> None:
        """Remember the MIME tree, if this message had to be parsed."""
        if self._view is not None and self._view.parsed and not self._parsed:
            self._services.trees.put(self.message.body, self._view.tree)
            self._parsed = True

    def structure(self, *, extended: bool) -> bytes:
        shown = body_structure(self.view().tree, extended=extended)
        self.keep_tree()
        return shown


_VALUES: dict[str, Callable[[Message], object]] = {
    "UID": itemgetter(0),
    "MODSEQ": itemgetter(1),
    "INTERNALDATE": lambda message: internal_date(message.internal_date, message.internal_zone),
    "RFC822.SIZE": lambda message: message.body.size,
}
"""Items whose value is in the message's row; that of FLAGS depends on the session, too."""

_TEXTS: dict[str, Callable[[_StoredMessage], bytes]] = {
    "ENVELOPE": lambda stored: format_envelope(envelope(stored.view().headers)),
    "BODY": lambda stored: stored.structure(extended=False),
    "BODYSTRUCTURE": lambda stored: stored.structure(extended=True),
}


def tell_hooks(session: Session, view: View, outcome: Stored) -> None:
    """Tell the hooks which messages changed their flags."""
    hooks = session.services.hooks
    if hooks is not None:
        for uid, flags, _ in outcome.changed:
            hooks.flags_changed(session.state.user, view.mailbox.name, uid, flags)
