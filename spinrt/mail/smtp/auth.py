"""Password mechanisms of SASL without I/O: PLAIN (RFC 4616), and LOGIN (never a standard, in wide use)."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Protocol

MECHANISMS = ("PLAIN", "LOGIN")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the peer claims."""

    user: str
    password: str = field(repr=False)


class Malformed(Exception):
    """The response is not what the mechanism asks. Never leaves this package."""


class Exchange(Protocol):
    """One run of a mechanism."""

    def challenge(self) -> str:
        """Text behind 334: base64, perhaps empty."""
        ...

    def respond(self, response: str) -> Credentials | None:
        """Take the client's response, already decoded; none when another challenge is due. Raises `Malformed`."""
        ...


class PlainExchange:
    """``[authorisation id] NUL user NUL password`` in one response. Acting for another account is refused."""

    __slots__ = ()

    def challenge(self) -> str:
        return ""

    def respond(self, response: str) -> Credentials | None:
        parts = response.split("\0")
        if len(parts) != 3 or not parts[1]:
            raise Malformed
        acting_for, user, password = parts
        if acting_for not in ("", user):
            raise Malformed
        return Credentials(user, password)


class LoginExchange:
    """User name, then password, each asked for."""

    __slots__ = ("_user",)

    def __init__(self) -> None:
        self._user: str | None = None

    def challenge(self) -> str:
        question = b"Username:" if self._user is None else b"Password:"
        return base64.b64encode(question).decode("ascii")

    def respond(self, response: str) -> Credentials | None:
        if self._user is not None:
            return Credentials(self._user, response)
        if not response:
            raise Malformed
        self._user = response
        return None


def start_exchange(mechanism: bytes) -> Exchange | None:
    """Begin an exchange; none when the mechanism is not known."""
    name = mechanism.upper()
    if name == b"PLAIN":
        return PlainExchange()
    return LoginExchange() if name == b"LOGIN" else None


def decode_response(response: bytes) -> str:
    """Decode one base64 response (a lone ``=`` is the empty one, RFC 4954 4). Raises `Malformed`."""
    if response == b"=":
        return ""
    try:
        return base64.b64decode(response, validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise Malformed from error
