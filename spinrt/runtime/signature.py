"""Whether a handler can be called with what an event passes; checked when it is installed.

Source: docs/design/dispatch.md, "Types".
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any, Final, Protocol

from spinrt._core import FunctionPlan
from spinrt.errors import AbiError, SignatureMismatch, UsageError
from spinrt.runtime.binding import Resolved, callable_name
from spinrt.runtime.entry import NO_CLOSURE, Handler
from spinrt.sandbox.handler_type import CLOSURE_MAX, difference
from spinrt.sandbox.types import Function

_VARARGS: Final = inspect.CO_VARARGS


class TypeMaker(Protocol):
    """`handler_type` or `guard_type`: the type that an export must have, with or without a closure."""

    def __call__(self, event: Function, *, closure: bool) -> Function: ...


def check_resolved(resolved: Resolved, function: Function, type_of: TypeMaker, *, closure: Any, what: str) -> None:
    """Refuse a handler that does not take what it will be given, or an export that answers something else.

    Raises:
        SignatureMismatch: The types differ; the message shows both and marks where.
        UsageError: A callable takes another number of arguments, or an export cannot take the closure.
    """
    has_closure = closure is not NO_CLOSURE
    if resolved.domain is None:
        check_callable(resolved.handler, 1 + has_closure + len(function.parameters), what, has_closure=has_closure)
        return
    assert resolved.export is not None
    if has_closure and (type(closure) is not int or not 0 <= closure <= CLOSURE_MAX):
        raise UsageError(f"{what}: found the closure {closure!r:.80}, expected an integer from 0 to {CLOSURE_MAX}")
    found = resolved.domain.extension.exports[resolved.export].function
    differs = difference(found, type_of(function, closure=has_closure))
    if differs:
        raise SignatureMismatch(f"{what}: {resolved}: {differs}", hint="what differs stands between asterisks")


def check_callable(handler: Callable[..., Any], count: int, what: str, *, has_closure: bool = False) -> None:
    """Refuse a Python callable that cannot be called with so many positional arguments.

    Raises:
        UsageError: It cannot.
    """
    if isinstance(handler, FunctionType):
        fits = _function_fits(handler, count)
    elif isinstance(handler, MethodType) and isinstance(handler.__func__, FunctionType):
        fits = _function_fits(handler.__func__, count + 1)
    else:
        fits = _signature_fits(handler, count)
    if not fits:
        raise UsageError(
            f"{what}: found {callable_name(handler)}, expected it to take {count} arguments: the call"
            f"{', the closure' if has_closure else ''} and one for each parameter"
        )


def _function_fits(function: FunctionType, count: int) -> bool:
    code = function.__code__
    needed = code.co_argcount - len(function.__defaults__ or ())
    keywords_needed = code.co_kwonlyargcount - len(function.__kwdefaults__ or ())
    return needed <= count and (count <= code.co_argcount or bool(code.co_flags & _VARARGS)) and not keywords_needed


def _signature_fits(handler: Callable[..., Any], count: int) -> bool:
    try:
        inspect.signature(handler).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:  # a builtin that does not say what it takes
        return True
    return True


def checked_filter(handler: Handler, count: int, plan: FunctionPlan) -> Callable[..., Any]:
    """Wrap a Python filter so that what it returns is a value for each parameter of the plan.

    Another number of them is a fault of its own; a value of another type is a `UsageError`, as if it had been raised.
    """

    def run(*arguments: Any) -> Any:
        answer = handler(*arguments)
        if count > 1 and (not isinstance(answer, tuple | list) or len(answer) != count):
            raise AbiError(
                f"filter {callable_name(handler)}: found {answer!r:.80}, expected {count} values, one a parameter"
            )
        given = (answer,) if count == 1 else tuple(answer)
        _check(f"filter {callable_name(handler)}", plan.check_arguments, given)
        return answer if count == 1 else given

    return run


def checked_handler(handler: Handler, plan: FunctionPlan) -> Callable[..., Any]:
    """Wrap a Python handler so that it returns what the result's type says; else the raise fails: the host errs."""

    def run(*arguments: Any) -> Any:
        answer = handler(*arguments)
        _check(f"handler {callable_name(handler)}: its result", plan.check_result, answer)
        return answer

    return run


def _check(what: str, check: Callable[[Any], None], answer: Any) -> None:
    try:
        check(answer)
    except UsageError as error:
        raise UsageError(f"{what}: {error}", hint=error.hint) from None
