"""Who may change an event.

Every change of an event is a `Request`. The event's authorizer, if it has one, decides all of them; otherwise these
rules do: anybody may install, and uninstall, reorder, swap or guard what is theirs, and lift a guard that they
imposed; the event's owner may do all that with everybody's, and alone may set the intrinsic handler, the default and
the fold. An event without an owner belongs to everybody.

Source: docs/design/dispatch.md, "Authority"; Pardyak and Bershad (OSDI'96), section 2.5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias

from spinrt.errors import LinkDenied, UsageError
from spinrt.runtime.domain import Domain

if TYPE_CHECKING:
    from spinrt.runtime.binding import Binding, Imposed
    from spinrt.runtime.event import Event
    from spinrt.runtime.guard import Guard

Principal: TypeAlias = Domain | str | None
"""Who asks: a domain, a name, or nobody in particular. A domain is itself only: its name alone is somebody else."""


class Operation(Enum):
    INSTALL = "install"
    UNINSTALL = "uninstall"
    IMPOSE = "impose"
    LIFT = "lift"
    SWAP = "swap"
    REORDER = "reorder"
    DEFAULT = "default"
    FOLD = "fold"
    INTRINSIC = "intrinsic"


@dataclass(frozen=True, slots=True)
class Request:
    """One change that somebody wants.

    Attributes:
        operation: What.
        event: Of which event.
        by: Who asks.
        binding: Which binding it is about: the new one for install, the old one for the others; none for default and
            fold.
        guard: The guard to impose or to lift; none otherwise.
        imposed: The guard as it was imposed, when it is to be lifted.
    """

    operation: Operation
    event: Event
    by: Principal
    binding: Binding | None = None
    guard: Guard | None = None
    imposed: Imposed | None = None


Authorizer: TypeAlias = "Callable[[Request], str | Sequence[Guard] | None]"
"""Returns None (allowed), a text (refused, and why), or guards to impose on what is being installed or swapped in."""


def authorize(
    event: Event,
    operation: Operation,
    by: Principal,
    binding: Binding | None = None,
    guard: Guard | None = None,
    imposed: Imposed | None = None,
) -> tuple[Guard, ...]:
    """Ask whether a change is allowed, and return the guards to impose with it; the arguments are those of `Request`.

    Raises:
        LinkDenied: It is not.
        UsageError: The authorizer answered something else.
    """
    if event.authorizer is None:
        answer: Any = _refusal(event, operation, by, binding, imposed)
    else:
        answer = event.authorizer(Request(operation, event, by, binding, guard, imposed))
    if answer is None:
        return ()
    if isinstance(answer, str):
        raise LinkDenied(f"event {event.name}: {operation.value} by {principal_name(by)}: refused: {answer}")
    if isinstance(answer, list | tuple) and operation in (Operation.INSTALL, Operation.SWAP):
        return tuple(answer)
    raise UsageError(
        f"event {event.name}: its authorizer answered {answer!r:.80} to {operation.value}, "
        "expected None, a text, or (for install and swap) a list of guards"
    )


def principal_name(by: Principal) -> str:
    """What to call somebody in messages."""
    if by is None:
        return "nobody in particular"
    return by if isinstance(by, str) else f"domain {by.name}"


def same(one: Principal, other: Principal) -> bool:
    """Tell whether two are the same; a text never is a domain."""
    return one is other or (isinstance(one, str) and one == other)


def _refusal(
    event: Event, operation: Operation, by: Principal, binding: Binding | None, imposed: Imposed | None
) -> str | None:
    owner = event.owner
    if owner is None or same(owner, by) or operation is Operation.INSTALL:
        return None
    if operation is Operation.LIFT:
        allowed = imposed is not None and same(imposed.by, by)
    else:
        allowed = binding is not None and (same(binding.by, by) or (by is not None and binding.domain is by))
    if allowed:
        return None
    whose = "" if binding is None else f", and the binding is that of {principal_name(binding.by)}"
    return f"the event belongs to {principal_name(owner)}{whose}"
