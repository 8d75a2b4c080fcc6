"""A handler that fails, what it did is taken back, and the next raise: when it wrote little, and when it wrote much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from benchmarks.timing import Measure, Subject, key_of
from benchmarks.transactions.guests import FAIL, FAILED, LOG, PLAIN, Guest
from spinrt import _core
from spinrt.errors import InternalError
from spinrt.runtime.event import Event
from spinrt.sandbox.loader import Extension

FAULT: Final = "fault_and_next_raise"
FAULT_WITHOUT_LOG: Final = "fault_and_fresh_instance"
SLOPE: Final = "fault_for_each_byte"
WORD_BYTES: Final = 8
WORDS: Final = (4, 128, 1024, 8192)
"""Words that the handler writes before it fails; the first is the small handler."""


def subjects(extension: Extension) -> list[Subject]:
    """Each is a raise that fails and one that does not and writes one word."""
    logged, plain = Guest.load(extension, LOG), Guest.load(extension, PLAIN)
    return [
        *(Subject(FAULT, params(words), _failing(logged.event(FAIL), words)) for words in WORDS),
        Subject(FAULT_WITHOUT_LOG, params(WORDS[0]), _failing(plain.event(FAIL), WORDS[0])),
    ]


def params(words: int) -> dict[str, object]:
    """What tells these subjects apart: bytes that were written."""
    return {"bytes": words * WORD_BYTES}


def _failing(event: Event, words: int) -> Measure:
    """Raises in turn; checks once that the one fails and the other does not."""
    answers = event.raise_(words, 1), event.raise_(1, 0)
    if answers != (FAILED, 1):
        raise InternalError(f"event {event.name}: found the answers {answers}, expected {(FAILED, 1)}")
    return lambda calls: _core.time_raises(event.dispatcher, ((words, 1), (1, 0)), calls)


def slopes(found: Mapping[str, Sequence[float]]) -> dict[tuple[int, int], list[float]]:
    """Nanoseconds for each byte more, in each round: (bytes from, bytes to) → values."""
    times = {words * WORD_BYTES: found[key_of(FAULT, params(words))] for words in WORDS}
    steps = list(zip(list(times)[1:], list(times)[2:], strict=False))
    return {
        (few, many): [(above - below) / (many - few) for below, above in zip(times[few], times[many], strict=True)]
        for few, many in steps
    }
