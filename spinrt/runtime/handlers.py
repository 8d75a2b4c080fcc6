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


def replacing(
    events: Mapping[str, Event], old: Domain, new: Domain, orders: Mapping[str, int] | None = None
) -> list[Swap]:
    """Return the swaps that put the handlers of one version of an extension in the place of another's.

    A handler takes the place of the one of the same export, else of the next one on the same event. It has what its
    own manifest says, but for what others decided: the guards that they imposed, and an order or a place that is not
    that of the old manifest. What the program itself installed of the old version is installed of the new one.

    Args:
        events: All of them, by name.
        old: Whose handlers are installed.
        new: Whose handlers take their places; initialised.
        orders: As for `install_handlers`.
    """
    swaps: list[Swap] = []
    for name, event in events.items():
        left = [binding for binding in event.bindings if binding.domain is old]
        wanted = [handler for handler in new.extension.manifest.handlers if handler.event == name]
        for handler in sorted(wanted, key=lambda one: all(one.export_name != binding.export for binding in left)):
            found = _counterpart(handler, left, old)
            source = DomainExport(new, handler.export_name)
            swaps.append(Swap(event, found, source, _carried_options(handler, new, found, old, orders or {})))
            if found is not None:
                left.remove(found)
        swaps += [Swap(event, one, _foreign_source(one, old, new), _moved_options(one, old, new)) for one in left]
    return swaps


def _counterpart(handler: Handler, left: list[Binding], old: Domain) -> Binding | None:
    own = [binding for binding in left if binding.by is old]
    same = (binding for binding in own if binding.export == handler.export_name)
    return next(same, own[0] if own else None)


def _carried_options(
    handler: Handler, new: Domain, found: Binding | None, old: Domain, orders: Mapping[str, int]
) -> Options:
    options = handler_options(handler, new, orders.get(handler.event, handler.order))
    if found is None or handler.event in orders:
        return options
    was = next(
        (
            one
            for one in old.extension.manifest.handlers
            if (one.event, one.export_name) == (handler.event, found.export)
        ),
        None,
    )
    if was is None or found.order != was.order:
        options = options._replace(order=found.order)
    if was is None or found.places != _places(was):
        options = options._replace(places=found.places)
    return options


def _foreign_source(binding: Binding, old: Domain, new: Domain) -> DomainExport | None:
    """What stands for a binding that no handler of the new manifest does: nothing, if the old manifest asked for it."""
    if binding.by is old:
        return None
    assert binding.export is not None
    return DomainExport(new, binding.export)


def _moved_options(binding: Binding, old: Domain, new: Domain) -> Options:
    guards = tuple(
        DomainExport(new, guard.name) if isinstance(guard, DomainExport) and guard.domain is old else guard
        for guard in binding.options.guards
    )
    return binding.options._replace(guards=guards)


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
