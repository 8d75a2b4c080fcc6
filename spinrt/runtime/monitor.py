"""What went wrong in a domain: counters, the last faults, and log lines at a bounded rate.

Noting a fault counts it and keeps it in the domain's `Tally`. Nothing is put into words before somebody asks, or a line
is due.

Source: docs/design/supervisor.md, "Monitor".
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

from spinrt._core import Rate, Tally
from spinrt.clock import Clock
from spinrt.errors import SpinError
from spinrt.sandbox.types import Err, Ok

LINES_AT_ONCE: Final = 5
"""Log lines before the rate holds."""
LINE_EVERY_S: Final = 10.0
"""After that one line says how many there were."""
DENIAL_LINES_PER_MINUTE: Final = 6
"""Log lines about host calls that were answered with an error."""
DENIAL_TEXT_MAX: Final = 80
_SCALARS: Final = frozenset({bool, int, float, str})

_log = logging.getLogger("spinrt.runtime")


@dataclass(frozen=True, slots=True)
class Fault:
    """One failed call.

    Attributes:
        at_s: Seconds on the clock's monotonic time.
        event: Name of the event, or empty outside of one.
        code, text, hint: As the error has them.
        arguments: The scalars that were passed; a digest where there were others.
        trace: Where it happened, as the engine kept it; none where nothing trapped.
    """

    at_s: float
    event: str
    code: str
    text: str
    hint: str
    arguments: tuple[Any, ...] | str
    trace: Any

    @property
    def line(self) -> str:
        """The error as one line."""
        return f"{self.code}: {self.text} ({self.hint})" if self.hint else f"{self.code}: {self.text}"

    @property
    def digest(self) -> str:
        """Of the arguments: 16 hexadecimal digits, equal for equal arguments; empty without arguments."""
        return self.arguments if isinstance(self.arguments, str) else digest(self.arguments)


class Monitor:
    """Counts and remembers the faults of one domain.

    Attributes:
        restarts: Fresh instances.
        refused: Calls that met a quarantine.
        denials: Host calls that were answered with an error.
    """

    __slots__ = (
        "_clock",
        "_denial_lines",
        "_last_line_s",
        "_lines",
        "_name",
        "_problem",
        "_tally",
        "denials",
        "refused",
        "restarts",
    )

    def __init__(self, name: str, clock: Clock, tally: Tally) -> None:
        self.restarts = 0
        self.refused = 0
        self.denials = 0
        self._denial_lines = Rate(DENIAL_LINES_PER_MINUTE, clock)
        self._problem = ("", 0)
        """The last one, and how many faults there were before it."""
        self._name = name
        self._clock = clock
        self._tally = tally
        self._lines = 0
        self._last_line_s = float("-inf")

    @property
    def faults(self) -> int:
        """Calls that failed."""
        return self._tally.faults

    @property
    def by_code(self) -> dict[str, int]:
        """The same by the code of the error."""
        return self._tally.by_code

    def note_fault(self, error: SpinError, event: str, now_s: float) -> None:
        """Count a failed call, and keep what is needed to describe it; a line follows when one is due."""
        tally = self._tally
        arguments: tuple[Any, ...] | str = () if error.attempt is None else error.attempt[2]
        if arguments and not _SCALARS.issuperset(map(type, arguments)):
            arguments = digest(arguments)
        tally.note(now_s, event, error.code, error.args[0], error.hint, arguments, error.trace)
        if now_s >= tally.line_at_s:
            self._say(error, now_s)
        else:
            tally.unsaid += 1

    def note_problem(self, event: str, line: str) -> None:
        """Remember something else that went wrong, and log it: a restart that failed, a kill."""
        self._problem = line, self._tally.faults
        _log.error("extension=%s event=%s reason=%r", self._name, event, line)

    def note_denial(self, function: str, answer: Err[Any]) -> None:
        """Count a host call that was answered with an error, and say so when a line is due."""
        self.denials += 1
        if self._denial_lines.take():
            _log.warning(
                "extension=%s event=denied function=%s reason=%r denials=%d",
                self._name,
                function,
                str(answer.value)[:DENIAL_TEXT_MAX],
                self.denials,
            )

    @property
    def last_fault(self) -> str:
        """The last thing that went wrong, as one line; empty when nothing has."""
        problem, before = self._problem
        if problem and before == self.faults:
            return problem
        last = self._tally.last()
        return Fault(*last[0]).line if last else ""

    def last_faults(self) -> list[Fault]:
        """The last faults, the newest first."""
        return [Fault(*one) for one in self._tally.last()]

    def _say(self, error: SpinError, now_s: float) -> None:
        if now_s - self._last_line_s >= LINE_EVERY_S:
            self._lines = 0
        tally = self._tally
        if tally.unsaid:
            _log.warning("extension=%s event=faults more=%d", self._name, tally.unsaid)
            self._lines, tally.unsaid = LINES_AT_ONCE, 0
        self._lines += 1
        self._last_line_s = now_s
        tally.line_at_s = now_s + LINE_EVERY_S if self._lines >= LINES_AT_ONCE else now_s
        _log.warning("extension=%s event=fault code=%s reason=%r", self._name, error.code, str(error))


def digest(arguments: Sequence[Any]) -> str:
    """Return 16 hexadecimal digits that are equal for equal arguments.

    Of resources only the kind counts: they hold what may not be kept, and may not be there any more.
    """
    hashed = sha256()
    _feed(hashed.update, arguments)
    return hashed.hexdigest()[:16]


def _feed(update: Callable[[bytes], None], value: Any) -> None:
    kind = type(value)
    if kind in _SCALARS or value is None or kind is bytes:
        content = value if kind is bytes else repr(value).encode("utf-8", "surrogatepass")
        update(b"%s:%d:" % (kind.__name__.encode(), len(content)))
        update(content)
    elif isinstance(value, list | tuple):
        update(b"[%d:" % len(value))
        for one in value:
            _feed(update, one)
    elif isinstance(value, frozenset):
        _feed(update, sorted(value))
    else:
        update(b"<%s:" % kind.__name__.encode())
        if isinstance(value, Ok | Err):
            _feed(update, value.value)


def moment(clock: Clock, at_s: float) -> str:
    """Return a time of the clock's monotonic time as people and programs read it: UTC, to the millisecond."""
    then_ns = clock.wall_ns() - round((clock.monotonic_s() - at_s) * 1e9)
    return f"{datetime.fromtimestamp(then_ns / 1e9, UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
