"""How values cross as core numbers: the flat form of a type, and C statements that make and read it.

In memory a C value of the generated types has the layout that the Canonical ABI prescribes, so only what crosses as
parameters and results of core functions needs code. This module is the guest's side of that and knows no names of
interfaces; the host's side is in ``spinrt._core``, written independently, and tests hold the two against each other.

Source: CanonicalABI.md of the WebAssembly component model, "Alignment", "Element Size" and "Flattening".
"""

from __future__ import annotations

from collections.abc import Sequence

from spinrt.sandbox.types import (
    BorrowType,
    EnumType,
    FlagsType,
    ListType,
    OptionType,
    OwnType,
    Primitive,
    RecordType,
    ResultType,
    TupleType,
    VariantType,
    WitType,
)

FLAT_PARAMETERS_MAX = 16
FLAT_RESULTS_MAX = 1

CORE_IN_C = {"i32": "int32_t", "i64": "int64_t", "f32": "float", "f64": "double"}
_PRIMITIVE_SIZES = {"bool": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "s64": 8, "u64": 8, "f64": 8}
_PRIMITIVES_FLAT = {"s64": "i64", "u64": "i64", "f32": "f32", "f64": "f64"}
_PRIMITIVES_IN_C = {"char": "uint32_t", "f32": "float", "f64": "double", "bool": "bool", "string": "spin_string_t"}

# C expressions that carry a core value of one type in a slot of another, `{}` being the value.
_WIDEN = {
    ("f32", "i32"): "spin_bits_of_f32({})",
    ("i32", "i64"): "(int64_t)(uint32_t){}",
    ("f32", "i64"): "(int64_t)(uint32_t)spin_bits_of_f32({})",
    ("f64", "i64"): "spin_bits_of_f64({})",
}
_NARROW = {
    ("i32", "f32"): "spin_f32_of_bits({})",
    ("i64", "i32"): "(int32_t){}",
    ("i64", "f32"): "spin_f32_of_bits((int32_t){})",
    ("i64", "f64"): "spin_f64_of_bits({})",
}


def primitive_in_c(type_: Primitive) -> str:
    """Return the C type of a primitive; strings are `spin_string_t`."""
    if (name := _PRIMITIVES_IN_C.get(type_.name)) is not None:
        return name
    return f"{'int' if type_.name[0] == 's' else 'uint'}{type_.name[1:]}_t"


def cases_of(type_: OptionType | ResultType | VariantType) -> tuple[tuple[str, WitType | None], ...]:
    """Return name and payload of each case in order of the discriminant; names are those of the C union's members."""
    match type_:
        case OptionType(element):
            return (("none", None), ("value", element))
        case ResultType(ok, err):
            return (("ok", ok), ("err", err))
        case VariantType(cases=cases):
            return tuple((case.name, case.type) for case in cases)


def fields_of(type_: RecordType | TupleType) -> tuple[tuple[str, WitType], ...]:
    """Return name and type of each field in order; those of a tuple are called `f0`, `f1`, …"""
    if isinstance(type_, TupleType):
        return tuple((f"f{index}", element) for index, element in enumerate(type_.elements))
    return tuple((field.name, field.type) for field in type_.fields)


def discriminant_size(case_count: int) -> int:
    """Return the bytes of the smallest number that tells that many cases apart."""
    return 1 if case_count <= 1 << 8 else 2 if case_count <= 1 << 16 else 4


def flags_size(flag_count: int) -> int:
    """Return the bytes of at most 32 flags."""
    return 1 if flag_count <= 8 else 2 if flag_count <= 16 else 4


def layout(type_: WitType) -> tuple[int, int]:
    """Return size and alignment of a value in memory, in bytes."""
    match type_:
        case Primitive("string") | ListType():
            return 8, 4
        case Primitive(name):
            size = _PRIMITIVE_SIZES.get(name, 4)
            return size, size
        case EnumType(cases=cases):
            return discriminant_size(len(cases)), discriminant_size(len(cases))
        case FlagsType(flags=flags):
            return flags_size(len(flags)), flags_size(len(flags))
        case OwnType() | BorrowType():
            return 4, 4
        case RecordType() | TupleType():
            return _sequence_layout([inner for _, inner in fields_of(type_)])
        case _:
            return _variant_layout([payload for _, payload in cases_of(type_)])


