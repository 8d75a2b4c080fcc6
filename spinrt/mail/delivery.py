"""One transaction: from a message that is complete to one record in the log, and the answer.

The event ``deliver`` is raised once for each recipient and ``filed`` once for all, inside one `Transaction` of the
runtime. What the extensions want becomes one ``Deliver`` record. Their effects in memory (maps, log records) are
applied when the record is appended; the peer is answered when it is durable, not when it shows in mailboxes (a read
waits for that). No task runs: everything happens in the call that completes the message and in the store's callback.

Who refuses
    Over LMTP each recipient has an answer of its own. Over SMTP there is one for all: a refusal by one refuses the
    transaction, and nothing of it is stored (docs/decisions/0003-one-answer-over-smtp.md).

What is kept of a transaction that is refused
    Log records and writes to maps: the raise succeeded, and refusing was its result. When a handler *fails*, nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import Final, Protocol
from weakref import WeakKeyDictionary

from spinrt import trace
from spinrt._core import DeliveryContext, LentMessage, effects_of, tags_of
from spinrt.errors import DeviceFailed, HandlerFailed, SpinError, StorageError
from spinrt.host.kv import KvEffect
from spinrt.mail.accounts_file import Account
from spinrt.mail.address import Address, address_text
from spinrt.mail.extensions import MailRuntime
from spinrt.mail.host.context import RecipientContext
from spinrt.mail.host.effects import Decision, Refusal, decide
from spinrt.mail.host.ledger import kv_writes
from spinrt.mail.outcomes import (
    EnvelopeRecord,
    ReceiptRecord,
    copies_of,
    fold_refusals,
    outbound_of,
    outcome_of,
)
from spinrt.mail.report import DeliveryReport, Observed
from spinrt.mail.smtp import reply
from spinrt.mail.smtp.receiver import DeliveryDone, Envelope
from spinrt.mail.smtp.reply import Reply
from spinrt.mail.store.bodies import BodyWriter
from spinrt.mail.store.model import Change, Deliver, Delivered, KvWrites, Outcome, make_record
from spinrt.runtime.call import Transaction
from spinrt.runtime.capability import Effect
from spinrt.runtime.event import Event

DEFERRED: Final = Refusal(451, "4.7.1", "not now, try again later")
FAILED: Final = Refusal(451, "4.3.0", "an extension failed, try again later")
TOO_SLOW: Final = Refusal(451, "4.3.2", "deciding took too long, try again with fewer recipients")
MOVED: Final = Refusal(451, "4.3.0", "the recipient's account changed meanwhile, try again later")

DECIDE_BUDGET_NS: Final = 1_000_000_000
"""Time in which a transaction's recipients are decided; the rest are put off. One call more may end behind it."""

_LOG = trace.component("delivery")

Resolve = Callable[[Address], tuple[Account, str | None] | None]
Observer = Callable[[DeliveryReport], None]
OnFailure = Callable[[StorageError], None]


class DeliverStore(Protocol):
    """What deliveries need of the mail store."""

    def submit(self, change: Change) -> asyncio.Future[Outcome]: ...

    def submit_deliver(self, change: Deliver, on_durable: Callable[[SpinError | None], None]) -> None: ...


def ignore_failure(_error: StorageError) -> None:
    """Nobody wants to know of a failure."""


