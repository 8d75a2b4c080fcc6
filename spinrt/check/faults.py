"""The classes of faults: where one can be injected into a run, and how.

A `FaultClass` gets rigs of its own kind: with a module that counts down, with a gate in front of every host call, or
with limits that are lower than usual. `places` tells how many places there are in one rehearsal; `inject` makes the
fault at one of them and says whether it came.

Source: docs/design/check.md, "Faults".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NoReturn

from spinrt._core import (
    COUNTDOWN_NEVER,
    ControlFunction,
    NativeFunction,
    Witness,
    countdown,
    has_log,
    log_records,
    make_late,
    restore_log,
    run_late,
    set_countdown,
    shorten_log,
)
from spinrt.check.rehearsal import InjectedInterrupt, Rehearsal
from spinrt.clock import SystemClock
from spinrt.errors import (
    CapabilityRevoked,
    DeadlineExceeded,
    DeviceFailed,
    ExtensionError,
    QuotaExceeded,
    RightsExceeded,
    UsageError,
)
from spinrt.runtime.capability import Closure, Grant, HostInterface
from spinrt.runtime.domain import Domain
from spinrt.runtime.quota import Quotas

ERRORS: Final[tuple[Callable[[], BaseException], ...]] = (
    lambda: QuotaExceeded("injected"),
    lambda: CapabilityRevoked("injected"),
    lambda: RightsExceeded("injected"),
    lambda: ExtensionError("injected"),
    lambda: DeadlineExceeded("injected"),
    lambda: DeviceFailed("injected"),
    lambda: UsageError("injected"),
    lambda: ValueError("injected"),
    lambda: MemoryError("injected"),
    lambda: InjectedInterrupt("injected"),
)
"""What a host call can fail with: errors of the guest, of the host, mistakes of the host, and what is nobody's."""


class FaultClass(ABC):
    """One class of faults.

    Attributes:
        name: In verdicts; stable.
        rig: Which kind of rig it needs: ``counting``, ``gated`` or ``answering``.
    """

    name: str
    rig: str

    @abstractmethod
    def places(self, rehearsal: Rehearsal) -> int:
        """Return in how many places of the plain run a fault can be."""

    @abstractmethod
    def inject(self, rehearsal: Rehearsal, place: int) -> bool:
        """Run with a fault at that place (from 0), and return whether the run failed.

        The run is rolled back if it did not fail.
        """

    @abstractmethod
    def describe(self, place: int) -> str:
        """Return the place for people."""

    def left_outside(self) -> str:
        """Say what the last fault left behind outside of the runtime; empty: nothing."""
        return ""


class InstructionFaults(FaultClass):
    """A trap before each instruction that changes state.

    Places with an even number are raised by themselves and would be committed, others inside a transaction.
    """

    name, rig = "instruction", "counting"

    def places(self, rehearsal: Rehearsal) -> int:
        guest = rehearsal.rig.instance
        if not has_log(guest):
            return 0
        set_countdown(guest, COUNTDOWN_NEVER)
        rehearsal.run()
        used = COUNTDOWN_NEVER - countdown(guest)
        set_countdown(guest, 0)
        rehearsal.left_behind()
        return used

    def inject(self, rehearsal: Rehearsal, place: int) -> bool:
        guest = rehearsal.rig.instance
        set_countdown(guest, place + 1)
        if place % 2:
            rehearsal.run()
        else:
            rehearsal.fail()
        came = countdown(guest) == 0
        set_countdown(guest, 0)
        return came

    def describe(self, place: int) -> str:
        return f"before change {place + 1}"


class SavepointFaults(FaultClass):
    """A trap before each instruction that changes state, in the second of two raises of one transaction.

    What the first raise did must stay until the transaction ends; then nothing may be left of either.
    """

    name, rig = "savepoint", "counting"

    def __init__(self) -> None:
        self._wrong = ""
        self._middle: Witness | None = None
        self._effects = 0

    def places(self, rehearsal: Rehearsal) -> int:
        self._middle, used = None, 0
        guest = rehearsal.rig.instance
        if not has_log(guest):
            return 0
        with rehearsal.transaction() as transaction:
            if not rehearsal.raise_in(transaction):
                self._middle, self._effects = Witness(guest), len(transaction.effects)
                set_countdown(guest, COUNTDOWN_NEVER)
                rehearsal.raise_in(transaction)
                used = COUNTDOWN_NEVER - countdown(guest)
                set_countdown(guest, 0)
        rehearsal.left_behind()
        return used

    def inject(self, rehearsal: Rehearsal, place: int) -> bool:
        guest, middle = rehearsal.rig.instance, self._middle
        assert middle is not None
        with rehearsal.transaction() as transaction:
            rehearsal.raise_in(transaction)
            set_countdown(guest, place + 1)
            rehearsal.raise_in(transaction)
            came = countdown(guest) == 0
            set_countdown(guest, 0)
            self._wrong = (middle.difference() or "") if came else ""
            if came and len(transaction.effects) != self._effects:
                self._wrong = f"effects: found {len(transaction.effects)}, expected {self._effects}"
        return came

    def left_outside(self) -> str:
        return f"of the first raise: {self._wrong}" if self._wrong else ""

    def describe(self, place: int) -> str:
        return f"before change {place + 1} of a second raise"


