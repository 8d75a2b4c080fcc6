"""A clock for tests that pass time themselves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class HandClock:
    """Stands still until it is moved."""

    now_s: float = 0.0

    def wall_ns(self) -> int:
        return int(self.now_s * 1e9)

    def monotonic_s(self) -> float:
        return self.now_s
