"""What clients do in a run: batches of steps. The steps of a batch are under way at once, batches follow each other.

A step makes one change: it is one record of the log, which is there or not. So what shows after a crash is what showed
after some step of a run without one, and not before the last step that was acknowledged.
"""

from __future__ import annotations

import asyncio
import base64
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from spinrt.errors import DeviceFull, SpinError
from spinrt.storage.protocols import Snapshot
from spinrt.storage.retention import Expired, Retention
from spinrt.testing.device import PowerLost
from tests.mail.power.world import Peer, World

MAILBOXES = ("INBOX", "INBOX/load", "Archive", "Trash", "Projects", "Projects/2026")
FLAGS = ("\\Seen", "\\Flagged", "\\Answered", "\\Deleted", "$Work", "$Forwarded")
BODY_BYTES = (20, 700, 5_000, 300_000)


@dataclass(frozen=True, slots=True)
class Deliver:
    """One message by SMTP. Two with the same ``text`` have the same octets."""

    subject: str
    recipients: tuple[str, ...]
    text: str
    size: int

    def start(self, world: World) -> Peer:
        peer = world.smtp()
        lines = ["EHLO client.example", "MAIL FROM:<s@example.net>"]
        lines += [f"RCPT TO:<{user}@example.org>" for user in self.recipients]
        peer.send("".join(f"{line}\r\n" for line in [*lines, "DATA"]).encode())
        peer.received = peer.received.rstrip(b"\r\n").rpartition(b"\n")[2]
        if peer.received.startswith(b"354"):
            peer.received = b""
            peer.send(self.content() + b"\r\n.\r\n")
        return peer

    def content(self) -> bytes:
        """Its octets: text that cannot be compressed by much, so that sizes mean something to a device."""
        filling = base64.b64encode(random.Random(self.text).randbytes(self.size * 3 // 4)).decode()
        lines = [filling[at : at + 70] for at in range(0, len(filling), 70)]
        return "\r\n".join([f"Subject: {self.subject}", "From: s@example.net", "", *lines]).encode()

    async def finish(self, peer: Peer) -> bytes:
        """The reply to the end of data, or to DATA when that was refused."""
        reply = await peer.expect(rb"^\d\d\d [^\r]*")
        peer.send(b"QUIT\r\n")
        return reply[0]

    def taken(self, answer: bytes) -> bool:
        return answer.startswith(b"250")

    def refused_for_now(self, answer: bytes) -> bool:
        return answer.startswith(b"452 4.3.1")


@dataclass(frozen=True, slots=True)
class Command:
    """One IMAP command that changes something, by a session of its own, with a mailbox selected or none."""

    user: str
    mailbox: str
    line: str
    literal: bytes = b""

    def start(self, world: World) -> Peer:
        peer = world.imap()
        select = f'x SELECT "{self.mailbox}"\r\n' if self.mailbox else "x NOOP\r\n"
        peer.send(f"l LOGIN {self.user} x\r\n{select}".encode())
        peer.send(f"q {self.line}".encode() + (b" {%d+}\r\n" % len(self.literal) if self.literal else b""))
        peer.send(self.literal + b"\r\n")
        return peer

    async def finish(self, peer: Peer) -> bytes:
        answer = await peer.expect(rb"^q (OK|NO|BAD)[^\r]*")
        peer.send(b"z LOGOUT\r\n")
        return answer[0]

    def taken(self, answer: bytes) -> bool:
        """NO with a reason of the state is an answer like any other: it changes nothing, now and in every run."""
        return not any(code in answer for code in (b"UNAVAILABLE", b"OVERQUOTA", b"SERVERBUG", b"BAD"))

    def refused_for_now(self, answer: bytes) -> bool:
        return answer.startswith((b"q NO [OVERQUOTA]", b"q NO [UNAVAILABLE]"))


@dataclass(frozen=True, slots=True)
class TakeSnapshot:
    """A snapshot of the whole, by the operator. It changes nothing that shows."""

    label: str

    def start(self, world: World) -> asyncio.Task[Snapshot]:
        return asyncio.ensure_future(world.store.snapshot(self.label))

    async def finish(self, task: asyncio.Task[Snapshot]) -> bytes:
        try:
            return b"taken " + (await task).identity
        except DeviceFull:
            return b"full"
        except (PowerLost, SpinError) as error:
            return repr(error).encode()

    def taken(self, answer: bytes) -> bool:
        return answer.startswith(b"taken ")

    def refused_for_now(self, answer: bytes) -> bool:
        return answer == b"full"


@dataclass(frozen=True, slots=True)
class Expire:
    """A pass of retention that keeps as little of the log as it may. It changes nothing that shows."""

    def start(self, world: World) -> asyncio.Task[Expired]:
        return asyncio.ensure_future(world.store.expire(Retention(log_bytes_max=1), young_s=0.0))

    async def finish(self, task: asyncio.Task[Expired]) -> bytes:
        try:
            return b"expired %d" % (await task).segments
        except DeviceFull:
            return b"full"
        except (PowerLost, SpinError) as error:
            return repr(error).encode()

    def taken(self, answer: bytes) -> bool:
        return answer.startswith(b"expired")

    def refused_for_now(self, answer: bytes) -> bool:
        return answer == b"full"


Step: TypeAlias = Deliver | Command | TakeSnapshot | Expire
Batch: TypeAlias = tuple[Step, ...]


def scripted() -> tuple[Batch, ...]:
    """One of everything."""

    def mail(subject: str, *users: str, text: str = "", size: int = 700) -> Deliver:
        return Deliver(subject, users or ("alice",), text or subject, size)

    def alice(line: str, mailbox: str = "INBOX", literal: bytes = b"") -> Command:
        return Command("alice", mailbox, line, literal)

    return (
        (mail("one", "alice", "bob"),),
        (mail("two"), mail("load 1", "bob"), mail("three", "alice", "bob", size=300_000)),
        (TakeSnapshot("first"),),
        (alice("STORE 1 +FLAGS (\\Seen \\Flagged $Work)"),),
        (alice("CREATE Projects", ""),),
        (alice("COPY 1:2 Projects"),),
        (mail("again", text="the same"), mail("again", text="the same"), mail("load 2", "bob", "alice")),
        (alice("STORE 2,4 +FLAGS (\\Deleted)"),),
        (alice("EXPUNGE"),),
        (TakeSnapshot("second"),),
        (Expire(),),
        (Command("bob", "", "APPEND Drafts (\\Draft)", b"Subject: draft\r\n\r\nnot finished"),),
        (alice("RENAME Projects Archive/Projects", ""),),
        (alice("MOVE 1 Trash"),),
        (Command("bob", "", "DELETE INBOX/load"),),
        (mail("load 3", "bob"), mail("last", "alice", "bob", size=5_000)),
        (alice("STORE 1:* -FLAGS (\\Seen)", "Archive/Projects"),),
    )


def seeded(seed: int, batches: int = 12) -> tuple[Batch, ...]:
    """A script drawn from a seed."""
    choices = random.Random(f"script/{seed}")
    makers = (
        _deliveries,
        _deliveries,
        _deliveries,
        _flags,
        _flags,
        _copy,
        _mailbox,
        _append,
        _expunge,
        _snapshot,
        _expire,
    )
    return (_deliveries(choices), *(choices.choice(makers)(choices) for _ in range(batches - 1)))


_Maker: TypeAlias = Callable[[random.Random], Batch]


def _deliveries(choices: random.Random) -> Batch:
    return tuple(
        Deliver(
            choices.choice(("hello", "load")),
            choices.choice((("alice",), ("bob",), ("alice", "bob"))),
            f"text {choices.randrange(8)}",
            choices.choice(BODY_BYTES),
        )
        for _ in range(choices.choice((1, 1, 2, 4)))
    )


def _snapshot(choices: random.Random) -> Batch:
    return (TakeSnapshot(f"label {choices.randrange(100)}"),)


def _expire(choices: random.Random) -> Batch:
    return (Expire(),)


def _some(choices: random.Random) -> str:
    first = choices.randrange(1, 6)
    return choices.choice((f"{first}", f"{first}:{first + 2}", "1:*"))


def _flags(choices: random.Random) -> Batch:
    flags = " ".join(choices.sample(FLAGS, choices.choice((1, 2))))
    return (_command(choices, f"UID STORE {_some(choices)} {choices.choice('+-')}FLAGS ({flags})"),)


def _copy(choices: random.Random) -> Batch:
    verb = choices.choice(("COPY", "MOVE"))
    return (_command(choices, f"UID {verb} {_some(choices)} {choices.choice(MAILBOXES[2:])}"),)


def _expunge(choices: random.Random) -> Batch:
    return (_command(choices, "EXPUNGE"),)


def _append(choices: random.Random) -> Batch:
    literal = b"Subject: kept\r\n\r\n" + b"x" * choices.choice((10, 3_000))
    return (_command(choices, f"APPEND {choices.choice(MAILBOXES)} (\\Seen)", "", literal),)


def _mailbox(choices: random.Random) -> Batch:
    one, other = choices.sample(MAILBOXES[1:], 2)
    lines = (f"CREATE {one}", f"DELETE {one}", f"RENAME {one} {other}", f"SUBSCRIBE {one}", f"UNSUBSCRIBE {one}")
    return (_command(choices, choices.choice(lines), ""),)


def _command(choices: random.Random, line: str, mailbox: str = "INBOX", literal: bytes = b"") -> Command:
    return Command(choices.choice(("alice", "alice", "bob")), mailbox, line, literal)
