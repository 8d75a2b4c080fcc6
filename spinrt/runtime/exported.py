"""Interfaces that one extension serves for another.

An import of one domain is bound to the export of another by a `Link`: values are lifted from the importer, the
exporter is called with them in the same call (same journal, same context), and its answer is lowered back. The
exporter runs as itself: host functions find it in ``call.domain``, and a fault is pinned to it.

Who failed: an exporter in which a call failed did; the importer is then cut short
(`ExporterFailed`), which ends its call too and is not counted against it. An exporter that refused to be entered
(it is running already, say) did nothing: the refusal is the importer's own failure.

Source: docs/design/dispatch.md, "Extension to extension".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from spinrt._core import Call, Export
from spinrt.errors import (
    AbiError,
    CallerDeadline,
    DeadlineExceeded,
    ExporterFailed,
    LinkError,
    Quarantined,
    QuotaExceeded,
    RevokedArgument,
    SpinError,
    StateError,
    UsageError,
)
from spinrt.runtime.capability import Closure, Grant, HostInterface

if TYPE_CHECKING:
    from spinrt.runtime.domain import Domain


class Link:
    """One import of one domain, served by another's export; called like any closure. Made by `ExportedInterface`."""

    __slots__ = ("_export", "exporter", "importer", "is_direct", "name")

    def __init__(self, importer: Domain, exporter: Domain, name: str, *, is_direct: bool = False) -> None:
        self.importer = importer
        self.is_direct = is_direct
        self.name = name
        self.point_at(exporter)

    def point_at(self, exporter: Domain) -> None:
        """Serve the import by that domain from now on; it was checked to export the function."""
        self.exporter = exporter
        self._export: Export = exporter.exports[self.name]

    def current_export(self) -> Export:
        """The exporter's function as it can be called now; a broken exporter is restored first.

        Raises:
            ExporterFailed: It cannot be.
        """
        if self._export.guest.broken or self._export.guest.stale:
            self._revive(self._export)
        return self._export

    def __call__(self, call: Call | None, *arguments: Any) -> Any:
        export = self._export
        if export.guest.broken or export.guest.stale:
            self._revive(export)
        if call is None:
            return self._run(export, None, arguments)
        outer, call.domain = call.domain, self.exporter
        mark = len(call.journal)
        try:
            answer = self._run(export, call, arguments)
        finally:
            call.domain = outer
        self._check_effects(len(call.journal) - mark)
        return answer

    def _run(self, export: Export, call: Call | None, arguments: tuple[Any, ...]) -> Any:
        guest, failures = export.guest, export.guest.failures
        try:
            return export(call, *arguments)
        except SpinError as error:
            raise self._failure(error, failed=guest.failures != failures) from error
        except BaseException:
            self.exporter.restore()
            raise

    def _revive(self, export: Export) -> None:
        self.exporter.wake()
        if export.guest.broken or export.guest.stale:
            raise ExporterFailed(f"{self._what()}: found it not running, expected it initialised")

    def _failure(self, error: SpinError, *, failed: bool) -> SpinError:
        """What the importer's call ends with; the exporter's part in it is noted."""
        if failed:
            self.exporter.note_fault(error)
            if isinstance(error, CallerDeadline):
                return DeadlineExceeded(f"{self._what()}: still running at the importer's deadline")
            return ExporterFailed(f"{self._what()}: {error}", hint=error.hint)
        if isinstance(error, Quarantined):
            return ExporterFailed(f"{self._what()}: {error}", hint=error.hint)
        if type(error) in (UsageError, RevokedArgument):  # what would be the raiser's mistake is the importer's here
            return AbiError(f"{self._what()}: {error}")
        return error

    def _check_effects(self, count: int) -> None:
        """What was promised counts for the importer's handler; the exporter's own limit bounds its part too."""
        limit = self.exporter.limits.effects
        if count > limit:
            error = QuotaExceeded(f"{self._what()}: found {count} effects in one call, expected at most {limit}")
            self.exporter.note_fault(error)
            raise ExporterFailed(str(error))

    def _what(self) -> str:
        return f"extension {self.importer.name}: import {self.name} from {self.exporter.name}"


class ExportedInterface(HostInterface):
    """One interface of an extension's domain, as an exporter like any other.

    A grant may carry ``direct: true``: functions that pass only numbers, bools and chars are then linked in the engine,
    with nothing in between. A fault in such a call counts against the importer, whose call it is, and both get fresh
    instances.
    """

    attenuations: ClassVar = {"direct": "link functions of scalars in the engine, for speed"}

    def __init__(self, interface_id: str, exporter: Domain) -> None:
        self.interface_id = interface_id
        self._exporter = exporter

    def bind(self, function: str, grant: Grant, domain: Domain) -> Closure:
        """Return the link that serves one function for one importer.

        Raises:
            StateError: The exporter does not run.
            LinkError: The exporter has no such function (those of resources are the host's alone), or the importer
                serves imports of the exporter already, directly or through others.
        """
        name = f"{self.interface_id}#{function}"
        if not self._exporter.serves(name):
            raise LinkError(
                f"extension {domain.name}: import {name}: {self._exporter.name} exports no such function",
                hint="extensions export functions; resources are the host's alone",
            )
        path = find_path(self._exporter, domain)
        if path:
            names = " -> ".join([domain.name, *path])
            raise LinkError(f"extension {domain.name}: import {name}: found the cycle {names}, expected none")
        if not self._exporter.is_running:
            raise StateError(
                f"extension {domain.name}: import {name}: {self._exporter.name} is {self._exporter.state.value}, "
                "expected it to be initialised",
                hint=f"initialise {self._exporter.name} first",
            )
        direct = grant.attenuations.get("direct", False)
        if not isinstance(direct, bool):
            raise grant.refuse("direct", direct, "true or false")
        return Link(domain, self._exporter, name, is_direct=direct)


def find_path(start: Domain, goal: Domain) -> list[str]:
    """Names from one domain along its imports to another; empty when there is no way."""
    came_from: dict[Domain, Domain | None] = {start: None}
    waiting = [start]
    while waiting:
        domain = waiting.pop()
        if domain is goal:
            return _trail(came_from, domain)
        for exporter in domain.exporters():
            if exporter not in came_from:
                came_from[exporter] = domain
                waiting.append(exporter)
    return []


def _trail(came_from: dict[Domain, Domain | None], end: Domain) -> list[str]:
    names: list[str] = []
    domain: Domain | None = end
    while domain is not None:
        names.insert(0, domain.name)
        domain = came_from[domain]
    return names
