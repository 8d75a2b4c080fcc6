"""What host functions find in ``call.context`` while a delivery is handled."""

from __future__ import annotations

from spinrt._core import Call, DeliveryContext


class RecipientContext:
    """The recipient whose ``deliver`` event is being handled.

    Attributes:
        address: Forward path as the peer gave it.
        user: Account that it belongs to.
        detail: What stood behind the plus sign, or none.
    """

    __slots__ = ("address", "detail", "user")

    def __init__(self, address: str, user: str, detail: str | None) -> None:
        self.address, self.user, self.detail = address, user, detail


def current_delivery(call: Call | None) -> DeliveryContext | None:
    """The transaction that a call belongs to, or none."""
    context = call.context if call is not None else None
    return context if type(context) is DeliveryContext else None


def current_recipient(call: Call | None) -> RecipientContext | None:
    """The recipient whose delivery a call decides, or none."""
    delivery = current_delivery(call)
    return None if delivery is None else delivery.recipient
