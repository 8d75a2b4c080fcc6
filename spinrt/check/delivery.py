"""Faults in the midst of a delivery: what the mail store is told, and what the peer is answered.

Runs whole deliveries, from the complete message to the answer, over a store that only remembers what it is told to
write. A handler of ``deliver`` that fails must keep the message from being stored, and the peer is told to try later. A
handler of ``filed`` that fails is left out: the message is stored without anything of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NoReturn, cast

from spinrt._core import COUNTDOWN_NEVER, LentMessage, countdown, has_log, set_countdown
from spinrt.check.faults import InstructionFaults
from spinrt.check.rehearsal import Rehearsal
from spinrt.check.samples import DELIVER, FILED
from spinrt.errors import DeviceFull, InternalError, SpinError
from spinrt.mail.accounts_file import Account
from spinrt.mail.address import Address
from spinrt.mail.delivery import Deliverer
from spinrt.mail.smtp.receiver import Envelope, Session
from spinrt.mail.smtp.reply import Reply
from spinrt.mail.store.bodies import BodyWriter
from spinrt.mail.store.model import Body, Change, Deliver, Outcome


class MailStoreFaults(InstructionFaults):
    """A trap before each instruction that changes state, in a delivery."""

    name = "mail-store"

    def __init__(self) -> None:
        self._wrong = ""

    def places(self, rehearsal: Rehearsal) -> int:
        guest = rehearsal.rig.instance
        if rehearsal.rig.event.name not in (DELIVER, FILED) or not has_log(guest):
            return 0
        set_countdown(guest, COUNTDOWN_NEVER)
        replies = deliver(rehearsal, RecordingStore(is_full=True))
        used = COUNTDOWN_NEVER - countdown(guest)
        set_countdown(guest, 0)
        if [reply.code for reply in replies] != [_NO_ROOM]:  # it was decided without the store, and that stays
            rehearsal.renew()
        return used

    def inject(self, rehearsal: Rehearsal, place: int) -> bool:
        guest, store = rehearsal.rig.instance, RecordingStore()
        set_countdown(guest, place + 1)
        replies = deliver(rehearsal, store)
        came = countdown(guest) == 0
        set_countdown(guest, 0)
        if came:
            self._wrong = _wrong(rehearsal.rig.event.name, store.changes, replies)
        return came

    def left_outside(self) -> str:
        wrong, self._wrong = self._wrong, ""
        return wrong


def _wrong(event: str, changes: list[Change], replies: list[Reply]) -> str:
    """What differs from a delivery in which the handler did nothing and failed; empty: nothing."""
    codes = [reply.code for reply in replies]
    if event == DELIVER:
        if changes:
            return f"mail store: found {type(changes[0]).__name__} written, expected nothing"
        return "" if codes == [451] else f"answer: found {codes}, expected 451"
    if len(changes) != 1 or not isinstance(changes[0], Deliver):
        return f"mail store: found {[type(change).__name__ for change in changes]}, expected one delivery"
    if changes[0].tags or changes[0].kv or changes[0].outbound:
        return "mail store: found tags, map entries or mail of a handler that failed, expected none"
    return "" if codes == [250] else f"answer: found {codes}, expected 250"


def deliver(rehearsal: Rehearsal, store: RecordingStore) -> list[Reply]:
    """Deliver the input's message to one recipient, and return what the peer was answered."""
    message: LentMessage = rehearsal.given.arguments[1]
    replies: list[Reply] = []
    account = cast(Account, SimpleNamespace(name="alice"))
    deliverer = Deliverer(store, rehearsal.rig.stage.mail, lambda address: (account, None), clock_ns=lambda: 1)
    envelope = Envelope(Session(peer="192.0.2.1"), _SENDER, (_RECIPIENT,), message.size)
    rehearsal.rig.stage.reset()
    deliverer.deliver(envelope, cast(BodyWriter, _Sink(message)), replies.extend)
    return replies


_NO_ROOM = 452
_SENDER = Address("joe", "example.net")
_RECIPIENT = Address("alice", "example.org")


class RecordingStore:
    """A mail store that remembers what it is told to write, and calls it durable; or has no room for anything.

    Attributes:
        changes: In order.
    """

    def __init__(self, *, is_full: bool = False) -> None:
        self.changes: list[Change] = []
        self._is_full = is_full

    def submit_deliver(self, change: Deliver, on_durable: Callable[[SpinError | None], None]) -> None:
        if self._is_full:
            raise DeviceFull("recording store: no room")
        self.changes.append(change)
        on_durable(None)

    def submit(self, change: Change) -> asyncio.Future[Outcome]:
        self.changes.append(change)
        raise InternalError("recording store: found a change that is no delivery, expected none")


class _Sink:
    """A message that is complete."""

    def __init__(self, message: LentMessage) -> None:
        self.read = message.read
        self._size = message.size

    def check_kept(self) -> None:
        return

    def finish(self) -> Body:
        return Body(b"d" * 32, self._size, ())

    def abort(self) -> None:
        return

    def write(self, data: Any) -> NoReturn:
        raise InternalError("complete message: found another write, expected none")
