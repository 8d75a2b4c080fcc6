"""What a runtime holds, as plain values: for `spinrt inspect`, for metrics, and for programs that embed the runtime.

This is the one place that reads the runtime for people. The result can be written as JSON; its keys are stable.

Source: docs/formats/inspect.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from spinrt._core import Capability, list_handles, live_handles
from spinrt.clock import Clock
from spinrt.runtime.binding import Binding, DomainExport, Ephemeral, callable_name
from spinrt.runtime.capability import Grant
from spinrt.runtime.domain import Domain
from spinrt.runtime.event import Event
from spinrt.runtime.guard import Check, Guard
from spinrt.runtime.monitor import Fault, moment
from spinrt.runtime.order import Before, Edge, Place
from spinrt.runtime.replace import Returned
from spinrt.runtime.source import HostDomain, Source
from spinrt.sandbox.condition import Equal, Prefix, Range, condition_text

if TYPE_CHECKING:
    from spinrt.runtime.runtime import Runtime

FORMAT: Final = 1
HOST: Final = "host"
_SHARES: Final = {"p50": 0.5, "p99": 0.99}


def describe(runtime: Runtime, *, handles: bool = True, faults: bool = True) -> dict[str, Any]:
    """Return what a runtime holds; see docs/formats/inspect.md.

    Args:
        runtime: Call it on the runtime's own thread.
        handles: List the live handles of each domain, too.
        faults: And its last faults. Their backtraces need the modules to be read, which may take long: see
            `fault_reports` for how to do that on another thread.
    """
    description = {
        "format": FORMAT,
        "domains": [_domain(domain, handles) | _versions(runtime, name) for name, domain in runtime.domains.items()],
        "events": [_event(event) for event in runtime.events.values()],
    }
    return add_faults(description, fault_reports(runtime)) if faults else description


# ------------------------------------------------------------------------------------------------------------- domains


def _domain(domain: Domain, handles: bool) -> dict[str, Any]:
    counters = domain.counters
    return {
        "name": domain.name,
        "version": domain.extension.manifest.version,
        "state": _state(domain),
        "limits": asdict(domain.limits),
        "usage": _usage(domain),
        "health": _health(domain),
        "counters": {
            "faults": counters.faults,
            "restarts": counters.restarts,
            "quarantines": domain.supervisor.quarantines,
            "refused": counters.refused,
            "denials": counters.denials,
        },
        "faults_by_code": dict(counters.by_code),
        "last_fault": counters.last_fault,
        "last_faults": [],
        "exports": list(domain.interfaces),
        "importers": [importer.name for importer in domain.importers()],
        "grants": [_grant(grant, domain) for grant in domain.policy.grants.values()],
        "handles": _handles(domain) if handles else [],
    }


class FaultReports:
    """The last faults of one domain, read on the runtime's thread; `values` may be called on any other."""

    def __init__(self, domain: Domain, clock: Clock) -> None:
        self.domain = domain.name
        self._fitting, self._limits = domain.extension.fitting, domain.limits
        self._faults = [(fault, moment(clock, fault.at_s), _raw(fault)) for fault in domain.counters.last_faults()]

    def values(self) -> list[dict[str, Any]]:
        """Return them as plain values, the newest first."""
        if not self._faults:
            return []
        symbols = self._fitting.symbols(self._limits)
        return [
            {
                "time": time,
                "event": fault.event,
                "code": fault.code,
                "text": fault.text,
                "arguments_digest": fault.digest,
                "backtrace": [asdict(frame) for frame in symbols.frames(raw)],
            }
            for fault, time, raw in self._faults
        ]


def _raw(fault: Fault) -> list[tuple[str, int, int]]:
    return fault.trace.frames() if fault.trace is not None else []


def fault_reports(runtime: Runtime) -> list[FaultReports]:
    """Return the last faults of each domain; call it on the runtime's own thread."""
    return [FaultReports(domain, runtime.stores.clock) for domain in runtime.domains.values()]


def add_faults(description: dict[str, Any], reports: Sequence[FaultReports]) -> dict[str, Any]:
    """Put the last faults into a description that was made without them, and return it; on any thread."""
    values = {report.domain: report.values() for report in reports}
    for domain in description["domains"]:
        domain["last_faults"] = values.get(domain["name"], [])
    return description


def _versions(runtime: Runtime, name: str) -> dict[str, Any]:
    """What is still on probation, and what gave its place back."""
    replacement, returned = runtime.replacements.get(name), runtime.returned.get(name)
    probation = None
    if replacement is not None and not replacement.is_over():
        probation = {
            "returns_to": replacement.old.extension.manifest.version,
            "faults": replacement.new.supervisor.faults_on_probation,
        }
    return {"probation": probation, "returned": None if returned is None else _returned(returned)}


def _returned(returned: Returned) -> dict[str, Any]:
    return {
        "version": returned.version,
        "to": returned.to,
        "skipped": list(returned.skipped),
        "faults": returned.faults,
        "reason": returned.reason,
        "time": returned.time,
        "text": str(returned),
    }


