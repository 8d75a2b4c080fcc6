"""A domain to link against in order to be told what is missing.

It exports everything. What it is asked for is noted: by whom, which function, of which type, and whether the policy
grants it. Imports that are granted are bound to functions that fail when they are called, so that the rest of the
extension can be tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from spinrt._core import Call
from spinrt.errors import UnresolvedImport
from spinrt.runtime.capability import Closure, Grant, HostInterface
from spinrt.runtime.linker import policy_lines
from spinrt.runtime.source import Source
from spinrt.sandbox.wit import signature

if TYPE_CHECKING:
    from spinrt.runtime.domain import Domain
    from spinrt.sandbox.loader import ImportedFunction


@dataclass(frozen=True, slots=True)
class Asked:
    """One import that was looked for; ``type`` is the function as WIT writes it."""

    importer: str
    interface: str
    function: str
    type: str
    granted: bool

    def __str__(self) -> str:
        return f"{self.importer}: {self.interface}: {self.type}" + ("" if self.granted else " (not granted)")


class DebugDomain(Source):
    """A source that exports everything and remembers what was asked of it.

    Attributes:
        asked: What was looked for here, in order, each import of each domain once.
    """

    def __init__(self, name: str = "debug") -> None:
        self._name = name
        self.asked: list[Asked] = []

    @property
    def name(self) -> str:
        return self._name

    def __repr__(self) -> str:
        return f"<DebugDomain {self.name}: {len(self.asked)} asked>"

    @property
    def interfaces(self) -> tuple[str, ...]:
        """Those that were asked for so far."""
        return tuple(dict.fromkeys(asked.interface for asked in self.asked))

    def find(self, interface_id: str) -> Source:
        return self

    def interface(self, interface_id: str) -> HostInterface:
        return _DebugInterface(interface_id)

    def note(self, importer: Domain, imported: ImportedFunction, grant: Grant | None) -> None:
        function = importer.extension.interfaces.get(imported.interface).functions[imported.function]
        asked = Asked(importer.name, imported.interface, imported.function, signature(function), grant is not None)
        if asked not in self.asked:
            self.asked.append(asked)

    def grants(self, importer: Domain) -> str:
        """Return what the policy's ``grants`` must say to give all that this domain asked for here, and what it gives
        now."""
        missing: dict[str, list[str]] = {}
        for asked in self.asked:
            if asked.importer == importer.name and not asked.granted:
                missing.setdefault(asked.interface, []).append(asked.function)
        return policy_lines(importer.policy.grants, missing)

    def report(self) -> Iterator[str]:
        """Yield one line for each import that was asked for."""
        return (str(asked) for asked in self.asked)


class _DebugInterface(HostInterface):
    """Any interface; its functions can be bound and not called."""

    def __init__(self, interface_id: str) -> None:
        self.interface_id = interface_id

    def check(self, grant: Grant) -> None:
        """Whether the attenuations make sense, only the real exporter knows."""

    def bind(self, function: str, grant: Grant, domain: Domain) -> Closure:
        what = f"extension {domain.name}: import {self.interface_id}#{function}"

        def fail(call: Call | None, *arguments: object) -> NoReturn:
            raise UnresolvedImport(f"{what}: found a call of a debug domain's function, expected an exporter")

        return fail
