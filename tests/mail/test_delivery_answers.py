"""When a transaction is answered, and how when storing fails; with a store that does what the test says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from spinrt.errors import CorruptRecord, DeviceFailed, DeviceFull, SpinError, StorageError
from spinrt.mail.accounts_file import Account
from spinrt.mail.address import Address
from spinrt.mail.config import Config
from spinrt.mail.delivery import Deliverer
from spinrt.mail.extensions import make_runtime
from spinrt.mail.receiver import MailReceiver
from spinrt.mail.report import DeliveryReport
from spinrt.mail.service import MailService, serve_until_stopped
from spinrt.mail.smtp.receiver import Envelope, Session
from spinrt.mail.smtp.reply import Reply
from spinrt.mail.store.model import Body, Change, Deliver, Delivered, Outcome
from tests.mail.service_support import config_of

ALICE = Address("alice", "example.org")


class Sink:
    """A message that is complete."""

    def __init__(self, refuses: SpinError | None = None) -> None:
        self.refuses = refuses

    def check_kept(self) -> None:
        if self.refuses is not None:
            raise self.refuses

    def read(self, offset: int, length: int) -> bytes:
        return b"Subject: x\r\n\r\n"[offset : offset + length]

    def finish(self) -> Body:
        return Body(b"d" * 32, 14, ())

    def abort(self) -> None:
        pass


class Held:
    """Keeps what is submitted until the test says what became of it."""

    def __init__(self, refuses: SpinError | None = None) -> None:
        self.refuses = refuses
        self.changes: list[Change] = []
        self.durable: list[Callable[[SpinError | None], None]] = []
        self.applied: list[asyncio.Future[Outcome]] = []

    def body_writer(self) -> Sink:
        if self.refuses is not None:
            raise self.refuses
        return Sink()

    def submit_deliver(self, change: Deliver, on_durable: Callable[[SpinError | None], None]) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.changes.append(change)
        self.durable.append(on_durable)

    def submit(self, change: Change) -> asyncio.Future[Outcome]:
        self.changes.append(change)
        self.applied.append(asyncio.get_running_loop().create_future())
        return self.applied[-1]


class Case:
    """A deliverer over such a store."""

    def __init__(self, refuses: SpinError | None = None, *, observed: bool = False) -> None:
        self.store = Held(refuses)
        self.failures: list[StorageError] = []
        self.reports: list[DeliveryReport] = []
        self.replies: list[Reply] = []
        mail = make_runtime(hostname="localhost", has_smarthost=False, kv_load=lambda name: {})
        account = cast(Account, SimpleNamespace(name="alice"))
        self.deliverer = Deliverer(
            self.store,
            mail,
            lambda address: (account, None),
            observers=[self.reports.append] if observed else [],
            on_failure=self.failures.append,
        )

    def deliver(self) -> None:
        envelope = Envelope(Session(peer="192.0.2.1"), None, (ALICE,), 14)
        self.deliverer.deliver(envelope, cast(Any, Sink()), self.replies.extend)

    @property
    def codes(self) -> list[int]:
        return [reply.code for reply in self.replies]


def test_the_peer_is_answered_when_the_record_is_durable() -> None:
    case = Case()
    case.deliver()
    assert (len(case.store.changes), case.codes) == (1, [])

    case.store.durable[0](None)
    assert case.codes == [250]


def test_with_observers_the_answer_waits_for_the_report() -> None:
    """A report names the UIDs, which applying gives."""

    async def run() -> Case:
        case = Case(observed=True)
        case.deliver()
        assert (case.codes, case.store.durable) == ([], [])
        case.store.applied[0].set_result(Delivered((("alice", "INBOX", 1, 7),)))
        await asyncio.sleep(0)
        return case

    case = asyncio.run(run())
    assert case.codes == [250]
    assert [report.placed for report in case.reports] == [(("alice", "INBOX", 7),)]


@pytest.mark.parametrize("appended", [False, True])
@pytest.mark.parametrize(("error", "failures"), [(DeviceFull("log: no room"), 0), (DeviceFailed("log: gone"), 1)])
def test_what_is_not_durable_is_refused_for_now(error: StorageError, failures: int, appended: bool) -> None:
    """Before or after it was appended; only a store that will take nothing more is told of."""
    case = Case(None if appended else error)
    case.deliver()
    if appended:
        case.store.durable[0](error)

    assert case.codes == [452]
    assert case.failures == [error] * failures


def test_a_store_that_takes_no_message_any_more_is_told_of() -> None:
    case = Case(DeviceFailed("log: gone"))
    receiver = MailReceiver(cast(Any, case.store), case.deliverer, cast(Any, None))
    with pytest.raises(DeviceFailed):
        receiver.begin(Session())

    assert len(case.failures) == 1


def test_serving_ends_with_the_error_when_the_store_fails(
    config_without_extensions: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A supervisor sees that the service is of no use any more; it does not refuse all mail for ever."""
    start = MailService.start

    async def start_and_fail(service: MailService) -> None:
        await start(service)
        asyncio.get_running_loop().call_soon(service.on_failure, DeviceFailed("log: gone"))

    monkeypatch.setattr(MailService, "start", start_and_fail)
    with pytest.raises(DeviceFailed, match="log: gone"):
        asyncio.run(serve_until_stopped(config_without_extensions))


