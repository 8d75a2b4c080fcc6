"""The runtime: exporters, events and the extensions that are loaded. One belongs to one thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spinrt.clock import Clock, SystemClock
from spinrt.errors import StateError
from spinrt.runtime.authority import Principal
from spinrt.runtime.binding import Binding
from spinrt.runtime.capability import HostInterface
from spinrt.runtime.crash_keeper import Bounds, CrashKeeper
from spinrt.runtime.deferred import Pending
from spinrt.runtime.domain import Domain
from spinrt.runtime.event import Event
from spinrt.runtime.handlers import check_events, install_handlers
from spinrt.runtime.linker import link
from spinrt.runtime.nameserver import Authorizer, Nameserver
from spinrt.runtime.policy import Policy
from spinrt.runtime.replace import Replacement, Returned, replace
from spinrt.runtime.source import HostDomain, Source
from spinrt.runtime.stores import Stores
from spinrt.runtime.supervisor import Probation
from spinrt.runtime.swap import Swap, swap
from spinrt.sandbox.loader import Extension, load_extension
from spinrt.sandbox.promised import find_function
from spinrt.sandbox.wit import Interfaces, shipped


class Runtime:
    """Where extensions are loaded and events are raised.

    Args:
        interfaces: The WIT interfaces that exist here; those that come with spinrt by default.
        clock: For rates, probations and the moments that errors name; the machine's by default.

    Attributes:
        domains: What is loaded, by name.
        replacements: New versions that have not proved themselves yet, by name.
        returned: By name, the last version that gave its place back, until something else was put there.

    Example:
        ```python
        runtime = Runtime()
        runtime.export(ClockInterface())
        event = runtime.define("spinrt:mail/delivery-events@1.0.0#filed")
        runtime.load(Path("extensions/audit"), Policy.granting("spinrt:clock/clock@1.0.0"))
        event.raise_(receipt, message)
        ```
    """

    def __init__(self, *, interfaces: Interfaces | None = None, clock: Clock = SystemClock()) -> None:  # noqa: B008
        self.interfaces = interfaces or shipped()
        self.nameserver = Nameserver()
        self.events: dict[str, Event] = {}
        self.domains: dict[str, Domain] = {}
        self.stores = Stores(clock)
        self.pending = Pending()
        self.replacements: dict[str, Replacement] = {}
        self.returned: dict[str, Returned] = {}
        self.monotonic_s = clock.monotonic_s

    def export(self, exporter: HostInterface | Source, authorizer: Authorizer | None = None) -> None:
        """Offer a host interface, or all that a domain exports, to extensions that are loaded from now on.

        Args:
            exporter: Who serves it.
            authorizer: Asked at each import of an interface, with the importer and its grant; a text refuses.

        Raises:
            StateError: An interface has an exporter already.
            WitError: There is no such interface here.
            UsageError: It is to serve a function that its interface does not have.
        """
        self._check("export")
        source = HostDomain(exporter) if isinstance(exporter, HostInterface) else exporter
        if isinstance(exporter, HostInterface):
            exporter.check_served(self.interfaces.get(exporter.interface_id))
        for interface_id in source.interfaces:
            self.interfaces.get(interface_id)
        self.nameserver.export(source, authorizer)

    def define(self, name: str, **options: Any) -> Event:
        """Define an event of the type that its interface declares; ``options`` are those of `Event`.

        Raises:
            StateError: It is defined already.
            WitError, UnresolvedImport: There is no such interface or function.
        """
        self._check("define")
        if name in self.events:
            raise StateError(f"event {name}: it is defined already")
        _, function = find_function(self.interfaces, name)
        event = self.events[name] = Event(name, function, stores=self.stores, pending=self.pending, **options)
        return event

    def create(self, extension: Path | str | Extension, policy: Policy | None = None) -> Domain:
        """Make a domain that works in this runtime and is not linked yet; `load` is this and all that follows.

        Raises:
            UsageError, LinkError: What is wrong with the extension.
        """
        self._check("create")
        return Domain.create(self.read(extension), policy, stores=self.stores)

    def read(self, extension: Path | str | Extension) -> Extension:
        """Return the checked extension of a directory, or what `load_extension` gave as it is."""
        if isinstance(extension, Extension):
            return extension
        return load_extension(Path(extension), interfaces=self.interfaces)

    def load(
        self,
        extension: Path | str | Extension,
        policy: Policy | None = None,
        *,
        orders: Mapping[str, int] | None = None,
        authorizer: Authorizer | None = None,
    ) -> Domain:
        """Load an extension, link it under a policy, initialise it and install its handlers: all of it, or nothing.

        Args:
            extension: A directory with a manifest, or what `load_extension` gave.
            policy: What it is granted; nothing by default.
            orders: Event name → order, instead of the manifest's.
            authorizer: Asked when another extension imports what this one exports.

        Raises:
            UsageError, LinkError, ExtensionError: What is wrong with it; nothing of it is left.
        """
        domain = self.create(extension, policy)
        if domain.name in self.domains:
            raise StateError(f"extension {domain.name}: one of that name is loaded already", hint="unload it first")
        try:
            self.check_events(domain)
            self.nameserver.check(domain)
            link(domain, self.nameserver)
            effects = domain.start()
            install_handlers(self.events, domain, orders)
        except BaseException:
            domain.destroy()
            raise
        self.nameserver.export(domain, authorizer)
        self.domains[domain.name] = domain
        domain.is_loaded = True
        for effect in effects:
            effect.apply()
        return domain

    def unload(self, domain: Domain) -> None:
        """Uninstall a domain's handlers and let go of it; what runs of it on the stack runs to its end.

        Raises:
            StateError: It is not loaded here, or others import from it.
        """
        self._check("unload")
        if self.domains.get(domain.name) is not domain:
            raise StateError(f"domain {domain.name}: it is not loaded here")
        replacement = self.replacements.get(domain.name)
        if replacement is not None and not replacement.is_settled:
            raise StateError(
                f"domain {domain.name}: unload: it was put in place in this very raise, expected it to end"
            )
        domain.check_unused()
        self.nameserver.withdraw(domain)
        del self.domains[domain.name]
        self.returned.pop(domain.name, None)
        self.let_go(domain)
        if replacement is not None:
            del self.replacements[domain.name]
            self.let_go(replacement.old)

    def replace(
        self,
        domain: Domain,
        extension: Path | str | Extension,
        policy: Policy | None = None,
        *,
        orders: Mapping[str, int] | None = None,
        probation: Probation = Probation(),  # noqa: B008 - immutable
    ) -> Domain:
        """Put a new version in the place of a loaded extension, between two raises: all of it, or nothing.

        Handlers keep what others decided about them (order, place, imposed guards); importers go on with the new
        version; called during a raise, it takes effect for raises that begin later. While it is on probation, the new
        version gives its place back when it fails too often, and one log line (``event=returned``) says so.

        Args:
            domain: What is loaded now.
            extension: The new version: a directory with a manifest, or what `load_extension` gave; of the same name.
            policy: What it is granted; that of the old version by default.
            orders: Event name → order, instead of the manifest's.
            probation: When to return to the old version, and until when.

        Returns:
            The domain of the new version.

        Raises:
            UsageError, LinkError, ExtensionError: What is wrong with it; the old version goes on, and the error says
                so.
        """
        self._check("replace")
        return replace(self, domain, extension, policy, orders, probation)

    def keep_crashes(self, directory: Path, *, bounds: Bounds = Bounds()) -> CrashKeeper:  # noqa: B008 - immutable
        """Record faults of extensions whose policy says ``crash_records: on``; ``close`` the keeper in the end.

        Raises:
            ConfigError: The directory cannot be used.
        """
        keeper = self.stores.crashes = CrashKeeper(directory, bounds=bounds, clock=self.stores.clock)
        return keeper

    def end_probations(self) -> None:
        """Let go of old versions whose successors have proved themselves; done by and by, also without this call."""
        for name, replacement in list(self.replacements.items()):
            if replacement.is_over() and self.replacements.get(name) is replacement:  # finding out may have ended it
                del self.replacements[name]
                self.let_go(replacement.old)

    def let_go(self, domain: Domain) -> None:
        """End a domain that nothing leads to any more: its handlers, its guards, its instance."""
        domain.is_loaded = False
        domain.let_go()
        for event in self.events.values():
            event.drop(domain)

    def bindings_of(self, domain: Domain) -> list[Binding]:
        """Every binding of a domain's handlers, on all events."""
        return [binding for event in self.events.values() for binding in event.bindings if binding.domain is domain]

    def swap(self, swaps: Sequence[Swap], *, by: Principal = None) -> list[Binding | None]:
        """Replace, install and uninstall many bindings of many events: all or none; see `spinrt.runtime.swap.swap`."""
        self._check("swap")
        return swap(swaps, by=by)

    def run_pending(self, count_max: int | None = None) -> int:
        """Run what asynchronous handlers and raises left, at most so much, and return how many were taken.

        What that leaves to do waits for the next call. See `spinrt.runtime.deferred.Pending.run`.
        """
        self._check("run_pending")
        return self.pending.run(count_max)

    def check_events(self, domain: Domain) -> None:
        """Raise the `UsageError` for a handler of an event that nobody defines here, if the domain has one."""
        check_events(self.events, domain.extension)

    def _check(self, operation: str) -> None:
        self.stores.owner.check(f"runtime: {operation}")
        self.end_probations()