class Deliverer:
    """Runs deliveries.

    Args:
        store: Where records go.
        mail: The runtime with the mail events.
        resolve: Addresses to accounts.
        observers: Called with a report when a transaction is answered; reports cost nothing when there are none.
            Where there are some, answers wait until the message shows in mailboxes: a report names the UIDs.
        on_failure: Called, perhaps again and again, when the store has failed for good.
        clock_ns: Nanoseconds since 1970-01-01 UTC.
    """

    def __init__(
        self,
        store: DeliverStore,
        mail: MailRuntime,
        resolve: Resolve,
        *,
        observers: Sequence[Observer] = (),
        on_failure: OnFailure = ignore_failure,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.store = store
        self.mail = mail
        self.resolve = resolve
        self.observers = observers
        self.on_failure = on_failure
        self.clock_ns = clock_ns
        self._begun: WeakKeyDictionary[BodyWriter, int] = WeakKeyDictionary()
        # Time, chance and a counter: unique over restarts, and over clocks that go back.
        self._mark = secrets.token_hex(4)
        self._counter = itertools.count(1)

    def begin(self, sink: BodyWriter) -> None:
        """A message begins to arrive; for the report's time."""
        if self.observers:
            self._begun[sink] = perf_counter_ns()

    def begun_ns(self, sink: BodyWriter) -> int:
        """When it began, or now."""
        return self._begun.pop(sink, None) or perf_counter_ns()

    def new_id(self, now_ns: int) -> str:
        """A name for a transaction that no other has or will have."""
        return f"{now_ns:x}-{self._mark}-{next(self._counter):x}"

    def note_error(self, error: BaseException) -> None:
        """Storing failed so; tell who must know when it will fail from now on."""
        if isinstance(error, DeviceFailed):
            self.on_failure(error)

    def deliver(self, envelope: Envelope, sink: BodyWriter, done: DeliveryDone) -> None:
        """Take over a complete message; ``done`` gets one reply over SMTP, one for each recipient over LMTP."""
        _Delivery(self, envelope, sink, done).run()


class _Delivery:
    """One transaction under way."""

    __slots__ = (
        "_context",
        "_decisions",
        "_deliverer",
        "_done",
        "_effects",
        "_envelope",
        "_id",
        "_ledger_entry",
        "_message",
        "_now_ns",
        "_observed",
        "_one_answer",
        "_recipients",
        "_sender",
        "_sink",
        "_started_ns",
        "_transaction",
        "_work_ns",
    )

    def __init__(self, deliverer: Deliverer, envelope: Envelope, sink: BodyWriter, done: DeliveryDone) -> None:
        self._deliverer, self._envelope, self._sink, self._done = deliverer, envelope, sink, done
        self._observed = Observed() if deliverer.observers else None
        self._started_ns = perf_counter_ns() if self._observed else 0
        self._work_ns = 0
        self._one_answer = envelope.session.protocol == "smtp"
        self._now_ns = deliverer.clock_ns()
        self._id = deliverer.new_id(self._now_ns)
        self._sender = "" if envelope.sender is None else address_text(envelope.sender)
        self._message = LentMessage(sink.read, envelope.size)
        self._recipients: list[RecipientContext] = []
        self._decisions: list[Decision] = []
        self._effects: list[Effect] = []
        self._ledger_entry = 0
        self._context = DeliveryContext(self._id, envelope.session.protocol, self._sender, self._message)
        observer = self._observed.note_handler if self._observed else None
        self._transaction = Transaction(self._context, observer=observer)

    def run(self) -> None:
        """Decide, store, and see to it that the peer is answered, whatever happens."""
        try:
            self._sink.check_kept()  # who reads what is gone would have failed
            self._decide_all()
            filed = self._deliverer.mail.events.filed
            if filed.bindings:
                self._raise_filed(filed)
            self._store()
        except HandlerFailed as error:
            self._give_up(_refusal_after(error), error)
        except StorageError as error:
            self._give_up(_refusal_of(reply.STORAGE_UNAVAILABLE), error)
        except Exception as error:
            _LOG.exception("delivery failed")
            self._give_up(_refusal_of(reply.DELIVERY_FAULT), error)
        finally:
            self._message.take_back()
            self._transaction.rollback()  # does nothing after a commit

    # ------------------------------------------------------------------------------------------------------ decide

    def _decide_all(self) -> None:
        begun_ns = perf_counter_ns()
        resolve = self._deliverer.resolve
        for number, address in enumerate(self._envelope.recipients):
            if number and perf_counter_ns() - begun_ns > DECIDE_BUDGET_NS:
                self._decide_no_more(self._envelope.recipients[number:])
                break
            found = resolve(address)
            if found is None:
                self._recipients.append(RecipientContext(address_text(address), "", None))
                self._decisions.append(Decision(refusal=MOVED))
            else:
                recipient = RecipientContext(address_text(address), found[0].name, found[1])
                self._recipients.append(recipient)
                self._decisions.append(self._decide(recipient))
        if self._one_answer and len(self._decisions) > 1:
            refusal = fold_refusals([decision.refusal for decision in self._decisions])
            for decision in self._decisions:
                decision.refusal = refusal
        self._context.recipient = None

    def _decide_no_more(self, addresses: Sequence[Address]) -> None:
        """Put off the recipients that are left: nobody else is served while a transaction is decided."""
        self._note(logging.WARNING, "deciding took too long", decided=len(self._recipients), left=len(addresses))
        for address in addresses:
            self._recipients.append(RecipientContext(address_text(address), "", None))
            self._decisions.append(Decision(refusal=TOO_SLOW))

    def _decide(self, recipient: RecipientContext) -> Decision:
        """Raise ``deliver`` for one recipient. Raises HandlerFailed over SMTP, where one answer is for all."""
        event = self._deliverer.mail.events.deliver
        if not event.bindings:
            return Decision()  # nobody decides: it passes
        self._context.recipient = recipient
        session = self._envelope.session
        values = (
            self._id,
            session.protocol,
            session.peer,
            session.user,
            self._sender,
            recipient.address,
            recipient.user,
            recipient.detail,
        )
        record = make_record(EnvelopeRecord, values)
        mark = len(self._effects)
        try:
            verdict = self._transaction.raise_(event, record, self._message)
        except HandlerFailed as error:
            if self._one_answer:
                raise
            self._note(logging.WARNING, "recipient deferred", reason=error, recipient=recipient.address)
            return Decision(refusal=_refusal_after(error))
        self._effects = effects = self._transaction.effects
        decision = decide(effects[mark:] if mark else effects)
        if verdict == "defer":
            decision.refusal = DEFERRED  # who defers does not know yet; whether others refuse shows the next time
        return decision

    def _raise_filed(self, event: Event) -> None:
        outcomes = list(map(outcome_of, self._recipients, self._decisions))
        session, size = self._envelope.session, self._envelope.size
        values = (self._id, session.protocol, session.peer, self._sender, size, outcomes)
        self._transaction.raise_(event, make_record(ReceiptRecord, values), self._message)
        self._effects = self._transaction.effects

    # ------------------------------------------------------------------------------------------------------- store

    def _store(self) -> None:
        pairs = zip(self._recipients, self._decisions, strict=True)
        accepted = [pair for pair in pairs if pair[1].refusal is None]
        kv, tags = effects_of(self._effects, KvEffect), tags_of(self._effects)
        if accepted:
            self._submit(self._change(accepted, kv, tags))
        else:
            self._sink.abort()
            if kv:
                self._submit(KvWrites(kv_writes(kv)))
        # Appended: in memory it is done, and those who wait for the disk may see it.
        self._transaction.commit()
        if kv:
            self._ledger_entry = self._deliverer.mail.ledger.begin(kv)
        if self._observed:
            self._work_ns = perf_counter_ns() - self._started_ns
        if not (accepted or kv):
            self._answer(())

    def _submit(self, change: Deliver | KvWrites) -> None:
        """Append a record; `_end` is called when it is durable. Raises SpinError when it was not appended."""
        store = self._deliverer.store
        if self._observed is None and isinstance(change, Deliver):
            store.submit_deliver(change, self._end)
            return
        future = store.submit(change)
        if future.done():
            future.result()
        future.add_done_callback(self._applied)

    def _change(
        self,
        accepted: list[tuple[RecipientContext, Decision]],
        kv: tuple[KvEffect, ...],
        tags: tuple[tuple[str, str, bytes], ...],
    ) -> Deliver:
        body = self._sink.finish()
        session = self._envelope.session
        values = (
            self._id,
            session.protocol,
            session.peer,
            self._sender,
            tuple([recipient.address for recipient, _ in accepted]),
            body,
            copies_of(accepted),
            self._now_ns // 1_000_000_000,
            outbound_of(accepted, self._sender, body),
            kv_writes(kv) if kv else (),
            tags,
        )
        return make_record(Deliver, values)

    def _applied(self, future: asyncio.Future[Outcome]) -> None:
        error = None if future.cancelled() else future.exception()
        outcome = None if error is not None else future.result()
        self._end(error, outcome.placed if isinstance(outcome, Delivered) else ())

    def _end(self, error: BaseException | None, placed: tuple[tuple[str, str, int, int], ...] = ()) -> None:
        """The record is durable, or it is lost."""
        if self._ledger_entry:
            self._deliverer.mail.ledger.end(self._ledger_entry, stored=error is None)
        if error is None:
            self._answer(placed)
        elif isinstance(error, StorageError):
            self._give_up(_refusal_of(reply.STORAGE_UNAVAILABLE), error)
        else:
            self._give_up(_refusal_of(reply.DELIVERY_FAULT), error)

    # ------------------------------------------------------------------------------------------------------ answer

    def _give_up(self, refusal: Refusal, error: BaseException) -> None:
        """Nothing of it is stored: refuse, for now."""
        self._note(logging.WARNING, "not stored", reason=error)
        self._deliverer.note_error(error)
        self._sink.abort()
        self._effects = []
        self._recipients = [RecipientContext(address_text(address), "", None) for address in self._envelope.recipients]
        self._decisions = [Decision(refusal=refusal) for _ in self._recipients]
        self._answer(())

    def _answer(self, placed: tuple[tuple[str, str, int, int], ...]) -> None:
        if self._one_answer:
            replies = [self._reply(self._decisions[0].refusal)]
        else:
            replies = [self._reply(decision.refusal) for decision in self._decisions]
        if self._observed is not None:
            self._report(self._observed, replies, placed)
        self._done(replies)

    def _reply(self, refusal: Refusal | None) -> Reply:
        if refusal is None:
            return Reply(250, "2.6.0", f"accepted as {self._id}")
        self._note(logging.INFO, "refused", code=refusal.code, reason=refusal.text)
        return Reply(refusal.code, refusal.enhanced, refusal.text)

    def _note(self, level: int, event: str, **fields: object) -> None:
        trace.log(_LOG, level, event, id=self._id, peer=self._envelope.session.peer, sender=self._sender, **fields)

    def _report(self, observed: Observed, replies: list[Reply], placed: tuple[tuple[str, str, int, int], ...]) -> None:
        observed.note_effects(self._effects)
        envelope = self._envelope
        begun_ns = min(self._deliverer.begun_ns(self._sink), self._started_ns)
        report = DeliveryReport(
            delivery_id=self._id,
            protocol=envelope.session.protocol,
            sender=self._sender,
            recipients=tuple([recipient.address for recipient in self._recipients]),
            size=envelope.size,
            codes=tuple([one.code for one in replies]),
            extensions=observed.extensions,
            placed=tuple([(user, mailbox, uid) for user, mailbox, _, uid in placed]),
            message_ns=perf_counter_ns() - begun_ns,
            work_ns=self._work_ns or perf_counter_ns() - self._started_ns,
        )
        for observer in tuple(self._deliverer.observers):
            _tell(observer, report)


def _refusal_after(error: HandlerFailed) -> Refusal:
    """What a failed handler is answered with: of a message that the store cannot read, that."""
    return _refusal_of(reply.STORAGE_UNAVAILABLE) if isinstance(error.__cause__, StorageError) else FAILED


def _refusal_of(answer: Reply) -> Refusal:
    return Refusal(answer.code, answer.enhanced, answer.text)


def _tell(observer: Observer, report: DeliveryReport) -> None:
    """An observer's mistakes are its own."""
    try:
        observer(report)
    except Exception:
        _LOG.exception("observer failed")
