"""Doubles for SMTP tests: a receiver that writes down what it is told, and an engine on it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from spinrt.errors import DeviceFull
from spinrt.mail.address import Address
from spinrt.mail.smtp import reply
from spinrt.mail.smtp.limits import SmtpLimits
from spinrt.mail.smtp.offer import Offer
from spinrt.mail.smtp.receiver import DeliveryDone, Envelope, LoginDone, Session
from spinrt.mail.smtp.reply import Reply
from spinrt.mail.smtp.state import Engine

NO_SUCH_USER = Reply(550, "5.1.1", "no such user")
SENDER_REFUSED = Reply(550, "5.7.1", "sender refused")


@dataclass
class FakeSink:
    receiver: FakeReceiver
    content: bytearray = field(default_factory=bytearray)
    aborted: bool = False

    def write(self, data: bytes) -> None:
        assert data and not self.aborted
        if len(self.content) + len(data) > self.receiver.room:
            raise DeviceFull("fake device is full")
        self.content += data

    def abort(self) -> None:
        assert not self.aborted
        self.aborted = True
        self.receiver.aborted += 1


class FakeReceiver:
    """Accepts everything but what it is told to refuse; ``late`` keeps the answers until `answer`."""

    def __init__(self, *, late: bool = False, refused: Iterable[str] = (), room: int = 1 << 40) -> None:
        self.late = late
        self.refused = set(refused)
        self.room = room
        self.delivered: list[tuple[str, tuple[str, ...], bytes]] = []
        self.envelopes: list[Envelope] = []
        self.logins: list[tuple[str, str]] = []
        self.begun = 0
        self.aborted = 0
        self.replies: list[Reply] | None = None
        self.waiting: list[tuple[Any, Any]] = []

    def check_sender(self, session: Session, address: Address | None, size: int | None) -> Reply | None:
        return SENDER_REFUSED if str(address) in self.refused else None

    def check_recipient(self, session: Session, address: Address) -> Reply | None:
        return NO_SUCH_USER if str(address) in self.refused else None

    def begin(self, session: Session) -> FakeSink:
        if self.room == 0:
            raise DeviceFull("fake device is full")
        self.begun += 1
        return FakeSink(self)

    def deliver(self, envelope: Envelope, sink: FakeSink, done: DeliveryDone) -> None:
        assert envelope.size == len(sink.content)
        sender = str(envelope.sender) if envelope.sender is not None else ""
        self.delivered.append((sender, tuple(map(str, envelope.recipients)), bytes(sink.content)))
        self.envelopes.append(envelope)
        self._finish(done, self.replies or [reply.MESSAGE_OK])

    def authenticate(self, session: Session, user: str, password: str, done: LoginDone) -> None:
        self.logins.append((user, password))
        self._finish(done, user if password == "secret" else None)

    def answer(self) -> None:
        """Give the answer that has waited longest."""
        done, result = self.waiting.pop(0)
        done(result)

    def _finish(self, done: Any, result: Any) -> None:
        if self.late:
            self.waiting.append((done, result))
        else:
            done(result)

    @property
    def open_sinks(self) -> int:
        return self.begun - self.aborted - len(self.delivered)


class Peer:
    """An engine, and what it said."""

    def __init__(
        self,
        receiver: FakeReceiver | None = None,
        *,
        lmtp: bool = False,
        starttls: bool = False,
        session: Session | None = None,
        limits: SmtpLimits | None = None,
    ) -> None:
        self.receiver = receiver or FakeReceiver()
        limits = limits or SmtpLimits()
        offer = Offer("mx.test", message_bytes_max=limits.message_bytes_max, lmtp=lmtp, starttls=starttls)
        self.session = session or Session(protocol="lmtp" if lmtp else "smtp", peer="192.0.2.1", local=False, tls=False)
        self.woken = 0
        self.engine = Engine(self.receiver, self.session, offer, limits, self._wake)
        self.greeting = self.engine.take_output()

    def _wake(self) -> None:
        self.woken += 1

    def say(self, data: bytes) -> bytes:
        """Send octets, return the answer."""
        self.engine.receive(data)
        return self.engine.take_output()

    def codes(self, data: bytes) -> list[int]:
        """Send octets, return the codes of the replies."""
        return codes(self.say(data))


def codes(output: bytes) -> list[int]:
    """Reply codes; each reply is checked to be well-formed."""
    found = []
    for line in output.splitlines(keepends=True):
        assert line.endswith(b"\r\n") and len(line) <= 512 and line[3:4] in b" -", line
        if line[3:4] == b" ":
            found.append(int(line[:3]))
    return found


def opened(receiver: FakeReceiver | None = None, **options: Any) -> Peer:
    """A peer that has said EHLO (or LHLO)."""
    peer = Peer(receiver, **options)
    assert peer.codes(b"LHLO client\r\n" if options.get("lmtp") else b"EHLO client\r\n") == [250]
    return peer


ENVELOPE = b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\n"
