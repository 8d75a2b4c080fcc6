"""IMAP commands as values: what the parser gives and the handlers take.

Strings of the protocol are decoded where they have one meaning (mailbox names are Unicode); what is compared with
messages stays bytes or text as its field says. What clients send by the thousand is a named tuple, which is made in a
third of the time of a frozen dataclass.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple, TypeAlias

from spinrt.mail.message.view import Section
from spinrt.mail.store.model import FlagsMode

STAR = 0
"""``*`` in a sequence set: the largest number in use. No number of IMAP is 0."""


class SequenceSet(NamedTuple):
    """Ranges as written; either end may be `STAR`, and the ends may be in any order."""

    ranges: tuple[tuple[int, int], ...]

    def resolved(self, largest: int) -> list[tuple[int, int]]:
        """Ranges with ``*`` as ``largest``, each low to high, sorted, without overlaps. Cost: the number of ranges."""
        ends = sorted(tuple(sorted((a or largest, b or largest))) for a, b in self.ranges)
        merged: list[tuple[int, int]] = []
        for low, high in ends:
            if merged and low <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(merged[-1][1], high))
            else:
                merged.append((low, high))
        return merged


# ----------------------------------------------------------------------------------------------------------- arguments


@dataclass(frozen=True, slots=True)
class NoArguments:
    pass


@dataclass(frozen=True, slots=True)
class Login:
    user: bytes
    password: bytes


@dataclass(frozen=True, slots=True)
class Authenticate:
    mechanism: str
    initial: bytes | None
    """Initial response as sent (base64, ``=`` for empty), or none (RFC 4959)."""


@dataclass(frozen=True, slots=True)
class MailboxName:
    name: str


@dataclass(frozen=True, slots=True)
class Select:
    name: str
    condstore: bool


@dataclass(frozen=True, slots=True)
class Create:
    name: str
    special_use: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rename:
    name: str
    new_name: str


@dataclass(frozen=True, slots=True)
class List:
    reference: str
    patterns: tuple[str, ...]
    selection: frozenset[str] = frozenset()
    returns: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class GetStatus:
    name: str
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AppendTo:
    """APPEND without its message. ``date`` is (seconds since 1970 UTC, minutes east), none for now."""

    name: str
    flags: tuple[str, ...]
    date: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Identify:
    fields: tuple[tuple[bytes, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class Enable:
    capabilities: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FetchItem:
    """One data item. ``label`` is how the answer names it; ``partial`` is (first byte, number of bytes)."""

    name: str
    label: bytes
    section: Section | None = None
    partial: tuple[int, int] | None = None
    marks_seen: bool = False


class Wanted(NamedTuple):
    """What a FETCH wants to know of every message: the items, each once, in the order of the answer."""

    items: tuple[FetchItem, ...]
    flags: bool
    """Whether FLAGS is among them."""
    modseq: bool
    """Whether MODSEQ is among them."""
    rows: bool
    """Whether any of them needs more of the store than UID, MODSEQ and flags."""
    marks_seen: bool
    form: bytes
    """The whole response, to be filled with the message's number and the values; empty when text of it is needed."""

    @classmethod
    def of(cls, items: Iterable[FetchItem]) -> Wanted:
        once = tuple(dict.fromkeys(items))
        names = [item.name for item in once]
        form = b""
        if all(name in ROW_FORMS for name in names):
            form = b"* %d FETCH (" + b" ".join([ROW_FORMS[name] for name in names]) + b")\r\n"
        rows = not _FLAG_ITEMS.issuperset(names)
        return cls(once, "FLAGS" in names, "MODSEQ" in names, rows, any(item.marks_seen for item in once), form)


_FLAG_ITEMS = frozenset(("FLAGS", "UID", "MODSEQ"))
ROW_FORMS: Mapping[str, bytes] = {
    "FLAGS": b"FLAGS %b",
    "UID": b"UID %d",
    "MODSEQ": b"MODSEQ (%d)",
    "INTERNALDATE": b"INTERNALDATE %b",
    "RFC822.SIZE": b"RFC822.SIZE %d",
}
"""Items that need no more of a message than its row in the store, and how they are written."""


class Fetch(NamedTuple):
    uid: bool
    messages: SequenceSet
    wanted: Wanted
    changed_since: int | None = None


@dataclass(frozen=True, slots=True)
class Store:
    uid: bool
    messages: SequenceSet
    mode: FlagsMode
    flags: tuple[str, ...]
    silent: bool
    unchanged_since: int | None = None


@dataclass(frozen=True, slots=True)
class Copy:
    uid: bool
    messages: SequenceSet
    name: str
    move: bool


@dataclass(frozen=True, slots=True)
class ExpungeUids:
    messages: SequenceSet


# ----------------------------------------------------------------------------------------------------------- searching


@dataclass(frozen=True, slots=True)
class All:
    pass


@dataclass(frozen=True, slots=True)
class And:
    keys: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Or:
    left: Key
    right: Key


@dataclass(frozen=True, slots=True)
class Not:
    key: Key


@dataclass(frozen=True, slots=True)
class Numbers:
    """Sequence numbers, or UIDs."""

    messages: SequenceSet
    uid: bool


@dataclass(frozen=True, slots=True)
class HasFlag:
    flag: str


@dataclass(frozen=True, slots=True)
class IsRecent:
    pass


@dataclass(frozen=True, slots=True)
class InHeader:
    """The field has that text in it, case aside; any value when the text is empty."""

    field: bytes
    text: str


@dataclass(frozen=True, slots=True)
class InText:
    """The body, or with ``header`` the whole message, has that text in it, case aside."""

    text: str
    header: bool


@dataclass(frozen=True, slots=True)
class Larger:
    size: int


@dataclass(frozen=True, slots=True)
class Smaller:
    size: int


@dataclass(frozen=True, slots=True)
class Dated:
    """``first <= day < end``; ``sent`` looks at the Date field, else the internal date. Days ignore time and zone."""

    sent: bool
    first: date | None
    end: date | None


@dataclass(frozen=True, slots=True)
class ModifiedSince:
    """MODSEQ at least that high."""

    modseq: int


Key: TypeAlias = (
    All | And | Or | Not | Numbers | HasFlag | IsRecent | InHeader | InText | Larger | Smaller | Dated | ModifiedSince
)


@dataclass(frozen=True, slots=True)
class Search:
    uid: bool
    charset: str | None
    key: Key
    """`All` when the charset is not one we read: the answer is NO."""
    modseq: bool
    """Whether MODSEQ was among the keys: the answer then tells the highest."""


Arguments: TypeAlias = (
    NoArguments
    | Login
    | Authenticate
    | MailboxName
    | Select
    | Create
    | Rename
    | List
    | GetStatus
    | AppendTo
    | Identify
    | Enable
    | Fetch
    | Store
    | Copy
    | ExpungeUids
    | Search
)


class Command(NamedTuple):
    tag: str
    name: str
    """Upper case, ``UID FETCH`` and the like in full."""
    arguments: Arguments
