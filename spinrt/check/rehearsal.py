"""One handler with one input: its plain run, and what must be the same again behind every fault.

A rehearsal keeps the state before the handler runs, and what a run without faults comes to: result, effects, and the
state behind it. Every run of its own is rolled back, so all of them begin from the same state. Handles get the same
numbers in each run, because the generations of free slots are put back once it was seen that they only went up.

Source: docs/design/check.md, "What is compared".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from spinrt._core import Instance, Witness
from spinrt.check.inputs import Input
from spinrt.check.samples import context_of
from spinrt.check.stage import Stage
from spinrt.errors import SpinError
from spinrt.runtime.call import Transaction
from spinrt.runtime.capability import Effect
from spinrt.runtime.domain import Domain
from spinrt.runtime.event import Event
from spinrt.sandbox.loader import Extension
from spinrt.sandbox.manifest_handler import Handler


class Injected:
    """Marks exceptions that a campaign raises and that are no `SpinError`, so that they are told from real ones."""


class InjectedInterrupt(Injected, KeyboardInterrupt):
    """Ctrl-C, at the worst moment."""


@dataclass(frozen=True, slots=True)
class Rig:
    """One handler of a loaded extension, ready to be raised."""

    stage: Stage
    domain: Domain
    event: Event

    @property
    def instance(self) -> Instance:
        """What the handler runs in now."""
        instance = self.domain.instance
        assert instance is not None
        return instance


def alone(extension: Extension, handler: Handler) -> Extension:
    """Return the extension with that handler only, run in the raise and whatever the arguments.

    Conditions of the manifest are the host's own code; a guard that is an export stays, since it is the extension's.
    """
    bare = replace(handler, when=(), mode="sync", quantum_ms=0, place="", before="", after="")
    return replace(extension, manifest=replace(extension.manifest, handlers=(bare,)))


@dataclass(slots=True)
class Outcome:
    """What a run came to: its result or why it failed, and its effects.

    ``failed`` says whether the extension failed; of an event that skips failures there is a result all the same.
    """

    result: Any
    error: BaseException | None
    effects: list[Effect]
    failed: bool

    def difference(self, expected: Outcome) -> str:
        """Say what differs from what was expected; empty when nothing does."""
        if self.failed != expected.failed:
            return (
                f"found it {'failed' if self.failed else 'good'}, expected it {'failed' if expected.failed else 'good'}"
            )
        if self.error is not None or expected.error is not None:
            found, wanted = _kind(self.error), _kind(expected.error)
            return "" if found == wanted else f"found {found}, expected {wanted}"
        if self.result != expected.result and repr(self.result) != repr(expected.result):
            return f"result: found {self.result!r:.80}, expected {expected.result!r:.80}"
        return "" if self.effects == expected.effects else _effects_difference(self.effects, expected.effects)


def _kind(error: BaseException | None) -> str:
    if error is None:
        return "no error"
    cause = error.__cause__ if isinstance(error.__cause__, SpinError) else error
    return f"{type(cause).__name__}: {str(cause)[:120]}"


def _effects_difference(found: list[Effect], expected: list[Effect]) -> str:
    if len(found) != len(expected):
        return f"effects: found {len(found)}, expected {len(expected)}"
    for place, (one, other) in enumerate(zip(found, expected, strict=True)):
        if one != other and (type(one).__eq__ is not object.__eq__ or type(one) is not type(other)):
            return f"effects: found {one!r:.80} at {place}, expected {other!r:.80}"
    return ""


class Rehearsal:
    """One handler with one input; see the head of this file.

    Args:
        rig: The handler.
        given: The input.

    Attributes:
        plain: What a run without a fault comes to.
        flaw: What the plain run left behind when it was rolled back; empty: nothing, as it must be.
        is_steady: Whether a second run came to the same. Of one that does not, results and the state behind it are not
            compared.
    """

    def __init__(self, rig: Rig, given: Input) -> None:
        self.rig = rig
        self.given = given
        self._context = context_of(rig.event.name, given.arguments)
        self._space = rig.stage.mail.spaces.space(rig.domain.name)
        self.renew()

    def renew(self) -> None:
        """Take the state as it is now for the one that must come back: behind a fault that left something."""
        self._values: Mapping[str, bytes] = dict(self._space.values)
        self._records = len(self.rig.stage.records)
        self._instance = self.rig.instance
        self._rest = Witness(self.rig.instance)
        self._after: Witness | None = None
        self.is_steady = True
        self.plain = self.run(inside=self._keep_after)
        self.flaw = self.left_behind()
        self.is_steady = not self._repeat()
        self.flaw = self.flaw or self.left_behind()

    def run(self, *, inside: Callable[[], None] | None = None) -> Outcome:
        """Raise once in a transaction that is rolled back; ``inside`` is called before that when the raise succeeded.

        Errors of the extension, and those that were injected, are in the outcome; others go on up.
        """
        rig, result = self.rig, None
        error: BaseException | None = None
        rig.stage.reset()
        counters = rig.domain.counters
        faults = counters.faults
        with Transaction(self._context) as transaction:
            try:
                result = transaction.raise_(rig.event, *self.given.arguments)
            except SpinError as failure:
                error = failure
            except BaseException as failure:
                if not isinstance(failure, Injected):
                    raise
                error = failure
            failed = error is not None or counters.faults != faults
            if inside is not None and not failed:
                inside()
            return Outcome(result, error, transaction.effects, failed)

    def raise_in(self, transaction: Transaction) -> bool:
        """Raise in a transaction that somebody else ends, and return whether the extension failed."""
        counters = self.rig.domain.counters
        faults = counters.faults
        self.rig.stage.reset()
        try:
            transaction.raise_(self.rig.event, *self.given.arguments)
        except SpinError:
            return True
        return counters.faults != faults

    def transaction(self) -> Transaction:
        """Begin a transaction with the context that the input needs."""
        return Transaction(self._context)

    def fail(self) -> BaseException | None:
        """Raise once by itself, where a fault is sure to come; return what the raiser saw of it."""
        self.rig.stage.reset()
        try:
            self.rig.event.raise_in(self._context, *self.given.arguments)
        except SpinError as error:
            return error
        except BaseException as error:
            if not isinstance(error, Injected):
                raise
            return error
        return None

    def commit(self) -> None:
        """Raise once and keep what it does: the state goes on to another one, and this rehearsal is over."""
        self.fail()

    def left_behind(self) -> str:
        """Say what differs from the state before any run; empty when nothing does. Handles count on from there."""
        if self.rig.domain.instance is not self._instance:
            return "instance: found a fresh one, expected the one that was there, rolled back"
        difference = self._host_difference() or self._rest.difference() or ""
        if not difference:
            self._rest.rewind()
        return difference

    def next_raise(self) -> str:
        """Raise again without a fault; say what differs from the plain run or is left behind; empty: nothing."""
        difference = self._repeat()
        if difference:
            return f"next raise: {difference}"
        left = self.left_behind()
        return f"behind the next raise: {left}" if left else ""

    def _keep_after(self) -> None:
        self._after = Witness(self.rig.instance)

    def _repeat(self) -> str:
        found: list[str] = []
        after = self._after
        outcome = self.run(inside=None if after is None else lambda: found.append(after.difference() or ""))
        if self.is_steady:
            return outcome.difference(self.plain) or "".join(found)
        return "" if outcome.failed == self.plain.failed else f"found {_kind(outcome.error)}"

    def _host_difference(self) -> str:
        if self._space.values != self._values:
            return "map: found entries changed, expected nothing applied"
        if len(self.rig.stage.records) != self._records:
            return "log: found a record written, expected none"
        return ""
