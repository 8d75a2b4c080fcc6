"""From a loaded extension and a policy to imports that can be called: all, or an error that lists what is missing.

Source: docs/design/spine.md, "runtime"; SPIN's in-kernel linker (SOSP'95, section 3.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from spinrt._core import DropFunction, FunctionPlan, HostFunction
from spinrt.errors import LinkDenied
from spinrt.runtime.capability import Closure, Grant, HostInterface
from spinrt.runtime.nameserver import Nameserver
from spinrt.runtime.policy import Policy
from spinrt.sandbox.loader import Extension

if TYPE_CHECKING:
    from spinrt.runtime.domain import Domain

Imports: TypeAlias = tuple[HostFunction | DropFunction, ...]


@dataclass(frozen=True, slots=True)
class LinkedFunction:
    """One import after linking: a plan and its closure. An instance gets core objects of its own from it."""

    plan: FunctionPlan
    closure: Closure

    def instantiate(self) -> HostFunction:
        return HostFunction(self.plan, self.closure)


@dataclass(frozen=True, slots=True)
class LinkedDrop:
    """The drop of a resource type, which the core serves by itself."""

    resource: str

    def instantiate(self) -> DropFunction:
        return DropFunction(self.resource)


Linked: TypeAlias = tuple[LinkedFunction | LinkedDrop, ...]


def link(extension: Extension, policy: Policy, nameserver: Nameserver, domain: Domain) -> Linked:
    """Bind every import of an extension, in the module's order. Nothing runs, and nothing is kept on failure.

    Raises:
        LinkDenied: Grants are missing; all of them are listed with the policy that would give them.
        UnresolvedImport: Nobody exports a granted interface.
        ConfigError: A grant carries an attenuation that its interface does not know.
    """
    _check_grants(extension, policy)
    exporters = _find_exporters(extension, policy, nameserver)
    linked: list[LinkedFunction | LinkedDrop] = []
    for imported in extension.imports:
        if imported.plan is None:
            linked.append(LinkedDrop(imported.resource))
            continue
        grant = policy.grants[imported.interface]
        closure = exporters[imported.interface].bind(imported.function, grant, domain)
        linked.append(LinkedFunction(imported.plan, closure))
    return tuple(linked)


def missing_grants(extension: Extension, policy: Policy) -> dict[str, list[str]]:
    """Return the functions that the module imports and the policy does not grant, by interface."""
    missing: dict[str, list[str]] = {}
    for imported in extension.imports:
        grant = policy.grants.get(imported.interface)
        if grant is None or not grant.covers(imported.function):
            missing.setdefault(imported.interface, []).append(imported.function)
    return missing


def _check_grants(extension: Extension, policy: Policy) -> None:
    missing = missing_grants(extension, policy)
    if not missing:
        return
    listed = "; ".join(f"{id_} ({', '.join(functions)})" for id_, functions in missing.items())
    lines = ", ".join(_policy_line(id_, functions, policy.grants.get(id_)) for id_, functions in missing.items())
    raise LinkDenied(
        f"extension {extension.name}: not granted: {listed}",
        hint=f"to grant it, put under extensions.{extension.name}.grants: {{{lines}}}",
    )


def _policy_line(id_: str, functions: list[str], grant: Grant | None) -> str:
    wanted = [*(grant.functions if grant else ()), *functions]
    names = ", ".join(f'"{name}"' for name in wanted if not name.startswith("[resource-drop]"))
    return f'"{id_}": {{functions: [{names}]}}' if names else f'"{id_}": {{}}'


def _find_exporters(extension: Extension, policy: Policy, nameserver: Nameserver) -> dict[str, HostInterface]:
    found: dict[str, HostInterface] = {}
    for interface_id in dict.fromkeys(imported.interface for imported in extension.imports):
        grant = policy.grants[interface_id]
        found[interface_id] = nameserver.find(interface_id, extension.name, grant)
        found[interface_id].check(grant)
    return found
