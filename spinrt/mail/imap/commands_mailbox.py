"""Commands about mailboxes: LIST to STATUS, SELECT, CLOSE and their kin."""

from __future__ import annotations

from bisect import bisect_left

from spinrt.mail.imap import utf7
from spinrt.mail.imap.command import Create, GetStatus, List, MailboxName, NoArguments, Rename, Select
from spinrt.mail.imap.listing import list_lines, lsub_lines
from spinrt.mail.imap.response import astring
from spinrt.mail.imap.session import Refused, Session, find_mailbox, proper_name, selected, submit
from spinrt.mail.imap.state import View
from spinrt.mail.store.model import (
    CreateMailbox,
    DeleteMailbox,
    Expunge,
    Mailbox,
    MailboxEvent,
    RenameMailbox,
    Status,
    Subscribe,
)
from spinrt.mail.store.names import SEPARATOR

_FLAGS = b"\\Answered \\Flagged \\Deleted \\Seen \\Draft"


async def list_mailboxes(session: Session, arguments: List) -> bytes:
    store, user = session.services.store, session.state.user
    async for line in list_lines(arguments, store.mailboxes(user), store.subscriptions(user), session.breathe):
        session.write(line)
        await session.breathe()
    return b"OK LIST completed"


async def lsub(session: Session, arguments: List) -> bytes:
    async for line in lsub_lines(arguments, session.services.store.subscriptions(session.state.user), session.breathe):
        session.write(line)
        await session.breathe()
    return b"OK LSUB completed"


def namespace(session: Session, _: NoArguments) -> bytes:
    """NAMESPACE (RFC 2342): one personal name space."""
    session.write(b'* NAMESPACE (("" "/")) NIL NIL\r\n')
    return b"OK NAMESPACE completed"


# ------------------------------------------------------------------------------------------------------- select, leave


def select(session: Session, arguments: Select) -> bytes:
    return _open(session, arguments, read_only=False)


def examine(session: Session, arguments: Select) -> bytes:
    return _open(session, arguments, read_only=True)


def _open(session: Session, arguments: Select, *, read_only: bool) -> bytes:
    """SELECT or EXAMINE. Whatever comes of it, the mailbox selected before is left (RFC 3501 6.3.1)."""
    state, store = session.state, session.services.store
    was_selected = state.view is not None
    session.state.leave()
    if was_selected and state.condstore:
        session.write(b"* OK [CLOSED] the mailbox before is closed\r\n")
    mailbox = find_mailbox(session, arguments.name)
    if arguments.condstore:
        state.condstore = True
    view = View(mailbox, store.uids(mailbox.id), read_only=read_only, marks=session.services.marks)
    state.enter(view, store.watch(mailbox.id, lambda events: _notice(session, view, events)))
    status = store.status(mailbox.id)
    _describe(session, view, status)
    return b"OK [READ-ONLY] EXAMINE completed" if read_only else b"OK [READ-WRITE] SELECT completed"


def _notice(session: Session, view: View, events: list[MailboxEvent]) -> None:
    view.notice(events)
    session.notice()


def _describe(session: Session, view: View, status: Status) -> None:
    permanent = b"" if view.read_only else _FLAGS + b" \\*"
    session.write(
        b"* FLAGS (%b)\r\n* OK [PERMANENTFLAGS (%b)] flags that are kept\r\n* %d EXISTS\r\n* %d RECENT\r\n"
        b"* OK [UIDVALIDITY %d] UIDs are valid\r\n* OK [UIDNEXT %d] next UID\r\n* OK [HIGHESTMODSEQ %d] highest\r\n"
        % (
            _FLAGS,
            permanent,
            len(view.uids),
            view.recent_count(),
            status.uidvalidity,
            status.uidnext,
            max(1, status.highest_modseq),
        )
    )
    unseen = _first_unseen(session, view, status)
    if unseen:
        session.write(b"* OK [UNSEEN %d] first unseen\r\n" % unseen)


