"""Work in a thread beside an event loop, which must not wait for it.

A thread that wants the interpreter waits until its holder gives it up, at the latest after the *switch interval*, 5 ms
by default. A holder that gives it up for a short system call, as reading pages and packing them does all the time, has
it back before the other one wakes: so an event loop beside it waits the whole interval, again and again. While
`background` work runs the interval is shorter.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

SWITCH_INTERVAL_S: Final = 0.0003

_lock: Final = threading.Lock()
_running = 0
_usual_s = 0.0


@contextmanager
def background() -> Iterator[None]:
    """Let other threads have the interpreter soon, for the length of a ``with`` block. Blocks may overlap."""
    global _running, _usual_s  # noqa: PLW0603
    with _lock:
        if _running == 0:
            _usual_s = sys.getswitchinterval()
            sys.setswitchinterval(min(SWITCH_INTERVAL_S, _usual_s))
        _running += 1
    try:
        yield
    finally:
        with _lock:
            _running -= 1
            if _running == 0:
                sys.setswitchinterval(_usual_s)
