"""Who runs where: caller and callee on one core, or on two that do not share an execution unit."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SAME: Final = "same"
TWO: Final = "two"
_TOPOLOGY: Final = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


@dataclass(frozen=True, slots=True)
class Cores:
    """The caller's core and another one; none where this process may use only one."""

    caller: int
    other: int | None

    @classmethod
    def choose(cls) -> Cores:
        """The last core that this process may use, and the first whose threads are not the same core's."""
        allowed = sorted(os.sched_getaffinity(0))
        caller = allowed[-1]
        siblings = _siblings(caller)
        return cls(caller, next((core for core in allowed if core not in siblings), None))

    def places(self) -> dict[str, int]:
        """Parameter ``cores`` of a row → the callee's core."""
        return {SAME: self.caller} | ({} if self.other is None else {TWO: self.other})


def _siblings(core: int) -> set[int]:
    """The threads of the core that has this one, itself among them."""
    found = {core}
    with contextlib.suppress(OSError, ValueError):
        for part in Path(_TOPOLOGY.format(core)).read_text(encoding="ascii").strip().split(","):
            first, _, last = part.partition("-")
            found.update(range(int(first), int(last or first) + 1))
    return found


def pin(process: int, core: int) -> None:
    """Hold all threads of a process to a core; those that they start inherit it."""
    for thread in os.listdir(f"/proc/{process}/task"):
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread), {core})


@contextlib.contextmanager
def held_to(core: int) -> Iterator[None]:
    """Hold this process to a core meanwhile."""
    before = os.sched_getaffinity(0)
    pin(os.getpid(), core)
    try:
        yield
    finally:
        for thread in os.listdir("/proc/self/task"):
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread), before)
