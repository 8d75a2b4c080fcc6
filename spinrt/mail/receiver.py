"""Who receives the mail: the mail system behind the SMTP and LMTP engines.

Mail is taken for local recipients only. There is no address, peer or login for which this relays, so an open relay
cannot be configured; what leaves, leaves by an extension's effect through the smarthost.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Protocol, cast

from spinrt import trace
from spinrt.errors import StorageError
from spinrt.mail.accounts import Accounts
from spinrt.mail.address import Address, normalise_domain
from spinrt.mail.delivery import Deliverer
from spinrt.mail.smtp.receiver import BodySink, LoginDone, Session
from spinrt.mail.smtp.reply import Reply
from spinrt.mail.store.bodies import BodyWriter

LOGIN_FIRST: Final = Reply(530, "5.7.0", "authentication required")
NOT_YOUR_ADDRESS: Final = Reply(553, "5.7.1", "this sender address is not yours")
NO_SUCH_USER: Final = Reply(550, "5.1.1", "no such user here")
RELAYING_DENIED: Final = Reply(550, "5.7.1", "relaying denied, this domain is not served here")

_LOG = trace.component("recipient")


class BodyWriters(Protocol):
    """What receiving needs of the mail store."""

    def body_writer(self) -> BodyWriter: ...


class MailReceiver:
    """The `Receiver` of one listener.

    Args:
        store: Where messages go while they arrive.
        deliverer: Who takes them when they are complete.
        accounts: Who has an address, and passwords.
        login_required: A submission listener: nothing without a login (RFC 6409 4.3).
    """

    def __init__(
        self, store: BodyWriters, deliverer: Deliverer, accounts: Accounts, *, login_required: bool = False
    ) -> None:
        self._store = store
        self._deliverer = deliverer
        self.deliver = deliverer.deliver
        self._accounts = accounts
        self._login_required = login_required

    def check_sender(self, session: Session, address: Address | None, size: int | None) -> Reply | None:
        """Who logged in sends under addresses of their own (RFC 6409 6.1)."""
        if session.user is None:
            return LOGIN_FIRST if self._login_required else None
        if address is not None and not self._accounts.directory.owns(session.user, address):
            return NOT_YOUR_ADDRESS
        return None

    def check_recipient(self, session: Session, address: Address) -> Reply | None:
        """Only who has an account here gets mail here."""
        directory = self._accounts.directory
        if directory.resolve(address) is not None:
            return None
        local = not address.domain or normalise_domain(address.domain) in directory.domains
        answer = NO_SUCH_USER if local else RELAYING_DENIED
        trace.log(
            _LOG, logging.INFO, "refused", peer=session.peer, recipient=address, code=answer.code, reason=answer.text
        )
        return answer

    def begin(self, session: Session) -> BodySink:
        try:
            sink = self._store.body_writer()
        except StorageError as error:
            self._deliverer.note_error(error)
            raise
        self._deliverer.begin(sink)
        return sink

    def authenticate(self, session: Session, user: str, password: str, done: LoginDone) -> None:
        answer = cast("Callable[[str | None], None]", done)
        self._accounts.authenticate(user, password, answer)
