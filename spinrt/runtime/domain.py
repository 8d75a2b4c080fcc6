"""Domains: an extension linked under a policy, with its instance.

A domain outlives its instances. When a call fails half-way, the instance is thrown away and a fresh one takes its
place, linked with the same closures; what the failed call had promised was dropped with its journal. (Rolling the
instance's memory back instead, so that its state survives, is the transactions' own issue.)
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from spinrt._core import (
    TICK_NS,
    Call,
    Capability,
    Export,
    ExternalReference,
    FunctionPlan,
    Instance,
    InstanceLimits,
    externalize,
    internalize,
    withdraw,
)
from spinrt.errors import ClosedError, LinkError, SpinError
from spinrt.runtime.capability import Effect, mint, reach
from spinrt.runtime.linker import Linked, link
from spinrt.runtime.nameserver import Nameserver
from spinrt.runtime.policy import Policy
from spinrt.sandbox.abi import plan_function
from spinrt.sandbox.loader import Extension, find_function, promised_exports
from spinrt.sandbox.manifest import Limits
from spinrt.sandbox.types import Err

_INIT = "spinrt:extension/lifecycle@1.0.0#init"
_log = logging.getLogger("spinrt.runtime")


@dataclass(slots=True)
class DomainCounters:
    """What happened in one domain since it was made."""

    faults: int = 0
    restarts: int = 0
    last_fault: str = ""


class Domain:
    """One extension at work under one policy. Made by `Runtime.load`."""

    def __init__(self, extension: Extension, policy: Policy, nameserver: Nameserver) -> None:
        self.extension = extension
        self.policy = policy
        self.limits: Limits = extension.manifest.limits.clamped(policy.limits)
        self.counters = DomainCounters()
        self.closed = False
        self._linked: Linked = link(extension, policy, nameserver, self)
        self._instance = self._instantiate()
        self.exports = {name: self._export(name, self._instance) for name in promised_exports(extension)}
        for effect in self._initialize(self._instance):
            effect.apply()

    @property
    def name(self) -> str:
        return self.extension.name

    def __repr__(self) -> str:
        return f"<Domain {self.name} {self.extension.manifest.version}>"

    def close(self) -> None:
        """Let go of the instance and of everything that it was granted."""
        self.closed = True
        self.exports = {}
        self._linked = ()

    # -------------------------------------------------------------------------------------------------- its own handles

    def externalize(
        self, target: object, resource: str, rights: Iterable[str] | None = None, *, granter: str = "host"
    ) -> ExternalReference:
        """Put an object into this domain's table, outside of a call, and return a reference to it.

        The reference can be passed to this domain wherever it takes such a resource. It is stale when the domain drops
        the handle, when it is withdrawn, and when the instance is replaced.

        Args:
            target: The object, or a `Capability` of it.
            resource: Its WIT type, ``interface#resource``.
            rights: Methods that the domain may call; all that there are by default.
            granter: Who gives it, for people.

        Raises:
            UsageError: There is no such right, or the capability was revoked.
            RightsExceeded: The capability does not carry one of the rights.
            QuotaExceeded: The table is full.
        """
        if isinstance(target, Capability):
            given = target.delegate(self.name, rights=rights)
        else:
            given = mint(self.extension.interfaces, target, resource, rights, granter=granter).delegate(self.name)
        return externalize(self._instance, given, resource)

    def internalize(self, reference: ExternalReference) -> Any:
        """Return the object that a reference names.

        Raises:
            CapabilityRevoked: Its handle is gone, or what it names was revoked.
            WrongDomain: It is another domain's, or forged.
        """
        return reach(internalize(self._instance, reference))

    def withdraw(self, reference: ExternalReference) -> None:
        """Take the handle away from this domain, and let go of the object.

        Raises:
            CapabilityRevoked, WrongDomain: As for `internalize`.
        """
        withdraw(self._instance, reference)

    # ----------------------------------------------------------------------------------------------------------- faults

    def note_fault(self, error: SpinError) -> None:
        """Count a failed call and put a fresh instance in the place of one that it broke."""
        self.counters.faults += 1
        self.counters.last_fault = error.line()
        _log.warning("extension=%s event=fault code=%s reason=%r", self.name, error.code, str(error))
        self.restore()

    def restore(self) -> None:
        """Replace the instance if it is broken.

        The fresh one is used only when its init agreed; else the broken one stays, which runs nothing, and the next
        raise tries again. What init wants done is done when the extension is loaded, not once more for each restart.
        """
        if self._instance.broken and not self.closed:
            self._restart()

    def _restart(self) -> None:
        try:
            fresh = self._instantiate()
            self._initialize(fresh)
            for export in self.exports.values():
                export.rebind(fresh)
            self._instance = fresh
            self.counters.restarts += 1
        except SpinError as error:
            self.counters.last_fault = error.line()
            _log.error("extension=%s event=restart-failed code=%s reason=%r", self.name, error.code, str(error))

    def _instantiate(self) -> Instance:
        if self.closed:
            raise ClosedError(f"domain {self.name}: it was unloaded")
        limits = self.limits
        return Instance(
            self.extension.module,
            tuple(linked.instantiate() for linked in self._linked),
            InstanceLimits(
                memory_bytes=limits.memory_bytes,
                table_entries=limits.table_entries,
                handles=limits.handles,
                deadline_ticks=max(1, limits.deadline_ms * 1_000_000 // TICK_NS),
                effects=limits.effects,
                host_calls=limits.host_calls,
                lift_bytes=limits.lift_bytes,
            ),
            self.name,
        )

    def _export(self, name: str, instance: Instance) -> Export:
        interface, function = find_function(self.extension.interfaces, name)
        return Export(instance, name, plan_function(interface.id, function))

    def _initialize(self, instance: Instance) -> list[Effect]:
        """Run what the module wants run before its first event, and return what it wants done.

        Raises:
            LinkError, ExtensionError: It refused or failed, and must not be used.
        """
        if self.extension.module.exports.get("_initialize") == ("function", ":"):
            Export(instance, "_initialize", FunctionPlan("_initialize", (), None))(None)
        if _INIT not in self.exports:
            return []
        call = Call(_INIT, None)
        call.domain = self
        answer = self._export(_INIT, instance)(call)
        if isinstance(answer, Err):
            raise LinkError(f"extension {self.name}: its init refused: {answer.value}", hint="see its configuration")
        return call.journal.effects
