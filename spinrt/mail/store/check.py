"""What can be said against a change without looking at the store: shapes, names, flags, ranges.

Checked when a change is submitted, so that what is in the log can always be applied or fails for a reason that depends
on the state (a mailbox is gone, a name is taken). Names come out in canonical form.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Final

from spinrt._core import stored_bytes
from spinrt.errors import UsageError
from spinrt.mail.store.flags import check_flags
from spinrt.mail.store.model import (
    Append,
    Body,
    Change,
    Copy,
    CreateMailbox,
    DeleteMailbox,
    Deliver,
    RenameMailbox,
    StoreFlags,
    Subscribe,
)
from spinrt.mail.store.names import INBOX, NAMES_KEPT, SPECIAL_USES, canonical_name, check_user

DELIVERY_ID_BYTES_MAX: Final = 200
PREFIX_BYTES_MAX: Final = 1024 * 1024
_USES: Final = frozenset((*(use for _, use in SPECIAL_USES), "\\Flagged", "\\All", "\\Important"))


def check_change(change: Change) -> Change:
    """Return the change with canonical mailbox names.

    Raises:
        UsageError: It can never be applied.
    """
    if type(change) is Deliver:
        return _check_deliver(change)
    match change:
        case Append():
            check_body(change.body)
            check_flags(change.flags)
        case StoreFlags():
            check_flags(change.flags)
        case CreateMailbox():
            check_user(change.user)
            if change.special_use is not None and change.special_use not in _USES:
                raise UsageError(f"mailbox {change.name!r}: special use {change.special_use!r} is not known")
            return _named(change, canonical_name(change.name))
        case DeleteMailbox():
            name = canonical_name(change.name)
            if name == INBOX:
                raise UsageError("mailbox INBOX: cannot be deleted")
            return _named(change, name)
        case Subscribe():
            check_user(change.user)
            return _named(change, canonical_name(change.name))
        case RenameMailbox():
            return _check_rename(change)
        case _:
            pass
    return change


def _named(change: CreateMailbox | DeleteMailbox | Subscribe, name: str) -> Change:
    return change if name == change.name else replace(change, name=name)


def _check_rename(change: RenameMailbox) -> RenameMailbox:
    name, new_name = canonical_name(change.name), canonical_name(change.new_name)
    if new_name == INBOX:
        raise UsageError(f"mailbox {name!r}: cannot become INBOX")
    return RenameMailbox(change.user, name, new_name)


def _check_deliver(change: Deliver) -> Deliver:
    if not 0 < len(change.delivery_id.encode("utf-8", "replace")) <= DELIVERY_ID_BYTES_MAX:
        raise UsageError(f"delivery id {change.delivery_id[:40]!r}: expected 1 … {DELIVERY_ID_BYTES_MAX} bytes")
    check_body(change.body)
    for outbound in change.outbound:
        if outbound.body is not None:
            check_body(outbound.body)
    copies = tuple([_check_copy(copy) if copy.prefix else _check_plain_copy(copy) for copy in change.copies])
    return change if copies == change.copies else change._replace(copies=copies)


def _check_copy(copy: Copy) -> Copy:
    """Return the copy with the canonical name of its mailbox."""
    check_user(copy.user)
    check_flags(copy.flags)
    if len(copy.prefix) > PREFIX_BYTES_MAX:
        raise UsageError(f"copy for {copy.user}: prefix of {len(copy.prefix)} bytes, limit {PREFIX_BYTES_MAX}")
    name = canonical_name(copy.mailbox)
    return copy if name == copy.mailbox else copy._replace(mailbox=name)


_check_plain_copy: Final = lru_cache(maxsize=NAMES_KEPT)(_check_copy)
"""Copies found right are remembered, unless they have a prefix: rules file into the same few mailboxes."""


def check_body(body: Body) -> None:
    """Raise UsageError unless size, prefix and extents of a body agree."""
    if body.size != stored_bytes(body):
        raise UsageError(f"body: size is {body.size}, prefix and extents have {stored_bytes(body)}")


def bodies_of(change: Change) -> Iterator[Body]:
    """Yield the message bodies that a change refers to."""
    match change:
        case Deliver():
            yield change.body
            for outbound in change.outbound:
                if outbound.body is not None:
                    yield outbound.body
        case Append():
            yield change.body
        case _:
            pass


def names_of(change: Change) -> Iterator[int]:
    """Yield the names of the log records that a change's bodies are made of."""
    for body in bodies_of(change):
        for extent in body.extents:
            yield extent.position
