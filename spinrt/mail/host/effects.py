"""What extensions want done with a message, and what that comes to for one recipient.

An effect of mail is a wish in the journal. Nothing happens when it is applied: what it asks for is done by the one log
record into which ``spinrt.mail.delivery`` turns the decisions of a transaction: with all else, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from spinrt._core import AddHeader, Wish
from spinrt.mail.host.context import RecipientContext
from spinrt.mail.store.flags import FLAG_COUNT_MAX


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a message is refused; ``enhanced`` is the status of RFC 3463."""

    code: int
    enhanced: str
    text: str

    @property
    def permanent(self) -> bool:
        return self.code >= 500


@dataclass(slots=True)
class Decision:
    """What the handlers together want for one recipient.

    A discard drops every copy; a refusal goes before anything else; the first refusal stands.
    """

    mailboxes: list[str] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    headers: list[bytes] = field(default_factory=list)
    """Whole fields with CRLF, the one to stand on top last."""
    refusal: Refusal | None = None
    discarded: bool = False
    outbound: list[Redirect | Notify] = field(default_factory=list)

    @property
    def prefix(self) -> bytes:
        """The added header fields as they stand on top of the message."""
        return b"".join(reversed(self.headers))


@dataclass(slots=True)
class MailEffect(Wish):
    """A wish of one extension for one recipient."""

    extension: str

    def decide(self, decision: Decision) -> None:
        """Enter the wish into the recipient's decision."""

    def describe(self) -> str:
        """The wish in a few words, for reports."""
        raise NotImplementedError


@dataclass(slots=True)
class FileInto(MailEffect):
    mailbox: str

    def decide(self, decision: Decision) -> None:
        if self.mailbox not in decision.mailboxes:
            decision.mailboxes.append(self.mailbox)

    def describe(self) -> str:
        return f"file into {self.mailbox}"


@dataclass(slots=True)
class SetFlag(MailEffect):
    flag: str

    def decide(self, decision: Decision) -> None:
        if self.flag not in decision.flags and len(decision.flags) < FLAG_COUNT_MAX:
            decision.flags.append(self.flag)

    def describe(self) -> str:
        return f"flag {self.flag}"


@dataclass(slots=True)
class Reject(MailEffect):
    refusal: Refusal

    def decide(self, decision: Decision) -> None:
        if decision.refusal is None:
            decision.refusal = self.refusal

    def describe(self) -> str:
        return f"reject {self.refusal.code}"


@dataclass(slots=True)
class Discard(MailEffect):
    def decide(self, decision: Decision) -> None:
        decision.discarded = True

    def describe(self) -> str:
        return "discard"


@dataclass(slots=True)
class Redirect(MailEffect):
    address: str
    recipient: RecipientContext
    """For whom the message is sent on."""
    trace: bytes
    """Header fields to put on top of what is sent on."""

    def decide(self, decision: Decision) -> None:
        if not any(isinstance(other, Redirect) and other.address == self.address for other in decision.outbound):
            decision.outbound.append(self)

    def describe(self) -> str:
        return f"redirect to {self.address}"


@dataclass(slots=True)
class Notify(MailEffect):
    address: str
    text: bytes
    """The whole notice as a message."""

    def decide(self, decision: Decision) -> None:
        decision.outbound.append(self)

    def describe(self) -> str:
        return f"notify {self.address}"


MAIL_EFFECTS: Final = (MailEffect, AddHeader)
"""Classes of all wishes of mail."""


def decide(effects: Iterable[object]) -> Decision:
    """Fold the effects of one recipient's ``deliver`` event into a decision."""
    decision = Decision()
    for effect in effects:
        if isinstance(effect, MAIL_EFFECTS):
            effect.decide(decision)
    return decision
