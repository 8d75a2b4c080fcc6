"""Who exports which interface.

A source registers under the interfaces that it exports. It is found when an extension is linked, and only then; its
*authorizer* is asked at each import of an interface, with the importer itself and its grant, and may refuse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from spinrt.errors import LinkDenied, StateError, UnresolvedImport
from spinrt.runtime.capability import Grant
from spinrt.runtime.source import Source

if TYPE_CHECKING:
    from spinrt.runtime.domain import Domain

Authorizer: TypeAlias = "Callable[[Domain, Grant], str | None]"
"""Called with the importing domain and its grant; a text refuses the import and says why."""


class Nameserver:
    """The exporters of one runtime, by interface id."""

    def __init__(self) -> None:
        self._exporters: dict[str, tuple[Source, Authorizer | None]] = {}
        self._withheld: dict[str, str] = {}

    def export(self, source: Source, authorizer: Authorizer | None = None) -> None:
        """Register a source under each of its interfaces, or under none.

        Raises:
            StateError: One of them has an exporter already.
        """
        self.check(source)
        for interface_id in source.interfaces:
            self._exporters[interface_id] = (source, authorizer)

    def check(self, source: Source, *, besides: Source | None = None) -> None:
        """Raise the `StateError` of `export`; what ``besides`` exports does not count."""
        for interface_id in source.interfaces:
            other = self.exporter(interface_id)
            if other is not None and other is not besides:
                raise StateError(
                    f"nameserver: interface {interface_id} has an exporter already, {other.name}, "
                    f"and found {source.name}, expected one"
                )

    def withdraw(self, source: Source) -> None:
        """Forget a source; what is bound to it stays bound."""
        self._exporters = {id_: found for id_, found in self._exporters.items() if found[0] is not source}

    def replace(self, old: Source, new: Source) -> None:
        """Register a source in the place of another, with the same authorizer; `check` said that it can be."""
        authorizer = next((found[1] for found in self._exporters.values() if found[0] is old), None)
        self.withdraw(old)
        self.export(new, authorizer)

    def withhold(self, interface_id: str, reason: str) -> None:
        """Say why nobody exports an interface here; a link that needs it tells the operator."""
        self._withheld[interface_id] = reason

    def exporter(self, interface_id: str) -> Source | None:
        """Return who exports an interface, or none; asks no authorizer."""
        found = self._exporters.get(interface_id)
        return found[0] if found else None

    def find(self, interface_id: str, importer: Domain, grant: Grant) -> Source:
        """Return the exporter of an interface for an importer.

        Raises:
            UnresolvedImport: Nobody exports it.
            LinkDenied: Its authorizer refuses.
        """
        found = self._exporters.get(interface_id)
        if found is None:
            reason = self._withheld.get(
                interface_id, f"exported here: {', '.join(sorted(self._exporters)) or 'nothing'}"
            )
            raise UnresolvedImport(f"extension {importer.name}: nobody exports {interface_id}", hint=reason)
        source, authorizer = found
        refusal = authorizer(importer, grant) if authorizer else None
        if refusal is not None:
            raise LinkDenied(f"extension {importer.name}: the exporter of {interface_id} refuses: {refusal}")
        return source
