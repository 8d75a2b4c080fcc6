"""``spinrt:mail/message``: the message as a capability, read on demand and only while it is lent."""

from __future__ import annotations

from typing import Final

from spinrt._core import BodyOffsetFunction, Call, HeaderFunction, LentMessage, ReadFunction, SizeFunction
from spinrt.errors import CapabilityRevoked
from spinrt.runtime.capability import Closure, Grant, HostInterface
from spinrt.runtime.domain import Domain

_RESOURCE: Final = "spinrt:mail/message@1.0.0#message"
_METHODS: Final = ("size", "body-offset", "header-count", "header-name", "header", "read")
READ_BYTES_MAX: Final = 65_536
"""Bytes that one ``read`` gives at most."""


class MessageInterface(HostInterface):
    """``spinrt:mail/message``. Takes no attenuations; ``functions`` narrows it (headers without the body, say)."""

    interface_id = "spinrt:mail/message@1.0.0"
    pure = tuple(f"[method]message.{name}" for name in _METHODS)

    def bind(self, function: str, grant: Grant, domain: Domain) -> Closure:
        return _CLOSURES[function]


def _size(call: Call | None, message: LentMessage) -> int:
    _check_lent(message)
    return message.size


def _body_offset(call: Call | None, message: LentMessage) -> int:
    _check_lent(message)
    return len(message.section)


def _header_count(call: Call | None, message: LentMessage) -> int:
    _check_lent(message)
    return message.header_count()


def _header_name(call: Call | None, message: LentMessage, position: int) -> str | None:
    _check_lent(message)
    return message.header_name(position)


def _header(call: Call | None, message: LentMessage, name: str, nth: int) -> bytes | None:
    _check_lent(message)
    return message.header(name, nth)


def _read(call: Call | None, message: LentMessage, offset: int, length: int) -> bytes:
    _check_lent(message)
    return message.read(offset, min(length, READ_BYTES_MAX))


def _check_lent(message: LentMessage) -> None:
    if not message.lent:
        raise CapabilityRevoked("message: found a read after its transaction ended, expected it before")


_CLOSURES: Final[dict[str, Closure]] = {
    "[method]message.size": SizeFunction(_RESOURCE, _size),
    "[method]message.body-offset": BodyOffsetFunction(_RESOURCE, _body_offset),
    "[method]message.header-count": _header_count,
    "[method]message.header-name": _header_name,
    "[method]message.header": HeaderFunction(_RESOURCE, _header),
    "[method]message.read": ReadFunction(_RESOURCE, READ_BYTES_MAX, _read),
}
