"""APPEND: a message on its way from the client into the store, never whole in memory (RFC 3501 6.3.11)."""

from __future__ import annotations

import time

from spinrt.errors import SpinError
from spinrt.mail.imap.command import AppendTo
from spinrt.mail.imap.session import Refused, Session, find_mailbox, refusal, submit
from spinrt.mail.store.model import Append, Appended


class Appending:
    """One APPEND, from its first line to its answer. Raises Refused from the constructor when it cannot start.

    An error of the store while the message comes is kept until it is all there: the client answers for the rest.
    """

    def __init__(self, session: Session, arguments: AppendTo, size: int) -> None:
        limit = session.services.limits.append_bytes_max
        if size > limit:
            raise Refused(f"message of {size} bytes; at most {limit} are taken", code="TOOBIG")
        if size == 0:
            raise Refused("the message is empty", code="CANNOT")
        self._session = session
        self._arguments = arguments
        self._mailbox = find_mailbox(session, arguments.name, missing="TRYCREATE")
        self._refused: Refused | None = None
        try:
            self._sink = session.services.store.body_writer()
        except SpinError as error:
            raise refusal(error) from error

    def write(self, data: bytes) -> None:
        """Take a piece of the message."""
        if self._refused is None:
            try:
                self._sink.write(data)
            except SpinError as error:
                self._refused = refusal(error)

    def abort(self) -> None:
        """Give the message up."""
        self._sink.abort()

    async def finish(self, problem: str | None) -> bytes:
        """Store the message and return the answer; ``problem`` is what was wrong with the command behind it."""
        if problem is not None:
            self._refused = Refused(problem, status="BAD")
        if self._refused is not None:
            self.abort()
            raise self._refused
        try:
            body = self._sink.finish()
        except SpinError as error:
            raise refusal(error) from error
        session, arguments, hooks = self._session, self._arguments, self._session.services.hooks
        refused = hooks.append(session.state.user, self._mailbox.name, body) if hooks is not None else None
        if refused is not None:
            raise Refused(refused, code="CANNOT")
        moment, zone = arguments.date if arguments.date is not None else (int(time.time()), 0)
        change = Append(self._mailbox.id, body, arguments.flags, moment, zone)
        outcome = await submit(session, change, missing="TRYCREATE")
        assert isinstance(outcome, Appended)
        return b"OK [APPENDUID %d %d] APPEND completed" % (outcome.uidvalidity, outcome.uid)
