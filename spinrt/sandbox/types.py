"""The types that WIT can say, as plain values.

This module owns the vocabulary that the WIT parser produces and that the ABI planner, the linker and the binding
generator read. It knows neither syntax (``wit``) nor memory layout (``abi``).

Source: WIT.md and CanonicalABI.md of the WebAssembly component model; the subset is stated in docs/design/spine.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

T = TypeVar("T")

PRIMITIVES = frozenset(["bool", "s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64", "f32", "f64", "char", "string"])


@dataclass(frozen=True, slots=True)
class Primitive:
    """A number, bool, char or string; ``name`` is one of ``PRIMITIVES``."""

    name: str


@dataclass(frozen=True, slots=True)
class ListType:
    element: WitType


@dataclass(frozen=True, slots=True)
class OptionType:
    element: WitType


@dataclass(frozen=True, slots=True)
class ResultType:
    ok: WitType | None
    err: WitType | None


@dataclass(frozen=True, slots=True)
class TupleType:
    elements: tuple[WitType, ...]


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    type: WitType
    docs: str = ""


@dataclass(frozen=True, slots=True)
class RecordType:
    name: str
    fields: tuple[Field, ...]
    docs: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """One case of a variant, enum or flags type; ``type`` is ``None`` where it carries nothing."""

    name: str
    type: WitType | None = None
    docs: str = ""


@dataclass(frozen=True, slots=True)
class VariantType:
    name: str
    cases: tuple[Case, ...]
    docs: str = ""


@dataclass(frozen=True, slots=True)
class EnumType:
    name: str
    cases: tuple[Case, ...]
    docs: str = ""


@dataclass(frozen=True, slots=True)
class FlagsType:
    name: str
    flags: tuple[Case, ...]
    docs: str = ""


@dataclass(frozen=True, slots=True)
class ResourceType:
    """A resource; ``interface`` is the id of the interface that defines it and has its methods as functions."""

    name: str
    interface: str
    docs: str = ""


@dataclass(frozen=True, slots=True)
class OwnType:
    resource: ResourceType


@dataclass(frozen=True, slots=True)
class BorrowType:
    resource: ResourceType


WitType: TypeAlias = (
    Primitive
    | ListType
    | OptionType
    | ResultType
    | TupleType
    | RecordType
    | VariantType
    | EnumType
    | FlagsType
    | OwnType
    | BorrowType
)
NamedType: TypeAlias = RecordType | VariantType | EnumType | FlagsType | ResourceType


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    type: WitType


@dataclass(frozen=True, slots=True)
class Function:
    """A function of an interface.

    ``name`` is the name in the core module: ``get`` for a free function, ``[method]message.size``,
    ``[static]message.open``, ``[constructor]message`` and ``[resource-drop]message`` for those of a resource. A
    method's first parameter is ``self``, a borrow.
    """

    name: str
    parameters: tuple[Parameter, ...]
    result: WitType | None
    docs: str = ""


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface; ``id`` is ``package:name/interface@version``, as ``spinrt:mail/delivery@1.0.0``.

    ``types`` maps each name usable inside the interface (own, aliased or used from another) to its type; ``functions``
    maps core-module names to functions, the implied ``[resource-drop]`` of each own resource included.
    """

    id: str
    types: dict[str, WitType | ResourceType]
    functions: dict[str, Function]
    docs: str = ""

    @property
    def name(self) -> str:
        """The bare name: ``delivery`` of ``spinrt:mail/delivery@1.0.0``."""
        return self.id.split("/", 1)[1].split("@", 1)[0]


@dataclass(frozen=True, slots=True)
class Ok(Generic[T]):
    """The good case of a WIT ``result``, as a Python value."""

    value: T | None = None


@dataclass(frozen=True, slots=True)
class Err(Generic[T]):
    """The bad case of a WIT ``result``, as a Python value."""

    value: T | None = None


Result: TypeAlias = Ok[Any] | Err[Any]