def _state(domain: Domain) -> str:
    """``running``, ``broken``, ``killed``, or how far it is on its way to running."""
    instance = domain.instance
    if domain.death is not None:
        return "killed"
    if not domain.is_running or instance is None:
        return domain.state.value
    return "broken" if instance.broken else "running"


def _health(domain: Domain) -> dict[str, Any]:
    supervisor = domain.supervisor
    return {
        "state": supervisor.health.value,
        "quarantined_for_s": round(supervisor.left_s, 3),
        "faults_on_probation": supervisor.faults_on_probation,
    }


def _usage(domain: Domain) -> dict[str, int]:
    instance = domain.instance
    return {
        "memory_bytes": 0 if instance is None else instance.memory_size,
        "handles": 0 if instance is None else live_handles(instance),
        "outside_calls_left": domain.quotas.outside.left,
    }


def _grant(grant: Grant, domain: Domain) -> dict[str, Any]:
    """One grant of the policy, and what the module imports through it."""
    wanted = [imported.function for imported in domain.extension.imports if imported.interface == grant.interface]
    exporter = next((_source_name(source) for source in domain.sources() if grant.interface in source.interfaces), None)
    return {
        "interface": grant.interface,
        "functions": list(grant.functions),
        "attenuations": dict(grant.attenuations),
        "where": grant.where,
        "imports": wanted,
        "exporter": exporter,
    }


def _source_name(source: Source) -> str:
    return HOST if isinstance(source, HostDomain) else source.name


def _handles(domain: Domain) -> list[dict[str, Any]]:
    instance = domain.instance
    return [
        {
            "handle": handle,
            "resource": resource,
            "own": own,
            "generation": generation,
            "capability": _capability(held) if isinstance(held, Capability) else None,
        }
        for handle, resource, own, generation, held in (list_handles(instance) if instance is not None else ())
    ]


def _capability(capability: Capability) -> dict[str, Any]:
    """A capability and those that it was made from, the nearest first."""
    return {
        "revoked": None if capability.revoked is None else str(capability.revoked),
        "chain": [_link(link) for link in capability.chain()],
    }


def _link(link: Capability) -> dict[str, Any]:
    return {
        "holder": link.holder,
        "granter": link.granter,
        "rights": None if link.rights is None else sorted(link.rights),
        "grant": link.grant.where if isinstance(link.grant, Grant) else None,
    }


# -------------------------------------------------------------------------------------------------------------- events


def _event(event: Event) -> dict[str, Any]:
    return {
        "name": event.name,
        "on_fault": event.on_fault.value,
        "bindings": [_binding(binding) for binding in event.bindings],
    }


def _binding(binding: Binding) -> dict[str, Any]:
    options = binding.options
    return {
        "id": binding.sequence,
        "domain": None if binding.domain is None else binding.domain.name,
        "handler": binding.export or callable_name(binding.handler),
        "by": _who(binding.by),
        "order": binding.order,
        "places": [_place(place) for place in binding.places],
        "mode": f"ephemeral, {options.mode.quantum_ms} ms"
        if isinstance(options.mode, Ephemeral)
        else options.mode.value,
        "filters": options.filters,
        "cancels": options.cancels,
        "guards": [
            *({"text": _guard(one.guard), "imposed_by": _who(one.by) or HOST} for one in binding.imposed),
            *({"text": _guard(guard), "imposed_by": None} for guard in options.guards),
        ],
        "counts": binding.counts._asdict(),
        "latency": _latency(binding),
    }


def _who(who: Domain | str | None) -> str | None:
    return who.name if isinstance(who, Domain) else who


def _place(place: Place) -> str:
    if isinstance(place, Edge):
        return repr(place).lower()
    side = "before" if isinstance(place, Before) else "after"
    return f"{side} {place.other}"


def _guard(guard: Guard) -> str:
    """A guard as it would be written in a manifest."""
    match guard:
        case Equal() | Prefix() | Range():
            return condition_text(guard)
        case Check(handler, _):
            return _guard(handler)
        case DomainExport(domain, name):
            return f"{domain.name}: {name}"
        case _:
            return callable_name(guard)


def _latency(binding: Binding) -> dict[str, Any] | None:
    """Sampled run times; none when there is no sample."""
    latency = getattr(binding.entry, "latency", None)
    buckets = [] if latency is None else latency()
    if not buckets:
        return None
    return {
        "samples": sum(count for _, count in buckets),
        **{f"{name}_ns": quantile(buckets, share) for name, share in _SHARES.items()},
        "max_ns": buckets[-1][0],
        "buckets": [list(bucket) for bucket in buckets],
    }


def quantile(buckets: Sequence[tuple[int, int]], share: float) -> int:
    """Return the upper bound of the bucket below which that share of the samples lies.

    Args:
        buckets: (upper bound, count) of each, ascending; at least one sample.
        share: From 0 to 1.
    """
    wanted = share * sum(count for _, count in buckets)
    seen = 0
    for upper, count in buckets:
        seen += count
        if seen >= wanted:
            return upper
    return buckets[-1][0]