@pytest.fixture
def config_without_extensions(tmp_path: Any) -> Config:
    return config_of(tmp_path, extensions={})


@pytest.mark.parametrize(("protocol", "codes"), [("smtp", [451]), ("lmtp", [250, 250, 451, 451])])
def test_slow_decisions_hold_up_the_server_for_a_bounded_time(
    protocol: str, codes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recipients that the budget does not reach are put off; over SMTP, with its one answer, all are."""
    case = Case()
    seen: list[str] = []

    def slow(call: Any, envelope: Any, message: Any) -> str:
        seen.append(envelope.recipient)
        now[0] += 600_000_000
        return "pass"

    now = [0]
    monkeypatch.setattr("spinrt.mail.delivery.perf_counter_ns", lambda: now[0])
    case.deliverer.mail.events.deliver.install(slow)
    recipients = tuple(Address(name, "example.org") for name in ("a", "b", "c", "d"))
    envelope = Envelope(Session(protocol=protocol, peer="192.0.2.1"), None, recipients, 14)
    case.deliverer.deliver(envelope, cast(Any, Sink()), case.replies.extend)
    for durable in case.store.durable:
        durable(None)
    assert (case.codes, seen) == (codes, ["a@example.org", "b@example.org"])


@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
def test_a_message_that_lost_a_part_is_refused_before_a_handler_reads_it(protocol: str) -> None:
    """The store's failure is no fault of an extension."""
    case = Case()
    ran: list[Any] = []
    case.deliverer.mail.events.deliver.install(lambda *arguments: ran.append(arguments))
    envelope = Envelope(Session(protocol=protocol, peer="192.0.2.1"), None, (ALICE,), 14)
    case.deliverer.deliver(envelope, cast(Any, Sink(DeviceFull("message body: given up"))), case.replies.extend)

    assert ([(one.code, one.enhanced) for one in case.replies], ran) == ([(452, "4.3.1")], [])


@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
def test_a_message_that_cannot_be_read_is_answered_as_the_store_that_fails(protocol: str) -> None:
    """Also when that shows only while a handler reads it."""
    case = Case()

    def reads(call: Any, envelope: Any, message: Any) -> str:
        raise CorruptRecord("log read: no record")

    case.deliverer.mail.events.deliver.install(reads)
    envelope = Envelope(Session(protocol=protocol, peer="192.0.2.1"), None, (ALICE,), 14)
    case.deliverer.deliver(envelope, cast(Any, Sink()), case.replies.extend)

    assert [(one.code, one.enhanced) for one in case.replies] == [(452, "4.3.1")]
