"""Runs one subject after the other, so that somebody counts its instructions: ``python -m benchmarks.ipc.counted``.

Without arguments each is called `SMALL` and then twice as many times, and callgrind dumps what it counted after each;
with a name and a number of calls, that one is called so often.
"""

from __future__ import annotations

import gc
import sys
from typing import Final

from benchmarks.ipc import inprocess
from benchmarks.ipc.inprocess import FROM_C, GETPID, NATIVE, NO, PYTHON, RAISE, YES
from benchmarks.ipc.native import work
from benchmarks.ipc.work import NUMBER
from benchmarks.timing import Measure

SMALL: Final = 1000
NAMES: Final = (
    NATIVE,
    GETPID,
    RAISE,
    *(f"{FROM_C} transactional={transactional}" for transactional in (YES, NO)),
    PYTHON,
)
"""Rows, in the order in which they are counted."""


def measures() -> dict[str, Measure]:
    """Row → what calls it, without payload."""
    guest = inprocess.build()
    events = [inprocess.callee(guest, transactional).events[0] for transactional in (YES, NO)]
    made = [
        inprocess.native(0),
        work().time_getpid,
        inprocess.judged_raise(),
        *(inprocess.raising(event, 0) for event in events),
        lambda calls: work().time_python(_nothing, NUMBER, calls),
    ]
    return dict(zip(NAMES, made, strict=True))


def _nothing(number: int) -> int:
    return number


def main() -> None:
    """Call what is asked for."""
    chosen = measures()
    gc.disable()
    if len(sys.argv) > 1:
        chosen[sys.argv[1]](int(sys.argv[2]))
        return
    for measure in chosen.values():
        measure(SMALL)
        for calls in (SMALL, 2 * SMALL):
            work().count(measure, calls)


if __name__ == "__main__":
    main()
