"""Work in a thread beside an event loop, which must not wait for it.

A thread that wants the interpreter waits until its holder gives it up, at the latest after the *switch interval*, 5 ms
by default. A holder that gives it up for a short system call, as reading pages and packing them does all the time, has
it back before the other one wakes, and the wait begins anew each time: so an event loop beside it waits for
milliseconds, again and again. While `background` work runs the interval is shorter, and the work itself *breathes*: at
places that it passes often it sleeps for a moment when it has run for a slice. It takes two to three times as long for
that.

Processors are shared likewise: who wakes on one where such work runs may wait for a tick of the system (4 ms), even
while another one is idle. So its threads have a lower priority (`NICE`). It is a little lower only: with the
interpreter in their hands they must not starve when other processes keep all processors busy.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, ParamSpec, TypeVar

SWITCH_INTERVAL_S: Final = 0.0003
SLICE_NS: Final = 200_000
BREATH_S: Final = 0.0003
"""Longer than a thread takes to wake, up to 80 us on a virtual machine: after less it comes too late for its turn."""

NICE: Final = 5
"""What a thread's nice value is higher by."""
THREADS: Final = 4

P = ParamSpec("P")
T = TypeVar("T")

_lock: Final = threading.Lock()
_running = 0
_usual_s = 0.0


class _Slice(threading.local):
    """Of each thread: how many blocks it is in, and when it began to run."""

    blocks = 0
    began_ns = 0


_slice: Final = _Slice()


@contextmanager
def background() -> Iterator[None]:
    """Let other threads have the interpreter soon, for the length of a ``with`` block. Blocks may overlap."""
    global _running, _usual_s  # noqa: PLW0603
    with _lock:
        if _running == 0:
            _usual_s = sys.getswitchinterval()
            sys.setswitchinterval(min(SWITCH_INTERVAL_S, _usual_s))
        _running += 1
    _slice.blocks += 1
    try:
        yield
    finally:
        _slice.blocks -= 1
        with _lock:
            _running -= 1
            if _running == 0:
                sys.setswitchinterval(_usual_s)


def breathe() -> None:
    """Let others run if this thread is in a `background` block and has run for a slice; else return at once."""
    if not _slice.blocks:
        return
    now_ns = time.monotonic_ns()
    if now_ns - _slice.began_ns > SLICE_NS:
        time.sleep(BREATH_S)
        _slice.began_ns = time.monotonic_ns()


async def in_background(function: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """Have a thread that steps back for others do `background` work, and wait for it as `asyncio.to_thread` does."""

    def work() -> T:
        with background():
            return function(*arguments, **options)

    return await asyncio.get_running_loop().run_in_executor(_threads, work)


def _step_back() -> None:
    """Lower the priority of this thread (only on Linux has it one of its own), for good: not everybody may raise it."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICE)


def _begin() -> None:
    """Threads are made as they are needed; a process that was forked has none of its parent's."""
    global _threads  # noqa: PLW0603
    _threads = ThreadPoolExecutor(THREADS, "spinrt-background", _step_back)


_threads: ThreadPoolExecutor
_begin()
os.register_at_fork(after_in_child=_begin)
