"""Deliveries without a server: the way of the service from a complete message to its record, without the store.

Both events are raised in one transaction, and it is committed. The store would cost the same with any extensions, and
hide what is looked for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import Final

from benchmarks.peers.spinrt_server import DOMAIN, USER
from benchmarks.timing import Measure
from spinrt.errors import InternalError, SpinError
from spinrt.mail.accounts_file import Account
from spinrt.mail.address import Address
from spinrt.mail.config import ExtensionConfig
from spinrt.mail.delivery import Deliverer
from spinrt.mail.extensions import MailRuntime, load_extensions, make_runtime
from spinrt.mail.smtp.receiver import Envelope, Session
from spinrt.mail.smtp.reply import Reply
from spinrt.mail.store.bodies import BodyWriter
from spinrt.mail.store.model import Change, Deliver, Outcome

RECIPIENT: Final = Address(USER, DOMAIN)
SENDER: Final = Address("sender", "example.org")
ACCOUNT: Final = Account(USER, "", (RECIPIENT,))


class Delivering:
    """The extensions of a configuration, and messages that are delivered over and over.

    Args:
        configured: The extensions.
        contents: The messages, CRLF line ends; short enough to be in memory.
    """

    def __init__(self, configured: Mapping[str, ExtensionConfig], contents: Sequence[bytes]) -> None:
        self._mail = _runtime(configured)
        self._store = _Nowhere()
        self._deliverer = Deliverer(self._store, self._mail, lambda address: (ACCOUNT, None))
        self._next = cycle(
            [(content, Envelope(Session(peer="192.0.2.1"), SENDER, (RECIPIENT,), len(content))) for content in contents]
        )
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

    def deliver(self) -> Deliver:
        """Deliver the next message and return the record that the store would keep.

        Raises:
            InternalError: It was not accepted.
        """
        self._deliver()
        if [reply.code for reply in self._answers] != [250] or self._store.record is None:
            raise InternalError(f"delivery: found {self._answers}, expected an acceptance")
        return self._store.record

    def calls(self, names: Sequence[str]) -> int:
        """How many handlers run for one message.

        Raises:
            InternalError: Not all of these extensions take part, or others do, or the message is not accepted.
        """
        domains = self._mail.runtime.domains.values()
        bindings = [binding for domain in domains for binding in self._mail.runtime.bindings_of(domain)]
        before = [binding.counts.raises for binding in bindings]
        self.deliver()
        ran = {
            binding.domain.name: binding.counts.raises - count
            for binding, count in zip(bindings, before, strict=True)
            if binding.counts.raises > count and binding.domain
        }
        if sorted(ran) != sorted(names):
            raise InternalError(f"delivery: found that {ran} ran, expected {names}")
        return sum(ran.values())

    def _deliver(self) -> None:
        content, envelope = next(self._next)
        sink = BodyWriter(lambda chunk, digest: 0, _NoLog())
        sink.write(content)
        self._deliverer.deliver(envelope, sink, self._note)

    def _note(self, replies: list[Reply]) -> None:
        self._answers = replies


class _Nowhere:
    """A store that keeps nothing but the last record: every one is durable at once."""

    record: Deliver | None = None

    def submit(self, change: Change) -> asyncio.Future[Outcome]:
        raise InternalError(f"store: found {type(change).__name__}, expected deliveries only")

    def submit_deliver(self, change: Deliver, on_durable: Callable[[SpinError | None], None]) -> None:
        self.record = change
        on_durable(None)


class _NoLog:
    """A log of which nothing is read: messages are short enough to be in memory."""

    def is_lost(self, position: int) -> bool:
        return False

    def read_body(self, position: int, offset: int, length: int) -> bytes:
        raise InternalError("log: found a read, expected none")


def _runtime(configured: Mapping[str, ExtensionConfig]) -> MailRuntime:
    mail = make_runtime(hostname=DOMAIN, has_smarthost=False, log_sink=lambda record: None)
    load_extensions(mail.runtime, configured)
    return mail
