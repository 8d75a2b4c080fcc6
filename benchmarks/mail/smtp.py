"""Acceptance by SMTP: spinrt with three extensions and a durable store, beside aiosmtpd that keeps nothing.

One load process of 20 clients, one connection for each message, speaks to one server process at a time. The servers
run at the same time and take turns, so that an idle one costs nothing and a slow minute of the machine hits all.

Every message that was accepted must have arrived: aiosmtpd's handler counts, spinrt is asked by IMAP.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import compare
from benchmarks.mail.messages import MESSAGE_BYTES
from benchmarks.peers.aiosmtpd_null import AiosmtpdNull
from benchmarks.peers.imap_client import ImapClient
from benchmarks.peers.process import HOST, REPOSITORY, PeerFailed, ServerProcess
from benchmarks.peers.spinrt_server import DOMAIN, PASSWORD, USER, SpinrtServer

LOAD = REPOSITORY / "benchmarks" / "smtp_load.py"
CLIENTS = 20
WARM_UP = 1
RECIPIENT = f"{USER}@{DOMAIN}"


@dataclass(frozen=True, slots=True)
class Scale:
    """How much to send: ``messages`` per round and subject; ``loops`` are the event loops to compare under."""

    messages: int
    rounds: int
    loops: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SmtpFound:
    """Accepted messages a second: subject → one value for each round."""

    rates: Mapping[str, list[float]]
    cpu_s: Mapping[str, list[float]]
    """Processor seconds of the server for one message, all its threads: subject → rounds, warm-up included."""
    messages: int
    """Accepted by spinrt and found in its mailboxes."""


def subject_name(server: str, loop: str, *, pipelining: bool = False) -> str:
    return f"smtp_{server}_{loop}{'_pipelining' if pipelining else ''}"


def event_loops() -> tuple[str, ...]:
    """Those that are installed, the one that counts first."""
    return ("uvloop", "asyncio") if importlib.util.find_spec("uvloop") else ("asyncio",)


def has_aiosmtpd() -> bool:
    return importlib.util.find_spec("aiosmtpd") is not None


def measure(directory: Path, scale: Scale) -> SmtpFound:
    """Run all servers side by side, in turns, and check what arrived.

    Raises:
        PeerFailed: A server failed, refused a message, or lost one that it accepted.
    """
    subjects: dict[str, Sender] = {}
    servers: list[SpinrtServer] = []
    peers: list[AiosmtpdNull] = []
    with ExitStack() as stack:
        for loop in scale.loops:
            servers.append(_start_spinrt(directory / f"spinrt-{loop}", loop, scale.messages, subjects, stack))
            if has_aiosmtpd():
                peers.append(_start_aiosmtpd(directory, loop, scale.messages, subjects, stack))
        rates = compare(subjects, scale.rounds, warm_up=WARM_UP)
        for server in servers:
            _check_arrived(server.process, stored_count(server), subjects)
    for peer in peers:
        _check_arrived(peer.process, peer.count(), subjects)
    accepted = sum(one.accepted for one in subjects.values() if any(one.process is made.process for made in servers))
    return SmtpFound(rates, {name: one.cpu_s for name, one in subjects.items()}, accepted)


class Sender:
    """One subject: a run sends so many messages to one server, and gives how many a second were accepted."""

    def __init__(self, process: ServerProcess, port: int, messages: int, *, pipelining: bool = False) -> None:
        self.process = process
        self.accepted = 0
        self.cpu_s: list[float] = []
        self._port = port
        self._messages = messages
        self._pipelining = pipelining

    def __call__(self) -> float:
        cpu_s = self.process.cpu_seconds()
        rate = send(self._port, self._messages, pipelining=self._pipelining)
        self.cpu_s.append((self.process.cpu_seconds() - cpu_s) / self._messages)
        self.accepted += self._messages
        return rate


def send(port: int, messages: int, *, pipelining: bool) -> float:
    """Send messages of `MESSAGE_BYTES` from `CLIENTS` clients and return how many a second were accepted.

    Raises:
        PeerFailed: Not every one was.
    """
    flags = [] if pipelining else ["--no-pipelining"]
    return run_load(port, messages, ["--clients", str(CLIENTS), "--message-bytes", str(MESSAGE_BYTES), *flags]).rate


@dataclass(frozen=True, slots=True)
class Sent:
    """What a run of the load told: accepted messages a second, and the seconds of each where it was asked."""

    rate: float
    message_s: list[float]


def run_load(port: int, messages: int, flags: Sequence[str], *, recipient: str = RECIPIENT) -> Sent:
    """Send so many messages from a load process, which takes further flags.

    Raises:
        PeerFailed: Not every one was accepted.
    """
    command = [sys.executable, str(LOAD), HOST, str(port), "--messages", str(messages), "--recipient", recipient]
    done = subprocess.run([*command, *flags], capture_output=True, text=True, check=False)
    if done.returncode:
        raise PeerFailed(f"SMTP load on port {port}: {(done.stdout + done.stderr).strip()}")
    told = json.loads(done.stdout)
    return Sent(float(told["per_second"]), told.get("message_seconds", []))


def stored_count(server: SpinrtServer) -> int:
    """Messages in all mailboxes of the account, as IMAP tells."""
    with ImapClient(server.imap_port, USER, PASSWORD) as client:
        return sum(client.message_count(mailbox) for mailbox in client.mailboxes())


def _start_spinrt(
    directory: Path, loop: str, messages: int, subjects: dict[str, Sender], stack: ExitStack
) -> SpinrtServer:
    directory.mkdir()
    server = SpinrtServer(directory, loop=loop)
    stack.enter_context(server.process)
    for pipelining in (False, True):
        name = subject_name("spinrt", loop, pipelining=pipelining)
        subjects[name] = Sender(server.process, server.smtp_port, messages, pipelining=pipelining)
    return server


def _start_aiosmtpd(
    directory: Path, loop: str, messages: int, subjects: dict[str, Sender], stack: ExitStack
) -> AiosmtpdNull:
    peer = AiosmtpdNull(directory, loop=loop)
    stack.enter_context(peer.process)
    subjects[subject_name("aiosmtpd", loop)] = Sender(peer.process, peer.port, messages)
    return peer


def _check_arrived(process: ServerProcess, found: int, subjects: Mapping[str, Sender]) -> None:
    accepted = sum(one.accepted for one in subjects.values() if one.process is process)
    if found != accepted:
        raise PeerFailed(f"{process.name}: accepted {accepted} messages, {found} arrived")