class LogFaults(FaultClass):
    """The undo log is full at each of its records."""

    name, rig = "undo-log", "counting"

    def places(self, rehearsal: Rehearsal) -> int:
        if not has_log(rehearsal.rig.instance):
            return 0
        counted: list[int] = []
        rehearsal.run(inside=lambda: counted.append(log_records(rehearsal.rig.instance)))
        rehearsal.left_behind()
        return counted[0] if counted else 0

    def inject(self, rehearsal: Rehearsal, place: int) -> bool:
        guest = rehearsal.rig.instance
        start = shorten_log(guest, place)
        try:
            return rehearsal.run().failed
        finally:
            restore_log(guest, start)

    def describe(self, place: int) -> str:
        return f"log full behind record {place}"


class Gate(Quotas):
    """In front of every host call of a gated rig: counts them, and does something at one.

    Attributes:
        calls: So far, since `open`.
        called: Names of all functions that were ever called, as ``interface#function``.
    """

    __slots__ = ("_action", "_at", "called", "calls")

    def __init__(self, domain: Domain) -> None:
        super().__init__(domain.name, domain.limits, SystemClock())
        self.called: set[str] = set()
        self.open()

    def open(self) -> None:
        """Count from 0 again, and let everything pass."""
        self.close(-1, _nothing)

    def close(self, at: int, action: Callable[[], object]) -> None:
        """Count from 0 again, and do that at the call of that number (from 0)."""
        self.calls, self._at = 0, at
        self._action = action

    def ask(self) -> None:
        """A call is about to be served, or was."""
        self.calls += 1
        if self.calls - 1 == self._at:
            self._action()

    def meter(self, function: str) -> Callable[[], None]:
        def ask() -> None:
            self.called.add(function)
            self.ask()

        return ask


def _nothing() -> None:
    return


class GatedInterface(HostInterface):
    """An interface every function of which asks the gate before it is served."""

    def __init__(self, inner: HostInterface, functions: frozenset[str]) -> None:
        self.interface_id = inner.interface_id
        self.pure = inner.pure
        self.outside = functions  # type: ignore[misc]  # of an instance, since it depends on the interface
        self._inner = inner

    def check(self, grant: Grant) -> None:
        self._inner.check(grant)

    def bind(self, function: str, grant: Grant, domain: Domain) -> Closure:
        return self._inner.bind(function, grant, domain)


class AnsweringInterface(GatedInterface):
    """An interface every function of which asks the gate when it was served."""

    def __init__(self, inner: HostInterface) -> None:
        super().__init__(inner, frozenset())

    def bind(self, function: str, grant: Grant, domain: Domain) -> Closure:
        bound = self._inner.bind(function, grant, domain)
        if isinstance(bound, ControlFunction):  # served by the core alone
            return bound
        serve = bound.closure if isinstance(bound, NativeFunction) else bound
        gate = domain.quotas
        assert isinstance(gate, Gate)

        def answer(*arguments: Any) -> Any:
            answered = serve(*arguments)
            gate.ask()
            return answered

        return answer


class HostCallFaults(FaultClass):
    """Each host call fails instead of being served, with each kind of error."""

    name, rig = "host-call", "gated"

    def places(self, rehearsal: Rehearsal) -> int:
        return _host_calls(rehearsal) * len(ERRORS)

    def inject(self, rehearsal: Rehearsal, place: int) -> bool:
        make = ERRORS[place % len(ERRORS)]

        def fail() -> NoReturn:
            raise make()

        with _closed(rehearsal, place // len(ERRORS), fail):
            return rehearsal.run().failed

    def describe(self, place: int) -> str:
        return f"host call {place // len(ERRORS) + 1} as {type(ERRORS[place % len(ERRORS)]()).__name__}"


class HostAnswerFaults(HostCallFaults):
    """Each host call is served, and fails then."""

    name, rig = "host-answer", "answering"


class DeadlineFaults(FaultClass):
    """The call is late when it begins, or behind one of its host calls; it ends at the next look at the clock."""

    name, rig = "deadline", "gated"

    def places(self, rehearsal: Rehearsal) -> int:
        return 1 + _host_calls(rehearsal)

    def inject(self, rehearsal: Rehearsal, place: int) -> bool:
        guest = rehearsal.rig.instance
        if place:
            with _closed(rehearsal, place - 1, lambda: make_late(guest)):
                return rehearsal.run().failed
        run_late(guest, True)
        try:
            return rehearsal.run().failed
        finally:
            run_late(guest, False)

    def describe(self, place: int) -> str:
        return f"late behind host call {place}" if place else "late at the beginning"


def _gate(rehearsal: Rehearsal) -> Gate:
    gate = rehearsal.rig.domain.quotas
    assert isinstance(gate, Gate)
    return gate


def _host_calls(rehearsal: Rehearsal) -> int:
    """How many host calls the plain run makes."""
    gate = _gate(rehearsal)
    gate.open()
    rehearsal.run()
    rehearsal.left_behind()
    return gate.calls


@contextmanager
def _closed(rehearsal: Rehearsal, at: int, action: Callable[[], object]) -> Iterator[None]:
    gate = _gate(rehearsal)
    gate.close(at, action)
    try:
        yield
    finally:
        gate.open()
