"""``spinrt:mail/message``: the message as a capability, read on demand and only while it is lent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from spinrt._core import Call
from spinrt.errors import CapabilityRevoked
from spinrt.mail.message.headers import FieldFinder, Headers, header_end, parse_headers
from spinrt.runtime.capability import Closure, Grant, HostInterface
from spinrt.runtime.domain import Domain

READ_BYTES_MAX: Final = 65_536
"""Bytes that one ``read`` gives at most."""
HEADER_CHUNK_BYTES: Final = 16 * 1024
HEADER_BYTES_MAX: Final = 4 * 1024 * 1024
"""A header section is looked for this far; beyond it the message counts as one without a body."""

Read = Callable[[int, int], bytes]
"""``read(offset, length)``: at most that many bytes of the message, fewer at its end."""


class LentMessage:
    """A message that extensions may read until `take_back`. Passed to guests as the resource ``message``.

    The header section is read once, when the first field is asked for.

    Args:
        read: Where the bytes come from.
        size: Bytes of the message.
    """

    __slots__ = ("_finder", "_headers", "_read", "_section", "lent", "size")

    def __init__(self, read: Read, size: int) -> None:
        self._read = read
        self._section: bytes | None = None
        self._headers: Headers | None = None
        self._finder: FieldFinder | None = None
        self.size = size
        self.lent = True

    def take_back(self) -> None:
        """End the loan: whoever still holds the message can do nothing with it."""
        self.lent = False
        self._section = self._headers = self._finder = None

    @property
    def section(self) -> bytes:
        """The header section, with the empty line at its end."""
        if self._section is None:
            self._section = self._read_section()
        return self._section

    @property
    def headers(self) -> Headers:
        """The fields with their places."""
        if self._headers is None:
            self._headers = parse_headers(self.section)
        return self._headers

    @property
    def finder(self) -> FieldFinder:
        """The fields by name."""
        if self._finder is None:
            self._finder = FieldFinder(self.section)
        return self._finder

    def read(self, offset: int, length: int) -> bytes:
        """At most ``length`` bytes from ``offset``."""
        return self._read(offset, length) if offset < self.size else b""

    def _read_section(self) -> bytes:
        length = HEADER_CHUNK_BYTES
        while True:
            data = self._read(0, min(length, self.size))
            end = header_end(data)
            if end >= 0:
                return data[:end]
            if len(data) >= self.size or length >= HEADER_BYTES_MAX:
                return data
            length *= 4


class MessageInterface(HostInterface):
    """``spinrt:mail/message``. Takes no attenuations; ``functions`` narrows it (headers without the body, say)."""

    interface_id = "spinrt:mail/message@1.0.0"

    def bind(self, function: str, grant: Grant, domain: Domain) -> Closure:
        return _CLOSURES[function]


def _size(call: Call | None, message: LentMessage) -> int:
    _check_lent(message)
    return message.size


def _body_offset(call: Call | None, message: LentMessage) -> int:
    _check_lent(message)
    return message.headers.body_offset


def _header_count(call: Call | None, message: LentMessage) -> int:
    _check_lent(message)
    return message.headers.count


def _header_name(call: Call | None, message: LentMessage, position: int) -> str | None:
    _check_lent(message)
    headers = message.headers
    return headers.name(position) if position < headers.count else None


def _header(call: Call | None, message: LentMessage, name: str, nth: int) -> bytes | None:
    _check_lent(message)
    return message.finder.value(name, nth)


def _read(call: Call | None, message: LentMessage, offset: int, length: int) -> bytes:
    _check_lent(message)
    return message.read(offset, min(length, READ_BYTES_MAX))


def _check_lent(message: LentMessage) -> None:
    if not message.lent:
        raise CapabilityRevoked("message: found a read after its transaction ended, expected it before")


_CLOSURES: Final[dict[str, Closure]] = {
    "[method]message.size": _size,
    "[method]message.body-offset": _body_offset,
    "[method]message.header-count": _header_count,
    "[method]message.header-name": _header_name,
    "[method]message.header": _header,
    "[method]message.read": _read,
}
