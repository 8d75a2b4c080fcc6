"""Guards as people give them, and what the dispatcher sees of them.

A guard is a condition on a field (`spinrt.sandbox.condition`), an export of a domain that takes the event's parameters
and returns a bool, or a Python callable ``guard(call, *arguments)``; `Check` gives the last two a closure.

A guard changes nothing: effects that it leaves are dropped. An export that could change what cannot be put back is
refused.

Source: docs/design/dispatch.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from spinrt.errors import UsageError
from spinrt.runtime.binding import DomainExport, Resolved, resolve
from spinrt.runtime.domain import Domain, DomainState
from spinrt.runtime.entry import NO_CLOSURE, CallGuard, EntryGuard, EqualGuard, PrefixGuard, RangeGuard
from spinrt.runtime.signature import check_resolved
from spinrt.sandbox.condition import Condition, Equal, Prefix, Range, find_field
from spinrt.sandbox.handler_type import guard_type
from spinrt.sandbox.types import Function


@dataclass(frozen=True, slots=True)
class Check:
    """A guard that runs code, with a closure passed in front of the arguments."""

    handler: DomainExport | Callable[..., Any]
    closure: Any = NO_CLOSURE


Guard: TypeAlias = Condition | Check | DomainExport | Callable[..., Any]


def compile_guard(guard: Guard, event: str, function: Function) -> EntryGuard:
    """Return what the dispatcher evaluates.

    Args:
        guard: As given.
        event: Name of the event, for messages.
        function: Its type.

    Raises:
        UsageError: It names no field, compares it with what it cannot be, or takes other arguments.
            An export may do what cannot be taken back, or calls what is not pure.
        SignatureMismatch: An export that is no guard of this event.
    """
    if isinstance(guard, Equal | Range | Prefix):
        path = find_field(guard, function)
        if isinstance(guard, Equal):
            return EqualGuard(path, guard.value)
        if isinstance(guard, Range):
            return RangeGuard(path, guard.low, guard.high)
        return PrefixGuard(path, guard.prefix)
    check = guard if isinstance(guard, Check) else Check(guard)
    what = f"event {event}, guard"
    resolved = resolve(check.handler, event, what=what)
    check_resolved(resolved, function, guard_type, closure=check.closure, what=what)
    _check_changes_nothing(resolved, what)
    return CallGuard(resolved.handler, resolved.domain, check.closure)


def _check_changes_nothing(resolved: Resolved, what: str) -> None:
    """Refuse an export that may change what cannot be taken back, or call what is not pure."""
    domain = resolved.domain
    if domain is None:
        return
    assert resolved.export is not None
    exported = domain.extension.exports[resolved.export]
    if exported.obstacle:
        raise UsageError(f"{what}: {resolved}: {exported.obstacle}, expected nothing that cannot be taken back")
    if exported.changes and not domain.limits.undo_bytes:
        raise UsageError(
            f"{what}: {resolved}: it may change its extension, which has no undo log, expected one to take that back",
            hint="give it limits.undo_bytes, or write a guard that changes nothing",
        )
    for interface_id, name in sorted(exported.reached):
        if not domain.is_pure_import(interface_id, name):
            raise UsageError(f"{what}: {resolved}: found a call of {interface_id}#{name}, expected pure functions only")


def guard_domain(guard: Guard) -> Domain | None:
    """Return the domain whose export a guard is; none for others."""
    source = guard.handler if isinstance(guard, Check) else guard
    return source.domain if isinstance(source, DomainExport) else None


def is_gone(guard: Guard) -> bool:
    """Tell whether a guard is the export of a domain that was destroyed."""
    domain = guard_domain(guard)
    return domain is not None and domain.state is DomainState.DESTROYED


def _never(call: object, *arguments: object) -> bool:
    return False


CLOSED = CallGuard(_never, None)
"""Stands where the guard of an unloaded domain stood: what nobody can check any more does not pass."""
