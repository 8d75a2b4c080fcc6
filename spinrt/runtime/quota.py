"""Rates: what a domain may do per minute, however many calls it is spread over.

What one call may use is bounded by the core (`InstanceLimits`). A rate is a bucket of tokens (`spinrt._core.Rate`): it
holds a minute's worth at the start, each use takes one, and they come back evenly. Tokens of a call that was rolled
back do not come back: it did reach for the outside.
"""

from __future__ import annotations

from collections.abc import Callable

from spinrt._core import Meter, Rate
from spinrt.clock import Clock
from spinrt.sandbox.manifest import Limits


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
        return Meter(self.outside, self._name, function)
