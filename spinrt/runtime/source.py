"""What an extension's imports can be bound to: name spaces that export interfaces.

An extension's own domain is one (``domain``), a host interface is one (`HostDomain`), several together are one
(`CombinedDomain`), and so is the one that only tells what was asked of it (``debug``).

Source: docs/design/dispatch.md, "Domains"; SPIN's in-kernel linker (SOSP'95, section 3.1).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from spinrt.errors import StateError, UsageError
from spinrt.runtime.capability import HostInterface

if TYPE_CHECKING:
    from spinrt.runtime.capability import Grant
    from spinrt.runtime.domain import Domain
    from spinrt.sandbox.loader import ImportedFunction


class Source(ABC):
    """A linkable name space."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Who it is, in messages."""

    @property
    @abstractmethod
    def interfaces(self) -> tuple[str, ...]:
        """Ids of the interfaces that it exports now."""

    @abstractmethod
    def interface(self, interface_id: str) -> HostInterface:
        """Return what serves one of its own ``interfaces``."""

    def find(self, interface_id: str) -> Source | None:
        """Return the source that exports this interface here, or none."""
        return self if interface_id in self.interfaces else None

    def members(self) -> tuple[Source, ...]:
        """Return the sources that `find` may return."""
        return (self,)

    def refusal(self, interface_id: str, importer: Domain) -> str | None:
        """Return why that domain may not import the interface, or none when it may."""
        return None

    def note(self, importer: Domain, imported: ImportedFunction, grant: Grant | None) -> None:
        """One import that nobody serves is looked for here; ``grant`` is none when the policy does not give it."""
        return

    def forget(self, importer: Domain) -> None:
        """No import of that domain is bound here any more."""
        return


class HostDomain(Source):
    """One interface that is implemented in Python."""

    def __init__(self, interface: HostInterface) -> None:
        self._interface = interface

    def __repr__(self) -> str:
        return f"<HostDomain {self._interface.interface_id}>"

    @property
    def name(self) -> str:
        return "the host"

    @property
    def interfaces(self) -> tuple[str, ...]:
        return (self._interface.interface_id,)

    def interface(self, interface_id: str) -> HostInterface:
        return self._interface


class CombinedDomain(Source):
    """Several sources as one name space, with further ones nested in it by name.

    What the members export, it exports; what is nested is reached by its path only (`child`), so that the same
    interface may be there twice.

    Args:
        name: Who it is, in messages.
        members: Sources of which no two export the same interface.

    Raises:
        StateError: Two members export the same interface.
    """

    def __init__(self, name: str, members: Sequence[Source]) -> None:
        self._name = name
        self._members = tuple(members)
        self._children: dict[str, Source] = {}
        owners: dict[str, Source] = {}
        for member in self.members():
            for interface_id in member.interfaces:
                other = owners.setdefault(interface_id, member)
                if other is not member:
                    raise StateError(
                        f"domain {name}: combine: found {interface_id} exported by {other.name} and {member.name}, "
                        "expected one exporter"
                    )

    @property
    def name(self) -> str:
        return self._name

    def __repr__(self) -> str:
        return f"<CombinedDomain {self.name} of {', '.join(member.name for member in self._members)}>"

    @property
    def interfaces(self) -> tuple[str, ...]:
        return tuple(interface_id for member in self._members for interface_id in member.interfaces)

    def interface(self, interface_id: str) -> HostInterface:
        found = self.find(interface_id)
        if found is None:
            raise UsageError(f"domain {self.name}: found no {interface_id}, expected one of {self.interfaces}")
        return found.interface(interface_id)

    def find(self, interface_id: str) -> Source | None:
        return next((found for one in self._members if (found := one.find(interface_id)) is not None), None)

    def members(self) -> tuple[Source, ...]:
        return tuple(dict.fromkeys(leaf for member in self._members for leaf in member.members()))

    def nest(self, name: str, child: Source) -> None:
        """Put a name space under a name of this one.

        Raises:
            UsageError: The name is empty or holds a ``/``.
            StateError: The name is taken, or this domain is inside of the child.
        """
        if not name or "/" in name:
            raise UsageError(f"domain {self.name}: nest: found {name!r}, expected a name without '/'")
        if name in self._children:
            raise StateError(f"domain {self.name}: nest: {name!r} is taken by {self._children[name].name}")
        if _holds(child, self):
            raise StateError(f"domain {self.name}: nest: {child.name} holds this domain, expected one that does not")
        self._children[name] = child

    def child(self, path: str) -> Source:
        """Return the name space at a path such as ``mail/filters``.

        Raises:
            UsageError: Nothing is nested there.
        """
        first, _, rest = path.partition("/")
        found = self._children.get(first)
        if found is None or (rest and not isinstance(found, CombinedDomain)):
            known = ", ".join(sorted(self._children)) or "nothing"
            raise UsageError(f"domain {self.name}: found nothing at {path!r}, expected one of: {known}")
        return found.child(rest) if rest and isinstance(found, CombinedDomain) else found


def _holds(outer: Source, inner: Source) -> bool:
    if outer is inner:
        return True
    if not isinstance(outer, CombinedDomain):
        return False
    return any(_holds(one, inner) for one in (*outer._members, *outer._children.values()))
