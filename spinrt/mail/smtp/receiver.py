"""What the engine and whoever receives the mail tell each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from spinrt.mail.address import Address
from spinrt.mail.smtp.reply import Reply

DeliveryDone: TypeAlias = Callable[[list[Reply]], None]
LoginDone: TypeAlias = Callable[[str | Reply | None], None]


@dataclass(slots=True, eq=False)
class Session:
    """What is known of the peer. The engine keeps it up to date; a receiver only reads it.

    Attributes:
        protocol: ``smtp`` or ``lmtp``.
        peer: IP address as text, or ``unix`` for a Unix socket.
        local: The peer is on this machine: loopback address or Unix socket.
        tls: The connection is encrypted.
        helo: Name that the peer gave itself; empty before EHLO.
        extended: It said EHLO or LHLO, not HELO.
        user: Account that it logged in as.
        sender: Sender of the transaction that is open; none when there is none, or for the null sender.
        recipients: Accepted recipients of the transaction that is open.
    """

    protocol: Literal["smtp", "lmtp"] = "smtp"
    peer: str = ""
    local: bool = False
    tls: bool = False
    helo: str = ""
    extended: bool = False
    user: str | None = None
    sender: Address | None = None
    recipients: list[Address] = field(default_factory=list)


class Envelope(NamedTuple):
    """One transaction, complete.

    Attributes:
        session: Its fields are those of the moment; do not keep it beyond `Receiver.deliver` and its ``done``.
        sender: None for the null sender ``<>``.
        recipients: As accepted, in order, at least one; the same address twice when the peer gave it twice.
        size: Octets of the message as the sink got them.
        body: What the peer declared: ``7BIT`` or ``8BITMIME``, or empty.
        smtputf8: The peer asked for SMTPUTF8.
    """

    session: Session
    sender: Address | None
    recipients: tuple[Address, ...]
    size: int
    body: str = ""
    smtputf8: bool = False


class BodySink(Protocol):
    """Where one message goes while it arrives."""

    def write(self, data: bytes) -> None:
        """Take the next octets. StorageError: the sink is aborted, and the complete message refused with 452."""
        ...

    def abort(self) -> None:
        """Forget the message. Called at most once, and not after `Receiver.deliver`."""
        ...


class Receiver(Protocol):
    """Who receives the mail. Nothing here may wait; what takes time answers through ``done``.

    ``done`` is called exactly once, on the event loop; inside the call is allowed. When the peer is gone by then, the
    answer is dropped.
    """

    def check_sender(self, session: Session, address: Address | None, size: int | None) -> Reply | None:
        """Judge a sender (none: the null sender) and the size it announced. None accepts."""
        ...

    def check_recipient(self, session: Session, address: Address) -> Reply | None:
        """Judge a recipient of the transaction that `session` shows. None accepts."""
        ...

    def begin(self, session: Session) -> BodySink:
        """Open a sink for a message. StorageError: 452."""
        ...

    def deliver(self, envelope: Envelope, sink: Any, done: DeliveryDone) -> None:
        """Take over a complete message; ``sink`` is what `begin` returned.

        The sink is the receiver's from here on. ``done`` gets one reply over SMTP, and over LMTP one for each recipient
        in their order; 250 must not be given before the message is durable. StorageError raised here: 452.
        """
        ...

    def authenticate(self, session: Session, user: str, password: str, done: LoginDone) -> None:
        """Check a password. ``done`` gets the account's name, or none (535), or another reply."""
        ...
