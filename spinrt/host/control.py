"""``spinrt:extension/control``: what a handler can say about the raise that it runs in."""

from __future__ import annotations

from spinrt._core import Call, ControlFunction
from spinrt.runtime.capability import Closure, Grant, HostInterface
from spinrt.runtime.domain import Domain


class ControlInterface(HostInterface):
    """``spinrt:extension/control``, served by the core. ``cancel`` does nothing outside of a raise."""

    interface_id = "spinrt:extension/control@1.0.0"
    pure = ("host-calls-left",)

    def bind(self, function: str, grant: Grant, domain: Domain) -> Closure:
        return ControlFunction(function, _cancel if function == "cancel" else _nothing_left)


def _cancel(call: Call | None) -> None:
    if call is not None:
        call.cancel()


def _nothing_left(call: Call | None) -> int:
    """Never asked: the core knows the number wherever a guest can call."""
    return 0
