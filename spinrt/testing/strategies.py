"""Hypothesis strategies for values of WIT types, so that properties of extensions can be tested. Needs ``hypothesis``.

```python
@given(arguments=arguments_of("spinrt:mail/imap-events@1.0.0#flags-changed"))
def test_it_never_fails(arguments): ...
```
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from hypothesis import strategies as st

from spinrt.check.inputs import Resources, resources_of
from spinrt.check.samples import mail_resources
from spinrt.sandbox.abi import record_class
from spinrt.sandbox.promised import find_function
from spinrt.sandbox.types import (
    BorrowType,
    EnumType,
    Err,
    FlagsType,
    ListType,
    Ok,
    OptionType,
    OwnType,
    Primitive,
    RecordType,
    ResultType,
    TupleType,
    VariantType,
    WitType,
)
from spinrt.sandbox.wit import Interfaces, shipped

LIST_MAX: Final = 20

Strategy: TypeAlias = st.SearchStrategy[Any]
_CHARACTERS: Final = st.characters(exclude_categories=["Cs"])


def arguments_of(event: str, *, interfaces: Interfaces | None = None, resources: Resources | None = None) -> Strategy:
    """Return a strategy for the arguments of an event, as one tuple.

    Args:
        event: ``interface#function``.
        interfaces: Where it is declared; those that come with spinrt by default.
        resources: What may be passed as resources; sample messages by default.

    Raises:
        WitError, UnresolvedImport: There is no such event.
    """
    _, function = find_function(interfaces or shipped(), event)
    given = mail_resources() if resources is None else resources
    return st.tuples(*(values_of(parameter.type, given) for parameter in function.parameters))


def values_of(type_: WitType, resources: Resources | None = None) -> Strategy:
    """Return a strategy for values of a WIT type."""
    return _STRATEGIES[type(type_)](type_, resources or {})


def _primitive(type_: Primitive, resources: Resources) -> Strategy:
    match type_.name:
        case "bool":
            return st.booleans()
        case "char":
            return _CHARACTERS
        case "string":
            return st.text(_CHARACTERS)
        case "f32":
            return st.floats(width=32)
        case "f64":
            return st.floats()
        case name:
            bits = int(name[1:])
            low, high = (0, (1 << bits) - 1) if name[0] == "u" else (-(1 << bits - 1), (1 << bits - 1) - 1)
            return st.integers(low, high)


def _list(type_: ListType, resources: Resources) -> Strategy:
    if type_.element == Primitive("u8"):
        return st.binary()
    return st.lists(values_of(type_.element, resources), max_size=LIST_MAX)


def _result(type_: ResultType, resources: Resources) -> Strategy:
    def of(case: Callable[..., Any], kind: WitType | None) -> Strategy:
        return st.builds(case) if kind is None else st.builds(case, values_of(kind, resources))

    return st.one_of(of(Ok, type_.ok), of(Err, type_.err))


def _record(type_: RecordType, resources: Resources) -> Strategy:
    return st.builds(record_class(type_), *(values_of(field.type, resources) for field in type_.fields))


def _variant(type_: VariantType, resources: Resources) -> Strategy:
    return st.one_of(
        [
            st.tuples(st.just(case.name), st.none() if case.type is None else values_of(case.type, resources))
            for case in type_.cases
        ]
    )


def _flags(type_: FlagsType, resources: Resources) -> Strategy:
    return st.frozensets(st.sampled_from([flag.name for flag in type_.flags])) if type_.flags else st.just(frozenset())


def _resource(type_: OwnType | BorrowType, resources: Resources) -> Strategy:
    return st.sampled_from(list(resources_of(type_, resources)))


_STRATEGIES: Final[dict[type, Callable[[Any, Resources], Strategy]]] = {
    Primitive: _primitive,
    ListType: _list,
    OptionType: lambda type_, resources: st.none() | values_of(type_.element, resources),
    ResultType: _result,
    TupleType: lambda type_, resources: st.tuples(*(values_of(element, resources) for element in type_.elements)),
    RecordType: _record,
    VariantType: _variant,
    EnumType: lambda type_, resources: st.sampled_from([case.name for case in type_.cases]),
    FlagsType: _flags,
    OwnType: _resource,
    BorrowType: _resource,
}
