"""The supervisor of a domain: whether it may run, and what a fault changes about that.

A domain is *healthy*; *faulted* while a fault lies within the window; *quarantined* when the budget of faults is used
up: then nothing of it runs; and on *probation* after the back-off, when somebody raises what it handles. A new version
that took the place of another is on probation, too. A fault on probation quarantines again, for longer, or brings the
version before back.

Nothing here knows what runs or how it is kept from running: the owner is told of each change, and asked how many
handlers ran.

Source: docs/design/supervisor.md; VMSRS.
"""

from __future__ import annotations

import logging
import math
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any, Final, Protocol, TypeAlias

from spinrt._core import Tally
from spinrt.clock import Clock

FAULTS_KEPT: Final = 16
"""Faults of a domain that are remembered."""
FAULTS_HIGHEST: Final = 100_000
RAISES_HIGHEST: Final = 1_000_000_000
SECONDS_HIGHEST: Final = 86_400.0
FACTOR_HIGHEST: Final = 100.0

Refuse: TypeAlias = Callable[[str, object, str], Exception]
"""Makes the error for a bad entry of the policy, of (key, found, expected)."""

_log = logging.getLogger("spinrt.runtime")


class Health(Enum):
    """Where a domain is; see the head of this file."""

    HEALTHY = "healthy"
    FAULTED = "faulted"
    QUARANTINED = "quarantined"
    PROBATION = "probation"


class Meanwhile(Enum):
    """What a raise does about a handler whose domain is quarantined."""

    SKIP = "skip"
    """Go on without it (fail open)."""
    DEFAULT = "default"
    """Answer the event's default, and nothing else."""
    REFUSE = "refuse"
    """Fail with `HandlerFailed` (fail closed)."""


@dataclass(frozen=True, slots=True)
class Probation:
    """How a domain proves itself; it ends with either bound, whichever comes first.

    Attributes:
        faults_max: So many faults, and it has not; 0: there is nothing to prove.
        raises: Handlers run, failed ones included.
        seconds: Time since it began.
    """

    faults_max: int = 3
    raises: int = 1000
    seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Supervision:
    """What the operator's policy says about faults of one extension.

    Attributes:
        faults: So many within the window, and it is quarantined; 0: it never is.
        window_s: The window, in seconds.
        back_off_s: How long the first quarantine lasts.
        back_off_factor: How much longer the next one lasts, if it had not proved itself in between.
        back_off_max_s: How long one lasts at most.
        probation_raises: Handlers that must run without a fault after a quarantine.
        while_quarantined: What a raise does meanwhile; none: what the event does about any failure.
        crash_records: Whether faults are recorded so that they can be run again.
    """

    faults: int = 100
    window_s: float = 60.0
    back_off_s: float = 1.0
    back_off_factor: float = 2.0
    back_off_max_s: float = 300.0
    probation_raises: int = 100
    while_quarantined: Meanwhile | None = None
    crash_records: bool = False

    @property
    def probation(self) -> Probation:
        """The probation after a quarantine."""
        return Probation(1, self.probation_raises, math.inf)

    def back_off(self, unproved: int) -> float:
        """Seconds of a quarantine before which so many others ended without proof.

        The exponent is bounded by its logarithm, so that no number of quarantines overflows.
        """
        if self.back_off_s >= self.back_off_max_s:
            return self.back_off_max_s
        growth = unproved * math.log(self.back_off_factor)
        if growth >= math.log(self.back_off_max_s / self.back_off_s):
            return self.back_off_max_s
        return self.back_off_s * math.exp(growth)


class Supervised(Protocol):
    """What is supervised."""

    def count_runs(self) -> int:
        """Return how many of its handlers ran so far; any number that grows with each."""
        ...

    def note_health(self) -> None:
        """Its quarantine began or ended."""
        ...


