"""Rates: what a domain may do per minute, however many calls it is spread over.

What one call may use is bounded by the core (`InstanceLimits`). A rate is a bucket of tokens: it holds a minute's worth
at the start, each use takes one, and they come back evenly. Tokens of a call that was rolled back do not come back: it
did reach for the outside.
"""

from __future__ import annotations

from collections.abc import Callable

from spinrt.clock import Clock
from spinrt.errors import QuotaExceeded
from spinrt.sandbox.manifest import Limits

_MINUTE_S = 60.0


class Rate:
    """A bucket of tokens.

    Args:
        per_minute: How many it holds, and how many come back in a minute.
        clock: Only its monotonic time is used.
    """

    __slots__ = ("_clock", "_left", "_seen_s", "per_minute")

    def __init__(self, per_minute: int, clock: Clock) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._left = float(per_minute)
        self._seen_s = clock.monotonic_s()

    @property
    def left(self) -> int:
        """Uses that would be allowed now."""
        self._refill()
        return int(self._left)

    def take(self) -> bool:
        """Take a token; false when there is none."""
        self._refill()
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    def _refill(self) -> None:
        now_s = self._clock.monotonic_s()
        elapsed_s = max(0.0, now_s - self._seen_s)
        self._seen_s = now_s
        self._left = min(float(self.per_minute), self._left + elapsed_s * self.per_minute / _MINUTE_S)


class Quotas:
    """The rates of one domain; they live as long as it does, over all of its instances."""

    __slots__ = ("_name", "outside")

    def __init__(self, name: str, limits: Limits, clock: Clock) -> None:
        self._name = name
        self.outside = Rate(limits.outside_calls_per_minute, clock)

    def meter(self, function: str) -> Callable[[], None]:
        """Return what takes a token for each call of a function that reaches the outside, or refuses the call.

        Args:
            function: ``interface#function``, for the error.
        """
        rate = self.outside

        def check() -> None:
            if not rate.take():
                raise QuotaExceeded(
                    f"extension {self._name}: found more than {rate.per_minute} calls that reach the outside, with "
                    f"{function} in a minute, expected at most that",
                    hint="raise limits.outside_calls_per_minute",
                )

        return check
