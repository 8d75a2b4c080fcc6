"""Domains: an extension linked under a policy, with its instance.

A domain is *created* with an extension and a policy, *resolved* when every import is bound, *initialised* when it has
an instance whose init agreed, and *destroyed* in the end. Only an initialised domain runs. It outlives its instances:
where a call that failed cannot be rolled back, the instance is thrown away and a fresh one takes its place, linked
with the same closures. Whether it may run at all after a fault is its supervisor's to say.

Source: docs/design/dispatch.md, "Domains"; docs/design/transactions.md.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final

from spinrt._core import (
    TICK_NS,
    Call,
    Capability,
    Export,
    ExternalReference,
    FunctionPlan,
    Instance,
    InstanceLimits,
    Store,
    externalize,
    internalize,
    withdraw,
)
from spinrt.clock import Clock, wall_s
from spinrt.errors import CallerDeadline, ExporterFailed, Killed, LinkError, SpinError, StateError
from spinrt.runtime.capability import Effect, HostInterface, mint, reach
from spinrt.runtime.exported import ExportedInterface, Link
from spinrt.runtime.linker import Bound, BoundFunction, bind_imports, incomplete
from spinrt.runtime.monitor import Monitor
from spinrt.runtime.policy import Policy
from spinrt.runtime.quota import Quotas
from spinrt.runtime.source import CombinedDomain, HostDomain, Source
from spinrt.runtime.stores import Import, Stores
from spinrt.runtime.supervisor import Meanwhile, Supervisor
from spinrt.sandbox.binary_reader import shown
from spinrt.sandbox.loader import Extension, ImportedFunction, promised_exports
from spinrt.sandbox.manifest import Limits
from spinrt.sandbox.types import Err

_CUT_SHORT: Final = (ExporterFailed, CallerDeadline)
"""What ends a call that is not at fault."""
LIFECYCLE = "spinrt:extension/lifecycle@1.0.0"
"""What the runtime calls, and nobody else may."""
_INIT = f"{LIFECYCLE}#init"
REFUSAL_CHARACTERS_MAX = 1000
"""Of what an init that refuses says: it is shown to the operator."""


class DomainState(Enum):
    """Where a domain is in its life; see the head of this file."""

    CREATED = "created"
    RESOLVED = "resolved"
    INITIALISED = "initialised"
    DESTROYED = "destroyed"


class Domain(Source):
    """One extension at work under one policy. Made by `create`, or by `Runtime.load`, which does all that follows too.

    Attributes:
        links: Imports of other domains that this one serves.
        exports: ``interface#function`` → what it exports, once it is initialised.
        counters: What went wrong in it since it was made.
        supervisor: Whether it may run.
        is_loaded: A runtime has installed its handlers: only that runtime's ``unload`` takes it away.
        quotas: Its rates, over all of its instances.
        death: Set when it was killed.
    """

    def __init__(self, extension: Extension, policy: Policy, stores: Stores) -> None:
        self.extension = extension
        self.policy = policy
        self.limits: Limits = extension.manifest.limits.clamped(policy.limits)
        self.supervisor = Supervisor(extension.name, policy.supervision, stores.clock, self)
        self.counters = Monitor(extension.name, stores.clock, self.supervisor.tally)
        self.quotas = Quotas(extension.name, self.limits, stores.clock)
        self.death: Killed | None = None
        self.links: list[Link] = []
        self.exports: dict[str, Export] = {}
        self.is_loaded = False
        self._stores = stores
        self._bound: list[Bound | None] = [None] * len(extension.imports)
        self._instance: Instance | None = None
        self._state = DomainState.CREATED
        self._update_state()

    @classmethod
    def create(cls, extension: Extension, policy: Policy | None = None, *, stores: Stores | None = None) -> Domain:
        """Make a domain of which nothing is linked yet.

        Args:
            extension: What `load_extension` gave.
            policy: What it is granted; nothing by default.
            stores: Those of the runtime that it will work in (`Runtime.create` passes them); by default its own.
        """
        return cls(extension, policy or Policy(), stores or Stores())

    @staticmethod
    def create_from_host(interface: HostInterface) -> HostDomain:
        """Make a source of an interface that is implemented in Python."""
        return HostDomain(interface)

    @staticmethod
    def combine(name: str, domains: Sequence[Source]) -> CombinedDomain:
        """Make one source of several; see `CombinedDomain`."""
        return CombinedDomain(name, domains)

    @property
    def name(self) -> str:
        return self.extension.name

    @property
    def state(self) -> DomainState:
        return self._state

    @property
    def is_running(self) -> bool:
        """Whether it may be called."""
        return self._state is DomainState.INITIALISED

    @property
    def instance(self) -> Instance | None:
        """What its next call runs in; none when it is not initialised."""
        return self._instance

    def __repr__(self) -> str:
        return f"<Domain {self.name} {self.extension.manifest.version} {self._state.value}>"

    # --------------------------------------------------------------------------------------------------- as a source

    @property
    def interfaces(self) -> tuple[str, ...]:
        """What it exports to others: what its manifest offers and its policy does not keep back."""
        visible = self.policy.exports
        offered = (id_ for id_ in self.extension.manifest.exports if id_ != LIFECYCLE)
        return tuple(id_ for id_ in offered if visible is None or id_ in visible)

    def interface(self, interface_id: str) -> HostInterface:
        return ExportedInterface(interface_id, self)

    def refusal(self, interface_id: str, importer: Domain) -> str | None:
        """What the policy's ``exports`` says against this importer; see `Policy`."""
        if self._state is DomainState.DESTROYED:
            return f"{self.name} was unloaded"
        allowed = (self.policy.exports or {}).get(interface_id, ())
        if allowed and importer.name not in allowed:
            return f"the policy of {self.name} exports it to {', '.join(allowed)} only"
        return None

    def serves(self, name: str) -> bool:
        """Whether ``interface#function`` is among what it exports to others."""
        return name.partition("#")[0] in self.interfaces and name in promised_exports(self.extension)

    def forget(self, importer: Domain) -> None:
        self.links = [link for link in self.links if link.importer is not importer]

    def importers(self) -> tuple[Domain, ...]:
        """The domains whose imports are bound to this one."""
        return tuple(dict.fromkeys(link.importer for link in self.links))

    def exporters(self) -> tuple[Domain, ...]:
        """The domains that its own imports are bound to."""
        return tuple(source for source in self.sources() if isinstance(source, Domain))

    def sources(self) -> tuple[Source, ...]:
        """Everybody that its imports are bound to."""
        return tuple(dict.fromkeys(bound.source for bound in self._bound if bound is not None))

    def is_pure_import(self, interface_id: str, function: str) -> bool:
        """Tell whether an import is bound to a function that changes nothing."""
        for imported, bound in zip(self.extension.imports, self._bound, strict=True):
            if (imported.interface, imported.function) == (interface_id, function) and bound is not None:
                return function in bound.source.interface(interface_id).pure
        return False

    # --------------------------------------------------------------------------------------------------- life cycle

    def unresolved(self) -> tuple[ImportedFunction, ...]:
        """Return the imports that nobody serves, in the module's order."""
        return tuple(imported for _, imported in self._open_imports())

    def resolve(self, source: Source, *, only: Collection[str] | None = None) -> int:
        """Bind every import that nobody serves yet, that the source exports and that the policy grants.

        Args:
            source: Another domain, a host domain, a combined one, a debug domain.
            only: Interfaces to look for; all by default.

        Returns:
            How many were bound; those bound before stay as they are.

        Raises:
            StateError: It was destroyed, or the source is a domain that does not run. Nothing was bound.
            LinkDenied: The source's policy keeps an interface from this domain.
            LinkError: The source has not got the function, or imports from this domain itself. Nothing was bound.
            ConfigError: A grant carries an attenuation that its interface does not know. Nothing was bound.
        """
        self._check("resolve", DomainState.CREATED, DomainState.RESOLVED, DomainState.INITIALISED)
        bound = bind_imports(self, self._open_imports(), source, only)
        for position, one in bound.items():
            self._bound[position] = one
            if isinstance(one, BoundFunction) and isinstance(one.closure, Link):
                one.closure.exporter.links.append(one.closure)
        self._update_state()
        return len(bound)

    def unresolve(self, source: Source) -> int:
        """Undo what `resolve` bound to that source. A domain that ran does not run until it is resolved and
        initialised again.

        Its handlers stay installed, and fail meanwhile.

        Returns:
            How many imports nobody serves now that were bound before.
        """
        self._check("unresolve", DomainState.CREATED, DomainState.RESOLVED, DomainState.INITIALISED)
        gone = set(source.members())
        count = 0
        for position, bound in enumerate(self._bound):
            if bound is not None and bound.source in gone:
                self._bound[position] = None
                count += 1
        for one in gone:
            one.forget(self)
        if count:
            self._drop_instance()
            self._update_state()
        return count

    def rebind(self, old: Domain, new: Domain) -> None:
        """Serve what one domain served by another, which runs and exports it too, without losing state."""
        moved = [link for link in old.links if link.importer is self]
        for link in moved:
            link.point_at(new)
        old.forget(self)
        new.links += moved
        self._bound = [
            replace(one, source=new) if one is not None and one.source is old else one for one in self._bound
        ]
        self._stores.when_idle(self.relink)

    def initialize(self) -> None:
        """Make an instance, run its init and apply what that promised.

        Raises:
            LinkDenied, UnresolvedImport: It is not fully resolved; everything missing is listed.
            StateError: It was initialised or destroyed, a domain that it imports from is not initialised, or it ran
                before and a raise is on the stack.
            LinkError, ExtensionError: Its init refused or failed; it is as before.
        """
        for effect in self.start():
            effect.apply()

    def start(self) -> list[Effect]:
        """As `initialize`, but what init promised is returned, for whoever has more to do before it is sure."""
        if self._state is DomainState.CREATED:
            self._stores.owner.check(f"domain {self.name}: initialize")
            raise incomplete(self)
        self._check("initialize", DomainState.RESOLVED)
        self._check_exporters()
        if self.exports and self._stores.raises.depth:
            raise StateError(f"domain {self.name}: initialize again: found a raise on the stack, expected none")
        instance = self._instantiate()
        fresh = {name: self._export(name, instance) for name in promised_exports(self.extension)}
        effects = self._run_init(instance, fresh)
        self._check_alive()
        for name, export in fresh.items():
            if name in self.exports:
                self.exports[name].rebind(instance)
            else:
                self.exports[name] = export
        self._instance = instance
        self._state = DomainState.INITIALISED
        return effects

    def destroy(self) -> None:
        """Let go of the instance and of everything that it was granted, now or when the running raise ends.

        Raises:
            StateError: It was destroyed, other domains import from it, or it is loaded in a runtime.
        """
        self._check("destroy", DomainState.CREATED, DomainState.RESOLVED, DomainState.INITIALISED)
        if self.is_loaded:
            raise StateError(
                f"domain {self.name}: destroy: found it loaded in a runtime", hint="use the runtime's unload"
            )
        self.check_unused()
        self.let_go()

    def check_unused(self) -> None:
        """Raise the `StateError` that names the domains which import from this one, if there are any."""
        importers = self.importers()
        if importers:
            names = ", ".join(importer.name for importer in importers)
            raise StateError(
                f"domain {self.name}: found its exports in use by {names}, expected no importer",
                hint="unload them first, or `unresolve` them from this domain",
            )

    def let_go(self) -> None:
        """End this domain, whoever still uses it; what runs of it on the stack runs to its end."""
        self._state = DomainState.DESTROYED
        for source in self.sources():
            source.forget(self)
        self.links = []
        self._drop_instance()
        self._stores.when_idle(self._forget_everything)

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
        return externalize(self._running_instance("externalize"), given, resource)

    def internalize(self, reference: ExternalReference) -> Any:
        """Return the object that a reference names.

        Raises:
            CapabilityRevoked: Its handle is gone, or what it names was revoked.
            WrongDomain: It is another domain's, or forged.
        """
        return reach(internalize(self._running_instance("internalize"), reference))

    def withdraw(self, reference: ExternalReference) -> None:
        """Take the handle away from this domain, and let go of the object.

        Raises:
            CapabilityRevoked, WrongDomain: As for `internalize`.
        """
        withdraw(self._running_instance("withdraw"), reference)

    # ----------------------------------------------------------------------------------------------------------- faults

    def note_fault(self, error: SpinError, event: str = "") -> None:
        """Count a failed call; a fresh instance takes the place of one that could not be rolled back, if it may run.

        A call that was cut short because somebody else failed is not counted here.

        Args:
            error: What it failed with.
            event: Of which event it was a handler.
        """
        if not isinstance(error, _CUT_SHORT):
            self._count_fault(error, event)
            if error.attempt is not None:
                if self._stores.crashes is not None and self.policy.supervision.crash_records:
                    self._stores.crashes.take(self, event, error)
                error.attempt = None  # it would keep alive what was passed
        self.restore()

    def _count_fault(self, error: SpinError, event: str) -> None:
        now_s = self._stores.clock.monotonic_s()
        self.counters.note_fault(error, event, now_s)
        self.supervisor.note_fault(now_s)

    def count_runs(self) -> int:
        """How often handlers of it ran so far, or were asked to; on every event."""
        bindings = (one for event in self._stores.events for one in event.bindings)
        return sum(binding.counts.raises for binding in bindings if binding.domain is self)

    def wake(self) -> None:
        """Somebody needs it while it is quarantined: it runs on probation from now on, if its back-off is over."""
        if self.supervisor.may_run():
            self.restore()

    @property
    def calls_for_default(self) -> bool:
        """Whether a raise that meets it now answers its event's default."""
        supervisor = self.supervisor
        return supervisor.is_quarantined and supervisor.supervision.while_quarantined is Meanwhile.DEFAULT

    def note_health(self) -> None:
        """Its quarantine began or ended: no entry finds a test for that, the instance itself is closed to them."""
        if self._instance is not None:
            self._instance.quarantined = self.supervisor.is_quarantined
        for event in list(self._stores.events):
            event.note_health(self)

    def restore(self) -> None:
        """Replace the instance if it is broken and may run; after a call that was rolled back there is nothing to do.

        A checkpoint to start from would be looked for here.

        The fresh one is used only when its init agreed; else the broken one stays, which runs nothing, and the next
        raise tries again. What init wants done is done when the extension is loaded, not once more for each restart.
        """
        instance = self._instance
        if instance is None or not (self.links or instance.broken or instance.stale):
            return
        if not self.is_running or self.death is not None or self.supervisor.is_quarantined:
            return
        if instance.broken:
            self._restart()
            return
        if instance.stale:
            self.relink()
        for importer in self.importers():
            if importer.instance is not None and importer.instance.stale:
                importer.relink()

    def relink(self) -> None:
        """Call directly what its exporters export now; its state stays. Where that fails it starts afresh."""
        instance = self._instance
        if instance is None or not instance.linked or instance.busy or not self.is_running:
            return
        try:
            instance.relink(self._imports(instance.store))
            for export in self.exports.values():
                export.rebind(instance)
        except SpinError as error:
            self.counters.note_problem("relink-failed", error.line())
        for importer in self.importers():
            importer.relink()

    def _imports(self, store: Store) -> tuple[Import, ...]:
        return tuple(bound.instantiate(store) for bound in self._bound if bound is not None)

    def _restart(self) -> None:
        try:
            fresh = self._instantiate()
            self._run_init(fresh, {name: self._export(name, fresh) for name in (_INIT,) if name in self.exports})
            self._check_alive()
            for export in self.exports.values():
                export.rebind(fresh)
            self._instance = fresh
            self.counters.restarts += 1
            for importer in self.importers():
                importer.relink()
        except SpinError as error:
            self._count_fault(error, _INIT)

    def kill(self, reason: str, by: str) -> None:
        """End what runs of this domain, and run nothing of it any more; the first kill stays.

        From any thread, from a signal handler, or from a host function that the domain itself called. Its calls fail
        with `Killed` from now on, and each event does what it does when a handler fails. What it was granted stays its
        own until it is unloaded.

        Args:
            reason: Why; for the error.
            by: Who; for the error.
        """
        if self.death is not None:
            return
        moment = _moment(self._stores.clock)
        self.death = Killed(f"extension {self.name}: killed by {by} at {moment}: {reason}", hint="load it again")
        instance = self._instance
        if instance is not None:
            instance.kill(self.death)
        self.counters.note_problem("killed", self.death.line())

    # ----------------------------------------------------------------------------------------------------- instances

    def double(self, wrap: Callable[[int, Bound | None], Bound], *, initialised: bool) -> Instance:
        """Return another instance, in a store of its own, that nobody but the caller knows of.

        Args:
            wrap: What serves an import in it, from its position and what serves it here, if anything does.
            initialised: Run what runs before its first event, too. What that promises is dropped.

        Raises:
            LinkError, ExtensionError: It cannot be made, or its init refused or failed.
        """
        bound = [wrap(position, one) for position, one in enumerate(self._bound)]
        stores = Stores(self._stores.clock)
        made = self._make(stores, lambda store: tuple(one.instantiate(store) for one in bound))
        if initialised:
            self._run_init(
                made, {name: self._export(name, made) for name in (_INIT,) if name in self.extension.exports}
            )
        return made

    def _instantiate(self) -> Instance:
        self._check_alive()
        made = self._make(self._stores, self._imports)
        made.on_needed = self.wake
        return made

    def _make(self, stores: Stores, imports: Callable[[Store], tuple[Import, ...]]) -> Instance:
        limits = self.limits
        return stores.instantiate(
            self.extension.fitting.fit(limits),
            imports,
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
        return Export(instance, name, self.extension.exports[name].plan)

    def _run_init(self, instance: Instance, exports: dict[str, Export]) -> list[Effect]:
        """Run what the module wants run before its first event, and return what it wants done.

        Raises:
            LinkError, ExtensionError: It refused or failed, and must not be used.
        """
        if self.extension.module.exports.get("_initialize") == ("function", ":"):
            Export(instance, "_initialize", FunctionPlan("_initialize", (), None))(None)
        call = Call(_INIT, None)
        call.domain = self
        if _INIT in exports:
            answer = exports[_INIT](call)
            call.keep()
            if isinstance(answer, Err):
                reason = shown(str(answer.value), REFUSAL_CHARACTERS_MAX)
                raise LinkError(f"extension {self.name}: its init refused: {reason}", hint="see its configuration")
        return call.journal.effects

    def _check_alive(self) -> None:
        """Raise the `Killed` that ended it, perhaps while it was being made."""
        if self.death is not None:
            raise Killed(str(self.death), hint=self.death.hint)

    def _running_instance(self, operation: str) -> Instance:
        self._check(operation, DomainState.INITIALISED)
        assert self._instance is not None
        return self._instance

    def _drop_instance(self) -> None:
        """Run nothing more in the instance, from the next raise on."""
        instance, self._instance = self._instance, None
        if instance is not None:
            self._stores.when_idle(instance.close)
            self._stores.collect_soon()

    def _forget_everything(self) -> None:
        self.exports = {}
        self._bound = [None] * len(self._bound)

    # -------------------------------------------------------------------------------------------------------- states

    def _open_imports(self) -> list[tuple[int, ImportedFunction]]:
        pairs = zip(self.extension.imports, self._bound, strict=True)
        return [(position, imported) for position, (imported, bound) in enumerate(pairs) if bound is None]

    def _update_state(self) -> None:
        """Created, or resolved when nothing is open; an initialised domain that stayed whole goes on."""
        if any(bound is None for bound in self._bound):
            self._state = DomainState.CREATED
        elif self._instance is None:
            self._state = DomainState.RESOLVED

    def _check(self, operation: str, *expected: DomainState) -> None:
        self._stores.owner.check(f"domain {self.name}: {operation}")
        if self._state not in expected:
            names = " or ".join(state.value for state in expected)
            raise StateError(f"domain {self.name}: {operation}: it is {self._state.value}, expected it to be {names}")

    def _check_exporters(self) -> None:
        for exporter in self.exporters():
            if not exporter.is_running:
                raise StateError(
                    f"domain {self.name}: initialize: it imports from {exporter.name}, which is "
                    f"{exporter.state.value}, expected it to be initialised",
                    hint=f"initialise {exporter.name} first",
                )


def _moment(clock: Clock) -> str:
    return f"{datetime.fromtimestamp(wall_s(clock), UTC):%Y-%m-%d %H:%M:%SZ}"
