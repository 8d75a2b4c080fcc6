"""How far a long campaign is: a line on standard error for each twentieth of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final

LINES: Final = 20


def silent(done: int) -> None:
    """Tell nobody."""


def teller(total: int, what: str) -> Callable[[int], None]:
    """Return what is told how many of ``total`` are done so far."""
    began_s = time.monotonic()
    due = 0

    def tell(done: int) -> None:
        nonlocal due
        if done * LINES >= due * total:
            due = done * LINES // total + 1
            print(f"{done:,} of {total:,} {what}, {time.monotonic() - began_s:,.0f} s", file=sys.stderr, flush=True)

    return tell
