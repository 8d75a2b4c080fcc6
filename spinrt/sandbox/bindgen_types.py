"""C types for WIT types: names, declarations in an order that compiles, and asserted layouts.

Every C type has the size and alignment that the Canonical ABI prescribes for its WIT type, so that a value in guest
memory *is* the C value; `_Static_assert` in the generated header proves it wherever the header is compiled.
"""

from __future__ import annotations

from collections.abc import Iterable

from spinrt.errors import UsageError
from spinrt.sandbox.bindgen_flat import (
    c_name,
    cases_of,
    discriminant_size,
    fields_of,
    flags_size,
    layout,
    primitive_in_c,
    tag_name,
)
from spinrt.sandbox.types import (
    BorrowType,
    Case,
    EnumType,
    FlagsType,
    ListType,
    OptionType,
    OwnType,
    Primitive,
    RecordType,
    ResourceType,
    ResultType,
    TupleType,
    VariantType,
    WitType,
)
from spinrt.sandbox.wit import Interfaces

_BYTE = Primitive("u8")
_NAMED = (RecordType, VariantType, EnumType, FlagsType, ResourceType)


def c_words(*names: str) -> str:
    """Join WIT names into a C identifier; equal neighbours are written once: `clock`, `clock`, `now` → `clock_now`."""
    words: list[str] = []
    for word in (word for name in names for word in name.lower().split("-")):
        if not words or words[-1] != word:
            words.append(word)
    return "_".join(words)


def interface_words(id: str) -> tuple[str, str]:
    """Return package and interface name of an id: `mail`, `delivery` of `spinrt:mail/delivery@1.0.0`."""
    package, _, name = id.partition("@")[0].partition(":")[2].partition("/")
    return package, name


def comment(text: str, indent: str = "") -> list[str]:
    """Return a C comment of any text, as lines; none for no text."""
    lines = text.replace("*/", "* /").replace("??", "? ?").replace("\\\n", "\n").rstrip("\\").splitlines()
    if not lines:
        return []
    if len(lines) == 1:
        return [f"{indent}/** {lines[0]} */"]
    return [f"{indent}/**", *(f"{indent} * {line}".rstrip() for line in lines), f"{indent} */"]


