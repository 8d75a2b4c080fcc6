"""What can be granted: host interfaces and grants that narrow them; resources with rights, granted while things run.

A *host interface* is an exporter in Python: it serves the functions of one WIT interface. Linking asks it to `bind`
one function for one domain under one grant; what it returns becomes that import and knows nothing but its grant.
After that no name is looked up and no policy is read. A *grant* only ever narrows: fewer functions, and the
attenuations that the interface understands.

A *capability* is a resource with rights: an object of the host's, and which methods of its WIT type may be called. It
is minted, attenuated, delegated and revoked; see `Capability` and docs/design/capabilities.md.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

from spinrt._core import Capability
from spinrt.errors import ConfigError, RevokedArgument, UsageError
from spinrt.sandbox.abi import METHOD, right_of
from spinrt.sandbox.types import Interface
from spinrt.sandbox.wit import Interfaces
from spinrt.sandbox.wit_resolve import near

if TYPE_CHECKING:
    from spinrt.runtime.domain import Domain

Closure: TypeAlias = Callable[..., Any]
"""An import at work: called as ``closure(call, *arguments)`` with the running `Call`, or none outside of one."""


class Effect(Protocol):
    """A change that a host function promises instead of making; `apply` makes it and cannot fail."""

    def apply(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Grant:
    """What the policy gives of one interface; ``functions`` empty means all, ``attenuations`` are the interface's."""

    interface: str
    functions: tuple[str, ...] = ()
    attenuations: Mapping[str, Any] = field(default_factory=dict)
    where: str = "grant"
    """Where the operator wrote it, for messages."""

    def covers(self, function: str) -> bool:
        """Tell whether the grant gives that function; dropping a handle is always allowed."""
        return not self.functions or function in self.functions or function.startswith("[resource-drop]")

    def refuse(self, key: str, found: object, expected: str) -> ConfigError:
        """Make the error for an attenuation that the interface cannot take."""
        return ConfigError(f"{self.where}: {key}: found {found!r:.80}, expected {expected}")


class HostInterface(ABC):
    """An exporter of one WIT interface, in Python.

    ``interface_id`` names the interface. ``attenuations`` says for each key that a grant may carry what it narrows.
    ``outside`` names the functions whose calls reach outside of the system (mail that leaves, records on a disk): their
    rate is bounded (``limits.outside_calls_per_minute``).
    ``pure`` names the functions that change nothing, so that guards may call them.
    """

    interface_id: str
    attenuations: ClassVar[Mapping[str, str]] = {}
    outside: ClassVar[frozenset[str]] = frozenset()
    pure: Collection[str] = ()

    @abstractmethod
    def bind(self, function: str, grant: Grant, domain: Domain) -> Closure:
        """Return the closure that serves one function for one domain under one grant.

        Called once for each import, before anything runs. The closure may raise an `ExtensionError` or
        `CapabilityError` to end the guest's call; anything it changes, it appends to ``call.journal`` as an `Effect`.

        Raises:
            ConfigError: The grant carries an attenuation with a value that makes no sense.
        """

    def check_served(self, interface: Interface) -> None:
        """Refuse to serve what the interface does not have; asked when it is exported.

        Raises:
            UsageError: Names it, and what was probably meant.
        """
        return

    def check(self, grant: Grant) -> None:
        """Refuse a grant with attenuations that this interface does not know."""
        for key in grant.attenuations:
            if key not in self.attenuations:
                known = ", ".join(("functions", *self.attenuations))
                raise ConfigError(f"{grant.where}: found {key!r}, expected only {known}")


class Functions(HostInterface):
    """Plain Python functions as a host interface, without attenuations: the shortest way to export something.

    Args:
        interface_id: The interface that they serve.
        functions: WIT name → ``function(call, *arguments)``.
        pure: Those of them that change nothing.
    """

    def __init__(self, interface_id: str, functions: Mapping[str, Closure], *, pure: Collection[str] = ()) -> None:
        self.interface_id = interface_id
        self.pure = frozenset(pure)
        self._functions = dict(functions)

    def bind(self, function: str, grant: Grant, domain: Domain) -> Closure:
        try:
            return self._functions[function]
        except KeyError:
            raise ConfigError(f"host interface {self.interface_id}: found no function {function!r} to bind") from None

    def check_served(self, interface: Interface) -> None:
        for name in (*self._functions, *self.pure):
            if name not in interface.functions:
                raise UsageError(
                    f"host interface {interface.id}: found the function {name!r:.80}, "
                    f"expected only {', '.join(interface.functions) or 'none'}",
                    hint=near(name, interface.functions),
                )


def methods_of(interfaces: Interfaces, resource: str) -> frozenset[str]:
    """Return the names of a resource's methods: the rights that there can be on it.

    Args:
        interfaces: Where it is declared.
        resource: ``interface#resource``.

    Raises:
        WitError: There is no such interface.
    """
    interface_id, _, name = resource.partition("#")
    prefix = f"{METHOD}{name}."
    return frozenset(right_of(known) for known in interfaces.get(interface_id).functions if known.startswith(prefix))


def mint(
    interfaces: Interfaces,
    target: object,
    resource: str,
    rights: Iterable[str] | None = None,
    *,
    granter: str = "host",
    grant: Grant | None = None,
) -> Capability:
    """Make a capability of an object; see `Capability` for the arguments.

    Raises:
        UsageError: A right is no method of the resource.
        WitError: There is no such interface.
    """
    given = None if rights is None else frozenset(rights)
    known = methods_of(interfaces, resource)
    if given is not None and not given <= known:
        raise UsageError(
            f"capability of {resource}: found the rights {', '.join(sorted(given - known))}, "
            f"expected methods of it: {', '.join(sorted(known)) or 'it has none'}"
        )
    return Capability(target, resource, given, granter=granter, grant=grant)


def reach(value: Any, right: str | None = None) -> Any:
    """Return the object of a capability, and anything else as it is: for host functions that are passed a resource.

    What is the receiver of a method needs no such care: it comes checked, as the object.

    Raises:
        CapabilityRevoked, RightsExceeded: As `Capability.use`.
    """
    return value.use(right) if isinstance(value, Capability) else value


def check_arguments(arguments: Iterable[Any], where: str) -> None:
    """Refuse arguments among which a capability was revoked, as deep as tuples and lists go: for calls that waited.

    Raises:
        RevokedArgument: Says who revoked it, when and why.
    """
    pending = list(arguments)
    while pending:
        value = pending.pop()
        if isinstance(value, Capability) and value.revoked is not None:
            raise RevokedArgument(
                f"{where}: found a revoked capability of {value.resource} among the arguments ({value.revoked}), "
                f"expected ones that can be used"
            )
        if isinstance(value, list | tuple):
            pending.extend(value)
