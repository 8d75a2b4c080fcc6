"""How fast an update may go: so many bytes a second, with a second's worth at once."""

from __future__ import annotations


class Throttle:
    """A bucket that fills with time. Tell `spend` what is sent; it says how long to wait first.

    Args:
        bytes_per_s: The rate; none: no bound.
        now_s: The time when it is made, of a clock that never goes back.
    """

    def __init__(self, bytes_per_s: float | None, now_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._due_s = now_s

    def spend(self, count: int, now_s: float) -> float:
        """Note that ``count`` bytes are to be sent; return the seconds to wait before."""
        if self._bytes_per_s is None:
            return 0.0
        self._due_s = max(self._due_s, now_s - 1.0)
        wait_s = max(self._due_s - now_s, 0.0)
        self._due_s += count / self._bytes_per_s
        return wait_s
