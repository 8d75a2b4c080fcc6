"""Tier 0: what a raise means, in plain Python. Slow, without any index, and obviously right.

The faster tiers are tested against this one. It is also the debug mode: ``SPINRT_TIER=0`` runs every event on it.

Source: docs/design/dispatch.md, "The walk".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter_ns
from typing import Any, Final, TypeAlias

from spinrt._core import Call, Export
from spinrt.errors import DeadlineExceeded, Quarantined, RevokedArgument, SpinError, UsageError
from spinrt.runtime.entry import (
    EFFECTS_MAX_HOST,
    NO_CLOSURE,
    CallGuard,
    Entry,
    EntryGuard,
    EqualGuard,
    Handler,
    PrefixGuard,
)

OnFailure: TypeAlias = Callable[[Any, BaseException], None]
"""Called with the domain (None: the host) and the error; the walk goes on when it returns."""

Observer: TypeAlias = Callable[[Any, int], None]
"""Called after each handler with its domain (None: the host) and the nanoseconds that it took."""

RAISERS: Final = frozenset({UsageError, RevokedArgument})
"""Mistakes of whoever raises."""

_FAILED = object()


class ReferenceTable:
    """The entries of an event in their order, immutable. `append` shares what is there.

    Cost: `append` is O(1) on the newest table of a line, as long as nobody looks at ``entries`` in between.
    """

    __slots__ = ("_count", "_shared")

    def __init__(self, entries: Sequence[Entry] = ()) -> None:
        self._shared = list(entries)
        self._count = len(self._shared)

    @property
    def entries(self) -> tuple[Entry, ...]:
        return tuple(self._shared[: self._count])

    def __len__(self) -> int:
        return self._count

    def append(self, entry: Entry) -> ReferenceTable:
        """Return a table with one entry more at the end."""
        newest = len(self._shared) == self._count
        made = ReferenceTable() if newest else ReferenceTable(self.entries)
        if newest:
            made._shared = self._shared
        made._shared.append(entry)
        made._count = self._count + 1
        return made

    def walk(self, call: Call, arguments: tuple[Any, ...], on_fault: OnFailure) -> list[Any]:
        """Run the entries; see `walk`."""
        return walk(self.entries, call, arguments, on_fault)


def walk(
    entries: Sequence[Entry],
    call: Call,
    arguments: tuple[Any, ...],
    on_fault: OnFailure,
    observer: Observer | None = None,
) -> list[Any]:
    """Ask all guards, run what passed, and return the results of handlers in order (filters give none).

    What fails is rolled back and goes to ``on_fault``. What is no `SpinError` (KeyboardInterrupt, a mistake in a Python
    handler) ends the walk after that.
    """
    journal = call.journal
    outer = call.domain, call.cancelled, journal.room
    try:
        passed = [entry for entry in entries if _holds(entry, call, arguments, on_fault)]
        call.cancelled = False
        return _run(passed, call, arguments, on_fault, observer)
    finally:
        call.domain, call.cancelled, journal.room = outer


# -------------------------------------------------------------------------------------------------------------- guards


def _holds(entry: Entry, call: Call, arguments: tuple[Any, ...], on_fault: OnFailure) -> bool:
    for guard in entry.guards:
        if not _guard_holds(guard, call, arguments, on_fault):
            entry.guarded += 1
            return False
    return True


def _guard_holds(guard: EntryGuard, call: Call, arguments: tuple[Any, ...], on_fault: OnFailure) -> bool:
    if isinstance(guard, CallGuard):
        return _call_guard_holds(guard, call, arguments, on_fault)
    value: Any = arguments
    for position in guard.path:
        if not isinstance(value, tuple) or position >= len(value):
            return False
        value = value[position]
    if isinstance(guard, EqualGuard):
        return type(value) is type(guard.value) and bool(value == guard.value)
    if isinstance(guard, PrefixGuard):
        return type(value) is type(guard.prefix) and bool(value.startswith(guard.prefix))
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return (guard.low is None or guard.low <= value) and (guard.high is None or value <= guard.high)


def _call_guard_holds(guard: CallGuard, call: Call, arguments: tuple[Any, ...], on_fault: OnFailure) -> bool:
    """Ask a guard that runs code; whatever it did to the call is taken back."""
    before = call.savepoint()
    call.domain, call.journal.room = guard.domain, EFFECTS_MAX_HOST
    try:
        return bool(_invoke(guard.handler, guard.closure, call, arguments))
    except BaseException as error:
        call.roll_back(before)
        on_fault(guard.domain, error)
        if not isinstance(error, SpinError):
            raise
        return False
    finally:
        call.roll_back(before)


# ------------------------------------------------------------------------------------------------------------ handlers


def _run(
    entries: Sequence[Entry],
    call: Call,
    arguments: tuple[Any, ...],
    on_fault: OnFailure,
    observer: Observer | None,
) -> list[Any]:
    results: list[Any] = []
    for entry in entries:
        started = perf_counter_ns()
        answer = _attempt(entry, call, arguments, on_fault)
        if observer is not None:
            observer(entry.domain, perf_counter_ns() - started)
        if answer is _FAILED:
            call.cancelled = False
            continue
        if entry.filters:
            arguments = (answer,) if len(arguments) == 1 else tuple(answer)
        elif entry.enqueue is None:
            results.append(answer)
        if entry.cancels or call.cancelled:
            break
    return results


def _attempt(entry: Entry, call: Call, arguments: tuple[Any, ...], on_fault: OnFailure) -> Any:
    """Run one entry and return its answer; when it fails, nothing of it is left but a count."""
    before = call.savepoint()
    call.domain, call.journal.room = entry.domain, entry.effects_max
    ran = True
    try:
        if entry.enqueue is not None:
            answer = entry.enqueue(call, entry, arguments)
        else:
            answer = _invoke(_limited(entry), entry.closure, call, arguments)
    except BaseException as error:
        call.roll_back(before)
        ran = not is_raisers(entry, error)
        _note_failure(entry, error, call, arguments, on_fault)
        if not isinstance(error, SpinError):
            raise
        return _FAILED
    finally:
        entry.raises += ran
    return answer


def is_raisers(entry: Entry, error: BaseException) -> bool:
    """Whether it is a mistake of whoever raised, and the handler did not run.

    One in Python ran: its arguments were checked before.
    """
    return type(error) in RAISERS and (entry.enqueue is not None or isinstance(entry.handler, Export))


def _note_failure(
    entry: Entry, error: BaseException, call: Call, arguments: tuple[Any, ...], on_fault: OnFailure
) -> None:
    if entry.quantum_ticks and isinstance(error, DeadlineExceeded):
        entry.ended += 1
        entry.domain.restore()
        return
    if isinstance(error, SpinError) and not isinstance(error, Quarantined) and not is_raisers(entry, error):
        entry.faults += 1
        error.attempt = entry, call, arguments
    on_fault(entry.domain, error)


def _limited(entry: Entry) -> Handler:
    """The handler, ended by its quantum if it is ephemeral."""
    return partial(entry.handler.call_within, entry.quantum_ticks) if entry.quantum_ticks else entry.handler


def _invoke(handler: Handler, closure: Any, call: Call, arguments: tuple[Any, ...]) -> Any:
    return handler(call, *arguments) if closure is NO_CLOSURE else handler(call, closure, *arguments)