def _sequence_layout(types: list[WitType]) -> tuple[int, int]:
    offset, alignment = 0, 1
    for size, align in map(layout, types):
        offset = _aligned(offset, align) + size
        alignment = max(alignment, align)
    return _aligned(offset, alignment), alignment


def _variant_layout(payloads: list[WitType | None]) -> tuple[int, int]:
    discriminant = discriminant_size(len(payloads))
    layouts = [layout(payload) for payload in payloads if payload is not None]
    payload_align = max((align for _, align in layouts), default=1)
    payload_size = max((size for size, _ in layouts), default=0)
    alignment = max(discriminant, payload_align)
    return _aligned(_aligned(discriminant, payload_align) + payload_size, alignment), alignment


def _aligned(offset: int, alignment: int) -> int:
    return (offset + alignment - 1) // alignment * alignment


def has_pointer(type_: WitType) -> bool:
    """Tell whether a value refers to memory outside itself."""
    match type_:
        case Primitive("string") | ListType():
            return True
        case RecordType() | TupleType():
            return any(has_pointer(inner) for _, inner in fields_of(type_))
        case OptionType() | ResultType() | VariantType():
            return any(has_pointer(payload) for _, payload in cases_of(type_) if payload is not None)
        case _:
            return False


def flatten(type_: WitType) -> list[str]:
    """Return the core types that a value crosses as: i32, i64, f32, f64."""
    match type_:
        case Primitive("string") | ListType():
            return ["i32", "i32"]
        case Primitive(name):
            return [_PRIMITIVES_FLAT.get(name, "i32")]
        case RecordType() | TupleType():
            return [core for _, inner in fields_of(type_) for core in flatten(inner)]
        case OptionType() | ResultType() | VariantType():
            return ["i32", *_joined([payload for _, payload in cases_of(type_)])]
        case _:
            return ["i32"]


def _joined(payloads: Sequence[WitType | None]) -> list[str]:
    joined: list[str] = []
    for payload in payloads:
        for index, core in enumerate(flatten(payload) if payload is not None else []):
            if index == len(joined):
                joined.append(core)
            else:
                joined[index] = _join(joined[index], core)
    return joined


def _join(one: str, other: str) -> str:
    if one == other:
        return one
    return "i32" if {one, other} == {"i32", "f32"} else "i64"


