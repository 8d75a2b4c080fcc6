"""Extensions whose handlers do nothing, and events to install them on: what it costs to get there is all there is.

Each handler answers a number that is its own, so that it shows who ran last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import wasmtime
import yaml

from spinrt.errors import InternalError
from spinrt.runtime.binding import DomainExport
from spinrt.runtime.domain import Domain
from spinrt.runtime.event import Event
from spinrt.runtime.runtime import Runtime
from spinrt.sandbox.condition import Condition, Equal, Range
from spinrt.sandbox.loader import Extension, check_extension
from spinrt.sandbox.manifest import Manifest
from spinrt.sandbox.wit import Interfaces, Source, shipped

HANDLERS: Final = "bench:dispatch/handlers@1.0.0"
EVENTS: Final = "bench:dispatch/events@1.0.0"
ARGUMENTS: Final = {0: (), 1: (1,), 5: (1, 2, 3, 4, 5)}
"""What is raised, by how many arguments there are."""
NOTHING: Final = 255
"""What an event answers when no handler ran. Python keeps integers up to 256: none is made for a result."""
LAYOUTS: Final = 61
NONE, TRUE, FALSE, MIXED, ONE = "none", "true", "false", "mixed", "one-matches"
"""Guards: none at all, all hold, none holds, every second one holds, the last one alone does."""

_TYPES: Final = {0: "()", 1: "(first: u32)", 5: "(first: u32, second: u32, third: u32, fourth: u32, fifth: u32)"}


@dataclass(frozen=True, slots=True)
class Shape:
    """An event and what is installed on it."""

    arguments: int
    handlers: int
    guards: str = NONE

    @property
    def event_name(self) -> str:
        return f"raise-a{self.arguments}-h{self.handlers}-{self.guards}"

    @property
    def params(self) -> dict[str, object]:
        return {"arguments": self.arguments, "handlers": self.handlers, "guards": self.guards}

    def guards_of(self, position: int) -> tuple[Condition, ...]:
        """The guards of one handler; what is raised has 1 as its first argument."""
        if self.guards == NONE:
            return ()
        if self.guards == ONE:
            return (Equal("first", self.handlers - position),)
        if self.guards == MIXED:
            return ((Equal("first", 1), Equal("first", 2), Range("first", 0, 1), Range("first", 2, 9))[position % 4],)
        return (Equal("first", 1 if self.guards == TRUE else 2),)

    def passes(self, position: int) -> bool:
        """Whether that handler runs."""
        if self.guards == ONE:
            return position == self.handlers - 1
        return self.guards in (NONE, TRUE) or (self.guards == MIXED and position % 2 == 0)


class Fleet:
    """Domains of one runtime, made when they are first needed: one instance for each handler of an event.

    Args:
        shapes: The events that there will be.
        modules: So many different modules are compiled; domains take them in turn. Below 255.
    """

    def __init__(self, shapes: Sequence[Shape], modules: int = 1) -> None:
        self.interfaces = Interfaces.parse([Source("dispatch.wit", _wit(shapes))], known=shipped())
        self.runtime = Runtime(interfaces=self.interfaces)
        self._domains: list[Domain] = []
        self._modules = modules

    @cached_property
    def _extensions(self) -> list[Extension]:
        return [_extension(number, self.interfaces) for number in range(self._modules)]

    def domain(self, position: int) -> Domain:
        """The domain that has the handler of that position, whatever the event."""
        while len(self._domains) <= position:
            number = len(self._domains)
            extension = self._extensions[number % self._modules]
            named = replace(extension, manifest=replace(extension.manifest, name=f"handler-{number}"))
            self._domains.append(self.runtime.create(named))
            self._domains[-1].initialize()
        return self._domains[position]

    def handler(self, position: int, arguments: int) -> DomainExport:
        """The export that handles an event of so many arguments."""
        return DomainExport(self.domain(position), f"{HANDLERS}#take{arguments}")

    def event(self, shape: Shape) -> Event:
        """Define an event, install its handlers and see that those run which must.

        Raises:
            InternalError: Others do.
        """
        event = self.runtime.define(f"{EVENTS}#{shape.event_name}", default=NOTHING)
        for position in range(shape.handlers):
            event.install(self.handler(position, shape.arguments), guards=shape.guards_of(position))
        check_answer(event, shape, self._modules)
        return event


def check_answer(event: Event, shape: Shape, modules: int) -> None:
    """Raise once and compare the answer, and who ran, with what the shape says."""
    before = [binding.counts.raises for binding in event.bindings]
    passing = [position for position in range(shape.handlers) if shape.passes(position)]
    expected = passing[-1] % modules if passing else NOTHING
    found = event.raise_(*ARGUMENTS[shape.arguments])
    ran = [at for at, binding in enumerate(event.bindings) if binding.counts.raises > before[at]]
    if found != expected or ran != passing:
        raise InternalError(
            f"event {event.name}: found the answer {found} of handlers {ran}, expected {expected} of {passing}"
        )


def check(code: str, manifest: dict[str, Any], interfaces: Interfaces) -> Extension:
    """Compile an extension from WebAssembly text and what its manifest says besides the obvious."""
    whole = {"spinrt": 1, "version": "1.0.0", "module": "bench.wasm", **manifest}
    return check_extension(Manifest.parse(yaml.safe_dump(whole)), assemble(code), interfaces=interfaces)


def assemble(code: str) -> bytes:
    """The bytes of a module that is written as text."""
    return bytes(wasmtime.wat2wasm(code))


def handler_code(number: int) -> str:
    """A module with a handler for each number of arguments; all answer that number.

    How much code stands before them follows from the number: real modules are laid out differently, while many of one
    layout, each on pages of its own, would all meet in the same sets of the caches.
    """
    before = "(func (param i32) (result i32) (i32.popcnt (local.get 0)))\n" * (number * 7 % LAYOUTS)
    exports = "\n".join(
        f'(func (export "{HANDLERS}#take{count}") {"(param i32) " * count}(result i32) (i32.const {number}))'
        for count in ARGUMENTS
    )
    return f'(module (memory (export "memory") 1) {before} {exports})'


def _extension(number: int, interfaces: Interfaces) -> Extension:
    return check(handler_code(number), {"name": f"handler-{number}", "exports": [HANDLERS]}, interfaces)


def _wit(shapes: Sequence[Shape]) -> str:
    handlers = "\n".join(f"  take{count}: func{types} -> u32;" for count, types in _TYPES.items())
    events = "\n".join(f"  {shape.event_name}: func{_TYPES[shape.arguments]} -> u32;" for shape in shapes)
    return f"package bench:dispatch@1.0.0;\ninterface handlers {{\n{handlers}\n}}\ninterface events {{\n{events}\n}}\n"
