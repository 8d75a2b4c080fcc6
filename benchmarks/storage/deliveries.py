"""Durable deliveries over SMTP: spinrt beside Postfix that hands each message to Dovecot by LMTP.

Both are complete when every message is durable and lies in a mailbox: spinrt answers 250 no sooner; behind Postfix's
answer the rest of the way is waited for. All messages differ, and no round sends those of another.
"""

from __future__ import annotations

import shutil
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Final

from benchmarks.harness import Subject, compare
from benchmarks.mail.messages import numbered_message
from benchmarks.mail.smtp import CLIENTS, event_loops, run_load, stored_count
from benchmarks.peers.dovecot import Dovecot
from benchmarks.peers.postfix import Postfix
from benchmarks.peers.process import HOST, PeerFailed, PeerMissing
from benchmarks.peers.spinrt_server import SpinrtServer

SPINRT: Final = "deliveries_spinrt"
PEERS: Final = "deliveries_postfix_dovecot"
ARRIVE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Scale:
    """``messages`` of ``message_bytes`` for each in a round."""

    messages: int
    rounds: int
    message_bytes: int = 4096


@dataclass(slots=True)
class DeliveriesFound:
    """Messages a second, from the first connection to the last message durable in its mailbox; by subject, by round."""

    rates: dict[str, list[float]] = field(default_factory=dict)
    missing: str = ""
    """Why there are no peers."""
    versions: str = ""


def measure(directory: Path, scale: Scale) -> DeliveriesFound:
    """Run both side by side, in turns.

    Raises:
        PeerFailed: A server failed, refused a message, or lost one that it accepted.
    """
    found = DeliveriesFound()
    with ExitStack() as stack:
        spinrt = _Spinrt(directory / "spinrt", scale, stack)
        subjects: dict[str, Subject] = {SPINRT: spinrt}
        try:
            peers = _Peers(directory / "peers", scale, stack)
        except PeerMissing as error:
            found.missing = str(error)
        else:
            subjects[PEERS] = peers
            found.versions = f"Postfix {peers.postfix.version}, Dovecot {peers.dovecot.version}"
        found.rates = compare(subjects, scale.rounds)
        stored = stored_count(spinrt.server)
        if stored != spinrt.sent:
            raise PeerFailed(f"spinrt: accepted {spinrt.sent} messages, {stored} arrived")
    return found


class _Load:
    """Messages that nobody has seen, in files of a directory."""

    def __init__(self, directory: Path, scale: Scale) -> None:
        self.sent = 0
        self._scale = scale
        self._directory = directory
        self._numbers = count(1)

    def send(self, port: int) -> float:
        """Send a round's messages; return the seconds that took."""
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir(parents=True)
        for _ in range(self._scale.messages):
            number = next(self._numbers)
            path = self._directory / f"{number:08d}"
            path.write_bytes(numbered_message(number, self._scale.message_bytes))
        flags = ["--clients", str(CLIENTS), "--content", str(self._directory)]
        rate = run_load(port, self._scale.messages, flags).rate
        self.sent += self._scale.messages
        return self._scale.messages / rate


class _Spinrt(_Load):
    def __init__(self, directory: Path, scale: Scale, stack: ExitStack) -> None:
        super().__init__(directory / "content", scale)
        directory.mkdir()
        self.server = SpinrtServer(directory, loop=event_loops()[0])
        stack.enter_context(self.server.process)

    def __call__(self) -> float:
        before = self.sent
        seconds = self.send(self.server.smtp_port)
        return (self.sent - before) / seconds


class _Peers(_Load):
    def __init__(self, directory: Path, scale: Scale, stack: ExitStack) -> None:
        super().__init__(directory / "content", scale)
        Postfix.check_available()
        for name in ("postfix", "dovecot"):
            (directory / name).mkdir(parents=True)
        self.dovecot = Dovecot(directory / "dovecot", lmtp=True)
        self.dovecot.fill(())
        stack.enter_context(self.dovecot.process)
        transport = f"lmtp:inet:{HOST}:{self.dovecot.lmtp_port}"
        self.postfix = Postfix(directory / "postfix", {"smtp": ()}, transport=transport)
        stack.enter_context(self.postfix.process)

    def __call__(self) -> float:
        before = self.sent
        seconds = self.send(self.postfix.ports["smtp"])
        behind = time.perf_counter()
        while (arrived := self.dovecot.arrived()) < self.sent:
            if time.perf_counter() - behind > ARRIVE_S:
                raise PeerFailed(f"postfix: accepted {self.sent} messages, {arrived} arrived behind Dovecot")
            time.sleep(0.005)
        return (self.sent - before) / (seconds + time.perf_counter() - behind)
