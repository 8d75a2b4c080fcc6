"""What a manifest promises of a module's exports, and what the module says of them itself.

The core type of a function does not always tell its type apart from another one: parameters that take more than 16
flat values cross as one pointer, with a closure in front of them or without. So the generated glue says what it was
made for, in a custom section, and the loader compares.

Layout: custom section ``spinrt.exports``, text in UTF-8: for each export whose type is not that of a function of the
interface, in any order, its name, a tab, its type as WIT, a line feed. Names of parameters and types count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from spinrt.errors import ManifestError, ModuleError, UnresolvedImport
from spinrt.sandbox.binary import CoreModule
from spinrt.sandbox.binary_reader import Reader
from spinrt.sandbox.binary_sections import CUSTOM
from spinrt.sandbox.handler_type import difference, guard_type, handler_type
from spinrt.sandbox.manifest import Manifest
from spinrt.sandbox.types import Function, Interface
from spinrt.sandbox.wit import Interfaces, signature

SECTION: Final = "spinrt.exports"


@dataclass(frozen=True, slots=True)
class Promise:
    """One export that a manifest promises.

    Attributes:
        name: The module's export.
        interface: Where its type comes from.
        function: Its type.
        has_closure: The type has a closure in front of an event's parameters.
    """

    name: str
    interface: str
    function: Function
    has_closure: bool = False

    @property
    def type_text(self) -> str:
        """Its type as WIT, without a name."""
        return signature(self.function).partition(": ")[2]

    def is_of_interface(self, interfaces: Interfaces) -> bool:
        """Tell whether it is a function of its interface, under that function's name."""
        id_, _, name = self.name.partition("#")
        return id_ == self.interface and interfaces.get(id_).functions.get(name) == self.function


def find_function(interfaces: Interfaces, name: str) -> tuple[Interface, Function]:
    """Return the interface and function of ``interface#function``.

    Raises:
        WitError: No such interface, or it has no such function.
    """
    id_, _, function = name.partition("#")
    interface = interfaces.get(id_)
    if function not in interface.functions:
        known = ", ".join(sorted(interface.functions))
        raise UnresolvedImport(f"interface {id_}: found no function {function!r}, expected one of {known}")
    return interface, interface.functions[function]


def promises(manifest: Manifest, known: Interfaces) -> list[Promise]:
    """Return what a manifest promises: handlers, their guards, and whole interfaces; each export once.

    Raises:
        WitError, UnresolvedImport: It names what there is not.
        ManifestError: One export is to be of two types.
    """
    found: dict[str, Promise] = {}
    for handler in manifest.handlers:
        interface, event = find_function(known, handler.event)
        closure = handler.closure is not None
        type_ = handler_type(event, closure=closure, filters=handler.filters)
        _add(found, manifest, Promise(handler.export_name, interface.id, type_, closure))
        if handler.guard:
            _add(found, manifest, Promise(handler.guard, interface.id, guard_type(event)))
    for id_ in manifest.exports:
        for name, function in known.get(id_).functions.items():
            if "[" not in name:
                _add(found, manifest, Promise(f"{id_}#{name}", id_, function))
    return list(found.values())


def _add(found: dict[str, Promise], manifest: Manifest, promise: Promise) -> None:
    known = found.setdefault(promise.name, promise)
    differs = difference(promise.function, known.function)
    if differs:
        raise ManifestError(
            f"manifest of {manifest.name}: handlers: export {promise.name} is to be of two types: {differs}",
            hint="name another export for one of them",
        )


def section_text(promised: Iterable[Promise]) -> str:
    """Return what the section says of these exports; see the head of this file."""
    return "".join(f"{one.name}\t{one.type_text}\n" for one in promised)


def declared_types(module: CoreModule) -> Mapping[str, str]:
    """Return what a module says of its exports: name → type.

    Raises:
        ModuleError: The section is malformed.
    """
    declared: dict[str, str] = {}
    for section in module.sections:
        reader = Reader(module.code, module.name, section.start, section.end)
        if section.id == CUSTOM and reader.text() == SECTION:
            declared |= _parse_lines(bytes(module.code[reader.at : section.end]), module.name)
    return declared


def _parse_lines(text: bytes, name: str) -> dict[str, str]:
    found: dict[str, str] = {}
    try:
        lines = text.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        raise ModuleError(f"{name}: custom section {SECTION}: found bytes that are no UTF-8") from None
    for line in lines:
        export, tab, type_ = line.partition("\t")
        if not tab:
            raise ModuleError(
                f"{name}: custom section {SECTION}: found {line!r:.80}, expected a name, a tab and a type"
            )
        found[export] = type_
    return found
