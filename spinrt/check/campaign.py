"""The dynamic campaign: every handler of an extension, made to fail wherever it can.

Source: docs/design/check.md.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Final

from spinrt.check.delivery import MailStoreFaults
from spinrt.check.faults import (
    DeadlineFaults,
    FaultClass,
    Gate,
    HostAnswerFaults,
    HostCallFaults,
    InstructionFaults,
    LogFaults,
    SavepointFaults,
)
from spinrt.check.inputs import Input, inputs
from spinrt.check.quotas import QUOTAS, QuotaFaults
from spinrt.check.rehearsal import Rehearsal, Rig
from spinrt.check.rigs import KINDS, Rigs
from spinrt.check.samples import mail_resources
from spinrt.check.subject import Subject
from spinrt.check.verdict import Finding, Tally, Verdict
from spinrt.errors import SpinError
from spinrt.sandbox.manifest_handler import Handler

BOUND: Final = 20_000
INPUTS: Final = 40
BOUND_QUICK: Final = 400
INPUTS_QUICK: Final = 6
WORK_MAX: Final = 4_000_000
"""Places of one class that all runs with one input pass together: as many are tried as keep below it, since a run takes
the longer the more places it has."""
RAN_WRONG: Final = "plain"
"""The class of what is wrong without any fault."""

FAULTS: Final[tuple[FaultClass, ...]] = (
    InstructionFaults(),
    SavepointFaults(),
    MailStoreFaults(),
    LogFaults(),
    HostCallFaults(),
    HostAnswerFaults(),
    DeadlineFaults(),
)
"""In the order in which they are tried."""
FAULT_NAMES: Final = (RAN_WRONG, *(fault.name for fault in FAULTS), *(quota.name for quota in QUOTAS))
_CHUNK: Final = 256

Progress = Callable[[str, int], None]
"""Told what is being tried, and how many faults were injected since it was told last."""


def _silent(what: str, injected: int) -> None:
    return


@dataclass(frozen=True, slots=True)
class Options:
    """How much is tried.

    Attributes:
        seed: What chance follows from.
        bound: Places of one class that are tried with each input; of more, so many are drawn.
        inputs: Inputs for each handler.
        only: Names of classes; all by default.
        handlers: Events; all that the manifest handles by default.
    """

    seed: int = 0
    bound: int = BOUND
    inputs: int = INPUTS
    only: frozenset[str] = frozenset(FAULT_NAMES)
    handlers: frozenset[str] | None = None


def run_campaign(subject: Subject, options: Options, progress: Progress = _silent) -> Verdict:
    """Run the campaign over an extension that loads, and return the verdict.

    Ctrl-C ends it early; what was found until then is in the verdict, which says so.
    """
    manifest = subject.manifest
    verdict = Verdict(manifest.name, manifest.version, options.seed, options.bound)
    try:
        with _quiet():
            for handler in manifest.handlers:
                if options.handlers is None or handler.event in options.handlers:
                    _HandlerCampaign(subject, handler, options, verdict, progress).run()
    except KeyboardInterrupt:
        verdict.interrupted = True
    return verdict


@contextmanager
def _quiet() -> Iterator[None]:
    """Faults are meant here: nobody needs a line for each."""
    loggers = [logging.getLogger(f"spinrt.{name}") for name in ("runtime", "delivery")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


@dataclass
class _HandlerCampaign:
    """The campaign over one handler."""

    subject: Subject
    handler: Handler
    options: Options
    verdict: Verdict
    progress: Progress
    tallies: dict[str, Tally] = field(default_factory=dict)

    def run(self) -> None:
        self.rigs = Rigs(self.subject, self.options.seed)
        self.chosen = [fault for fault in FAULTS if fault.name in self.options.only]
        made = {kind: self.rigs.make(kind, self.handler) for kind in KINDS}
        function = made["gated"].event.function
        given = inputs(function, seed=self.options.seed, count=self.options.inputs, resources=mail_resources())
        self.verdict.inputs[self.handler.event] = 0
        for number, one in enumerate(given):
            self.verdict.inputs[self.handler.event] += 1
            for kind in KINDS:
                self._try_input(made[kind], kind, number, one)
        gate = made["gated"].domain.quotas
        assert isinstance(gate, Gate)
        self.verdict.called[self.handler.event] = sorted(gate.called)
        for quota in QUOTAS:
            if quota.name in self.options.only:
                self._try_quota(quota, given)

    def _tally(self, name: str) -> Tally:
        if name not in self.tallies:
            self.tallies[name] = Tally(self.handler.event, name)
            self.verdict.tallies.append(self.tallies[name])
        return self.tallies[name]

    def _try_input(self, rig: Rig, kind: str, number: int, given: Input) -> None:
        rehearsal = Rehearsal(rig, given)
        self._judge_plain(rehearsal, kind, number)
        for fault in self.chosen:
            if fault.rig == kind:
                began = perf_counter()
                tally = self._tally(fault.name)
                self._try_places(fault, rehearsal, tally, f"{number} ({given.label})")
                tally.seconds += perf_counter() - began
        rehearsal.commit()

    def _judge_plain(self, rehearsal: Rehearsal, kind: str, number: int) -> None:
        """A run that fails by itself is a fault, too: nothing of it may be left."""
        event, where = self.handler.event, f"{number} ({rehearsal.given.label})"
        tally = self._tally(RAN_WRONG)
        tally.points += 1
        if rehearsal.plain.failed:
            tally.injected += 1
            if kind == KINDS[0]:
                self.verdict.failed_plain[event] = self.verdict.failed_plain.get(event, 0) + 1
                self.verdict.why_failed.setdefault(event, rehearsal.rig.domain.counters.last_fault)
        if rehearsal.flaw:
            tally.note(Finding(where, "without a fault", rehearsal.flaw))
        if not rehearsal.is_steady:
            self.verdict.note(
                f"{event}: two runs with the same input differ: of later raises only the kind is compared"
            )

    def _try_places(self, fault: FaultClass, rehearsal: Rehearsal, tally: Tally, where: str) -> None:
        count = fault.places(rehearsal)
        tally.points += count
        chosen = self._choose(fault, count, where)
        tally.exhaustive &= len(chosen) == count
        for start in range(0, len(chosen), _CHUNK):
            before = tally.injected
            for place in chosen[start : start + _CHUNK]:
                self._try_place(fault, rehearsal, tally, where, place)
            self.progress(f"{self.handler.event.partition('#')[2]} {fault.name}", tally.injected - before)

    def _choose(self, fault: FaultClass, count: int, where: str) -> Sequence[int]:
        """All places, or as many as the bound and `WORK_MAX` say, drawn by the seed."""
        bound = min(self.options.bound, WORK_MAX // max(count, 1) + 1)
        if count <= bound:
            return range(count)
        chance = random.Random(f"{self.options.seed}/{self.handler.event}/{fault.name}/{where}")
        return sorted(chance.sample(range(count), bound))

    def _try_place(self, fault: FaultClass, rehearsal: Rehearsal, tally: Tally, where: str, place: int) -> None:
        tally.injected += fault.inject(rehearsal, place)
        wrong = rehearsal.left_behind() or fault.left_outside() or rehearsal.next_raise()
        if wrong:
            tally.note(Finding(where, fault.describe(place), wrong))
            rehearsal.renew()

    def _try_quota(self, quota: QuotaFaults, given: Sequence[Input]) -> None:
        """Under each lower limit: nothing may be left of a run, whether it fails or finds its way."""
        began = perf_counter()
        tally = self._tally(quota.name)
        usual = self.rigs.make("gated", self.handler)
        for limit in quota.limits(usual, given[0], self.options.bound):
            try:
                rig = self.rigs.make("gated", self.handler, **{quota.limit: limit})
            except SpinError:  # its init needs more: then nothing of it runs
                continue
            for number, one in enumerate(given):
                rehearsal = Rehearsal(rig, one)
                tally.points += 1
                tally.injected += rehearsal.plain.failed
                wrong = rehearsal.flaw or rehearsal.next_raise()
                if wrong:
                    tally.note(Finding(f"{number} ({one.label})", f"{quota.limit} of {limit}", wrong))
        tally.seconds += perf_counter() - began
