"""The SMTP and LMTP engine: octets in, replies out, a `Receiver` told what happens. No sockets, no clock, no tasks.

What a command may do is one table, `_table`: state × command → handler and next state. A command that is not in the row
of the current state is unknown or out of place. A handler that answers with 4xx or 5xx leaves the state as it is.

Three things wait for somebody else: a delivery, a login, a TLS handshake. Meanwhile later input stays unparsed in the
engine (`buffered` octets); whoever owns the connection stops reading when that is too much.

Invariants
    - *Same octets, same answers*: output and calls do not depend on how the input was cut.
    - *Nothing crosses into TLS*: input behind STARTTLS is thrown away, what was learnt before too (RFC 3207 4.2, 6).
    - *Content is never a command*: the octets of a chunk are consumed even when the chunk is refused; when their number
      is not known the connection is closed.
    - *One answer for one message*, over LMTP one for each recipient, and only when the receiver gave it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import NamedTuple

from spinrt._core import Fault, Phase, SmtpStream, Transfer
from spinrt.errors import StorageError
from spinrt.mail.smtp import auth, parser, reply
from spinrt.mail.smtp.auth import Credentials, Exchange
from spinrt.mail.smtp.limits import SmtpLimits
from spinrt.mail.smtp.offer import Offer
from spinrt.mail.smtp.receiver import Envelope, Receiver, Session
from spinrt.mail.smtp.reply import Reply

logger = logging.getLogger(__name__)

_PROTOCOL_ERRORS = frozenset({500, 501, 502, 503, 504, 538, 555})
_FAULTS = {
    Fault.TOO_LARGE: reply.MESSAGE_TOO_LARGE,
    Fault.BARE_NEWLINE: reply.BARE_NEWLINE,
    Fault.LOOP: reply.LOOP,
    Fault.STORAGE: reply.STORAGE_UNAVAILABLE,
}
_GREETINGS = frozenset({b"EHLO", b"HELO", b"LHLO"})
_NOT_SMTP = frozenset({b"GET", b"POST", b"PUT", b"CONNECT", b"OPTIONS", b"CONTENT-TYPE:", b"HOST:", b"USER-AGENT:"})


class State(Enum):
    """Where a session stands between two commands."""

    START = auto()
    """The peer has not said who it is."""
    READY = auto()
    MAIL = auto()
    """There is a sender."""
    RCPT = auto()
    """There is an accepted recipient."""
    CHUNKS = auto()
    """A chunk came in, and was not the last."""

    __hash__ = object.__hash__  # each command looks its row up by it; the one of Enum is written in Python


class Engine(SmtpStream):
    """One session.

    Attributes:
        session: What is known of the peer.
    """

    __slots__ = (
        "_draining",
        "_errors",
        "_limits",
        "_login_failures",
        "_offer",
        "_receiver",
        "_rejections",
        "_request",
    )

    def __init__(
        self,
        receiver: Receiver,
        session: Session,
        offer: Offer,
        limits: SmtpLimits,
        on_output: Callable[[], None],
    ) -> None:
        """``on_output`` is called when the receiver's late answer made output or changed the phase."""
        super().__init__(session, offer.greeting, limits, on_output)
        self._receiver = receiver
        self._offer = offer
        self._limits = limits
        self._table = _LMTP_STEPS if offer.lmtp else _SMTP_STEPS
        self._state = State.START
        self._request = _NO_REQUEST
        self._draining = False
        self._errors = self._rejections = self._login_failures = 0

    # ------------------------------------------------------------------------------------------- for the connection

    def tls_started(self) -> None:
        """The handshake is done: begin anew, as if just connected (RFC 3207 4.2), without a greeting."""
        if self.phase is not Phase.TLS:
            return
        session = self.session
        session.tls = True
        session.helo, session.extended, session.user = "", False, None
        self._reset(State.START)
        if self._draining:
            self._close(reply.SHUTTING_DOWN)

    def time_out(self) -> None:
        """The peer, or the receiver, took too long. While a delivery is due there is no answer: nobody knows it."""
        self._close(reply.TIMED_OUT if self.phase in (Phase.COMMAND, Phase.CONTENT) else None)

    def shut_down(self) -> None:
        """End the session at the next point where nothing is lost: now, or behind the message on its way in."""
        self._draining = True
        if self.phase is Phase.COMMAND and self._state is not State.CHUNKS:
            self._close(reply.SHUTTING_DOWN)

    # ------------------------------------------------------------------------------------------------------- input

    def _refuse_line(self, too_long: bool) -> None:
        """The line is no command; the next one begins behind its LF. A login that was under way ends with it."""
        if self._exchange is not None:
            self._exchange = None
            self._say(reply.RESPONSE_TOO_LONG if too_long else reply.AUTH_MALFORMED)
        else:
            self._say(reply.LINE_TOO_LONG if too_long else reply.BARE_LINE)

    def _refuse_storage(self) -> None:
        self._say(reply.STORAGE_UNAVAILABLE)

    def _overstep(self) -> None:
        self._close(reply.TOO_MANY_COMMANDS)

    def _fail(self) -> None:
        logger.exception("SMTP session failed")
        self._close(reply.SERVER_FAULT)

    def _misplaced(self, verb: bytes) -> None:
        """Refuse a command that is not in the row of this state, and say why."""
        if verb in _NOT_SMTP:
            self._close(reply.NOT_SMTP)
        elif verb in _GREETINGS:
            self._say(reply.WRONG_GREETING_LMTP if self._offer.lmtp else reply.WRONG_GREETING_SMTP)
        elif verb not in self._table[State.RCPT] and verb not in self._table[State.READY]:
            self._say(reply.UNKNOWN_COMMAND)
        else:
            self._say(self._what_is_missing(verb))

    def _what_is_missing(self, verb: bytes) -> Reply:
        if self._state is State.START:
            return reply.HELO_FIRST
        if self._state is State.READY:
            return reply.MAIL_FIRST
        if self._state is State.MAIL and verb == b"DATA":
            return reply.NO_RECIPIENTS if self._recipient_tried else reply.RECIPIENT_FIRST
        return reply.OUT_OF_PLACE

    # ------------------------------------------------------------------------------------------------------ output

    def _say(self, answer: Reply) -> None:
        """Send a reply that refuses; close when it makes one protocol error too many."""
        self._output.append(answer.wire)
        if answer.code in _PROTOCOL_ERRORS:
            self._errors += 1
            if self._errors >= self._limits.errors_max:
                self._close(reply.TOO_MANY_ERRORS)

    # ---------------------------------------------------------------------------------- greetings and small commands

    def _ehlo(self, argument: bytes) -> Reply:
        refusal = self._greet(argument, extended=True)
        if refusal is not None:
            return refusal
        starttls = self._offer.starttls and not self.session.tls
        return self._offer.ehlo(starttls=starttls, auth=self._may_log_in())

    def _helo(self, argument: bytes) -> Reply:
        return self._greet(argument, extended=False) or self._offer.helo

    def _greet(self, argument: bytes, *, extended: bool) -> Reply | None:
        """Learn the peer's name. EHLO drops the transaction that was open (RFC 5321 4.1.4)."""
        name = parser.parse_helo(argument)
        if isinstance(name, Reply):
            return name
        self.session.helo, self.session.extended = name, extended
        self._reset(State.READY)
        return None

    def _rset(self, argument: bytes) -> Reply:
        if argument:
            return reply.ARGUMENT_UNEXPECTED
        self._reset(self._state)
        return reply.OK

    def _noop(self, _argument: bytes) -> Reply:
        return reply.OK

    def _help(self, _argument: bytes) -> Reply:
        return reply.HELP_LMTP if self._offer.lmtp else reply.HELP

    def _vrfy(self, argument: bytes) -> Reply:
        return reply.CANNOT_VERIFY if argument else reply.ARGUMENT_MISSING

    def _not_implemented(self, _argument: bytes) -> Reply:
        return reply.NOT_IMPLEMENTED

    def _quit(self, argument: bytes) -> Reply | None:
        if argument:
            return reply.ARGUMENT_UNEXPECTED
        self._close(reply.BYE)
        return None

    # --------------------------------------------------------------------------------------------- TLS and login

    def _starttls(self, argument: bytes) -> Reply:
        """Source: RFC 3207 4. What came in the same breath is thrown away: it was not encrypted."""
        if argument:
            return reply.ARGUMENT_UNEXPECTED
        if self.session.tls:
            return reply.TLS_ALREADY
        if not self._offer.starttls:
            return reply.NOT_IMPLEMENTED
        self.phase = Phase.TLS
        self._position = len(self._input)
        return reply.READY_FOR_TLS

    def _may_log_in(self) -> bool:
        return not self._offer.lmtp and (self.session.tls or self.session.local)

    def _auth(self, argument: bytes) -> Reply | None:
        """Source: RFC 4954 4."""
        if self.session.user is not None:
            return reply.AUTH_ALREADY
        if not self._may_log_in():
            return reply.TLS_NEEDED
        mechanism, _, initial = argument.partition(b" ")
        if not mechanism:
            return reply.ARGUMENT_MISSING
        exchange = auth.start_exchange(mechanism)
        if exchange is None:
            return reply.MECHANISM_UNKNOWN
        self._exchange = exchange
        if not initial:
            return Reply(334, "", exchange.challenge())
        self._take_response(initial.lstrip(b" \t"), exchange)
        return None

    def _take_response(self, line: bytes, exchange: Exchange) -> None:
        """Take one response of a login; ``*`` cancels."""
        if line == b"*":
            self._exchange = None
            self._say(reply.AUTH_CANCELLED)
            return
        try:
            credentials = exchange.respond(auth.decode_response(line))
        except auth.Malformed:
            self._exchange = None
            self._say(reply.AUTH_MALFORMED)
            return
        if credentials is None:
            self._say(Reply(334, "", exchange.challenge()))
        else:
            self._log_in(credentials)

    def _log_in(self, credentials: Credentials) -> None:
        self._exchange = None
        self._ticket += 1
        self.phase = Phase.RECEIVER
        done = partial(self._on_login, self._ticket)
        self._receiver.authenticate(self.session, credentials.user, credentials.password, done)

    def _on_login(self, ticket: int, result: str | Reply | None) -> None:
        """The receiver's answer to a login."""
        if ticket != self._ticket or self.phase is not Phase.RECEIVER:
            return
        self._ticket += 1
        self.phase = Phase.COMMAND
        if isinstance(result, str):
            self.session.user = result
            self._say(reply.AUTHENTICATED)
        else:
            self._say(result or reply.LOGIN_REFUSED)
            self._login_failures += 1
            if self._login_failures >= self._limits.login_failures_max:
                self._close(reply.TOO_MANY_ERRORS)
        if self._draining:
            self._close(reply.SHUTTING_DOWN)
        self._resume()

    # ------------------------------------------------------------------------------------------------- transactions

    def _mail(self, argument: bytes) -> Reply:
        request = parser.parse_mail(argument)
        if isinstance(request, Reply):
            return request
        if request.size is not None and request.size > self._limits.message_bytes_max:
            return reply.MESSAGE_TOO_LARGE
        refusal = self._receiver.check_sender(self.session, request.sender, request.size)
        if refusal is not None:
            return refusal
        self._request = request
        self.session.sender = request.sender
        return reply.SENDER_OK

    def _rcpt(self, argument: bytes) -> Reply | None:
        self._recipient_tried = True
        session = self.session
        if len(session.recipients) >= self._limits.recipients_max:
            return reply.TOO_MANY_RECIPIENTS
        address = parser.parse_rcpt(argument, self._request.smtputf8, self._offer.lmtp)
        if isinstance(address, Reply):
            return address
        refusal = self._receiver.check_recipient(session, address)
        if refusal is None:
            session.recipients.append(address)
            return reply.RECIPIENT_OK
        self._rejections += refusal.code >= 500
        if self._rejections < self._limits.rejections_max:
            return refusal
        self._say(refusal)
        self._close(reply.TOO_MANY_ERRORS)
        return None

    def _data(self, argument: bytes) -> Reply:
        if argument:
            return reply.ARGUMENT_UNEXPECTED
        self._begin_data(self._receiver.begin(self.session))
        return reply.START_DATA

    def _bdat(self, argument: bytes) -> None:
        """Begin to take a chunk, wanted or not: its octets must not be read as commands (RFC 3030 2)."""
        request = parser.parse_chunk(argument)
        if request is None:
            self._close(reply.CHUNK_MALFORMED)
            return
        refusal = None
        if self._state is State.RCPT:
            self._transfer = self._begin_chunks()
            self._state = State.CHUNKS
        elif self._state is not State.CHUNKS:
            refusal = self._what_is_missing(b"DATA")
        taken = self._transfer.size if self._transfer is not None else 0
        if taken + request.size > self._limits.message_bytes_max + self._limits.discard_bytes_max:
            self._close(reply.MESSAGE_TOO_LARGE)
            return
        self._chunk = _Chunk(request.size, request.last, refusal)
        self.phase = Phase.CONTENT
        if not request.size:
            self._end_chunk(self._chunk)

    def _begin_chunks(self) -> Transfer:
        try:
            return Transfer(self._receiver.begin(self.session), self._limits)
        except StorageError:
            return Transfer(None, self._limits)

    def _give_up_message(self) -> None:
        self._close(reply.MESSAGE_TOO_LARGE)

    def _take_chunk(self, chunk: _Chunk) -> None:
        piece = self._input[self._position : self._position + chunk.left]
        chunk.left -= len(piece)
        self._position += len(piece)
        if chunk.refusal is None and self._transfer is not None:
            self._transfer.write(piece)
        if not chunk.left:
            self._end_chunk(chunk)

    def _end_chunk(self, chunk: _Chunk) -> None:
        """All octets of a chunk are there. Out of place it is no protocol error: a pipelining client cannot know."""
        self._chunk = None
        self.phase = Phase.COMMAND
        transfer = self._transfer
        if chunk.refusal is not None or transfer is None:
            self._output.append((chunk.refusal or reply.OUT_OF_PLACE).wire)
        elif chunk.last:
            self._end_message(transfer)
        elif (fault := transfer.fault()) is not None:
            self._reset(State.READY)
            self._output.append(_FAULTS[fault].wire)
        else:
            self._output.append(reply.CHUNK_OK.wire)

    def _end_message(self, transfer: Transfer) -> None:
        """The message is complete: hand it over, or refuse it."""
        fault = transfer.fault()
        if fault is not None:
            self._finish([_FAULTS[fault]])
            return
        session, request = self.session, self._request
        envelope = Envelope(
            session, request.sender, tuple(session.recipients), transfer.size, request.body, request.smtputf8
        )
        self._ticket += 1
        self.phase = Phase.RECEIVER
        done = partial(self._on_delivery, self._ticket)
        try:
            self._receiver.deliver(envelope, transfer.release(), done)
        except StorageError:
            done([reply.STORAGE_UNAVAILABLE])

    def _on_delivery(self, ticket: int, replies: list[Reply]) -> None:
        """The receiver's answer to a delivery."""
        if ticket != self._ticket or self.phase is not Phase.RECEIVER:
            return
        self._finish(replies)
        self._resume()

    def _finish(self, replies: list[Reply]) -> None:
        """Answer for the whole transaction: once, or over LMTP once for each recipient (RFC 2033 4.2)."""
        expected = len(self.session.recipients) if self._offer.lmtp else 1
        if len(replies) != expected:
            if len(replies) != 1:
                logger.error("delivery gave %d replies for %d recipients", len(replies), expected)
                replies = [reply.DELIVERY_FAULT]
            replies = replies * expected
        self._reset(State.READY)
        self._steps_before = self.steps
        for answer in replies:
            self._output.append(answer.wire)
        if self._draining:
            self._close(reply.SHUTTING_DOWN)


