"""What IMAP clients do, as events for extensions."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Protocol

from spinrt import trace
from spinrt._core import LentMessage
from spinrt.errors import HandlerFailed, SpinError
from spinrt.host.kv import KvEffect
from spinrt.mail.extensions import MailRuntime
from spinrt.mail.host.ledger import kv_writes
from spinrt.mail.store.model import Body, Change, KvWrites, Outcome
from spinrt.runtime.call import Transaction
from spinrt.runtime.event import Event
from spinrt.sandbox.types import Err

FAILED = "an extension failed, try again later"

_LOG = trace.component("imap-events")


class HookStore(Protocol):
    """What the events of mailboxes need of the mail store."""

    def read(self, body: Body, offset: int = 0, length: int | None = None) -> bytes: ...
    def submit(self, change: Change) -> asyncio.Future[Outcome]: ...


class ImapHooks:
    """Raises ``imap-events`` for an IMAP server; both calls cost nothing when nobody handles them."""

    def __init__(self, store: HookStore, mail: MailRuntime) -> None:
        self._store = store
        self._mail = mail

    def append(self, user: str, mailbox: str, body: Body) -> str | None:
        """A client appends a message; a text refuses it. A handler that fails refuses it too."""
        event = self._mail.events.append
        if not event.bindings:
            return None
        message = LentMessage(lambda offset, length: self._store.read(body, offset, length), body.size)
        try:
            answer = self._raise(event, user, mailbox, message)
        except HandlerFailed as error:
            trace.log(_LOG, logging.WARNING, "append refused", user=user, mailbox=mailbox, reason=error)
            return FAILED
        finally:
            message.take_back()
        return str(answer.value) if isinstance(answer, Err) else None

    def flags_changed(self, user: str, mailbox: str, uid: int, flags: frozenset[str]) -> None:
        """A client changed flags; it is done already."""
        event = self._mail.events.flags_changed
        if event.bindings:
            self._raise(event, user, mailbox, uid, sorted(flags))

    def _raise(self, event: Event, *arguments: Any) -> Any:
        with Transaction() as transaction:
            answer = transaction.raise_(event, *arguments)
            kv = tuple([effect for effect in transaction.effects if isinstance(effect, KvEffect)])
            if kv:
                self._store_writes(kv)
            transaction.commit()
            return answer

    def _store_writes(self, kv: tuple[KvEffect, ...]) -> None:
        future = self._store.submit(KvWrites(kv_writes(kv)))
        ledger = self._mail.ledger
        entry = ledger.begin(kv)

        def stored(done: asyncio.Future[Outcome]) -> None:
            error = done.exception()
            ledger.end(entry, stored=error is None)
            if isinstance(error, SpinError):
                trace.log(_LOG, logging.WARNING, "map not stored", reason=error)

        future.add_done_callback(stored)
