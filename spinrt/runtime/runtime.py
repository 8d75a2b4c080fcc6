"""The runtime: exporters, events and the extensions that are loaded. One belongs to one thread."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from spinrt.errors import StateError, UsageError
from spinrt.runtime.capability import HostInterface
from spinrt.runtime.domain import Domain
from spinrt.runtime.event import Event
from spinrt.runtime.nameserver import Authorizer, Nameserver
from spinrt.runtime.policy import Policy
from spinrt.sandbox.loader import Extension, find_function, load_extension
from spinrt.sandbox.wit import Interfaces, shipped


class Runtime:
    """Where extensions are loaded and events are raised.

    Args:
        interfaces: The WIT interfaces that exist here; those that come with spinrt by default.

    Example:
        ```python
        runtime = Runtime()
        runtime.export(ClockInterface())
        event = runtime.define("spinrt:mail/delivery-events@1.0.0#filed")
        runtime.load(Path("extensions/audit"), Policy.granting("spinrt:clock/clock@1.0.0"))
        event.raise_(receipt, message)
        ```
    """

    def __init__(self, *, interfaces: Interfaces | None = None) -> None:
        self.interfaces = interfaces or shipped()
        self.nameserver = Nameserver()
        self.events: dict[str, Event] = {}
        self.domains: dict[str, Domain] = {}
        self._thread = threading.get_ident()

    def export(self, exporter: HostInterface, authorizer: Authorizer | None = None) -> None:
        """Offer a host interface to extensions that are loaded from now on."""
        self.interfaces.get(exporter.interface_id)
        self.nameserver.export(exporter, authorizer)

    def define(self, name: str, **options: Any) -> Event:
        """Define an event of the type that its interface declares; ``options`` are those of `Event`.

        Raises:
            StateError: It is defined already.
            WitError, UnresolvedImport: There is no such interface or function.
        """
        if name in self.events:
            raise StateError(f"event {name}: it is defined already")
        _, function = find_function(self.interfaces, name)
        event = self.events[name] = Event(name, function, **options)
        return event

    def load(
        self, extension: Path | str | Extension, policy: Policy | None = None, *, orders: dict[str, int] | None = None
    ) -> Domain:
        """Load an extension, link it under a policy, initialise it and install its handlers: all of it, or nothing.

        Args:
            extension: A directory with a manifest, or what `load_extension` gave.
            policy: What it is granted; nothing by default.
            orders: Event name → order, instead of the manifest's.

        Raises:
            UsageError, LinkError, ExtensionError: What is wrong with it; nothing of it is left.
        """
        self._check_thread()
        loaded = (
            load_extension(Path(extension), interfaces=self.interfaces)
            if isinstance(extension, Path | str)
            else extension
        )
        if loaded.name in self.domains:
            raise StateError(f"extension {loaded.name}: one of that name is loaded already", hint="unload it first")
        for handler in loaded.manifest.handlers:
            self._event(handler.event, loaded)
        domain = Domain(loaded, policy or Policy(), self.nameserver)
        for handler in loaded.manifest.handlers:
            self.events[handler.event].install(domain, order=(orders or {}).get(handler.event, handler.order))
        self.domains[loaded.name] = domain
        return domain

    def unload(self, domain: Domain) -> None:
        """Uninstall a domain's handlers and let go of it.

        Raises:
            StateError: It is not loaded here.
        """
        self._check_thread()
        if self.domains.get(domain.name) is not domain:
            raise StateError(f"domain {domain.name}: it is not loaded here")
        for event in self.events.values():
            if any(binding.domain is domain for binding in event.bindings):
                event.uninstall(domain)
        del self.domains[domain.name]
        domain.close()

    def _event(self, name: str, extension: Extension) -> Event:
        if name not in self.events:
            raise UsageError(
                f"extension {extension.name}: it handles {name}, which nobody defines here",
                hint=f"defined: {', '.join(self.events) or 'nothing'}",
            )
        return self.events[name]

    def _check_thread(self) -> None:
        if threading.get_ident() != self._thread:
            raise StateError("runtime: found a use from another thread, expected the one that made it")
