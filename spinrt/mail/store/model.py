"""What the mail store holds and what can be asked of it, as plain values.

A *change* is what a caller submits; it becomes one log record. An *outcome* is what applying it gave. An *event* is
what a watcher of a mailbox is told after a change was applied. This module owns the vocabulary and nothing else:
no bytes on disk (``changes``), no SQL (``index``).

Flags are strings as IMAP writes them (``\\Seen``, ``$Label``), compared without case for system flags; ``\\Recent`` is
never stored. Mailbox names are Unicode with ``/`` as separator; ``INBOX`` in any case means ``INBOX``.

What each delivery makes, or each message that is shown, is a named tuple: it is made three times as fast as a frozen
dataclass, and with `make_record` twice as fast again.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple, Protocol, TypeAlias

make_record: Final = tuple.__new__
"""``make_record(kind, values)``: a named tuple of that kind, without the frame of its own ``__new__``."""


class Extent(NamedTuple):
    """A run of a message's bytes: ``length`` bytes from ``offset`` of the body of the log record at ``position``."""

    position: int
    offset: int
    length: int


class Body(NamedTuple):
    """A whole message in the log. ``prefix`` bytes (headers that delivery put on top) stand before the extents."""

    digest: bytes
    size: int
    extents: tuple[Extent, ...]
    prefix: bytes = b""


@dataclass(frozen=True, slots=True)
class Mailbox:
    id: int
    user: str
    name: str
    uidvalidity: int
    subscribed: bool
    special_use: str | None
    """Special-use attribute of RFC 6154 (``\\Sent``), or none."""


@dataclass(frozen=True, slots=True)
class Status:
    """Counters of one mailbox; kept up to date by every change, never counted."""

    messages: int
    unseen: int
    deleted: int
    uidnext: int
    uidvalidity: int
    highest_modseq: int
    size: int
    """Sum of the messages' sizes in bytes."""


class Message(NamedTuple):
    """One message in one mailbox. ``size`` of RFC822.SIZE is ``body.size`` with its prefix counted."""

    uid: int
    modseq: int
    flags: frozenset[str]
    internal_date: int
    """Seconds since 1970-01-01 UTC."""
    internal_zone: int
    """Minutes east of UTC that the date was given in."""
    body: Body


# ---------------------------------------------------------------------------------------------------------- changes


class Copy(NamedTuple):
    """One copy that a delivery makes: for whom, where, with which flags and added header bytes on top."""

    user: str
    mailbox: str
    flags: tuple[str, ...] = ()
    prefix: bytes = b""


@dataclass(frozen=True, slots=True)
class Outbound:
    """One message to hand to the smarthost; ``body`` none means ``text`` is the whole message."""

    kind: str
    """``redirect`` or ``notify``."""
    extension: str
    sender: str
    recipient: str
    body: Body | None
    text: bytes = b""


@dataclass(frozen=True, slots=True)
class KvWrite:
    """One write of an extension to its own map; ``value`` none deletes."""

    space: str
    key: str
    value: bytes | None


class Deliver(NamedTuple):
    """One accepted transaction: all of it is stored, or nothing.

    ``copies`` may be empty (discarded). ``delivery_id`` is unique: applying the same id again changes nothing.
    """

    delivery_id: str
    protocol: str
    peer: str
    sender: str
    recipients: tuple[str, ...]
    body: Body
    copies: tuple[Copy, ...]
    received_s: int
    outbound: tuple[Outbound, ...] = ()
    kv: tuple[KvWrite, ...] = ()
    tags: tuple[tuple[str, str, bytes], ...] = ()
    """(extension, key, value) triples for the undo system."""


@dataclass(frozen=True, slots=True)
class Append:
    """IMAP APPEND: the mailbox must exist (else NotFound)."""

    mailbox_id: int
    body: Body
    flags: tuple[str, ...]
    internal_date: int
    internal_zone: int


class FlagsMode(Enum):
    SET = "set"
    ADD = "add"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class StoreFlags:
    """IMAP STORE. UIDs that are gone are skipped; with ``unchanged_since``, those with a higher MODSEQ fail."""

    mailbox_id: int
    uids: tuple[int, ...]
    mode: FlagsMode
    flags: tuple[str, ...]
    unchanged_since: int | None = None


@dataclass(frozen=True, slots=True)
class Expunge:
    r"""Remove those messages; with ``deleted_only``, only those that carry ``\Deleted``. ``uids`` none means all."""

    mailbox_id: int
    uids: tuple[int, ...] | None
    deleted_only: bool = True


@dataclass(frozen=True, slots=True)
class CopyMessages:
    """IMAP COPY (``move`` false) or MOVE (true). UIDs that are gone are skipped."""

    mailbox_id: int
    uids: tuple[int, ...]
    target_id: int
    move: bool = False