def _first_unseen(session: Session, view: View, status: Status) -> int:
    """Sequence number of the first message without ``\\Seen``, 0 without one."""
    uid = session.services.store.first_unseen(view.mailbox.id) if status.unseen else None
    return view.sequence(uid) if uid is not None else 0


def check(_session: Session, _: NoArguments) -> bytes:
    return b"OK CHECK completed"


async def close(session: Session, _: NoArguments) -> bytes:
    """CLOSE: removes what is marked deleted without telling, unless read-only, and leaves."""
    view = selected(session)
    if not view.read_only and session.services.store.status(view.mailbox.id).deleted:
        await submit(session, Expunge(view.mailbox.id, None))
    session.state.leave()
    return b"OK CLOSE completed"


def unselect(session: Session, _: NoArguments) -> bytes:
    """UNSELECT (RFC 3691): leaves and removes nothing."""
    session.state.leave()
    return b"OK UNSELECT completed"


# ------------------------------------------------------------------------------------------------------------- STATUS


def status(session: Session, arguments: GetStatus) -> bytes:
    mailbox = find_mailbox(session, arguments.name)
    if "HIGHESTMODSEQ" in arguments.items:
        session.state.condstore = True
    counters = session.services.store.status(mailbox.id)
    pairs = b" ".join(
        b"%b %d" % (item.encode("ascii"), _status_value(session, mailbox, counters, item)) for item in arguments.items
    )
    session.write(b"* STATUS %b (%b)\r\n" % (astring(utf7.encode(mailbox.name)), pairs))
    return b"OK STATUS completed"


def _status_value(session: Session, mailbox: Mailbox, counters: Status, item: str) -> int:
    match item:
        case "MESSAGES":
            return counters.messages
        case "UNSEEN":
            return counters.unseen
        case "DELETED":
            return counters.deleted
        case "UIDNEXT":
            return counters.uidnext
        case "UIDVALIDITY":
            return counters.uidvalidity
        case "SIZE":
            return counters.size
        case "HIGHESTMODSEQ":
            return max(1, counters.highest_modseq)
        case _:  # RECENT: those that no session has been told of
            mark = session.services.marks.look(mailbox.id)
            if mark >= counters.uidnext:
                return 0
            uids = session.services.store.uids(mailbox.id)
            return len(uids) - bisect_left(uids, mark)


# ------------------------------------------------------------------------------------------------- create and the like


async def create(session: Session, arguments: Create) -> bytes:
    """CREATE; a trailing separator only says that names below it will follow (RFC 3501 6.3.3)."""
    if len(arguments.special_use) > 1:
        raise Refused("a mailbox has one special use", code="USEATTR")
    use = arguments.special_use[0] if arguments.special_use else None
    name = arguments.name.removesuffix(SEPARATOR) if len(arguments.name) > 1 else arguments.name
    await submit(session, CreateMailbox(session.state.user, proper_name(name), use))
    return b"OK CREATE completed"


async def delete(session: Session, arguments: MailboxName) -> bytes:
    name = proper_name(arguments.name)
    view = session.state.view
    await submit(session, DeleteMailbox(session.state.user, name))
    if view is not None and view.gone:
        session.state.leave()
    return b"OK DELETE completed"


async def rename(session: Session, arguments: Rename) -> bytes:
    change = RenameMailbox(session.state.user, proper_name(arguments.name), proper_name(arguments.new_name))
    await submit(session, change)
    return b"OK RENAME completed"


async def subscribe(session: Session, arguments: MailboxName) -> bytes:
    await submit(session, Subscribe(session.state.user, proper_name(arguments.name), True))
    return b"OK SUBSCRIBE completed"


async def unsubscribe(session: Session, arguments: MailboxName) -> bytes:
    await submit(session, Subscribe(session.state.user, proper_name(arguments.name), False))
    return b"OK UNSUBSCRIBE completed"
