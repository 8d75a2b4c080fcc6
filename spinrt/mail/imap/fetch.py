r"""FETCH: each message's data items, written in pieces (RFC 3501 6.4.5, 7.4.2).

Messages are taken from the store some at a time, and a body leaves in pieces, so that neither the size of the mailbox
nor that of a message is ever in memory. What an item does not need is not read: FLAGS reads no message, header fields
read the header, BODY[] parses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

from spinrt.mail.imap.command import Fetch, FetchItem
from spinrt.mail.imap.response import body_structure, flag_list, format_envelope, internal_date
from spinrt.mail.imap.session import Refused, Session, selected, submit
from spinrt.mail.imap.state import View
from spinrt.mail.message.envelope import envelope
from spinrt.mail.message.view import MessageView, Span
from spinrt.mail.store.model import Body, FlagsMode, Message, Stored, StoreFlags

BATCH_MESSAGES = 64
PIECE_BYTES = 64 * 1024

_FLAG_ITEMS = frozenset(("FLAGS", "UID", "MODSEQ"))
_NO_BODY = Body(b"", 0, ())


async def fetch(session: Session, arguments: Fetch) -> bytes:
    """FETCH and UID FETCH."""
    view = selected(session)
    if arguments.changed_since is not None or any(item.name == "MODSEQ" for item in arguments.items):
        session.state.condstore = True
    uids = _chosen(session, view, arguments)
    writer = _Writer(session, view, arguments)
    missing = False
    while batch := list(islice(uids, BATCH_MESSAGES)):
        messages = _read(session, view, batch, rows=writer.needs_rows)
        missing |= len(messages) < len(batch)
        if writer.marks_seen:
            messages = await writer.mark_seen(messages)
        for message in messages:
            await writer.write(message)
    if missing and not arguments.uid:
        raise Refused("some of the messages are gone", code="EXPUNGEISSUED")
    return b"OK FETCH completed"


def _chosen(session: Session, view: View, arguments: Fetch) -> Iterator[int]:
    """UIDs of the messages to answer for, ascending; with CHANGEDSINCE only those that changed."""
    ranges = view.select(arguments.messages, uid=arguments.uid)
    uids = (view.uids[index] for indexes in ranges for index in indexes)
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

    def __init__(self, session: Session, view: View, arguments: Fetch) -> None:
        self._session = session
        self._view = view
        self._items = arguments.items
        self._shows_flags = any(item.name == "FLAGS" for item in arguments.items)
        self.marks_seen = not view.read_only and any(item.marks_seen for item in arguments.items)
        self.needs_rows = any(item.name not in _FLAG_ITEMS for item in arguments.items)
        self._marked: dict[int, tuple[frozenset[str], int]] = {}

    async def mark_seen(self, messages: list[Message]) -> list[Message]:
        r"""Set ``\Seen`` where it is missing; returns the messages that are still there."""
        unseen = tuple(message.uid for message in messages if "\\Seen" not in message.flags)
        if not unseen:
            return messages
        change = StoreFlags(self._view.mailbox.id, unseen, FlagsMode.ADD, ("\\Seen",))
        outcome = await submit(self._session, change)
        assert isinstance(outcome, Stored)
        for uid, flags, modseq in outcome.changed:
            self._marked[uid] = (flags, modseq)
        tell_hooks(self._session, self._view, outcome)
        return _read(self._session, self._view, [message.uid for message in messages], rows=True)

    async def write(self, message: Message) -> None:
        """Write one FETCH response."""
        session, stored = self._session, _StoredMessage(self._session, message)
        session.write(b"* %d FETCH (" % self._view.sequence(message.uid))
        separator = b""
        for item in self._items:
            session.write(separator)
            separator = b" "
            if item.section is not None:
                await self._write_section(stored, item)
                await session.breathe()  # a client may name many sections of a large message
            elif item.name == "FLAGS":
                self._write_flags(message)
            else:
                session.write(item.label + b" " + _PLAIN[item.name](stored))
        if message.uid in self._marked and not self._shows_flags:
            session.write(b" ")
            self._write_flags(message)
            if session.state.condstore and all(item.name != "MODSEQ" for item in self._items):
                session.write(b" MODSEQ (%d)" % message.modseq)
        session.write(b")\r\n")
        await session.breathe()

    def _write_flags(self, message: Message) -> None:
        self._view.told(message.uid, message.modseq)
        self._session.write(b"FLAGS " + flag_list(message.flags, recent=self._view.is_recent(message.uid)))

    async def _write_section(self, stored: _StoredMessage, item: FetchItem) -> None:
        session = self._session
        assert item.section is not None
        found = stored.view().section(item.section) if item.section.path or item.section.kind.value else stored.whole
        stored.keep_tree()
        if found is None:
            session.write(item.label + b" NIL")
            return
        if isinstance(found, bytes):
            first, count = item.partial or (0, len(found))
            data = found[first : first + count]
            session.write(item.label + b" {%d}\r\n" % len(data) + data)
            return
        start, end = found
        if item.partial is not None:
            first, count = item.partial
            start = min(start + first, end)
            end = min(start + count, end)
        session.write(item.label + b" {%d}\r\n" % (end - start))
        while start < end:
            piece = stored.read(start, min(PIECE_BYTES, end - start))
            session.write(piece)
            start += len(piece)
            if start < end:
                await session.breathe()


class _StoredMessage:
    """One message and its bytes, read when they are needed."""

    def __init__(self, session: Session, message: Message) -> None:
        self._services = session.services
        self.message = message
        self.whole = Span(0, message.body.size)
        self._view: MessageView | None = None
        self._parsed = False

    def read(self, offset: int, length: int) -> bytes:
        data = self._services.store.read(self.message.body, offset, length)
        if not data and length:
            raise RuntimeError(f"message of {self.message.body.size} bytes ends at {offset}")
        return data

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


_PLAIN: dict[str, Callable[[_StoredMessage], bytes]] = {
    "UID": lambda stored: b"%d" % stored.message.uid,
    "INTERNALDATE": lambda stored: internal_date(stored.message.internal_date, stored.message.internal_zone),
    "RFC822.SIZE": lambda stored: b"%d" % stored.message.body.size,
    "MODSEQ": lambda stored: b"(%d)" % stored.message.modseq,
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