class CTypes:
    """Names and declares C types on demand; `declarations` holds what was declared, in order."""

    def __init__(self, interfaces: Interfaces) -> None:
        self.declarations: list[str] = []
        self._names: dict[int, str] = {}
        self._declared: dict[str, WitType | ResourceType] = {}
        self._taken: dict[str, str] = {}
        for interface in interfaces:
            for name, type_ in interfaces.own_types(interface.id).items():
                if isinstance(type_, _NAMED) and type_.name == name:
                    self._names.setdefault(id(type_), c_words(*interface_words(interface.id), name))

    def claim(self, name: str, owner: str) -> str:
        """Return a C identifier that no one else has.

        Raises:
            UsageError: Another object of the interfaces has that C name.
        """
        if self._taken.setdefault(name, owner) != owner:
            raise UsageError(
                f"bindgen: {owner} and {self._taken[name]} would both be `{name}` in C; expected different names",
                hint="two versions or name spaces of one interface cannot be in one header",
            )
        return name

    def name(self, type_: WitType) -> str:
        """Return the C type of a WIT type, declared."""
        if isinstance(type_, Primitive):
            return primitive_in_c(type_)
        if type_ == ListType(_BYTE):
            return "spin_bytes_t"
        if isinstance(type_, OwnType | BorrowType):
            self._resource(type_.resource)
            return self._mangled(type_) + "_t"
        name = self._mangled(type_) + "_t"
        if name not in self._declared:
            lines = self._declaration(type_, name)
            self.claim(name, _owner(type_, name))
            self._declared[name] = type_
            size, alignment = layout(type_)
            proof = f'_Static_assert(sizeof({name}) == {size} && _Alignof({name}) == {alignment}, "{name}");'
            self.declarations.append("\n".join([*lines, proof]))
        elif not _same(self._declared[name], type_):
            self.claim(name, f"type {type_}")
        return name

    def define(self, interface_id: str, name: str, type_: WitType | ResourceType) -> None:
        """Declare a type that an interface defines, or a typedef for its alias."""
        if isinstance(type_, ResourceType):
            self._resource(type_)
            return
        target = self.name(type_)
        own = c_words(*interface_words(interface_id), name) + "_t"
        if own != target:
            self.claim(own, f"type {interface_id}#{name}")
            self.declarations.append(f"typedef {target} {own};")

    def _mangled(self, type_: WitType | ResourceType | None) -> str:
        """Return the C name of a type without `_t`."""
        if isinstance(type_, _NAMED):
            return self._names[id(type_)]
        match type_:
            case OwnType(resource):
                return f"{self._mangled(resource)}_own"
            case BorrowType(resource):
                return f"{self._mangled(resource)}_borrow"
            case _:
                return f"spin_{self._part(type_)}"

    def _part(self, type_: WitType | None) -> str:
        match type_:
            case None:
                return "void"
            case Primitive(name):
                return name
            case ListType(element):
                return "bytes" if element == _BYTE else f"list_{self._part(element)}"
            case OptionType(element):
                return f"option_{self._part(element)}"
            case ResultType(ok, err):
                return f"result_{self._part(ok)}_{self._part(err)}"
            case TupleType(elements):
                return f"tuple{len(elements)}_" + "_".join(map(self._part, elements))
            case _:
                return self._mangled(type_)

    def _resource(self, resource: ResourceType) -> None:
        base = self._mangled(resource)
        if f"{base}_own_t" in self._declared:
            return
        own, borrow = f"{base}_own_t", f"{base}_borrow_t"
        for name in (own, borrow):
            self.claim(name, f"resource {resource.interface}#{resource.name}")
            self._declared[name] = resource
        lend = self.claim(f"{base}_lend", f"loan of {resource.interface}#{resource.name}")
        self.declarations.append(
            "\n".join(
                [
                    *comment(resource.docs),
                    f"typedef struct {{ uint32_t handle; }} {own};",
                    "/** Ends by itself when the call that it was given to returns. */",
                    f"typedef struct {{ uint32_t handle; }} {borrow};",
                    f"static inline {borrow} {lend}({own} self) {{ return ({borrow}){{ self.handle }}; }}",
                ]
            )
        )

    def _declaration(self, type_: WitType, name: str) -> list[str]:
        match type_:
            case ListType(element):
                return [f"typedef struct {{ {self.name(element)} *ptr; size_t len; }} {name};"]
            case EnumType(cases=cases, docs=docs):
                base = f"uint{discriminant_size(len(cases)) * 8}_t"
                return [*comment(docs), f"typedef {base} {name};", *self._constants(name, cases)]
            case FlagsType(flags=flags, docs=docs):
                base = f"uint{flags_size(len(flags)) * 8}_t"
                return [*comment(docs), f"typedef {base} {name};", *self._constants(name, flags, "(1u << {})")]
            case RecordType(docs=docs):
                members = [
                    line
                    for field in type_.fields
                    for line in [*comment(field.docs, "  "), f"  {self.name(field.type)} {c_name(field.name)};"]
                ]
                return [*comment(docs), "typedef struct {", *members, f"}} {name};"]
            case TupleType():
                members = [f"  {self.name(inner)} {field};" for field, inner in fields_of(type_)]
                return ["typedef struct {", *members, f"}} {name};"]
            case OptionType() | ResultType() | VariantType():
                return self._union(type_, name)
        raise UsageError(f"bindgen: cannot declare {type_}")

    def _constants(self, name: str, cases: Iterable[Case], form: str = "{}") -> list[str]:
        prefix = name.removesuffix("_t").upper()
        lines = ["enum {"]
        for index, case in enumerate(cases):
            constant = self.claim(f"{prefix}_{case.name.upper().replace('-', '_')}", f"case {case.name} of {name}")
            lines += [*comment(case.docs, "  "), f"  {constant} = {form.format(index)},"]
        return [*lines, "};"]

    def _union(self, type_: OptionType | ResultType | VariantType, name: str) -> list[str]:
        cases = cases_of(type_)
        members = [f"  {self.name(payload)} {c_name(case)};" for case, payload in cases if payload is not None]
        lines = ["typedef struct {"]
        if isinstance(type_, VariantType):
            constants = self._constants(name.removesuffix("_t") + "_tag_t", type_.cases)
            lines = [*constants, *comment(type_.docs), *lines, f"  uint{discriminant_size(len(cases)) * 8}_t tag;"]
        else:
            lines.append(f"  bool {tag_name(type_)};")
        if len(members) > 1:
            lines += ["  union {", *(f"  {member}" for member in members), "  };"]
        else:
            lines += members
        return [*lines, f"}} {name};"]


def _owner(type_: WitType, name: str) -> str:
    """Say in an error what has a C name."""
    return f"type {type_.name} ({name})" if isinstance(type_, _NAMED) else f"type {name}"


def _same(one: WitType | ResourceType, other: WitType | ResourceType) -> bool:
    """Tell whether a C name stands for one type; named ones are one object wherever they are used."""
    return one is other if isinstance(one, _NAMED) else one == other
