"""How the results of several handlers become the one result of a raise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from spinrt.errors import UsageError
from spinrt.sandbox.types import EnumType, Err, Function, ListType, Parameter, Primitive, ResultType, WitType
from spinrt.sandbox.wit import type_text

Fold: TypeAlias = Callable[[Sequence[Any]], Any]
"""Gets the results of the handlers that ran, in order, at least one."""


def last(results: Sequence[Any]) -> Any:
    """The result of the handler that ran last."""
    return results[-1]


def first(results: Sequence[Any]) -> Any:
    """The result of the handler that ran first."""
    return results[0]


def every(results: Sequence[Any]) -> list[Any]:
    """All results, in order."""
    return list(results)


def first_error(results: Sequence[Any]) -> Any:
    """The first ``Err``, or the last result when there is none."""
    return next((result for result in results if isinstance(result, Err)), results[-1])


def some(results: Sequence[Any]) -> bool:
    """Whether any result is true."""
    return any(results)


def all_true(results: Sequence[Any]) -> bool:
    """Whether all results are true."""
    return all(results)


def highest(type_: WitType | None) -> Fold:
    """Return the fold that keeps the highest result: of an enum the case declared last, of numbers the greatest."""
    return _extreme(type_, max, "highest")


def lowest(type_: WitType | None) -> Fold:
    """Return the fold that keeps the lowest result: of an enum the case declared first, of numbers the least."""
    return _extreme(type_, min, "lowest")


def _extreme(type_: WitType | None, pick: Callable[..., Any], name: str) -> Fold:
    if isinstance(type_, EnumType):
        return _extreme_case(type_, pick)
    _check_number(type_, name)
    return pick


def _extreme_case(type_: EnumType, pick: Callable[..., Any]) -> Fold:
    rank = {case.name: number for number, case in enumerate(type_.cases)}

    def fold(results: Sequence[Any]) -> Any:
        try:
            if results[0] in rank and results.count(results[0]) == len(results):
                return results[0]  # they agree, as they mostly do
            return pick(results, key=rank.__getitem__)
        except (KeyError, TypeError):  # only a handler in Python can answer anything else
            for result in results:
                check_case(type_, result, "result of a handler")
            raise

    return fold


def _total(type_: WitType | None) -> Fold:
    _check_number(type_, "sum")
    return sum


def _check_number(type_: WitType | None, name: str) -> None:
    if not isinstance(type_, Primitive) or type_.name in ("bool", "char", "string"):
        expected = "a number" if name == "sum" else "an enum or a number"
        raise UsageError(f"fold {name}: found a result of type {type_text(type_)}, expected {expected}")


def _only(fold: Fold, name: str, fits: Callable[[WitType | None], bool], expected: str) -> Callable[[Any], Fold]:
    """Return the maker of a fold that suits some result types only."""

    def make(type_: WitType | None) -> Fold:
        if not fits(type_):
            raise UsageError(f"fold {name}: found a result of type {type_text(type_)}, expected {expected}")
        return fold

    return make


def _is_bool(type_: WitType | None) -> bool:
    return type_ == Primitive("bool")


NAMED: Final[Mapping[str, Callable[[WitType | None], Fold]]] = {
    "first": lambda type_: first,
    "last": lambda type_: last,
    "every": lambda type_: every,
    "any": _only(some, "any", _is_bool, "bool"),
    "all": _only(all_true, "all", _is_bool, "bool"),
    "sum": _total,
    "highest": highest,
    "lowest": lowest,
    "first-error": _only(first_error, "first-error", lambda type_: isinstance(type_, ResultType), "a result"),
}
"""The folds that have names, each made for a result type; sums are not bounded by that type."""


def named_fold(name: str, type_: WitType | None) -> Fold:
    """Return the fold of that name for a result type.

    Raises:
        UsageError: There is none, or it does not suit the type.
    """
    make = NAMED.get(name)
    if make is None:
        raise UsageError(f"fold: found {name!r:.80}, expected one of {', '.join(NAMED)}")
    return make(type_)


def fold_type(type_: WitType | None) -> Function:
    """Return the type that an export must have to fold results of a type: ``func(results: list<T>) -> T``.

    Raises:
        UsageError: There are no results.
    """
    if type_ is None:
        raise UsageError("fold: found an event without a result, expected one with a result to fold")
    return Function("fold", (Parameter("results", ListType(type_)),), type_)


def check_case(type_: EnumType, value: object, what: str) -> None:
    """Refuse a value that is no case of an enum."""
    names = [case.name for case in type_.cases]
    if value not in names:
        raise UsageError(f"{what}: found {value!r:.80}, expected one of {', '.join(names)}")


def default_fold(type_: WitType | None) -> Fold:
    """Return the fold that suits a result type: highest for an enum, first error for a result, else the last."""
    if isinstance(type_, EnumType):
        return highest(type_)
    return first_error if isinstance(type_, ResultType) else last
