"""From the handlers of a manifest to bindings on events: all of them, or none."""

from __future__ import annotations

from collections.abc import Mapping

from spinrt.errors import UsageError
from spinrt.runtime.binding import ASYNC, SYNC, Binding, DomainExport, Ephemeral, Mode, Options
from spinrt.runtime.domain import Domain
from spinrt.runtime.entry import NO_CLOSURE
from spinrt.runtime.event import Event
from spinrt.runtime.guard import Guard
from spinrt.runtime.order import FIRST, LAST, After, Before, Place
from spinrt.runtime.swap import Swap, swap
from spinrt.sandbox.loader import Extension
from spinrt.sandbox.manifest_handler import Handler


def check_events(events: Mapping[str, Event], extension: Extension) -> None:
    """Refuse an extension that handles an event which nobody defines.

    Raises:
        UsageError: It does.
    """
    for handler in extension.manifest.handlers:
        if handler.event not in events:
            raise UsageError(
                f"extension {extension.name}: it handles {handler.event}, which nobody defines here",
                hint=f"defined: {', '.join(events) or 'nothing'}",
            )


def install_handlers(
    events: Mapping[str, Event], domain: Domain, orders: Mapping[str, int] | None = None
) -> list[Binding]:
    """Install what a domain's manifest says, in the domain's own name, and return the bindings in the manifest's order.

    Args:
        events: Those that are defined, by name.
        domain: The domain.
        orders: Event name → order, instead of the manifest's.

    Raises:
        UsageError: Nobody defines an event, or a place makes no sense.
        LinkDenied: An event's authorizer refuses.
    """
    check_events(events, domain.extension)
    swaps = []
    for handler in domain.extension.manifest.handlers:
        order = (orders or {}).get(handler.event, handler.order)
        options = handler_options(handler, domain, order)
        swaps.append(Swap(events[handler.event], None, DomainExport(domain, handler.export_name), options))
    return [binding for binding in swap(swaps, by=domain) if binding is not None]


def handler_options(handler: Handler, domain: Domain, order: int) -> Options:
    """How one handler of a manifest is installed."""
    guards: list[Guard] = list(handler.when)
    if handler.guard:
        guards.append(DomainExport(domain, handler.guard))
    closure = NO_CLOSURE if handler.closure is None else handler.closure
    return Options(order, _places(handler), tuple(guards), closure, handler.filters, handler.cancels, _mode(handler))


def _places(handler: Handler) -> tuple[Place, ...]:
    places: list[Place] = []
    if handler.place:
        places.append(FIRST if handler.place == "first" else LAST)
    if handler.before:
        places.append(Before(handler.before))
    if handler.after:
        places.append(After(handler.after))
    return tuple(places)


def _mode(handler: Handler) -> Mode | Ephemeral:
    if handler.mode == "ephemeral":
        return Ephemeral(handler.quantum_ms)
    return ASYNC if handler.mode == "async" else SYNC
