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
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import compare
from benchmarks.mail.messages import MESSAGE_BYTES
from benchmarks.peers.aiosmtpd_null import AiosmtpdNull
from benchmarks.peers.imap_client import ImapClient
from benchmarks.peers.process import HOST, REPOSITORY, PeerFailed
from benchmarks.peers.spinrt_server import PASSWORD, USER, SpinrtServer

LOAD = REPOSITORY / "benchmarks" / "smtp_load.py"
CLIENTS = 20
WARM_UP = 1


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
    counts: dict[str, int] = {}
    subjects: dict[str, Callable[[], float]] = {}
    peers: list[AiosmtpdNull] = []
    with ExitStack() as stack:
        servers = [stack.enter_context(_spinrt(directory, loop, scale, subjects, counts)) for loop in scale.loops]
        for loop in scale.loops if has_aiosmtpd() else ():
            peers.append(stack.enter_context(_aiosmtpd(directory, loop, scale, subjects, counts)))
        rates = compare(subjects, scale.rounds, warm_up=WARM_UP)
        for server in servers:
            _check_arrived(server.process.name, stored_count(server), counts[server.process.name])
    for peer in peers:
        _check_arrived(peer.process.name, peer.count(), counts[peer.process.name])
    return SmtpFound(rates, sum(counts[server.process.name] for server in servers))


def send(port: int, messages: int, *, pipelining: bool, recipient: str = f"{USER}@example.com") -> float:
    """Send messages from a load process and return how many a second were accepted.

    Raises:
        PeerFailed: Not every one was.
    """
    command = [sys.executable, str(LOAD), HOST, str(port), "--clients", str(CLIENTS), "--messages", str(messages)]
    command += ["--message-bytes", str(MESSAGE_BYTES), "--recipient", recipient]
    command += [] if pipelining else ["--no-pipelining"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PeerFailed(f"SMTP load on port {port}: {(done.stdout + done.stderr).strip()}")
    return float(json.loads(done.stdout)["per_second"])


def stored_count(server: SpinrtServer) -> int:
    """Messages in all mailboxes of the account, as IMAP tells."""
    with ImapClient(server.imap_port, USER, PASSWORD) as client:
        return sum(client.message_count(mailbox) for mailbox in client.mailboxes())


@contextmanager
def _spinrt(
    directory: Path, loop: str, scale: Scale, subjects: dict[str, Callable[[], float]], counts: dict[str, int]
) -> Iterator[SpinrtServer]:
    place = directory / f"spinrt-{loop}"
    place.mkdir()
    server = SpinrtServer(place, loop=loop)
    for pipelining in (False, True):
        name = subject_name("spinrt", loop, pipelining=pipelining)
        subjects[name] = _sender(server.process.name, server.smtp_port, scale.messages, counts, pipelining=pipelining)
    with server.process:
        yield server


@contextmanager
def _aiosmtpd(
    directory: Path, loop: str, scale: Scale, subjects: dict[str, Callable[[], float]], counts: dict[str, int]
) -> Iterator[AiosmtpdNull]:
    peer = AiosmtpdNull(directory, loop=loop)
    name = subject_name("aiosmtpd", loop)
    subjects[name] = _sender(peer.process.name, peer.port, scale.messages, counts, pipelining=False)
    with peer.process:
        yield peer


def _sender(server: str, port: int, messages: int, counts: dict[str, int], *, pipelining: bool) -> Callable[[], float]:
    def run() -> float:
        rate = send(port, messages, pipelining=pipelining)
        counts[server] = counts.get(server, 0) + messages
        return rate

    return run


def _check_arrived(server: str, found: int, expected: int) -> None:
    if found != expected:
        raise PeerFailed(f"{server}: accepted {expected} messages, {found} arrived")
