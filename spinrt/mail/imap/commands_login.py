"""Commands about the session itself: CAPABILITY, ID, ENABLE, STARTTLS, LOGIN, AUTHENTICATE, LOGOUT, NOOP, IDLE."""

from __future__ import annotations

import binascii

from spinrt import __version__
from spinrt.mail.imap.command import Authenticate, Enable, Identify, Login, NoArguments
from spinrt.mail.imap.response import string
from spinrt.mail.imap.session import Refused, Session, tell_updates
from spinrt.mail.imap.state import Phase

_BEFORE_LOGIN = "IMAP4rev1 LITERAL+ SASL-IR ID ENABLE"
_AFTER_LOGIN = (
    "IMAP4rev1 LITERAL+ ID ENABLE IDLE NAMESPACE UIDPLUS MOVE UNSELECT CHILDREN SPECIAL-USE CREATE-SPECIAL-USE "
    "CONDSTORE STATUS=SIZE"
)
_SASL_LINE_BYTES_MAX = 8192


def may_log_in(session: Session) -> bool:
    """Whether a password may be sent now: under TLS, or from loopback."""
    return session.encrypted or session.trusted_peer


def capabilities(session: Session) -> str:
    """What the client may use now, separated by spaces."""
    if session.state.phase is not Phase.GREETED:
        return _AFTER_LOGIN
    words = [_BEFORE_LOGIN]
    if session.services.can_start_tls and not session.encrypted:
        words.append("STARTTLS")
    words.append("AUTH=PLAIN" if may_log_in(session) else "LOGINDISABLED")
    return " ".join(words)


def capability(session: Session, _: NoArguments) -> bytes:
    session.write(b"* CAPABILITY " + capabilities(session).encode("ascii") + b"\r\n")
    return b"OK CAPABILITY completed"


def noop(_session: Session, _: NoArguments) -> bytes:
    return b"OK NOOP completed"


def identify(session: Session, arguments: Identify) -> bytes:
    """ID (RFC 2971)."""
    session.state.client = dict(arguments.fields)
    session.write(b'* ID ("name" "spinrt" "version" ' + string(__version__.encode("ascii")) + b")\r\n")
    return b"OK ID completed"


def enable(session: Session, arguments: Enable) -> bytes:
    """ENABLE (RFC 5161); CONDSTORE is the only one there is."""
    enabled = b""
    if "CONDSTORE" in arguments.capabilities:
        session.state.condstore = True
        enabled = b" CONDSTORE"
    session.write(b"* ENABLED" + enabled + b"\r\n")
    return b"OK ENABLE completed"


def logout(session: Session, _: NoArguments) -> bytes:
    session.write(b"* BYE logging out\r\n")
    session.state.phase = Phase.LOGOUT
    return b"OK LOGOUT completed"


def start_tls(session: Session, _: NoArguments) -> bytes:
    if session.encrypted:
        raise Refused("TLS is active already", status="BAD")
    if not session.services.can_start_tls:
        raise Refused("TLS is not configured", status="BAD")
    session.start_tls()
    return b"OK begin TLS negotiation now"


async def login(session: Session, arguments: Login) -> bytes:
    _check_privacy(session)
    return await _log_in(session, arguments.user, arguments.password)


async def authenticate(session: Session, arguments: Authenticate) -> bytes:
    """AUTHENTICATE PLAIN (RFC 4616), with an initial response or without."""
    if arguments.mechanism != "PLAIN":
        raise Refused("the only mechanism is PLAIN", code="CANNOT")
    _check_privacy(session)
    response = arguments.initial
    if response is None:
        session.write(b"+ \r\n")
        response = await session.read_line()
    if response == b"*":
        raise Refused("authentication was cancelled", status="BAD")
    user, password = _plain_response(response)
    return await _log_in(session, user, password)


async def idle(session: Session, _: NoArguments) -> bytes:
    """IDLE (RFC 2177): ends with a line DONE."""
    session.write(b"+ idling\r\n")
    tell_updates(session, expunge=True)
    session.idle(True)
    try:
        line = await session.read_line()
    finally:
        session.idle(False)
    if line.upper() != b"DONE":
        raise Refused("expected DONE", status="BAD")
    return b"OK IDLE completed"


def _check_privacy(session: Session) -> None:
    if not may_log_in(session):
        raise Refused("use TLS before sending a password", code="PRIVACYREQUIRED")


def _plain_response(line: bytes) -> tuple[bytes, bytes]:
    try:
        data = binascii.a2b_base64(line, strict_mode=True) if line not in (b"", b"=") else b""
    except binascii.Error:
        raise Refused("the response is not base64", status="BAD") from None
    pieces = data.split(b"\0")
    if len(line) > _SASL_LINE_BYTES_MAX or len(pieces) != 3:
        raise Refused("the response of PLAIN is identity NUL user NUL password", status="BAD")
    identity, user, password = pieces
    if identity not in (b"", user):
        raise Refused("acting for another user is not possible", code="AUTHORIZATIONFAILED")
    return user, password


async def _log_in(session: Session, user: bytes, password: bytes) -> bytes:
    """Check a password. The answer is the same for a wrong user and a wrong password."""
    try:
        account = await session.check_password(user.decode("utf-8"), password.decode("utf-8"))
    except UnicodeDecodeError:
        account = None
    if account is None:
        session.state.login_failures += 1
        raise Refused("wrong user name or password", code="AUTHENTICATIONFAILED")
    session.state.user = account
    session.state.phase = Phase.AUTHENTICATED
    return b"OK [CAPABILITY " + capabilities(session).encode("ascii") + b"] logged in"
