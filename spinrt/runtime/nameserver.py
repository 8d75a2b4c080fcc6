"""Who exports which interface.

An exporter registers under the id of its interface. It is found when an extension is linked, and only then; an
exporter's *authorizer* is asked at each import, with the importer and its grant, and may refuse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from spinrt.errors import LinkDenied, StateError, UnresolvedImport
from spinrt.runtime.capability import Grant, HostInterface

Authorizer: TypeAlias = Callable[[str, Grant], str | None]
"""Called with the importer's name and its grant; a text refuses the import and says why."""


class Nameserver:
    """The exporters of one runtime, by interface id."""

    def __init__(self) -> None:
        self._exporters: dict[str, tuple[HostInterface, Authorizer | None]] = {}
        self._withheld: dict[str, str] = {}

    def export(self, exporter: HostInterface, authorizer: Authorizer | None = None) -> None:
        """Register an exporter.

        Raises:
            StateError: The interface has one already.
        """
        if exporter.interface_id in self._exporters:
            raise StateError(f"nameserver: interface {exporter.interface_id} has an exporter already")
        self._exporters[exporter.interface_id] = (exporter, authorizer)

    def withhold(self, interface_id: str, reason: str) -> None:
        """Say why nobody exports an interface here; a link that needs it tells the operator."""
        self._withheld[interface_id] = reason

    def find(self, interface_id: str, importer: str, grant: Grant) -> HostInterface:
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
            raise UnresolvedImport(f"extension {importer}: nobody exports {interface_id}", hint=reason)
        exporter, authorizer = found
        refusal = authorizer(importer, grant) if authorizer else None
        if refusal is not None:
            raise LinkDenied(f"extension {importer}: the exporter of {interface_id} refuses: {refusal}")
        return exporter
