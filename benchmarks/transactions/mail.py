"""What transactions cost mail: a delivery through the extensions with undo logs and without, beside a whole message.

The way is that of the service from a complete message to its record: both events are raised in one transaction, and it
is committed. Only the store is missing, which would cost the same on both sides and hide what is looked for.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from benchmarks.harness import compare
from benchmarks.mail.delivering import Delivering
from benchmarks.mail.messages import numbered_message
from benchmarks.mail.smtp import Sender, event_loops
from benchmarks.peers.spinrt_server import SpinrtServer
from benchmarks.timing import Subject, of_thread, one_run
from benchmarks.transactions.guests import LOG, PLAIN
from spinrt.mail.config import ExtensionConfig, load

EXTENSIONS: Final = ("audit", "delivery", "undo-hook")


@dataclass(frozen=True, slots=True)
class Scale:
    """Time of a run and rounds of what is compared: many short ones, since the difference is small; then messages
    through the server, in each of so many rounds."""

    messages: int
    run_ns: int
    rounds: int
    message_rounds: int


@dataclass(frozen=True, slots=True)
class MailFound:
    """Nanoseconds, one value for each round; ``deliveries`` by ``LOG`` and ``PLAIN``.

    Attributes:
        deliveries: One message from complete to its record, without the store.
        calls: Calls of handlers for one message.
        messages: One message through the server: processor time of its process, kernel included.
    """

    deliveries: dict[str, list[float]]
    calls: int
    messages: list[float]

    def per_call(self) -> list[float]:
        """What transactions cost one call, in each round."""
        pairs = zip(self.deliveries[LOG], self.deliveries[PLAIN], strict=True)
        return [(above - below) / self.calls for above, below in pairs]


def measure(scale: Scale) -> MailFound:
    """Compare deliveries, then send messages to a server.

    Raises:
        PeerFailed: The server refused a message.
        InternalError: A delivery was not accepted, or not all extensions took part.
    """
    with tempfile.TemporaryDirectory(prefix="spinrt-bench-") as name:
        server = SpinrtServer(Path(name), loop=event_loops()[0])
        configured = load(server.configuration).extensions
        sides = {log: Delivering(_with(configured, log), [numbered_message(1)]) for log in (LOG, PLAIN)}
        runs = {log: one_run(Subject(log, {}, of_thread(side.measure)), scale.run_ns) for log, side in sides.items()}
        deliveries = compare(runs, scale.rounds)
        with server.process:
            sender = Sender(server.process, server.smtp_port, scale.messages, pipelining=True)
            compare({"smtp": sender}, scale.message_rounds)
    return MailFound(deliveries, sides[LOG].calls(EXTENSIONS), [taken * 1e9 for taken in sender.cpu_s[1:]])


def _with(configured: Mapping[str, ExtensionConfig], log: str) -> Mapping[str, ExtensionConfig]:
    """The extensions as they are configured, or without undo logs."""
    if log == LOG:
        return configured
    return {
        name: replace(config, policy=replace(config.policy, limits=replace(config.policy.limits, undo_bytes=0)))
        for name, config in configured.items()
    }
