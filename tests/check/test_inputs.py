"""Inputs made from WIT types: each can be lowered, edges are among them, and a seed gives the same again."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from spinrt._core import Export
from spinrt.check.inputs import DEPTH_MAX, Values, inputs
from spinrt.check.samples import DELIVER, MESSAGE, TEXTS, context_of, mail_resources
from spinrt.sandbox.abi import plan_function
from spinrt.sandbox.promised import find_function
from spinrt.sandbox.types import Err, Function, ListType, Ok, OptionType, Parameter, Primitive, ResultType, WitType
from spinrt.sandbox.wit import Interfaces, Source, shipped
from tests.core.native_support import forwarder

ALL_TYPES = """
package test:all@1.0.0;
interface all {
  resource thing { size: func() -> u32; }
  variant shape { dot, circle(f32), named(string), many(list<u64>) }
  flags rights { read, write, admin }
  enum mood { low, high }
  record inner { a: s8, b: option<string>, c: list<u8> }
  record outer { x: inner, y: tuple<char, f64>, z: result<list<inner>, mood> }
  take: func(a: bool, b: s64, c: shape, d: rights, e: outer, f: list<list<option<string>>>, g: borrow<thing>);
}
"""


def values() -> Values:
    return Values(random.Random(1), {})


def function_of(*types: WitType) -> Function:
    return Function("f", tuple(Parameter(f"p{place}", type_) for place, type_ in enumerate(types)), None)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("u8", {0, 1, 127, 128, 255}),
        ("s8", {0, 1, -1, 127, -128}),
        ("u64", {0, 1, 2**63 - 1, 2**63, 2**64 - 1}),
        ("s64", {0, 1, -1, 2**63 - 1, -(2**63)}),
        ("bool", {False, True}),
    ],
)
def test_integers_come_at_their_bounds(name: str, expected: set[int]) -> None:
    """Lowest, highest, and both sides of the sign."""
    assert set(values().edges(Primitive(name))) == expected


@pytest.mark.parametrize("name", ["f32", "f64"])
def test_floats_have_nan_and_infinities(name: str) -> None:
    """NaN, both infinities, both zeros, and what has no full precision."""
    found = values().edges(Primitive(name))
    assert any(map(math.isnan, found))
    assert {math.inf, -math.inf} <= set(found)
    assert {math.copysign(1, value) for value in found if value == 0} == {1.0, -1.0}
    assert 0 < min(value for value in found if value > 0) < 1e-40


def test_texts_are_hostile_and_hold_no_surrogates() -> None:
    """Empty, long, NUL, line breaks, combining marks; all of them can be UTF-8."""
    found = values().edges(Primitive("string"))
    for text in [*found, *values().edges(Primitive("char"))]:
        text.encode()
    assert "" in found
    assert max(map(len, found)) >= 4096
    assert any("\0" in text for text in found)
    assert any("\r\n" in text for text in found)
    assert any("\u0301" in text for text in found)


def test_every_case_comes() -> None:
    """Of variants, enums, flags, options and results."""
    function = Interfaces.parse([Source("all.wit", ALL_TYPES)]).get("test:all/all@1.0.0").functions["take"]
    made, types = values(), [parameter.type for parameter in function.parameters]
    assert {name for name, _ in made.edges(types[2])} == {"dot", "circle", "named", "many"}
    assert {frozenset(), frozenset(["read", "write", "admin"]), frozenset(["admin"])} <= set(made.edges(types[3]))
    assert {type(one) for one in made.edges(ResultType(None, Primitive("u8")))} == {Ok, Err}
    assert None in made.edges(OptionType(Primitive("u8")))


def test_nested_lists_stay_bounded() -> None:
    """Lists of lists of lists do not explode."""
    type_: WitType = Primitive("u32")
    for _ in range(DEPTH_MAX + 4):
        type_ = ListType(type_)

    assert sum(_size(value) for value in values().edges(type_)) < 1_000_000


def _size(value: Any) -> int:
    return 1 + sum(map(_size, value)) if isinstance(value, list) else 1


def test_inputs_follow_from_the_seed() -> None:
    """The same seed gives the same; another one others; the first is ordinary."""
    function = function_of(Primitive("string"), ListType(Primitive("u16")))

    def made(seed: int) -> list[tuple[str, str]]:
        return [(one.label, repr(one.arguments)) for one in inputs(function, seed=seed, count=12)]

    assert made(1) == made(1) != made(2)
    assert len(made(1)) == 12
    assert made(1)[0][0] == "ordinary"


def test_functions_without_parameters_have_one_input() -> None:
    """There is nothing to vary."""
    assert [one.arguments for one in inputs(function_of(), seed=0, count=50)] == [()]


def test_one_field_of_a_record_is_at_an_edge_at_a_time() -> None:
    """Labels say which."""
    _, function = find_function(shipped(), DELIVER)
    made = inputs(function, seed=3, count=10_000, resources=mail_resources())
    labels = {one.label.partition(" at edge")[0] for one in made}
    assert {"envelope.sender", "envelope.user", "envelope.detail", "message"} <= labels
    messages = {id(one.arguments[1]) for one in made}
    assert len(messages) == len(TEXTS)


@pytest.mark.parametrize("id_", shipped().ids())
def test_all_inputs_of_all_shipped_functions_can_be_lowered(id_: str) -> None:
    """What is generated is a value of its type: a guest takes it, or has no room for it."""
    for function in shipped().get(id_).functions.values():
        if function.result is None and "[" not in function.name:
            _lower_all(id_, function)


def test_all_inputs_of_every_type_can_be_lowered() -> None:
    """The same for an interface that uses every type there is."""
    function = Interfaces.parse([Source("all.wit", ALL_TYPES)]).get("test:all/all@1.0.0").functions["take"]
    assert _lower_all("test:all/all@1.0.0", function) > 50


def _lower_all(id_: str, function: Function) -> int:
    """Pass each input through a guest that hands it on to the host, and compare what arrives."""
    seen: list[tuple[Any, ...]] = []
    plan = plan_function(id_, function)
    made = inputs(function, seed=5, count=400, resources=mail_resources())
    compared = 0
    for one in made:
        guest = forwarder(
            plan, lambda call, *arguments: seen.append(arguments), memory_bytes=1 << 20, lift_bytes=1 << 30
        )
        if _room(one.arguments) > 40_000:
            continue
        Export(guest, "pass", plan)(None, *one.arguments)
        assert repr(seen.pop()) == repr(one.arguments), one.label
        compared += 1
    return compared


def _room(value: Any) -> int:
    if isinstance(value, str):
        return 4 * len(value) + 16
    if isinstance(value, bytes):
        return len(value) + 16
    if isinstance(value, list | tuple | frozenset):
        return 16 + sum(map(_room, value))
    return 16 + (_room(value.value) if hasattr(value, "value") else 0)


def test_contexts_fit_their_arguments() -> None:
    """The recipient of a delivery is the one of the envelope; events of others have no context."""
    _, function = find_function(shipped(), DELIVER)
    for one in inputs(function, seed=1, count=20, resources=mail_resources()):
        context = context_of(DELIVER, one.arguments)
        assert context is not None
        assert context.message is one.arguments[1]
        assert context.recipient.user == one.arguments[0].user
    assert context_of("test:all/all@1.0.0#take", ()) is None


def test_samples_cover_the_message_resource() -> None:
    """Reading a sample gives its bytes."""
    for message, text in zip(mail_resources()[MESSAGE], TEXTS, strict=True):
        assert message.read(0, message.size) == text
