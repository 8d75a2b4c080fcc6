"""Interfaces: read from WIT files, found by id, shown to people.

`Interfaces` is an immutable set of interfaces that resolve against each other. The grammar is in `wit_syntax`, the
meaning in `wit_resolve`; this module loads files and answers questions. The subset of WIT is stated in
docs/formats/wit-subset.md.
"""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Iterable, Iterator
from pathlib import Path

from spinrt.errors import WitError
from spinrt.sandbox.binary_reader import shown
from spinrt.sandbox.types import (
    BorrowType,
    Function,
    Interface,
    ListType,
    OptionType,
    OwnType,
    Primitive,
    ResourceType,
    ResultType,
    TupleType,
    WitType,
)
from spinrt.sandbox.wit_resolve import Resolved, World, near, resolve
from spinrt.sandbox.wit_syntax import TEXT_BYTES_MAX, Source

__all__ = ["Interfaces", "Source", "World", "difference", "shipped", "signature", "type_text"]


class Interfaces:
    """A set of interfaces, each under its id (`spinrt:mail/delivery@1.0.0`).

    Attributes:
        sources: The texts that they come from.
    """

    def __init__(self, resolved: Resolved, sources: tuple[Source, ...] = ()) -> None:
        self._resolved = resolved
        self.sources = sources

    @classmethod
    def parse(cls, sources: Iterable[Source], *, known: Interfaces | None = None) -> Interfaces:
        """Parse texts that may refer to each other, in any order, and to the interfaces of `known`, which come along.

        Raises:
            WitError: With file, line, column, the line itself and a caret.
        """
        files = [(source, source.parse()) for source in sources]
        before = known.sources if known else ()
        return cls(resolve(files, known._resolved if known else None), (*before, *(source for source, _ in files)))

    @classmethod
    def load(cls, paths: Iterable[Path], *, known: Interfaces | None = None) -> Interfaces:
        """Load files, and all `*.wit` files directly in directories.

        Raises:
            WitError: As `parse`; or a path that cannot be read, or a directory without a `.wit` file.
        """
        return cls.parse([_read(path) for given in paths for path in _files(given)], known=known)

    def get(self, id: str) -> Interface:
        """Return the interface of that id.

        Raises:
            WitError: There is none; the hint lists other versions of it, or near names.
        """
        if (found := self._resolved.interfaces.get(id)) is not None:
            return found
        name = id.partition("@")[0]
        same_name = [other for other in self.ids() if other.partition("@")[0] == name]
        if same_name:
            hint = "there is " + ", ".join(same_name)
        else:
            hint = near(shown(id), self.ids()) or f"there are {len(self.ids())} interfaces"
        raise WitError(f"unknown interface `{shown(id)}`; expected package:name/interface@version", hint=hint)

    def ids(self) -> tuple[str, ...]:
        """Return all ids in order."""
        return tuple(sorted(self._resolved.interfaces))

    def own_types(self, id: str) -> dict[str, WitType | ResourceType]:
        """Return the types that an interface defines itself, in the order written; those it uses are left out."""
        interface = self.get(id)
        return {name: interface.types[name] for name in self._resolved.owned[id]}

    def worlds(self) -> tuple[World, ...]:
        """Return all worlds, in order of their ids."""
        return tuple(self._resolved.worlds[id] for id in sorted(self._resolved.worlds))

    def __contains__(self, id: object) -> bool:
        return id in self._resolved.interfaces

    def __iter__(self) -> Iterator[Interface]:
        return (self._resolved.interfaces[id] for id in self.ids())

    def __len__(self) -> int:
        return len(self._resolved.interfaces)


@functools.cache
def shipped() -> Interfaces:
    """Return the interfaces that come with spinrt."""
    directory = importlib.resources.files("spinrt") / "interfaces"
    files = {entry.name: entry for entry in directory.iterdir() if entry.name.endswith(".wit")}
    return Interfaces.parse(Source(name, files[name].read_text(encoding="utf-8")) for name in sorted(files))


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    if not (found := sorted(path.glob("*.wit"))):
        raise WitError(f"no .wit file in {path}")
    return found


def _read(path: Path) -> Source:
    try:
        with path.open("rb") as file:
            data = file.read(TEXT_BYTES_MAX + 1)
    except OSError as error:
        raise WitError(f"cannot read WIT file {path}: {error.strerror}") from error
    if len(data) > TEXT_BYTES_MAX:
        raise WitError(f"{path}: more than {TEXT_BYTES_MAX} bytes of WIT")
    try:
        return Source(str(path), data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise WitError(f"{path}: byte {error.start} is not UTF-8; WIT files are") from error


def type_text(type_: WitType | ResourceType | None) -> str:
    """Return a type as WIT writes it where it is used: `list<option<string>>`, named types by their names."""
    match type_:
        case None:
            return "_"
        case ListType(element):
            return f"list<{type_text(element)}>"
        case OptionType(element):
            return f"option<{type_text(element)}>"
        case ResultType(None, None):
            return "result"
        case ResultType(ok, None):
            return f"result<{type_text(ok)}>"
        case ResultType(ok, err):
            return f"result<{type_text(ok)}, {type_text(err)}>"
        case TupleType(elements):
            return "tuple<" + ", ".join(map(type_text, elements)) + ">"
        case OwnType(resource):
            return f"own<{resource.name}>"
        case BorrowType(resource):
            return f"borrow<{resource.name}>"
        case Primitive(name):
            return name
        case _:
            return type_.name


def signature(function: Function) -> str:
    """Return the WIT text of a function: `file-into: func(mailbox: string) -> result<_, problem>`."""
    parameters = ", ".join(f"{parameter.name}: {type_text(parameter.type)}" for parameter in function.parameters)
    result = f" -> {type_text(function.result)}" if function.result is not None else ""
    return f"{function.name}: func({parameters}){result}"


def difference(found: Function, expected: Function) -> str:
    """Say how two functions of the same name differ, or return an empty string; docs do not count."""
    if (signature(found), _shape(found)) == (signature(expected), _shape(expected)):
        return ""
    note = "" if signature(found) != signature(expected) else " (a type of the same name was defined differently)"
    return f"found {signature(found)}, expected {signature(expected)}{note}"


def _shape(function: Function) -> tuple[object, ...]:
    types = [parameter.type for parameter in function.parameters]
    return tuple(bare_type(type_) for type_ in [*types, function.result])


def bare_type(type_: WitType | ResourceType | None) -> object:
    """Return all that tells two types apart, without docs; equal for types that are the same."""
    if type_ is None or isinstance(type_, Primitive):
        return type_
    if isinstance(type_, ResourceType):
        return ("ResourceType", type_.interface, type_.name)
    return (type(type_).__name__, *(_bare_part(getattr(type_, slot)) for slot in type_.__slots__ if slot != "docs"))


def _bare_part(part: object) -> object:
    if isinstance(part, tuple):
        return tuple(_bare_part(item) for item in part)
    if isinstance(part, str) or part is None:
        return part
    if hasattr(part, "type") and hasattr(part, "name"):
        return (part.name, _bare_part(part.type))
    return bare_type(part)  # type: ignore[arg-type]  # what is left in a type is a type
