"""Replacing many bindings of many events at once: all, or none.

Everything that can fail is done first: handlers are resolved and checked, orders are arranged, authorizers asked.
What is left cannot fail. A raise that begins before sees everything as it was, one that begins after sees everything
changed.

Source: docs/design/dispatch.md, "Events, for people".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spinrt.errors import UsageError
from spinrt.runtime.authority import Operation, Principal, authorize
from spinrt.runtime.binding import Binding, HandlerSource, Options
from spinrt.runtime.install import equip

if TYPE_CHECKING:
    from spinrt.runtime.event import Event


@dataclass(frozen=True, slots=True)
class Swap:
    """One change of several.

    Attributes:
        event: Of which event.
        old: The binding that goes; none: a handler is installed.
        handler: What comes in its place, with the guards that were imposed on it; none: nothing does.
        options: How; as the old one by default.
    """

    event: Event
    old: Binding | None
    handler: HandlerSource | None
    options: Options | None = None


def swap(swaps: Sequence[Swap], *, by: Principal = None) -> list[Binding | None]:
    """Make all changes or none, and return the new bindings, in the order of the swaps.

    Raises:
        StateError: A binding is not installed.
        UsageError, SignatureMismatch: A handler or a place is wrong, or a binding is swapped twice.
        LinkDenied: An authorizer refuses.
    """
    _check_once(swaps)
    made = [_made(one, by) for one in swaps]
    for one, new in zip(swaps, made, strict=True):
        _authorize(one, new, by)
    proposals = [(event, event.installed.propose(*_changes(event, swaps, made))) for event in _events(swaps)]
    for event, proposal in proposals:
        event.installed.accept(proposal)
        event.note_swapped(proposal.replaced)
    return made


def _check_once(swaps: Sequence[Swap]) -> None:
    seen: set[Binding] = set()
    for one in swaps:
        if one.old is None:
            continue
        if one.old in seen:
            raise UsageError(f"swap: found {one.old!r} twice, expected each binding once")
        if one.old.event is not one.event:
            raise UsageError(f"swap: found {one.old!r}, expected a binding of {one.event.name}")
        one.event.installed.check(one.old)
        seen.add(one.old)


def _made(one: Swap, by: Principal) -> Binding | None:
    """Make the new binding; it takes the place of the old one among equals, and what was imposed on that."""
    if one.handler is None:
        return None
    if one.old is None:
        return one.event.make(one.handler, one.options or Options(), by=by)
    old = one.old
    made = one.event.make(one.handler, one.options or old.options, by=by, sequence=old.sequence)
    equip(made, old.imposed)
    return made


def _authorize(one: Swap, made: Binding | None, by: Principal) -> None:
    if one.old is None:
        if made is not None:
            one.event.take_guards(made, authorize(one.event, Operation.INSTALL, by, made))
    elif made is None:
        authorize(one.event, Operation.UNINSTALL, by, one.old)
    else:
        one.event.take_guards(made, authorize(one.event, Operation.SWAP, by, one.old))


def _events(swaps: Sequence[Swap]) -> list[Event]:
    return list(dict.fromkeys(one.event for one in swaps))


def _changes(
    event: Event, swaps: Sequence[Swap], made: Sequence[Binding | None]
) -> tuple[list[Binding], list[Binding], dict[Binding, Binding]]:
    """What goes from one event, what comes, and what stands for what."""
    pairs = [(one.old, new) for one, new in zip(swaps, made, strict=True) if one.event is event]
    return (
        [old for old, _ in pairs if old is not None],
        [new for _, new in pairs if new is not None],
        {old: new for old, new in pairs if old is not None and new is not None},
    )
