"""Forms between two processes, both ends in C: pipes, sockets, HTTP, shared memory, and a process for each call."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable
from typing import Final

from benchmarks.ipc.cores import SAME, TWO, Cores
from benchmarks.ipc.native import driver
from benchmarks.ipc.subject import WARM_UP_SHARE, Scale, Subject, Taken
from benchmarks.ipc.work import NUMBER, SIZES, check, payload
from spinrt.errors import InternalError

FORMS: Final = {
    "pipe": "pipe",
    "unix_stream": "unix_stream",
    "unix_datagram": "unix_datagram",
    "tcp": "tcp",
    "http": "http",
    "eventfd": "eventfd",
    "futex": "futex",
    "shared_memory_yield": "yield",
    "shared_memory_spin": "spin",
    "process": "spawn",
}
"""Row → what the driver calls it."""
MEDIATED: Final = ("pipe", "unix_stream", "unix_datagram", "tcp", "eventfd", "futex")
"""Those in which the kernel wakes a callee that sleeps: the fastest of them is the best that the kernel has."""
YIELD: Final = "shared_memory_yield"
SPIN: Final = "shared_memory_spin"
PROCESS: Final = "process"
_PLACES: Final = {SPIN: (TWO,), YIELD: (SAME,)}
"""Spinning on one core waits for the end of a time slice; where there are two, nobody gives one up instead."""
SPIN_BATCH: Final = 16
"""Reading the clock takes a tenth of such a round trip."""
_TIMEOUT_S: Final = 150


def subjects(cores: Cores, scale: Scale) -> list[Subject]:
    """Every form, on one core and on two, with every size."""
    return [
        _subject(name, size, place, (cores.caller, callee), scale)
        for name in FORMS
        for place, callee in cores.places().items()
        if place in _PLACES.get(name, (SAME, TWO))
        for size in SIZES
    ]


def _subject(name: str, size: int, place: str, where: tuple[int, int], scale: Scale) -> Subject:
    samples, rate_calls = (scale.spawns, 1) if name == PROCESS else (scale.round_trips, scale.rate_calls)
    batch = SPIN_BATCH if name == SPIN else 1
    params = {"bytes": size, "cores": place}
    counts = (max(samples // WARM_UP_SHARE, 1), samples, batch, rate_calls)
    return Subject(name, params, _runner(name, size, where, counts), batch)


def _runner(name: str, size: int, where: tuple[int, int], counts: tuple[int, int, int, int]) -> Callable[[], Taken]:
    _, samples, batch, rate_calls = counts
    command = [str(word) for word in (driver(), FORMS[name], *where, size, *counts)]
    data = payload(size)

    def run() -> Taken:
        answered, *taken, one, many = _words(name, command, data, samples + 3)
        check(name, size, answered if size else answered + NUMBER)
        rate = None if name == PROCESS else one / rate_calls
        return Taken([ns / batch for ns in taken], rate, many / rate_calls if many else None)

    return run


def _words(name: str, command: list[str], data: bytes, count: int) -> tuple[int, ...]:
    """What the driver writes: see the head of ``native/driver.c``."""
    done = subprocess.run(command, input=data, capture_output=True, timeout=_TIMEOUT_S, check=False)
    if done.returncode != 0 or len(done.stdout) != 8 * count:
        told = done.stderr.decode(errors="replace").strip()
        raise InternalError(f"{name}: the driver ended with status {done.returncode}: {told or 'it said nothing'}")
    return struct.unpack(f"={count}Q", done.stdout)
