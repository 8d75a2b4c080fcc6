"""What a command handler works with: the shared services, and one session as handlers see it.

A handler is called with the session and the command's arguments. It writes untagged responses, and returns the text
of the tagged one behind its status, or raises `Refused`. What it may not do is keep the event loop: a handler that
touches many messages is a coroutine and awaits `Session.breathe` now and then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from spinrt.errors import (
    AlreadyExists,
    CorruptRecord,
    DeviceFull,
    MailError,
    NotFound,
    QuotaExceeded,
    SpinError,
    UsageError,
)
from spinrt.errors import StorageError as StoreFailure
from spinrt.mail.imap.limits import ImapLimits
from spinrt.mail.imap.response import flag_list, text
from spinrt.mail.imap.state import Exists, Expunged, RecentMarks, SessionState, View
from spinrt.mail.imap.trees import TreeCache
from spinrt.mail.store.model import Body, Change, Mailbox, MailboxReader, Outcome
from spinrt.mail.store.names import canonical_name


class BodySink(Protocol):
    """One message being received (``BodyWriter``)."""

    def write(self, data: bytes | memoryview) -> None: ...
    def finish(self) -> Body: ...
    def abort(self) -> None: ...


class MailStore(MailboxReader, Protocol):
    """The mail store: reads, and changes that are resolved when they are durable and applied."""

    def flags(self, mailbox_id: int, uids: list[int]) -> list[tuple[int, int, frozenset[str]]]:
        """(uid, modseq, flags) of those of the UIDs that exist, ascending."""
        ...

    def unseen(self, mailbox_id: int) -> list[int]: ...
    def first_unseen(self, mailbox_id: int) -> int | None: ...
    def submit(self, change: Change) -> asyncio.Future[Outcome]: ...
    def body_writer(self) -> BodySink: ...


class Hooks(Protocol):
    """Who is told of what clients do; both are called on the event loop."""

    def append(self, user: str, mailbox: str, body: Body) -> str | None:
        """A message was received by APPEND and is not stored yet; a text refuses it."""
        ...

    def flags_changed(self, user: str, mailbox: str, uid: int, flags: frozenset[str]) -> None: ...


class Throttle(Protocol):
    """Bounds per peer address. See ``spinrt.mail.throttle``."""

    def connect(self, address: str) -> bool:
        """Whether one more connection may come; true must be matched by one `disconnect`."""
        ...

    def disconnect(self, address: str) -> None: ...
    def login_allowed(self, address: str, user: str) -> float | None:
        """Seconds to wait before this login is tried; none refuses it."""
        ...

    def login_failed(self, address: str, user: str) -> None: ...
    def login_succeeded(self, address: str, user: str) -> None: ...


Authenticator = Callable[[str, str, Callable[[str | None], None]], None]
"""``authenticate(user, password, done)``: calls ``done`` once, on the loop, with the account's name or none."""


@dataclass(slots=True)
class Services:
    """What all sessions of one server share."""

    store: MailStore
    authenticate: Authenticator
    limits: ImapLimits
    hostname: str
    hooks: Hooks | None = None
    throttle: Throttle | None = None
    can_start_tls: bool = False
    marks: RecentMarks = field(default_factory=RecentMarks)
    trees: TreeCache = field(default_factory=TreeCache)


class Session(Protocol):
    """One connection, as handlers see it."""

    services: Services
    state: SessionState

    @property
    def encrypted(self) -> bool: ...
    @property
    def trusted_peer(self) -> bool:
        """Whether the peer is on loopback, where a password may be sent without TLS."""
        ...

    def write(self, data: bytes) -> None:
        """Send bytes; costs a list append until the command ends or `breathe` is awaited."""
        ...

    def pressed(self) -> bool:
        """Whether `breathe` has something to do: much was written, the client is slow or gone, or the time is up."""
        ...

    async def breathe(self) -> None:
        """Send what was written, wait for a slow client, and let other sessions run when this one had its time.

        Raises:
            Disconnected: The client is gone.
        """
        ...

    async def read_line(self) -> bytes:
        """A bare line from the client, for IDLE and SASL. Raises Disconnected."""
        ...

    def idle(self, active: bool) -> None:
        """Tell the client at once what happens in its mailbox, or stop doing so."""
        ...

    def notice(self) -> None:
        """Something happened in the selected mailbox, and the view knows it."""
        ...

    def start_tls(self) -> None:
        """Change to TLS once the answer to this command is sent."""
        ...

    async def check_password(self, user: str, password: str) -> str | None:
        """The account's name, or none."""
        ...


