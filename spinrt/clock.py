"""Time, injected: whatever needs the time is given a clock, so that tests and replays decide what time it is.

``wall_ns`` is for what is written down (Received headers, log records) and may jump; ``monotonic_s`` is for measuring
and for time-outs and never goes back.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where the time comes from."""

    def wall_ns(self) -> int:
        """Nanoseconds since 1970-01-01 UTC."""
        ...

    def monotonic_s(self) -> float:
        """Seconds since some moment; never goes back."""
        ...


class SystemClock:
    """The machine's clocks."""

    def wall_ns(self) -> int:
        return time.time_ns()

    monotonic_s = staticmethod(time.monotonic)


def wall_s(clock: Clock) -> int:
    """Whole seconds since 1970-01-01 UTC."""
    return clock.wall_ns() // 1_000_000_000
