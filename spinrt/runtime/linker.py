"""From an extension's imports and a policy to functions that can be called, and the list of what is missing.

Imports are bound one by one against sources, in any order and from several; what is bound stays. Nothing of an
extension runs before every import is bound.

Source: docs/design/dispatch.md, "Domains"; SPIN's in-kernel linker (SOSP'95, section 3.1).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from spinrt._core import DropFunction, FunctionPlan, HostFunction, Store
from spinrt.errors import LinkDenied, LinkError, UnresolvedImport
from spinrt.runtime.capability import Closure, Grant, HostInterface
from spinrt.runtime.exported import Link
from spinrt.runtime.nameserver import Nameserver
from spinrt.runtime.source import Source
from spinrt.runtime.stores import Import
from spinrt.sandbox.loader import ImportedFunction
from spinrt.sandbox.types import Err

if TYPE_CHECKING:
    from spinrt.runtime.domain import Domain


@dataclass(frozen=True, slots=True)
class BoundFunction:
    """One import after linking: a plan and its closure. An instance gets core objects of its own from it."""

    source: Source
    plan: FunctionPlan
    closure: Closure
    meter: Callable[[], None] | None = None
    on_error: Callable[[Err[Any]], None] | None = None

    def instantiate(self, store: Store) -> Import:
        """Return the import as an instance in that store takes it.

        Where a direct `Link` passes only scalars and both sides are in one store, it is the exporter's `Export`
        itself: the engine links the two, and nothing stands in between.
        """
        if isinstance(self.closure, Link) and self.closure.is_direct and self.plan.is_flat and self.meter is None:
            export = self.closure.current_export()
            if export.guest.store is store:
                return export
        return HostFunction(self.plan, self.closure, self.meter, self.on_error)


@dataclass(frozen=True, slots=True)
class BoundDrop:
    """The drop of a resource type, which the core serves by itself."""

    source: Source
    resource: str

    def instantiate(self, store: Store) -> Import:
        return DropFunction(self.resource)


Bound = BoundFunction | BoundDrop


def bind_imports(
    domain: Domain, imports: Iterable[tuple[int, ImportedFunction]], source: Source, only: Collection[str] | None
) -> dict[int, Bound]:
    """Bind what the source exports and the policy grants. Nothing is changed: the caller keeps what is returned.

    Args:
        domain: The importer.
        imports: Those that nobody serves yet, with their positions.
        source: Where to look.
        only: Interfaces to bind; all by default.

    Returns:
        Position → what serves the import.

    Raises:
        LinkDenied: The exporter's policy keeps it from this importer.
        LinkError: The exporter does not have the function, or the import would close a cycle.
        StateError: The exporter is a domain that does not run.
        ConfigError: A grant carries an attenuation that its interface does not know.
    """
    bound: dict[int, Bound] = {}
    exporters: dict[str, tuple[Source, HostInterface] | None] = {}
    for position, imported in imports:
        id_ = imported.interface
        if only is not None and id_ not in only:
            continue
        grant = _covering(domain.policy.grants.get(id_), imported.function)
        source.note(domain, imported, grant)
        if grant is None:
            continue
        if id_ not in exporters:
            exporters[id_] = _exporter(domain, id_, grant, source)
        found = exporters[id_]
        if found is not None:
            bound[position] = _bind(domain, imported, grant, *found)
    return bound


def _exporter(domain: Domain, id_: str, grant: Grant, source: Source) -> tuple[Source, HostInterface] | None:
    found = source.find(id_)
    if found is None:
        return None
    refusal = found.refusal(id_, domain)
    if refusal is not None:
        raise LinkDenied(f"extension {domain.name}: the exporter of {id_} refuses: {refusal}")
    interface = found.interface(id_)
    interface.check(grant)
    return found, interface


def _bind(domain: Domain, imported: ImportedFunction, grant: Grant, source: Source, interface: HostInterface) -> Bound:
    if imported.plan is None:
        return BoundDrop(source, imported.resource)
    closure = interface.bind(imported.function, grant, domain)
    name = f"{imported.interface}#{imported.function}"
    meter = domain.quotas.meter(name) if imported.function in interface.outside else None
    on_error = None if isinstance(closure, Link) else partial(domain.counters.note_denial, name)
    return BoundFunction(source, imported.plan, closure, meter, on_error)


def _covering(grant: Grant | None, function: str) -> Grant | None:
    return grant if grant is not None and grant.covers(function) else None


def link(domain: Domain, nameserver: Nameserver) -> None:
    """Resolve a domain against whoever the nameserver knows.

    Raises:
        LinkDenied, UnresolvedImport: Imports are left; all of them are listed, with the policy that would grant them
            and what the nameserver says. The domain is as it was, but for what could be bound.
        LinkError, ConfigError: See `bind_imports`.
    """
    reasons: dict[str, LinkError] = {}
    for id_ in dict.fromkeys(imported.interface for imported in domain.unresolved()):
        grant = domain.policy.grants.get(id_)
        if grant is None:
            continue
        try:
            source = nameserver.find(id_, domain, grant)
            domain.resolve(source, only=(id_,))
        except (UnresolvedImport, LinkDenied) as error:
            reasons[id_] = error
    if domain.unresolved():
        raise incomplete(domain, reasons)


def incomplete(domain: Domain, reasons: Mapping[str, LinkError] | None = None) -> LinkError:
    """Make the error that lists every import that nobody serves.

    Args:
        domain: A domain that is not fully resolved.
        reasons: Interface → why its exporter did not serve, where that is known.
    """
    missing = _missing_grants(domain)
    denied = [error for id_, error in _known(domain, reasons) if id_ not in missing]
    silent = [id_ for id_ in _interfaces(domain) if id_ not in missing and id_ not in (reasons or {})]
    texts = [f"not granted: {_listed(missing)}; to grant it, {_advice(domain, missing)}"] if missing else []
    hints: list[str] = []
    own = f"extension {domain.name}: "
    texts += [str(error).removeprefix(own) for error in denied]
    hints += [error.hint for error in denied if error.hint]
    if silent:
        texts.append(f"nobody was found to export {', '.join(silent)}")
        hints.append("resolve it against a domain that does")
    kind = LinkDenied if missing or any(isinstance(error, LinkDenied) for error in denied) else UnresolvedImport
    return kind(own + "; ".join(texts), hint="; ".join(hints))


def _known(domain: Domain, reasons: Mapping[str, LinkError] | None) -> list[tuple[str, LinkError]]:
    return [(id_, reasons[id_]) for id_ in _interfaces(domain) if reasons and id_ in reasons]


def _interfaces(domain: Domain) -> list[str]:
    return list(dict.fromkeys(imported.interface for imported in domain.unresolved()))


def _missing_grants(domain: Domain) -> dict[str, list[str]]:
    """The functions that nobody serves and the policy does not grant, by interface."""
    missing: dict[str, list[str]] = {}
    for imported in domain.unresolved():
        if _covering(domain.policy.grants.get(imported.interface), imported.function) is None:
            missing.setdefault(imported.interface, []).append(imported.function)
    return missing


def _listed(missing: Mapping[str, list[str]]) -> str:
    return "; ".join(f"{id_} ({', '.join(functions)})" for id_, functions in missing.items())


def _advice(domain: Domain, missing: Mapping[str, list[str]]) -> str:
    return f"put under extensions.{domain.name}.grants: {{{policy_lines(domain.policy.grants, missing)}}}"


def policy_lines(grants: Mapping[str, Grant], missing: Mapping[str, list[str]]) -> str:
    """Return what a policy's ``grants`` must say to give these functions too."""
    return ", ".join(_policy_line(id_, functions, grants.get(id_)) for id_, functions in missing.items())


def _policy_line(id_: str, functions: list[str], grant: Grant | None) -> str:
    wanted = [*(grant.functions if grant else ()), *functions]
    names = ", ".join(f'"{name}"' for name in wanted if not name.startswith("[resource-drop]"))
    return f'"{id_}": {{functions: [{names}]}}' if names else f'"{id_}": {{}}'