class Refused(Exception):
    """The command is answered with NO or BAD; nothing was changed."""

    def __init__(self, message: str, *, code: str = "", status: str = "NO") -> None:
        super().__init__(message)
        self.code = code
        self.status = status

    def reply(self) -> bytes:
        code = f"[{self.code}] " if self.code else ""
        return f"{self.status} {code}".encode("ascii") + text(str(self))


class Disconnected(Exception):
    """The client went away while its command was being carried out."""


def refusal(error: SpinError, *, missing: str = "NONEXISTENT") -> Refused:
    """How an error of the store is told to a client (RFC 5530)."""
    match error:
        case NotFound():
            return Refused(str(error), code=missing)
        case AlreadyExists():
            return Refused(str(error), code="ALREADYEXISTS")
        case DeviceFull():
            return Refused("no room is left to store this", code="OVERQUOTA")
        case QuotaExceeded():
            return Refused(str(error), code="OVERQUOTA")
        case CorruptRecord():
            return Refused("a message is damaged where it is stored", code="CORRUPTION")
        case StoreFailure():
            return Refused("the mail store cannot be changed at present", code="UNAVAILABLE")
        case UsageError() | MailError():
            return Refused(str(error), code="CANNOT")
        case _:
            return Refused("internal error", code="SERVERBUG")


async def submit(session: Session, change: Change, *, missing: str = "NONEXISTENT") -> Outcome:
    """Make a change and wait until it is durable and applied. Raises Refused; ``missing`` is the code of NotFound."""
    try:
        return await session.services.store.submit(change)
    except SpinError as error:
        raise refusal(error, missing=missing) from error


def proper_name(name: str) -> str:
    """The canonical form of a mailbox name from a client. Raises Refused."""
    try:
        return canonical_name(name)
    except UsageError as error:
        raise Refused(str(error), code="CANNOT") from None


def find_mailbox(session: Session, name: str, *, missing: str = "NONEXISTENT") -> Mailbox:
    """The user's mailbox of that name. Raises Refused with the code ``missing``."""
    mailbox = session.services.store.mailbox(session.state.user, proper_name(name))
    if mailbox is None:
        raise Refused("no such mailbox", code=missing)
    return mailbox


def selected(session: Session) -> View:
    """The selected mailbox; commands that need one are refused before they get here."""
    view = session.state.view
    assert view is not None
    return view


def writable(session: Session) -> View:
    """The selected mailbox, which must have been selected read-write."""
    view = selected(session)
    if view.read_only:
        raise Refused("the mailbox was selected read-only")
    return view


def tell_updates(session: Session, *, expunge: bool) -> None:
    """Write what happened in the selected mailbox since the client was last told (RFC 3501 5.2)."""
    view = session.state.view
    if view is None or not view.has_updates(expunge=expunge):
        return
    for update in view.updates(expunge=expunge):
        match update:
            case Expunged(sequence):
                session.write(b"* %d EXPUNGE\r\n" % sequence)
            case Exists(messages, recent):
                session.write(b"* %d EXISTS\r\n* %d RECENT\r\n" % (messages, recent))
            case _:
                flags = flag_list(update.flags, update.recent)
                line = b"* %d FETCH (UID %d FLAGS %b" % (update.sequence, update.uid, flags)
                session.write(line + (b" MODSEQ (%d))\r\n" % update.modseq if session.state.condstore else b")\r\n"))
