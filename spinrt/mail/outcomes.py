"""From decisions to what is stored and said: records that extensions are given, copies, what leaves, the one answer.

Plain functions of values; ``spinrt.mail.delivery`` runs the transaction around them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from spinrt.mail.host.context import RecipientContext
from spinrt.mail.host.effects import Decision, Redirect, Refusal
from spinrt.mail.store.model import Body, Copy, Outbound, make_record
from spinrt.mail.store.names import INBOX


class EnvelopeRecord(NamedTuple):
    """``spinrt:mail/envelope#envelope``."""

    delivery_id: str
    protocol: str
    peer: str
    authenticated: str | None
    sender: str
    recipient: str
    user: str
    detail: str | None


class OutcomeRecord(NamedTuple):
    """``spinrt:mail/envelope#outcome``."""

    recipient: str
    user: str
    mailboxes: list[str]
    flags: list[str]
    refused: int | None


class ReceiptRecord(NamedTuple):
    """``spinrt:mail/envelope#receipt``."""

    delivery_id: str
    protocol: str
    peer: str
    sender: str
    size: int
    outcomes: list[OutcomeRecord]


def fold_refusals(refusals: Iterable[Refusal | None]) -> Refusal | None:
    """The refusal of a transaction with one answer: the first permanent one, else the first, else none."""
    found = [refusal for refusal in refusals if refusal is not None]
    return next((refusal for refusal in found if refusal.permanent), found[0] if found else None)


def mailboxes_of(decision: Decision) -> list[str]:
    """Where copies go: nowhere when refused or discarded, INBOX when nobody filed."""
    if decision.refusal is not None or decision.discarded:
        return []
    return decision.mailboxes or [INBOX]


def outcome_of(recipient: RecipientContext, decision: Decision) -> OutcomeRecord:
    """What became of one recipient."""
    refusal = decision.refusal
    flags, code = (decision.flags, None) if refusal is None else ([], refusal.code)
    return make_record(OutcomeRecord, (recipient.address, recipient.user, mailboxes_of(decision), flags, code))


def copies_of(accepted: Sequence[tuple[RecipientContext, Decision]]) -> tuple[Copy, ...]:
    """One copy for each user and mailbox; what several recipients of one user want for it adds up."""
    if len(accepted) == 1:
        recipient, decision = accepted[0]
        flags, headers = decision.flags, decision.headers
        return tuple([_copy(recipient.user, mailbox, flags, headers) for mailbox in mailboxes_of(decision)])
    found: dict[tuple[str, str], list[Decision]] = {}
    for recipient, decision in accepted:
        for mailbox in mailboxes_of(decision):
            found.setdefault((recipient.user, mailbox), []).append(decision)
    return tuple([_copy(user, mailbox, *_together(decisions)) for (user, mailbox), decisions in found.items()])


def _together(decisions: list[Decision]) -> tuple[list[str], list[bytes]]:
    flags = [flag for decision in decisions for flag in decision.flags]
    return flags, [field for decision in decisions for field in decision.headers]


def _copy(user: str, mailbox: str, flags: list[str], headers: list[bytes]) -> Copy:
    prefix = b"".join(reversed(dict.fromkeys(headers))) if headers else b""
    return make_record(Copy, (user, mailbox, tuple(dict.fromkeys(flags)) if flags else (), prefix))


def outbound_of(accepted: Iterable[tuple[RecipientContext, Decision]], sender: str, body: Body) -> tuple[Outbound, ...]:
    """What leaves: each redirect once for each address, each notice."""
    effects = [effect for _, decision in accepted for effect in decision.outbound]
    if not effects:
        return ()
    found: list[Outbound] = []
    redirected: set[str] = set()
    for effect in effects:
        if not isinstance(effect, Redirect):
            found.append(Outbound("notify", effect.extension, "", effect.address, None, effect.text))
        elif effect.address not in redirected:
            redirected.add(effect.address)
            traced = Body(body.digest, body.size + len(effect.trace), body.extents, effect.trace)
            found.append(Outbound("redirect", effect.extension, sender, effect.address, traced))
    return tuple(found)