@dataclass(slots=True)
class _Chunk:
    """A chunk being taken: octets to come, whether the message ends with it, why it is thrown away."""

    left: int
    last: bool
    refusal: Reply | None


class _Step(NamedTuple):
    """One entry of the transition table."""

    handler: Callable[[Engine, bytes], Reply | None]
    target: State


def _table(greetings: dict[bytes, _Step], login: _Step) -> dict[State, dict[bytes, _Step]]:
    """Build the transitions of one protocol. A command that is not in a row is refused with 503, or 500 if in none."""
    rows: dict[State, dict[bytes, _Step]] = {}
    for state in State:
        anywhere = {
            b"NOOP": _Step(Engine._noop, state),
            b"HELP": _Step(Engine._help, state),
            b"VRFY": _Step(Engine._vrfy, state),
            b"EXPN": _Step(Engine._not_implemented, state),
            b"QUIT": _Step(Engine._quit, state),
            b"RSET": _Step(Engine._rset, State.START if state is State.START else State.READY),
            b"BDAT": _Step(Engine._bdat, state),
        }
        rows[state] = {**greetings, **anywhere}
    rows[State.READY] |= {
        b"MAIL": _Step(Engine._mail, State.MAIL),
        b"AUTH": login,
        b"STARTTLS": _Step(Engine._starttls, State.READY),
    }
    rows[State.MAIL] |= {b"RCPT": _Step(Engine._rcpt, State.RCPT)}
    rows[State.RCPT] |= {
        b"RCPT": _Step(Engine._rcpt, State.RCPT),
        b"DATA": _Step(Engine._data, State.RCPT),
    }
    return rows


_EHLO = _Step(Engine._ehlo, State.READY)
_HELO = _Step(Engine._helo, State.READY)
_SMTP_STEPS = _table({b"EHLO": _EHLO, b"HELO": _HELO}, _Step(Engine._auth, State.READY))
_LMTP_STEPS = _table({b"LHLO": _EHLO}, _Step(Engine._not_implemented, State.READY))
_NO_REQUEST = parser.MailRequest(None)
