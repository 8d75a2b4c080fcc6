"""Installing one prepared handler many times on an event, and taking it off again.

Compiling and instantiating are not part of it. An event is installed on when a raise runs the handler: so one raise
belongs to the time of all installations, and one to that of all removals.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from benchmarks.dispatch.fleet import Fleet, Shape
from benchmarks.timing import Measure, Subject
from spinrt.runtime.binding import Binding, DomainExport
from spinrt.runtime.event import Event

INSTALL: Final = "install"
UNINSTALL: Final = "uninstall"
EMPTY: Final = Shape(1, 0)
"""The event that is installed on."""


def subjects(fleet: Fleet, counts: Sequence[int]) -> list[Subject]:
    """One of each for every count."""
    event, handler = fleet.event(EMPTY), fleet.handler(0, 1)
    return [
        Subject(name, {"bindings": count}, measure(event, handler, count), each=count)
        for name, measure in ((INSTALL, _installing), (UNINSTALL, _uninstalling))
        for count in counts
    ]


def _installing(event: Event, handler: DomainExport, count: int) -> Measure:
    def run(times: int) -> int:
        taken = 0
        for _ in range(times):
            began = time.perf_counter_ns()
            bindings = _install(event, handler, count)
            taken += time.perf_counter_ns() - began
            _uninstall(event, bindings)
        return taken

    return run


def _uninstalling(event: Event, handler: DomainExport, count: int) -> Measure:
    def run(times: int) -> int:
        taken = 0
        for _ in range(times):
            bindings = _install(event, handler, count)
            began = time.perf_counter_ns()
            _uninstall(event, bindings)
            taken += time.perf_counter_ns() - began
        return taken

    return run


def _install(event: Event, handler: DomainExport, count: int) -> list[Binding]:
    bindings = [event.install(handler) for _ in range(count)]
    event.raise_(1)
    return bindings


def _uninstall(event: Event, bindings: list[Binding]) -> None:
    for binding in bindings:
        event.uninstall(binding)
    event.raise_(1)
