"""A whole mail system in this process: bytes of SMTP and IMAP sessions in and out, over a device that may fail.

Everything between the octets of a client and the device is the real thing: protocol engines, extensions, store, log and
index. Instead of sockets there are transports in memory, instead of the time of day a clock that the script moves, so
that a run is the same each time. The index lies on the file system, where a crash is modelled by `crashed_index`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import re
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Final, NamedTuple, cast

from spinrt.mail.accounts import Accounts, Directory
from spinrt.mail.config import Config
from spinrt.mail.delivery import Deliverer
from spinrt.mail.extensions import MailRuntime, load_extensions, make_runtime
from spinrt.mail.hooks import ImapHooks
from spinrt.mail.imap import connection as imap
from spinrt.mail.imap.limits import ImapLimits
from spinrt.mail.imap.session import Services
from spinrt.mail.receiver import MailReceiver
from spinrt.mail.smtp import connection as smtp
from spinrt.mail.smtp.limits import SmtpLimits
from spinrt.mail.smtp.offer import Offer
from spinrt.mail.smtp.server import SmtpServer
from spinrt.mail.store.store import Store
from spinrt.mail.throttle import Throttle, ThrottleLimits
from spinrt.storage.device import Device
from spinrt.testing.device import CrashDevice, PowerLost
from tests.mail.service_support import config_of, shipped

USERS: Final = ("alice", "bob")
RULES: Final = "header Subject contains load -> file INBOX/load; flag $Load; stop"
START_S: Final = 1_700_000_000
SEGMENT_BYTES_MAX: Final = 20_000
"""Small, so that there is something to expire."""
ANSWER_S: Final = 20.0
_POLL_S: Final = 0.0005

HasPower = Callable[[], bool]


class StepClock:
    """Nanoseconds since 1970: a second for each batch of the script, a microsecond for each look."""

    def __init__(self) -> None:
        self._ticks = count()
        self._second = 0

    def move_to(self, batch: int) -> None:
        self._second = batch
        self._ticks = count()

    def __call__(self) -> int:
        return (START_S + self._second) * 1_000_000_000 + next(self._ticks) * 1000


class Peer(asyncio.Transport):
    """A client at the other end of a transport in memory."""

    def __init__(self, protocol: asyncio.Protocol, has_power: HasPower) -> None:
        super().__init__({"peername": ("127.0.0.1", 25)})
        self.received = b""
        self._protocol = protocol
        self._has_power = has_power
        self._closing = False
        protocol.connection_made(self)

    def send(self, data: bytes) -> None:
        """What the client says; the answers that need no waiting are there when this returns."""
        self._protocol.data_received(data)

    async def expect(self, pattern: bytes) -> re.Match[bytes]:
        """Wait until the server has said something like that. Raises PowerLost when it never will."""
        loop = asyncio.get_running_loop()
        end = loop.time() + ANSWER_S
        while (found := re.search(pattern, self.received, re.DOTALL | re.MULTILINE)) is None:
            if not self._has_power():
                raise PowerLost("no answer")
            assert loop.time() < end, f"expected {pattern!r} in {self.received[-500:]!r}"
            await asyncio.sleep(_POLL_S)
        return found

    # ------------------------------------------------------------------------------------------ asyncio.Transport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.received += bytes(data)

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return self._closing

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


class Front(imap.Owner):
    """Takes every IMAP connection."""

    def opened(self, connection: imap.Connection) -> str | None:
        return None

    def closed(self, connection: imap.Connection) -> None:
        pass


class Rig:
    """What lives longer than one world: configuration, and the runtime with its extensions."""

    def __init__(self, directory: Path) -> None:
        self.config: Config = config_of(directory, users=USERS, extensions=shipped(RULES))
        self.mail: MailRuntime = make_runtime(hostname="mail.example.org", has_smarthost=False)
        load_extensions(self.mail.runtime, self.config.extensions)


class Devices(NamedTuple):
    """Where the log is, and the packs; none for files of the data directory."""

    log: Device | None = None
    pages: Device | None = None

    @classmethod
    def of(cls, device: CrashDevice) -> Devices:
        """Two directories of one device, as they are in a data directory."""
        return cls(device.directory("log"), device.directory("pages"))


class World:
    """One life of the mail system, from one start to one crash or stop. Made by `open`, on a running loop."""

    def __init__(self, rig: Rig, store: Store, clock: StepClock, has_power: HasPower) -> None:
        self.store = store
        self.clock = clock
        self.has_power = has_power
        accounts = Accounts(Directory(rig.config.accounts, ("example.org",), None))
        deliverer = Deliverer(store, rig.mail, accounts.resolve, clock_ns=clock)
        limits = SmtpLimits()
        self._smtp = SmtpServer(
            receiver=MailReceiver(store, deliverer, accounts),
            limits=limits,
            offer=Offer("mail.example.org", message_bytes_max=limits.message_bytes_max),
            throttle=Throttle(ThrottleLimits(), asyncio.get_running_loop().time),
            tls_context=None,
            implicit_tls=False,
            unix=False,
        )
        self._smtp._sweep_timer.cancel()
        self._services = Services(
            store,
            lambda user, password, done: done(user),
            ImapLimits(),
            "mail.example.org",
            ImapHooks(store, rig.mail),
        )

    @classmethod
    async def open(cls, rig: Rig, path: Path, devices: Devices, clock: StepClock, has_power: HasPower) -> World:
        """Start: recover the store, make sure of the accounts. Raises SpinError or PowerLost."""
        clock.move_to(0)
        store = Store.open(
            path,
            device=devices.log,
            pages_device=devices.pages,
            clock_ns=clock,
            segment_bytes_max=SEGMENT_BYTES_MAX,
        )
        world = cls(rig, store, clock, has_power)
        try:
            for user in USERS:
                await store.ensure_account(user)
        except BaseException:
            await world.die()
            raise
        return world

    def smtp(self) -> Peer:
        """A new SMTP session, greeted."""
        return Peer(smtp.Connection(self._smtp), self.has_power)

    def imap(self) -> Peer:
        """A new IMAP session, greeted."""
        connection = imap.Connection(self._services, Front(), None, encrypted=False)
        return Peer(cast("asyncio.Protocol", connection), self.has_power)

    async def die(self) -> None:
        """Give up what a dead process would not hold: threads and files. Writes nothing that matters."""
        self._smtp._sweep_timer.cancel()
        with contextlib.suppress(Exception):
            await self.store.close()
        self.store._index.close()
        self.store._directory.close()

    async def stop(self) -> None:
        """Stop in order. Raises SpinError."""
        self._smtp._sweep_timer.cancel()
        await self.store.close()


# --------------------------------------------------------------------------------------------------------------- index


def crashed_tables(source: Path, target: Path, choices: random.Random) -> str:
    """Copy a data directory as a crash may leave it, except for what is on the device; say what became of the tables.

    They are derived: the index, and the table of pages. SQLite syncs a write-ahead log only at checkpoints, so that a
    crash may take back its end: any number of bytes.
    """
    target.mkdir(mode=0o700)
    for entry in source.iterdir():
        if entry.is_file():
            shutil.copy2(entry, target)
    return ", ".join(f"{name} {_crashed_table(source / name, target / name, choices)}" for name in ("index", "pages"))


def _crashed_table(source: Path, target: Path, choices: random.Random) -> str:
    fate = choices.choice(("kept", "kept", "gone", "behind", "behind"))
    if fate == "gone" or not source.exists():
        return "gone"
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*-shm"))
    for log in target.glob("*-wal") if fate == "behind" else ():
        with log.open("r+b") as file:
            file.truncate(choices.randrange(log.stat().st_size + 1))
    return fate


def write_out(device: CrashDevice, target: Path) -> None:
    """Put what is on a device into the files of a data directory."""
    for name, inode in device.names.items():
        path = target / name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.write_bytes(inode.content)
        path.chmod(0o600)


# ---------------------------------------------------------------------------------------------------------- what shows


async def visible(world: World) -> dict[str, bytes]:
    """All that a client can see, by user and mailbox: counters, UIDs, flags, MODSEQs and the octets of messages."""
    found: dict[str, bytes] = {}
    for user in USERS:
        peer = world.imap()
        peer.send(b'a LOGIN %s x\r\nb LIST "" *\r\nc LSUB "" *\r\n' % user.encode())
        await peer.expect(rb"^c OK")
        listed = re.findall(rb'^\* LIST \([^)]*\) "/" (.*)\r$', peer.received, re.MULTILINE)
        found[user] = b"\n".join(re.findall(rb"^\* L[^\r]*", peer.received, re.MULTILINE))
        for name in listed:
            found[f"{user} {name.decode()}"] = await _mailbox(peer, name)
        peer.send(b"z LOGOUT\r\n")
    return found


async def _mailbox(peer: Peer, name: bytes) -> bytes:
    peer.received = b""
    peer.send(b"d STATUS " + name + b" (MESSAGES UIDNEXT UIDVALIDITY UNSEEN HIGHESTMODSEQ)\r\n")
    peer.send(b"e EXAMINE " + name + b"\r\nf UID FETCH 1:* (FLAGS MODSEQ BODY.PEEK[])\r\n")
    await peer.expect(rb"^f (OK|BAD|NO)")
    return _PASSING.sub(b"", _with_digests(peer.received))


def _with_digests(answers: bytes) -> bytes:
    """Answers to FETCH with the digest of each literal in its place."""
    parts = []
    at = 0
    while (found := _LITERAL.search(answers, at)) is not None:
        end = found.end() + int(found[1])
        parts += [answers[at : found.end()], hashlib.sha256(answers[found.end() : end]).digest().hex().encode()]
        at = end
    return b"".join([*parts, answers[at:]])


_LITERAL: Final = re.compile(rb"\{(\d+)\}\r\n")

_PASSING: Final = re.compile(rb"^[def] (OK|BAD|NO)[^\r]*\r\n|^\* \d+ RECENT\r\n| ?\\Recent", re.MULTILINE)
"""What is said of this session alone."""