class Statements:
    """C statements of one function body, with fresh names for temporaries."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._count = 0

    def add(self, line: str) -> None:
        self.lines.append("  " + line)

    def _temporary(self, core: str) -> str:
        name = f"flat{self._count}_"
        self._count += 1
        self.add(f"{CORE_IN_C[core]} {name} = 0;")
        return name

    def lower(self, type_: WitType, value: str) -> list[str]:
        """Return expressions for the flat form of the C value `value`, after adding the statements they need."""
        match type_:
            case Primitive("string") | ListType():
                return [f"(int32_t)(uintptr_t){value}.ptr", f"(int32_t){value}.len"]
            case OwnType() | BorrowType():
                return [f"(int32_t){value}.handle"]
            case RecordType() | TupleType():
                fields = fields_of(type_)
                return [flat for name, inner in fields for flat in self.lower(inner, f"{value}.{c_name(name)}")]
            case OptionType() | ResultType() | VariantType():
                return self._lower_cases(type_, value)
            case _:
                (core,) = flatten(type_)
                return [value if core[0] == "f" else f"({CORE_IN_C[core]}){value}"]

    def _lower_cases(self, type_: OptionType | ResultType | VariantType, value: str) -> list[str]:
        cases = cases_of(type_)
        joined = _joined([payload for _, payload in cases])
        temporaries = [self._temporary(core) for core in joined]
        tag = f"{value}.{tag_name(type_)}"
        for index, (name, payload) in enumerate(cases):
            if payload is None:
                continue
            self.add(f"if ({tag} == {index}) {{")
            lowered = self.lower(payload, f"{value}.{c_name(name)}")
            for target, to, source, core in zip(temporaries, joined, lowered, flatten(payload), strict=False):
                self.add(f"  {target} = {_WIDEN.get((core, to), '{}').format(source)};")
            self.add("}")
        return [f"(int32_t){tag}", *temporaries]

    def lift(self, type_: WitType, target: str, flats: list[str]) -> None:
        """Add statements that set the C value `target` from its flat form; `flats` has as many as `flatten` says."""
        match type_:
            case Primitive("string") | ListType():
                self.add(f"{target}.ptr = (void *)(uintptr_t){flats[0]};")
                self.add(f"{target}.len = (size_t)(uint32_t){flats[1]};")
            case OwnType() | BorrowType():
                self.add(f"{target}.handle = (uint32_t){flats[0]};")
            case RecordType() | TupleType():
                self._lift_fields(type_, target, flats)
            case OptionType() | ResultType() | VariantType():
                self._lift_cases(type_, target, flats)
            case Primitive("bool"):
                self.add(f"{target} = {flats[0]} != 0;")
            case Primitive():
                self.add(f"{target} = ({primitive_in_c(type_)}){flats[0]};")
            case EnumType(cases=cases):
                self.add(f"{target} = (uint{discriminant_size(len(cases)) * 8}_t){flats[0]};")
            case FlagsType(flags=flags):
                self.add(f"{target} = (uint{flags_size(len(flags)) * 8}_t){flats[0]};")

    def _lift_fields(self, type_: RecordType | TupleType, target: str, flats: list[str]) -> None:
        start = 0
        for name, inner in fields_of(type_):
            count = len(flatten(inner))
            self.lift(inner, f"{target}.{c_name(name)}", flats[start : start + count])
            start += count

    def _lift_cases(self, type_: OptionType | ResultType | VariantType, target: str, flats: list[str]) -> None:
        cases = cases_of(type_)
        joined = _joined([payload for _, payload in cases])
        if isinstance(type_, VariantType):
            self.add(f"{target}.tag = (uint{discriminant_size(len(cases)) * 8}_t){flats[0]};")
        else:
            self.add(f"{target}.{tag_name(type_)} = {flats[0]} != 0;")
        for index, (name, payload) in enumerate(cases):
            if payload is None:
                continue
            self.add(f"if ({flats[0]} == {index}) {{")
            slots = zip(flats[1:], joined, flatten(payload), strict=False)
            narrowed = [_NARROW.get((slot, core), "{}").format(flat) for flat, slot, core in slots]
            self.lift(payload, f"{target}.{c_name(name)}", narrowed)
            self.add("}")


def tag_name(type_: OptionType | ResultType | VariantType) -> str:
    """Return the name of the discriminant in the C struct."""
    return {OptionType: "is_some", ResultType: "is_err"}.get(type(type_), "tag")


# fmt: off
_C_WORDS = frozenset([
    "auto", "break", "case", "char", "const", "continue", "default", "do", "double", "else", "enum", "extern", "float",
    "for", "goto", "if", "inline", "int", "long", "register", "restrict", "return", "short", "signed", "sizeof",
    "static", "struct", "switch", "typedef", "union", "unsigned", "void", "volatile", "while", "bool", "true", "false",
    "asm", "typeof", "alignas", "alignof", "constexpr", "nullptr", "thread_local", "static_assert",
])
# fmt: on


def c_name(name: str) -> str:
    """Return a WIT name as a C member or parameter name; a word of the language gets an underscore behind it."""
    joined = name.lower().replace("-", "_")
    return f"{joined}_" if joined in _C_WORDS or joined in ("tag", "is_some", "is_err") else joined
