r"""What one session is and what its client was told, without I/O.

A `View` is the selected mailbox as the client knows it: the UIDs by sequence number. What happens in the mailbox waits
in the view until it may be told: EXPUNGE never during FETCH, STORE or SEARCH, because it would renumber what the client
speaks about (RFC 3501 7.4.1). Every question here costs O(log n) or what it touches; only an EXPUNGE that is told moves
the array behind it.

``\Recent``: the first session that learns of a message, by SELECT or by an untagged EXISTS, has it as recent until it
leaves the mailbox; EXAMINE sees recent messages and does not take them. Who was first is kept in memory only, so after
a start of the server all messages are recent to the first session, as RFC 3501 2.3.2 asks when it cannot be known.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from spinrt.mail.imap.command import STAR, SequenceSet
from spinrt.mail.store.model import Added, FlagsChanged, Mailbox, MailboxEvent, MailboxGone, Removed


class Phase(Enum):
    """States of RFC 3501 3."""

    GREETED = "not authenticated"
    AUTHENTICATED = "authenticated"
    SELECTED = "selected"
    LOGOUT = "logging out"


ANY = (Phase.GREETED, Phase.AUTHENTICATED, Phase.SELECTED)
GREETED = (Phase.GREETED,)
LOGGED_IN = (Phase.AUTHENTICATED, Phase.SELECTED)
SELECTED = (Phase.SELECTED,)

COMMAND_PHASES: dict[str, tuple[Phase, ...]] = {
    **dict.fromkeys(("CAPABILITY", "NOOP", "LOGOUT", "ID"), ANY),
    **dict.fromkeys(("STARTTLS", "LOGIN", "AUTHENTICATE"), GREETED),
    **dict.fromkeys(("LIST", "LSUB", "SELECT", "EXAMINE", "STATUS", "CREATE", "DELETE", "RENAME"), LOGGED_IN),
    **dict.fromkeys(("SUBSCRIBE", "UNSUBSCRIBE", "APPEND", "IDLE", "NAMESPACE", "ENABLE"), LOGGED_IN),
    **dict.fromkeys(("CHECK", "CLOSE", "UNSELECT", "EXPUNGE", "UID EXPUNGE"), SELECTED),
    **dict.fromkeys(("FETCH", "STORE", "COPY", "MOVE", "SEARCH"), SELECTED),
    **dict.fromkeys(("UID FETCH", "UID STORE", "UID COPY", "UID MOVE", "UID SEARCH"), SELECTED),
}
"""In which states each command has a meaning; tuples, as members of an enumeration are compared faster than hashed."""

RENUMBERING_FORBIDDEN = frozenset(("FETCH", "STORE", "SEARCH"))
"""Commands during which EXPUNGE must not be told (RFC 3501 7.4.1)."""


class RecentMarks:
    """For each mailbox, the UID below which some session has seen every message."""

    def __init__(self) -> None:
        self._marks: dict[int, int] = {}

    def look(self, mailbox_id: int) -> int:
        return self._marks.get(mailbox_id, 0)

    def take(self, mailbox_id: int, uidnext: int) -> int:
        """Move the mark up to ``uidnext`` and return where it was."""
        mark = self.look(mailbox_id)
        self._marks[mailbox_id] = max(mark, uidnext)
        return mark


class Expunged(NamedTuple):
    sequence: int


class Exists(NamedTuple):
    messages: int
    recent: int


class Flags(NamedTuple):
    sequence: int
    uid: int
    flags: frozenset[str]
    modseq: int
    recent: bool


Update = Expunged | Exists | Flags


class NoSuchMessage(Exception):
    """A sequence number is larger than the number of messages."""


class View:
    """The selected mailbox as the client knows it.

    Args:
        mailbox: Which one.
        uids: UIDs of its messages now, ascending; taken over.
        read_only: Selected with EXAMINE.
        marks: Shared by all sessions.
    """

    def __init__(self, mailbox: Mailbox, uids: array[int], *, read_only: bool, marks: RecentMarks) -> None:
        self.mailbox = mailbox
        self.uids = uids
        self.read_only = read_only
        self.gone = False
        self._marks = marks
        uidnext = uids[-1] + 1 if uids else 0
        self._recent_from = marks.look(mailbox.id) if read_only else marks.take(mailbox.id, uidnext)
        self._recent_to = uidnext
        self._recent_later: set[int] = set()
        self._added: list[int] = []
        self._removed: dict[int, None] = {}
        self._changed: dict[int, FlagsChanged] = {}

    # ------------------------------------------------------------------------------------------------------- events

    def notice(self, events: list[MailboxEvent]) -> None:
        """Take in what happened, in order; the client is told by `updates`."""
        for event in events:
            match event:
                case Added(uid=uid):
                    self._added.append(uid)
                case FlagsChanged(uid=uid):
                    if self.sequence(uid):
                        self._changed[uid] = event
                case Removed(uid=uid):
                    self._remove(uid)
                case MailboxGone():
                    self.gone = True

    def _remove(self, uid: int) -> None:
        if self.sequence(uid):
            self._removed[uid] = None
            self._changed.pop(uid, None)
        else:
            index = bisect_left(self._added, uid)
            if index < len(self._added) and self._added[index] == uid:
                del self._added[index]

    def told(self, uid: int, modseq: int) -> None:
        """The client was told the flags that the message had at ``modseq``."""
        pending = self._changed.get(uid)
        if pending is not None and pending.modseq <= modseq:
            del self._changed[uid]

    def pending(self, uid: int) -> FlagsChanged | None:
        """Flags of a message that the client was not told yet."""
        return self._changed.get(uid)

    def removed(self, uid: int) -> bool:
        """Whether the message is gone and the client was not told yet."""
        return uid in self._removed

    def has_updates(self, *, expunge: bool) -> bool:
        return bool(self._added or self._changed or (expunge and self._removed))

    def updates(self, *, expunge: bool) -> list[Update]:
        """What the client is told now, in the order it must be told in; the view is then what the client knows."""
        found: list[Update] = []
        if expunge and self._removed:
            found.extend(self._expunge())
        if self._added:
            found.append(self._add())
        if self._changed:
            for uid, event in self._changed.items():
                sequence = self.sequence(uid)
                found.append(Flags(sequence, uid, event.flags, event.modseq, self.is_recent(uid)))
            self._changed.clear()
        return found

    def _expunge(self) -> Iterator[Update]:
        removed, self._removed = self._removed, {}
        for uid in removed:
            sequence = self.sequence(uid)
            del self.uids[sequence - 1]
            self._recent_later.discard(uid)
            yield Expunged(sequence)

    def _add(self) -> Update:
        added, self._added = self._added, []
        for uid in added:
            self.uids.append(uid)
            if uid >= self._marks.look(self.mailbox.id):
                self._recent_later.add(uid)
        if not self.read_only:
            self._marks.take(self.mailbox.id, added[-1] + 1)
        return Exists(len(self.uids), self.recent_count())

    # ------------------------------------------------------------------------------------------------------ numbers

    def sequence(self, uid: int) -> int:
        """Sequence number of a UID that the client knows, 0 otherwise."""
        index = bisect_left(self.uids, uid)
        return index + 1 if index < len(self.uids) and self.uids[index] == uid else 0

    def by_sequence(self, messages: SequenceSet) -> list[range]:
        """Indexes into ``uids`` of the sequence numbers. Raises NoSuchMessage for one past the last.

        In an empty mailbox ``*``, and a range up to it, mean nothing and are no error: clients send ``1:*`` blindly.
        """
        count = len(self.uids)
        first, last = messages.ranges[0]
        if len(messages.ranges) == 1 and STAR < first <= last <= count:
            return [range(first - 1, last)]
        for low, high in messages.ranges:
            if max(low, high) > count and not (count == 0 and STAR in (low, high)):
                raise NoSuchMessage(f"there is no message {max(low, high)}; the mailbox has {count}")
        if count == 0:
            return []
        return [range(low - 1, high) for low, high in messages.resolved(count)]

    def by_uid(self, messages: SequenceSet) -> list[range]:
        """Indexes of those of the UIDs that the client knows; others are passed over (RFC 3501 6.4.8)."""
        if not self.uids:
            return []
        first, last = messages.ranges[0]
        single = len(messages.ranges) == 1 and STAR < first <= last
        found = []
        for low, high in messages.ranges if single else messages.resolved(self.uids[-1]):
            indexes = range(bisect_left(self.uids, low), bisect_right(self.uids, high))
            if indexes:
                found.append(indexes)
        return found

    def select(self, messages: SequenceSet, *, uid: bool) -> list[range]:
        """Indexes of the messages, ascending, each once."""
        return self.by_uid(messages) if uid else self.by_sequence(messages)

    def select_uids(self, messages: SequenceSet, *, uid: bool) -> list[int]:
        """UIDs of the messages, ascending."""
        return [self.uids[index] for indexes in self.select(messages, uid=uid) for index in indexes]

    # ------------------------------------------------------------------------------------------------------- recent

    def is_recent(self, uid: int) -> bool:
        return self._recent_from <= uid < self._recent_to or uid in self._recent_later

    def recent_count(self) -> int:
        first = bisect_left(self.uids, self._recent_from)
        return bisect_left(self.uids, self._recent_to, lo=first) - first + len(self._recent_later)


@dataclass(slots=True)
class SessionState:
    """Who the client is and where it stands."""

    phase: Phase = Phase.GREETED
    user: str = ""
    view: View | None = None
    condstore: bool = False
    """Whether MODSEQ goes with every FLAGS: enabled by the client, openly or by using it (RFC 7162 3.1)."""
    bad_commands: int = 0
    login_failures: int = 0
    client: dict[bytes, bytes | None] = field(default_factory=dict)
    """What the client said of itself with ID."""

    unwatch: Callable[[], None] | None = None

    def allows(self, name: str) -> bool:
        """Whether the command has a meaning now."""
        return self.phase in COMMAND_PHASES[name]

    def enter(self, view: View, unwatch: Callable[[], None]) -> None:
        """Select a mailbox; ``unwatch`` ends the flow of events into the view."""
        self.leave()
        self.phase, self.view, self.unwatch = Phase.SELECTED, view, unwatch

    def leave(self) -> None:
        """Leave the selected mailbox, if there is one."""
        if self.unwatch is not None:
            self.unwatch()
        if self.view is not None:
            self.phase, self.view, self.unwatch = Phase.AUTHENTICATED, None, None