@dataclass(frozen=True, slots=True)
class CreateMailbox:
    """Create a mailbox and the missing ones above it. AlreadyExists when it is there."""

    user: str
    name: str
    special_use: str | None = None


@dataclass(frozen=True, slots=True)
class DeleteMailbox:
    """Delete a mailbox; INBOX cannot be. Mailboxes below it stay."""

    user: str
    name: str


@dataclass(frozen=True, slots=True)
class RenameMailbox:
    """Rename a mailbox and those below it; renaming INBOX moves its messages to a new mailbox (RFC 3501 6.3.5)."""

    user: str
    name: str
    new_name: str


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Subscribe or unsubscribe; the mailbox need not exist (RFC 3501 6.3.6)."""

    user: str
    name: str
    subscribed: bool


class QueueState(Enum):
    """What became of an outbound message: waiting (deferred too), held by the operator, sent, failed or dropped."""

    WAITING = "waiting"
    HELD = "held"
    SENT = "sent"
    FAILED = "failed"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class QueueUpdate:
    """New state of one outbound message; ``attempts`` and ``next_s`` drive the back-off."""

    queue_id: int
    state: QueueState
    attempts: int
    next_s: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class KvWrites:
    """Writes of an extension outside a delivery."""

    writes: tuple[KvWrite, ...]


Change: TypeAlias = (
    Deliver
    | Append
    | StoreFlags
    | Expunge
    | CopyMessages
    | CreateMailbox
    | DeleteMailbox
    | RenameMailbox
    | Subscribe
    | QueueUpdate
    | KvWrites
)

# --------------------------------------------------------------------------------------------------------- outcomes


class Delivered(NamedTuple):
    """``placed``: (user, mailbox name, mailbox id, uid) of each copy, in order; ``queued``: ids of what goes out."""

    placed: tuple[tuple[str, str, int, int], ...]
    queued: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Appended:
    uidvalidity: int
    uid: int


@dataclass(frozen=True, slots=True)
class Stored:
    """``changed``: (uid, flags, modseq) of each message that was there and passed; ``failed``: changed since."""

    changed: tuple[tuple[int, frozenset[str], int], ...]
    failed: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Expunged:
    uids: tuple[int, ...]
    modseq: int


@dataclass(frozen=True, slots=True)
class Copied:
    """Same length: ``source_uids[i]`` became ``target_uids[i]`` in the target of that UIDVALIDITY."""

    uidvalidity: int
    source_uids: tuple[int, ...]
    target_uids: tuple[int, ...]


Outcome: TypeAlias = Delivered | Appended | Stored | Expunged | Copied | Mailbox | None

# ----------------------------------------------------------------------------------------------------------- events


@dataclass(frozen=True, slots=True)
class Added:
    uid: int
    modseq: int
    flags: frozenset[str]


@dataclass(frozen=True, slots=True)
class FlagsChanged:
    uid: int
    modseq: int
    flags: frozenset[str]


@dataclass(frozen=True, slots=True)
class Removed:
    uid: int
    modseq: int


@dataclass(frozen=True, slots=True)
class MailboxGone:
    """The mailbox was deleted; the watcher gets nothing more."""

    mailbox_id: int


MailboxEvent: TypeAlias = Added | FlagsChanged | Removed | MailboxGone
Watcher: TypeAlias = Callable[[list[MailboxEvent]], None]


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """One outbound message as the queue holds it."""

    queue_id: int
    outbound: Outbound
    state: QueueState
    attempts: int
    next_s: int
    created_s: int
    note: str = field(default="")


class MailboxReader(Protocol):
    """The reading side that IMAP uses. Everything is what is durable and applied; nothing here waits."""

    def mailboxes(self, user: str) -> list[Mailbox]: ...
    def subscriptions(self, user: str) -> list[str]: ...
    def mailbox(self, user: str, name: str) -> Mailbox | None: ...
    def status(self, mailbox_id: int) -> Status: ...
    def uids(self, mailbox_id: int) -> array[int]:
        """All UIDs, ascending (type code ``I``)."""
        ...

    def message(self, mailbox_id: int, uid: int) -> Message | None: ...
    def messages(self, mailbox_id: int, uids: list[int]) -> list[Message]:
        """Those of the UIDs that exist, ascending."""
        ...

    def changed_since(self, mailbox_id: int, modseq: int) -> list[int]:
        """UIDs of messages whose MODSEQ is higher."""
        ...

    def with_flag(self, mailbox_id: int, flag: str) -> list[int]:
        """UIDs of messages that carry that flag."""
        ...

    def read(self, body: Body, offset: int = 0, length: int | None = None) -> bytes: ...
    def watch(self, mailbox_id: int, watcher: Watcher) -> Callable[[], None]:
        """Call ``watcher`` after each applied change of that mailbox; returns the function that ends it."""
        ...
