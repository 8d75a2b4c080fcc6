"""How values are written for people."""

from __future__ import annotations

from typing import Final

_SECONDS: Final = (("s", 1e9), ("ms", 1e6), ("µs", 1e3), ("ns", 1.0))


def number(value: float) -> str:
    """Four significant digits, thousands apart, no exponent for what people read."""
    if value and abs(value) < 0.001:
        return f"{value:.3g}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def duration(ns: float) -> str:
    """Nanoseconds in the unit that suits them."""
    unit, each = next((one for one in _SECONDS if ns >= one[1]), _SECONDS[-1])
    return f"{number(ns / each)} {unit}"
