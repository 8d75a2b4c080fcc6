"""Values of random WIT types survive the way into a guest and back, in memory and flattened."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spinrt import _core
from spinrt.errors import UsageError
from spinrt.sandbox.abi import plan_type, record_class
from spinrt.sandbox.types import (
    Case,
    EnumType,
    Err,
    Field,
    FlagsType,
    ListType,
    Ok,
    OptionType,
    Primitive,
    RecordType,
    ResultType,
    TupleType,
    VariantType,
    WitType,
)
from tests.guests import BUMP, limits, wat

CORE_NAMES = {"i": "i32", "l": "i64", "f": "f32", "d": "f64"}
INTEGERS = {"s8": (-128, 127), "u8": (0, 255), "s16": (-(2**15), 2**15 - 1), "u16": (0, 2**16 - 1)}
INTEGERS |= {"s32": (-(2**31), 2**31 - 1), "u32": (0, 2**32 - 1), "s64": (-(2**63), 2**63 - 1), "u64": (0, 2**64 - 1)}
names = st.integers(1, 40).map(lambda count: tuple(f"case{number}" for number in range(count)))


def record_of(types: tuple[WitType, ...]) -> RecordType:
    return RecordType("rec", tuple(Field(f"field{number}", type_) for number, type_ in enumerate(types)))


def variant_of(types: list[WitType | None]) -> VariantType:
    return VariantType("var", tuple(Case(f"case{number}", type_) for number, type_ in enumerate(types)))


def composed(inner: st.SearchStrategy[WitType]) -> st.SearchStrategy[WitType]:
    some = st.lists(inner, min_size=1, max_size=4).map(tuple)
    no_option = inner.filter(lambda type_: not isinstance(type_, OptionType))
    return st.one_of(
        inner.map(ListType),
        no_option.map(OptionType),
        st.builds(ResultType, st.none() | inner, st.none() | inner),
        some.map(TupleType),
        some.map(record_of),
        st.lists(st.none() | inner, min_size=1, max_size=4).map(variant_of),
    )


leaves = st.one_of(
    st.sampled_from([*INTEGERS, "f32", "f64", "bool", "char", "string"]).map(Primitive),
    names.map(lambda cases: EnumType("en", tuple(map(Case, cases)))),
    names.filter(lambda flags: len(flags) <= 32).map(lambda flags: FlagsType("fl", tuple(map(Case, flags)))),
)
types = st.recursive(leaves, composed, max_leaves=6)


def values(type_: WitType) -> st.SearchStrategy[Any]:
    match type_:
        case Primitive(name):
            return primitive_values(name)
        case ListType(Primitive("u8")):
            return st.binary(max_size=20)
        case ListType(element):
            return st.lists(values(element), max_size=4)
        case OptionType(element):
            return st.none() | values(element)
        case ResultType(ok, err):
            return payloads(ok).map(Ok) | payloads(err).map(Err)
        case TupleType(elements):
            return st.tuples(*map(values, elements))
        case RecordType():
            return st.tuples(*(values(field.type) for field in type_.fields)).map(
                lambda made: record_class(type_)(*made)
            )
        case VariantType():
            return st.one_of([st.tuples(st.just(case.name), payloads(case.type)) for case in type_.cases])
        case EnumType():
            return st.sampled_from([case.name for case in type_.cases])
        case FlagsType():
            return st.frozensets(st.sampled_from([flag.name for flag in type_.flags]))
    raise AssertionError(type_)


def payloads(type_: WitType | None) -> st.SearchStrategy[Any]:
    return st.none() if type_ is None else values(type_)


def primitive_values(name: str) -> st.SearchStrategy[Any]:
    if name in INTEGERS:
        return st.integers(*INTEGERS[name])
    text = st.characters(exclude_categories=["Cs"])
    return {
        "f32": st.floats(width=32, allow_nan=False),
        "f64": st.floats(allow_nan=False),
        "bool": st.booleans(),
        "char": text,
        "string": st.text(text, max_size=20),
    }[name]


@st.composite
def typed_values(draw: st.DrawFn) -> tuple[WitType, Any]:
    type_ = draw(types)
    return type_, draw(values(type_))


def same(left: Any, right: Any) -> bool:
    if isinstance(left, float) and isinstance(right, float):
        return left == right and math.copysign(1, left) == math.copysign(1, right)
    return bool(left == right)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(typed_values())
def test_values_through_memory_come_back_as_they_went(typed: tuple[WitType, Any]) -> None:
    """A pointer to many arguments, returned as the pointer to a result, loads what was stored."""
    type_, value = typed
    filler = plan_type(TupleType((Primitive("u8"),) * 17))
    plan = _core.FunctionPlan("echo", (plan_type(type_), filler), _core.RecordPlan("both", (plan_type(type_), filler)))
    module = _core.Module(wat(f'(module {BUMP} (func (export "echo") (param i32) (result i32) (local.get 0)))'))
    guest = _core.Instance(module, (), limits(lift_bytes=1 << 20), "echo")
    given_back, _ = _core.Export(guest, "echo", plan)(None, value, (0,) * 17)
    assert same(given_back, value)


class Contrary(tuple[Any, ...]):
    """A tuple that says something else of itself than what it holds."""

    def __getitem__(self, position: Any) -> Any:
        raise IndexError(position)


@pytest.mark.parametrize("kind", [list, tuple, Contrary])
def test_records_are_given_as_any_list_or_tuple(kind: type[Any]) -> None:
    """In memory, where each item goes to its field; one item too few or too many is refused."""
    strings = TupleType((Primitive("string"), Primitive("u8"), OptionType(Primitive("string"))))
    filler = plan_type(TupleType((Primitive("u8"),) * 17))
    plan = _core.FunctionPlan(
        "echo", (plan_type(strings), filler), _core.RecordPlan("both", (plan_type(strings), filler))
    )
    module = _core.Module(wat(f'(module {BUMP} (func (export "echo") (param i32) (result i32) (local.get 0)))'))
    echo = _core.Export(_core.Instance(module, (), limits(lift_bytes=1 << 20), "echo"), "echo", plan)
    assert echo(None, kind(("one", 2, None)), (0,) * 17)[0] == ("one", 2, None)
    for wrong in (("one", 2), ("one", 2, None, 4)):
        with pytest.raises(UsageError):
            echo(None, kind(wrong), (0,) * 17)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(typed_values())
def test_flat_values_through_a_guest_come_back_as_they_went(typed: tuple[WitType, Any]) -> None:
    """A guest that passes its arguments on to a host function passes what it was given."""
    type_, value = typed
    plan = _core.FunctionPlan("pass", (plan_type(type_),), None)
    letters = plan.import_signature.split(":")[0]
    parameters = " ".join(CORE_NAMES[letter] for letter in letters)
    arguments = " ".join(f"(local.get {number})" for number in range(len(letters)))
    module = _core.Module(
        wat(
            f'(module (import "host" "pass" (func $pass (param {parameters}))) {BUMP}'
            f'(func (export "pass") (param {parameters}) (call $pass {arguments})))'
        )
    )
    seen: list[Any] = []
    function = _core.HostFunction(plan, lambda call, passed: seen.append(passed))
    guest = _core.Instance(module, (function,), limits(lift_bytes=1 << 20), "pass")
    _core.Export(guest, "pass", plan)(None, value)
    assert len(seen) == 1
    assert same(seen[0], value)
