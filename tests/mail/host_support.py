"""Host interfaces bound by hand, and called as a guest's imports would be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from spinrt._core import Call, DeliveryContext, LentMessage
from spinrt.mail.host.context import RecipientContext
from spinrt.runtime.capability import Closure, Grant, HostInterface
from spinrt.runtime.domain import Domain


class _Named:
    """As much of a domain as binding looks at."""

    name = "guest"


def bind(interface: HostInterface, function: str, attenuations: Mapping[str, Any] | None = None) -> Closure:
    """The closure that serves a function under a grant with these attenuations."""
    grant = Grant(interface.interface_id, (), attenuations or {}, "policy.guest")
    interface.check(grant)
    return interface.bind(function, grant, cast(Domain, _Named()))


def lent(data: bytes) -> LentMessage:
    return LentMessage(lambda offset, length: data[offset : offset + length], len(data))


def delivering(
    data: bytes = b"Subject: x\r\n\r\nbody\r\n", *, sender: str = "s@example.net", deciding: bool = True
) -> Call:
    """A call inside a delivery to alice, or with ``deciding`` false outside of her ``deliver`` event."""
    context = DeliveryContext("id-1", "smtp", sender, lent(data))
    if deciding:
        context.recipient = RecipientContext("alice@example.org", "alice", None)
    return Call("deliver", context)
