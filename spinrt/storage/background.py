"""Work in a thread beside an event loop, which must not wait for it.

A thread that wants the interpreter waits until its holder gives it up, at the latest after the *switch interval*, 5 ms
by default. A holder that gives it up for a short system call, as reading pages and packing them does all the time, has
it back before the other one wakes, and the wait begins anew each time: so an event loop beside it waits for
milliseconds, again and again. While `background` work runs the interval is shorter, and the work itself *breathes*: at
places that it passes often it sleeps for a moment when it has run for a slice. It takes up to twice as long for that.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

SWITCH_INTERVAL_S: Final = 0.0003
SLICE_NS: Final = 300_000
BREATH_S: Final = 0.0002
"""Longer than a thread takes to wake, up to 80 us on a virtual machine: after less it comes too late for its turn."""

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
