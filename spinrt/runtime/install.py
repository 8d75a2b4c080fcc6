"""From a handler and its options to a binding that the dispatcher can run. Everything that can be wrong with it shows
here.

Nothing here changes an event.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from spinrt._core import Call
from spinrt.errors import UsageError
from spinrt.runtime.authority import Principal
from spinrt.runtime.binding import (
    ASYNC,
    SYNC,
    Binding,
    Ephemeral,
    HandlerSource,
    Imposed,
    Mode,
    Options,
    Resolved,
    resolve,
)
from spinrt.runtime.deferred import DeferredHandler
from spinrt.runtime.entry import EFFECTS_MAX_HOST, CallGuard, Enqueue, Entry, EntryGuard, Handler
from spinrt.runtime.guard import CLOSED, Guard, compile_guard, is_gone
from spinrt.runtime.order import After, Before, Edge, Place
from spinrt.runtime.signature import check_resolved, checked_filter, checked_handler
from spinrt.sandbox.handler_type import handler_type
from spinrt.sandbox.manifest_handler import QUANTUM_MS_MAX

if TYPE_CHECKING:
    from spinrt.runtime.domain import Domain
    from spinrt.runtime.event import Event


def places(given: Place | Sequence[Place] | None) -> tuple[Place, ...]:
    """Return one place, several or none as a tuple."""
    if given is None:
        return ()
    if isinstance(given, Edge | Before | After | str):  # a text is none, and is refused whole
        return (given,)
    return tuple(given)


def make_binding(event: Event, source: HandlerSource, options: Options, *, by: Principal, sequence: int) -> Binding:
    """Check a handler and its options, and return its binding, not installed yet.

    Raises:
        UsageError, SignatureMismatch: What is wrong.
    """
    what = f"event {event.name}"
    resolved = resolve(source, event.name, what=what)
    _check_options(event, options, resolved)
    type_of = partial(handler_type, filters=True) if options.filters else handler_type
    check_resolved(resolved, event.function, type_of, closure=options.closure, what=what)
    binding = Binding(event, resolved, options, by=by, sequence=sequence)
    binding.entry, binding.later = _entries(binding, _compiled(event, options.guards))
    return binding


def equip(binding: Binding, imposed: tuple[Imposed, ...]) -> None:
    """Make the entry of a binding with these imposed guards.

    Raises:
        UsageError, SignatureMismatch: One is no guard of the event; the binding is as before.
    """
    guards = _compiled(binding.event, (*(one.guard for one in imposed), *binding.options.guards))
    entry, later = _entries(binding, guards)
    binding.imposed = imposed
    binding.replace_entry(entry, later)


def check_places(event: Event, given: tuple[Place, ...]) -> None:
    """Refuse what is no place, and both ends at once.

    Raises:
        UsageError: It is that.
    """
    if not given:
        return
    for place in given:
        if not isinstance(place, Edge | Before | After):
            raise UsageError(
                f"event {event.name}: found the place {place!r:.80}, expected FIRST, LAST, Before or After",
                hint=_place_meant(place),
            )
        if not isinstance(place, Edge) and not isinstance(place.other, str) and place.other.event is not event:
            raise UsageError(
                f"event {event.name}: found a place beside {place.other!r}, expected a binding of this event"
            )
    if len({place for place in given if isinstance(place, Edge)}) > 1:
        raise UsageError(f"event {event.name}: found both FIRST and LAST, expected one of them")


def _place_meant(place: object) -> str:
    if place in ("first", "last"):
        return f"use spinrt.{str(place).upper()}; a text is for manifests"
    return "use Before(...) or After(...) around it" if isinstance(place, str | Binding) else ""


def _check_options(event: Event, options: Options, resolved: Resolved) -> None:
    check_places(event, options.places)
    mistake = _mistake(event, options, resolved)
    if mistake:
        raise UsageError(f"event {event.name}: {resolved}: {mistake}")


def _mistake(event: Event, options: Options, resolved: Resolved) -> str:
    """What was found in the options and expected instead; empty when they make sense."""
    mode = options.mode
    if type(options.order) is not int:
        return f"found the order {options.order!r:.80}, expected an integer"
    if mode is SYNC:
        return ""
    if not isinstance(mode, Mode | Ephemeral):
        return f"found the mode {mode!r:.80}, expected SYNC, ASYNC or Ephemeral"
    if not isinstance(mode, Ephemeral):
        if not event.may_defer:
            return (
                "found it asynchronous, expected sync or ephemeral: what a raise of this event decides is done when "
                "it ends, so that what is promised later is lost"
            )
        if options.filters or options.cancels:
            return "found an asynchronous handler that filters or cancels, expected one that runs in the raise"
        return ""
    if resolved.domain is None:
        return "found it ephemeral, expected an extension's: nothing can end a handler in Python"
    if type(mode.quantum_ms) is not int or not 1 <= mode.quantum_ms <= QUANTUM_MS_MAX:
        return f"found a quantum of {mode.quantum_ms!r:.80} ms, expected an integer from 1 to {QUANTUM_MS_MAX}"
    return ""


def _compiled(event: Event, guards: Sequence[Guard]) -> tuple[EntryGuard, ...]:
    """What the dispatcher asks: conditions before code, since an index may answer them without asking anybody."""
    if not guards:
        return ()
    compiled = [CLOSED if is_gone(guard) else compile_guard(guard, event.name, event.function) for guard in guards]
    return tuple(sorted(compiled, key=lambda guard: isinstance(guard, CallGuard)))


def _entries(binding: Binding, guards: tuple[EntryGuard, ...]) -> tuple[Entry, Entry | None]:
    """What a raise walks, and what runs later if that only queues it."""
    options, domain, handler = binding.options, binding.domain, binding.handler
    effects_max = domain.limits.effects if domain else EFFECTS_MAX_HOST
    if domain is None:
        handler = _checked(binding.event, handler, filters=options.filters)
    entry = Entry(
        handler,
        domain,
        effects_max,
        closure=options.closure,
        guards=guards,
        filters=options.filters,
        cancels=options.cancels,
        enqueue=_enqueue(binding) if options.mode is ASYNC else None,
        quantum_ticks=_quantum_ticks(options.mode, domain),
        tally=domain.supervisor.tally if domain else None,
    )
    later = Entry(handler, domain, effects_max, closure=options.closure) if options.mode is ASYNC else None
    return entry, later


def _quantum_ticks(mode: Mode | Ephemeral, domain: Domain | None) -> int:
    """A quantum that is not shorter than the deadline is none: missing a deadline is a fault for everybody."""
    if not isinstance(mode, Ephemeral) or (domain is not None and mode.quantum_ms >= domain.limits.deadline_ms):
        return 0
    return mode.quantum_ticks


def _checked(event: Event, handler: Handler, *, filters: bool) -> Handler:
    """A handler in Python whose answer is checked, where there is one."""
    if filters:
        return checked_filter(handler, len(event.function.parameters), event.plan)
    return handler if event.function.result is None else checked_handler(handler, event.plan)


def _enqueue(binding: Binding) -> Enqueue:
    def enqueue(call: Call, entry: Entry, arguments: tuple[Any, ...]) -> None:
        binding.event.plan.check_arguments(arguments)  # nobody could be told later
        deferred = DeferredHandler(binding, arguments, call.context)
        binding.event.queue.promise(deferred)
        call.journal.append(deferred)

    return enqueue
