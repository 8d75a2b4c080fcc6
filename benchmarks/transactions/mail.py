"""What transactions cost mail: a delivery through the extensions with undo logs and without, beside a whole message.

The way is that of the service from a complete message to its record: both events are raised in one transaction, and it
is committed. Only the store is missing, which would cost the same on both sides and hide what is looked for.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from benchmarks.harness import compare
from benchmarks.mail.messages import MESSAGE_BYTES, numbered_message
from benchmarks.mail.smtp import Sender, event_loops
from benchmarks.peers.spinrt_server import DOMAIN, USER, SpinrtServer
from benchmarks.timing import Measure, Subject, of_thread, one_run
from benchmarks.transactions.guests import LOG, PLAIN
from spinrt.errors import InternalError, SpinError
from spinrt.mail.accounts_file import Account
from spinrt.mail.address import Address
from spinrt.mail.config import ExtensionConfig, load
from spinrt.mail.delivery import Deliverer
from spinrt.mail.extensions import MailRuntime, load_extensions, make_runtime
from spinrt.mail.smtp.receiver import Envelope, Session
from spinrt.mail.smtp.reply import Reply
from spinrt.mail.store.bodies import BodyWriter
from spinrt.mail.store.model import Change, Deliver, Outcome

EXTENSIONS: Final = ("audit", "delivery", "undo-hook")
RECIPIENT: Final = Address(USER, DOMAIN)
SENDER: Final = Address("sender", "example.org")


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
        sides = {log: _Delivering(_with(configured, log)) for log in (LOG, PLAIN)}
        runs = {log: one_run(Subject(log, {}, of_thread(side.measure)), scale.run_ns) for log, side in sides.items()}
        deliveries = compare(runs, scale.rounds)
        with server.process:
            sender = Sender(server.process, server.smtp_port, scale.messages, pipelining=True)
            compare({"smtp": sender}, scale.message_rounds)
    return MailFound(deliveries, sides[LOG].calls(), [taken * 1e9 for taken in sender.cpu_s[1:]])


def _with(configured: Mapping[str, ExtensionConfig], log: str) -> Mapping[str, ExtensionConfig]:
    """The extensions as they are configured, or without undo logs."""
    if log == LOG:
        return configured
    return {
        name: replace(config, policy=replace(config.policy, limits=replace(config.policy.limits, undo_bytes=0)))
        for name, config in configured.items()
    }


class _Delivering:
    """One side: the extensions, and one message that is delivered over and over."""

    def __init__(self, configured: Mapping[str, ExtensionConfig]) -> None:
        self._mail = _runtime(configured)
        self._deliverer = Deliverer(_Nowhere(), self._mail, lambda address: (ACCOUNT, None))
        self._message = numbered_message(1)
        self._envelope = Envelope(Session(peer="192.0.2.1"), SENDER, (RECIPIENT,), MESSAGE_BYTES)
        self._answers: list[Reply] = []

    @property
    def measure(self) -> Measure:
        """Delivers so many times."""

        def run(calls: int) -> int:
            began = time.perf_counter_ns()
            for _ in range(calls):
                self._deliver()
            return time.perf_counter_ns() - began

        return run

    def calls(self) -> int:
        """How many handlers run for one message; checks that all extensions take part and that it is accepted."""
        domains = self._mail.runtime.domains.values()
        bindings = [binding for domain in domains for binding in self._mail.runtime.bindings_of(domain)]
        before = [binding.counts.raises for binding in bindings]
        self._deliver()
        ran = {
            binding.domain.name: binding.counts.raises - count
            for binding, count in zip(bindings, before, strict=True)
            if binding.counts.raises > count and binding.domain
        }
        if sorted(ran) != sorted(EXTENSIONS) or [reply.code for reply in self._answers] != [250]:
            raise InternalError(f"delivery: found {ran} and {self._answers}, expected {EXTENSIONS} and an acceptance")
        return sum(ran.values())

    def _deliver(self) -> None:
        sink = BodyWriter(lambda chunk, digest: 0, _NoLog())
        sink.write(self._message)
        self._deliverer.deliver(self._envelope, sink, self._note)

    def _note(self, replies: list[Reply]) -> None:
        self._answers = replies


ACCOUNT: Final = Account(USER, "", (RECIPIENT,))


class _Nowhere:
    """A store that keeps nothing: every record is durable at once."""

    def submit(self, change: Change) -> asyncio.Future[Outcome]:
        raise InternalError(f"store: found {type(change).__name__}, expected deliveries only")

    def submit_deliver(self, change: Deliver, on_durable: Callable[[SpinError | None], None]) -> None:
        on_durable(None)


class _NoLog:
    """A log of which nothing is read: messages are short enough to be in memory."""

    def read_body(self, position: int, offset: int, length: int) -> bytes:
        raise InternalError("log: found a read, expected none")


def _runtime(configured: Mapping[str, ExtensionConfig]) -> MailRuntime:
    mail = make_runtime(hostname=DOMAIN, has_smarthost=False, log_sink=lambda record: None)
    load_extensions(mail.runtime, configured)
    return mail