class Supervisor:
    """Supervises one domain.

    Args:
        name: Whose, for log lines.
        supervision: What the policy says.
        clock: Only its monotonic time is used.
        owner: What is supervised; it is not kept alive from here.

    Attributes:
        quarantines: How often it was quarantined.
        tally: Its faults. A trap that changes nothing about the domain is noted there, and nowhere else.
    """

    __slots__ = (
        "_began_s",
        "_clock",
        "_name",
        "_on_failed",
        "_on_proved",
        "_owner",
        "_probation",
        "_probation_faults",
        "_quarantined",
        "_runs_before",
        "_times",
        "_unproved",
        "_until_s",
        "quarantines",
        "supervision",
        "tally",
    )

    def __init__(
        self,
        name: str,
        supervision: Supervision,
        clock: Clock,
        owner: Supervised,
    ) -> None:
        self.supervision = supervision
        self.quarantines = 0
        self._name = name
        self._clock = clock
        self._owner = weakref.ref(owner)
        self._times: deque[float] = deque(maxlen=max(1, supervision.faults))
        self.tally = Tally(
            FAULTS_KEPT,
            self._times,
            clock.monotonic_s,
            budget=supervision.faults,
            window_s=supervision.window_s,
            recorded=supervision.crash_records,
        )
        self._quarantined = False
        self._until_s = 0.0
        self._unproved = 0
        self._probation: Probation | None = None
        self._end_probation()

    def _end_probation(self) -> None:
        self._probation = None
        self.tally.watched = False
        self._probation_faults = 0
        self._on_failed: Callable[[], None] | None = None
        self._on_proved: Callable[[], None] | None = None

    # ---------------------------------------------------------------------------------------------------------- asked

    @property
    def health(self) -> Health:
        """Where it is now."""
        if self._quarantined:
            return Health.QUARANTINED
        if self.on_probation:
            return Health.PROBATION
        times = self._times
        recent = bool(times) and self._clock.monotonic_s() - times[-1] < self.supervision.window_s
        return Health.FAULTED if recent else Health.HEALTHY

    @property
    def is_quarantined(self) -> bool:
        """Whether nothing of it may run."""
        return self._quarantined

    @property
    def on_probation(self) -> bool:
        """Whether it has something to prove still."""
        probation = self._probation
        if probation is None:
            return False
        if probation.faults_max and not self._has_proved(probation):
            return True
        self._prove()
        return False

    @property
    def faults_on_probation(self) -> int:
        """Faults since its probation began."""
        return self._probation_faults

    @property
    def left_s(self) -> float:
        """Seconds until its quarantine may end; 0 when it has none."""
        return max(0.0, self._until_s - self._clock.monotonic_s()) if self._quarantined else 0.0

    def _count_runs(self) -> int:
        owner = self._owner()
        return 0 if owner is None else owner.count_runs()

    def _tell(self) -> None:
        owner = self._owner()
        if owner is not None:
            owner.note_health()

    def _has_proved(self, probation: Probation) -> bool:
        if self._clock.monotonic_s() - self._began_s >= probation.seconds:
            return True
        return self._count_runs() - self._runs_before >= probation.raises

    # --------------------------------------------------------------------------------------------------------- events

    def note_fault(self, now_s: float) -> None:
        """It failed: count that, and quarantine it, or give up its probation, if that was one too many.

        Args:
            now_s: The clock's time, which the caller has read already.
        """
        if self._quarantined:
            return
        on_probation = self._probation is not None and self.on_probation
        times = self._times
        times.append(now_s)
        if on_probation and self._note_on_probation(now_s):
            return
        supervision = self.supervision
        if supervision.faults and len(times) == supervision.faults and now_s - times[0] < supervision.window_s:
            self._fail(now_s)

    def may_run(self) -> bool:
        """Somebody needs it: whether it may run, on probation if its back-off is over."""
        if not self._quarantined:
            return True
        if self._clock.monotonic_s() < self._until_s:
            return False
        self._quarantined = False
        self.begin_probation(self.supervision.probation)
        _log.warning("extension=%s event=probation quarantines=%d", self._name, self.quarantines)
        self._tell()
        return True

    def begin_probation(
        self,
        probation: Probation,
        *,
        on_failed: Callable[[], None] | None = None,
        on_proved: Callable[[], None] | None = None,
    ) -> None:
        """Let it prove itself.

        Args:
            probation: How.
            on_failed: Called when it does not, instead of a quarantine.
            on_proved: Called when it has, as soon as somebody looks.
        """
        self._probation, self._probation_faults = probation, 0
        self.tally.watched = True
        self._on_failed, self._on_proved = on_failed, on_proved
        self._began_s = self._clock.monotonic_s()
        self._runs_before = self._count_runs()

    def drop_probation(self) -> None:
        """There is nothing to prove any more; nobody is told."""
        self._end_probation()

    def _note_on_probation(self, now_s: float) -> bool:
        """Whether the fault was dealt with here."""
        assert self._probation is not None
        self._probation_faults += 1
        if self._probation_faults < self._probation.faults_max:
            return False
        self._fail(now_s)
        return True

    def _fail(self, now_s: float) -> None:
        """It faulted too often: a version on probation has somewhere to return to, anything else is quarantined."""
        failed = self._on_failed
        if failed is None:
            self._quarantine(now_s)
            return
        self._on_failed = self._on_proved = self._probation = None
        self.tally.watched = False
        failed()

    def _prove(self) -> None:
        proved = self._on_proved
        self._end_probation()
        self._unproved = 0
        self._times.clear()
        if proved is not None:
            proved()

    def _quarantine(self, now_s: float) -> None:
        back_off_s = self.supervision.back_off(self._unproved)
        self._end_probation()
        self._times.clear()
        self._quarantined, self._until_s = True, now_s + back_off_s
        self._unproved += 1
        self.quarantines += 1
        _log.error(
            "extension=%s event=quarantined quarantines=%d back_off_s=%g", self._name, self.quarantines, back_off_s
        )
        self._tell()


