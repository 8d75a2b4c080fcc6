"""Commands about messages in the selected mailbox: STORE, COPY, MOVE, EXPUNGE. FETCH and SEARCH have own files."""

from __future__ import annotations

from spinrt.mail.imap.command import Copy, ExpungeUids, NoArguments, Store
from spinrt.mail.imap.fetch import tell_hooks
from spinrt.mail.imap.response import flag_list, number_set
from spinrt.mail.imap.session import Refused, Session, find_mailbox, selected, submit, writable
from spinrt.mail.imap.state import View
from spinrt.mail.store.model import Copied, CopyMessages, Expunge, Stored, StoreFlags


async def store(session: Session, arguments: Store) -> bytes:
    """STORE, with UNCHANGEDSINCE (RFC 7162 3.1.3)."""
    view = writable(session)
    if arguments.unchanged_since is not None:
        session.state.condstore = True
    uids = tuple(view.select_uids(arguments.messages, uid=arguments.uid))
    if not uids:
        return b"OK STORE completed"
    change = StoreFlags(view.mailbox.id, uids, arguments.mode, arguments.flags, arguments.unchanged_since)
    outcome = await submit(session, change)
    assert isinstance(outcome, Stored)
    tell_hooks(session, view, outcome)
    for uid, flags, modseq in outcome.changed:
        _tell_stored(session, view, arguments, (uid, flags, modseq))
    if outcome.failed:
        numbers = outcome.failed if arguments.uid else [view.sequence(uid) for uid in outcome.failed]
        return b"OK [MODIFIED " + number_set(numbers) + b"] some messages were changed by others"
    if len(outcome.changed) < len(uids) and not arguments.uid:
        raise Refused("some of the messages are gone", code="EXPUNGEISSUED")
    return b"OK STORE completed"


def _tell_stored(session: Session, view: View, arguments: Store, stored: tuple[int, frozenset[str], int]) -> None:
    """Tell the new flags of one message, unless it was to be silent and nobody else changed them meanwhile."""
    uid, flags, modseq = stored
    view.told(uid, modseq)
    newer = view.pending(uid)
    if newer is not None:
        return  # another session was quicker to change it again: its flags follow with the other updates
    items = []
    if not arguments.silent:
        items.append(b"FLAGS " + flag_list(flags, view.is_recent(uid)))
    if session.state.condstore and (items or arguments.unchanged_since is not None):
        items.append(b"MODSEQ (%d)" % modseq)
    if items:
        if arguments.uid or session.state.condstore:
            items.insert(0, b"UID %d" % uid)
        session.write(b"* %d FETCH (%b)\r\n" % (view.sequence(uid), b" ".join(items)))


async def copy(session: Session, arguments: Copy) -> bytes:
    """COPY and MOVE (RFC 6851), with COPYUID (RFC 4315)."""
    view = writable(session) if arguments.move else selected(session)
    target = find_mailbox(session, arguments.name, missing="TRYCREATE")
    uids = tuple(view.select_uids(arguments.messages, uid=arguments.uid))
    name = b"MOVE" if arguments.move else b"COPY"
    if not uids:
        return b"OK " + name + b" completed"
    change = CopyMessages(view.mailbox.id, uids, target.id, arguments.move)
    outcome = await submit(session, change, missing="TRYCREATE")
    assert isinstance(outcome, Copied)
    if not outcome.source_uids:
        if arguments.uid:
            return b"OK " + name + b" completed"
        raise Refused("the messages are gone", code="EXPUNGEISSUED")
    sets = number_set(outcome.source_uids) + b" " + number_set(outcome.target_uids)
    code = b"[COPYUID %d " % outcome.uidvalidity + sets + b"]"
    if not arguments.move:
        return b"OK " + code + b" COPY completed"
    session.write(b"* OK " + code + b" moved\r\n")  # must come before the EXPUNGEs (RFC 6851 4.3)
    return b"OK MOVE completed"


async def expunge(session: Session, _: NoArguments) -> bytes:
    view = writable(session)
    if session.services.store.status(view.mailbox.id).deleted:
        await submit(session, Expunge(view.mailbox.id, None))
    return b"OK EXPUNGE completed"


async def uid_expunge(session: Session, arguments: ExpungeUids) -> bytes:
    """UID EXPUNGE (RFC 4315 2.1)."""
    view = writable(session)
    uids = tuple(view.select_uids(arguments.messages, uid=True))
    if uids:
        await submit(session, Expunge(view.mailbox.id, uids))
    return b"OK UID EXPUNGE completed"
