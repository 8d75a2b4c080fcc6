"""How the results of several handlers become the one result of a raise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from spinrt.errors import UsageError
from spinrt.sandbox.types import EnumType, Err, ResultType, WitType

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


def highest(type_: WitType | None) -> Fold:
    """Return the fold that keeps the case declared last among those given, for an enum result."""
    if not isinstance(type_, EnumType):
        raise UsageError("fold highest: found a result that is no enum, expected one")
    rank = {case.name: number for number, case in enumerate(type_.cases)}

    def fold(results: Sequence[Any]) -> Any:
        try:
            return max(results, key=rank.__getitem__)
        except (KeyError, TypeError):  # only a handler in Python can answer anything else
            for result in results:
                check_case(type_, result, "result of a handler")
            raise

    return fold


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
