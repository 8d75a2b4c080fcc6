"""Calls and raises: what the machine, Python and the engine take for a call, and what a raise takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from benchmarks.dispatch.fleet import ARGUMENTS, FALSE, HANDLERS, MIXED, NONE, ONE, TRUE, Fleet, Shape
from benchmarks.timing import Measure, Subject, loop
from spinrt import _core
from spinrt._core import Export
from spinrt.runtime.event import Event

NATIVE: Final = "native_indirect_call"
PYTHON: Final = "python_call"
ENGINE: Final = "engine_call"
FROM_CYTHON: Final = "raise_from_cython"
FROM_PYTHON: Final = "raise_from_python"
SLOPE_FROM: Final = 8
"""Handlers at the lower end of the slope that is the cost of one more."""


def shapes(handlers: Sequence[int], guarded: int) -> list[Shape]:
    """Every event that is raised, in the order of the rows. Guards compare a parameter: without one there is none."""
    table = [
        Shape(arguments, count, guards)
        for arguments in ARGUMENTS
        for guards in ((NONE, TRUE, FALSE, MIXED) if arguments else (NONE,))
        for count in handlers
    ]
    return list(dict.fromkeys([*table, *slope_shapes(handlers), Shape(1, guarded, ONE)]))


def slope_shapes(handlers: Sequence[int]) -> tuple[Shape, Shape]:
    """The events between which the cost of one more handler is taken."""
    return Shape(1, min(SLOPE_FROM, handlers[-1] - 1)), Shape(1, handlers[-1])


def subjects(fleet: Fleet, wanted: Sequence[Shape]) -> list[Subject]:
    """The yardsticks, and a raise of each event from Cython and from Python."""
    events = {shape: fleet.event(shape) for shape in wanted}
    return [
        Subject(NATIVE, {}, _core.time_indirect_call),
        *(Subject(PYTHON, {"arguments": count}, loop(_PYTHON[count], *ARGUMENTS[count])) for count in ARGUMENTS),
        *(Subject(ENGINE, {"arguments": count}, _engine(fleet, count)) for count in ARGUMENTS),
        *(Subject(FROM_CYTHON, shape.params, _from_cython(event, shape)) for shape, event in events.items()),
        *(
            Subject(FROM_PYTHON, shape.params, loop(event.raise_, *ARGUMENTS[shape.arguments]))
            for shape, event in events.items()
        ),
    ]


def own_code_subjects(handlers: Sequence[int]) -> list[Subject]:
    """The slope once more, over handlers each of which is in a module of its own."""
    wanted = slope_shapes(handlers)
    fleet = Fleet(wanted, modules=handlers[-1])
    params = {"modules": handlers[-1]}
    return [Subject(FROM_CYTHON, shape.params | params, _from_cython(fleet.event(shape), shape)) for shape in wanted]


def _engine(fleet: Fleet, count: int) -> Measure:
    export: Export = fleet.domain(0).exports[f"{HANDLERS}#take{count}"]
    return lambda calls: _core.time_engine_call(export, ARGUMENTS[count], calls)


def _from_cython(event: Event, shape: Shape) -> Measure:
    return lambda calls: _core.time_raise(event.dispatcher, ARGUMENTS[shape.arguments], calls)


def _take0() -> int:
    return 0


def _take1(first: int) -> int:
    return 0


def _take5(first: int, second: int, third: int, fourth: int, fifth: int) -> int:
    return 0


_PYTHON: Final[dict[int, Callable[..., int]]] = {0: _take0, 1: _take1, 5: _take5}
"""Plain functions that do what the handlers do."""