# ------------------------------------------------------------------------------------------------------------- policy

_BOUNDS: Final[Mapping[str, tuple[float, float]]] = {
    "faults": (0, FAULTS_HIGHEST),
    "window_s": (0.001, SECONDS_HIGHEST),
    "back_off_s": (0.001, SECONDS_HIGHEST),
    "back_off_factor": (1.0, FACTOR_HIGHEST),
    "back_off_max_s": (0.001, SECONDS_HIGHEST),
    "probation_raises": (1, RAISES_HIGHEST),
}
_SWITCH: Final = {"on": True, "off": False, True: True, False: False}
SUPERVISION_KEYS: Final = tuple(field.name for field in fields(Supervision))


def read_supervision(found: object, refuse: Refuse) -> Supervision:
    """Read the policy's ``supervision``; what it does not say is as in `Supervision`.

    Args:
        found: What YAML gives: a mapping, or nothing.
        refuse: Makes the error for a bad entry.
    """
    if found is None:
        return Supervision()
    if not isinstance(found, Mapping):
        raise refuse("", found, "a mapping")
    values: dict[str, Any] = {}
    for key, value in found.items():
        if key not in SUPERVISION_KEYS:
            raise refuse("", key, f"only {', '.join(SUPERVISION_KEYS)}")
        values[key] = _value(key, value, refuse)
    made = Supervision(**values)
    if made.back_off_max_s < made.back_off_s:
        raise refuse(".back_off_max_s", made.back_off_max_s, f"at least back_off_s, which is {made.back_off_s:g}")
    return made


def _value(key: str, value: object, refuse: Refuse) -> object:
    if key == "crash_records":
        return _switch(key, value, refuse)
    if key == "while_quarantined":
        names = [one.value for one in Meanwhile]
        if value not in names:
            raise refuse(f".{key}", value, f"one of {', '.join(names)}")
        return Meanwhile(value)
    low, high = _BOUNDS[key]
    is_whole = isinstance(low, int)
    kind = int if is_whole else int | float
    if not isinstance(value, kind) or isinstance(value, bool) or not low <= value <= high:
        raise refuse(f".{key}", value, f"{'an integer' if is_whole else 'a number'} from {low:g} to {high:g}")
    return value if is_whole else float(value)


def _switch(key: str, value: object, refuse: Refuse) -> bool:
    if not isinstance(value, bool | str) or value not in _SWITCH:
        raise refuse(f".{key}", value, "on or off")
    return _SWITCH[value]
