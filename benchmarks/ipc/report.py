"""Rows, ratios of the same rounds, targets, and the table of SPIN."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Final, TypeAlias

from benchmarks.harness import Options, Result, Row, Table, Target, ratio
from benchmarks.ipc import noise, published, summary, work
from benchmarks.ipc.cores import SAME, TWO
from benchmarks.ipc.inprocess import FROM_C, FROM_PYTHON, GETPID, NATIVE, RAISE, YES
from benchmarks.ipc.instructions import Counts
from benchmarks.ipc.kernel import MEDIATED, SPIN, YIELD
from benchmarks.ipc.subject import RATE_SUFFIX, WINDOW, Subject, Taken
from benchmarks.timing import key_of
from benchmarks.units import number

Found: TypeAlias = Mapping[str, Sequence[Taken]]
"""`Subject.key` → what each round took."""
OVER_RAISE, A_OVER_A = "over_raise", "a_over_a"
"""Names of ratios."""
UNITS: Final = {noise.LOST: "us/s", noise.LONGEST: "us"}
SAME_TARGET, TWO_TARGET = "kernel_ipc_same_core_over_raise", "kernel_ipc_cross_core_over_raise"
SPIN_TARGET, GETPID_TARGET = "shm_spin_over_raise", "getpid_over_raise"
LIMITS: Final = {SAME_TARGET: 80, TWO_TARGET: 500, SPIN_TARGET: 4, GETPID_TARGET: 1}
NOTES: Final = (
    "A callee answers the caller's number plus the checksum of the payload. Between processes and in C every answer is "
    "compared, of other callees in this process one for each size before they are timed.",
    f"Percentiles of calls in this process and of {SPIN} are those of means of as many calls as JSON says (batch); "
    "elsewhere each call is timed alone, which adds the reading of a clock, some 30 ns.",
    f"{RAISE} is the raise of `spinrt bench dispatch`, whose handler has no state; {FROM_C} is the extension in C, "
    "where transactional=yes keeps an undo log. A payload takes a longer way through the core than numbers do.",
    f"The best of the kernel is the lowest median of {', '.join(MEDIATED)} without payload. {YIELD} is not among them: "
    "its callee never sleeps, and takes all of a core while nobody calls.",
)


@dataclass(frozen=True, slots=True)
class Report:
    """What was found, put together."""

    options: Options
    subjects: Sequence[Subject]
    found: Found
    skipped: Mapping[str, str]
    counts: Counts

    def result(self) -> Result:
        """Everything that was asked for."""
        rows = [*self._rows(), *self._ratios(), *self._self_ratios(), *self._instructions()]
        skipped = dict(self.skipped) | ({"instructions": self.counts.reason} if self.counts.reason else {})
        return Result(rows, self._targets(), [*NOTES, *self._with_log()], self._tables(), skipped, work.digest())

    # ------------------------------------------------------------------------------------------------------------ rows

    def _rows(self) -> list[Row]:
        made = []
        for subject in self.subjects:
            runs = self.found[subject.key]
            if noise.AGAIN in subject.params:
                continue
            unit = UNITS.get(subject.name, "ns")
            row = Row.of_samples(subject.name, [run.samples for run in runs], unit, subject.params, batch=subject.batch)
            made += [row, *_rates(subject, runs)]
        return [
            replace(row, command=self._command(key_of(row.name, row.params)))
            for row in made
            if self.options.only.takes(row.name, row.params)
        ]

    def _command(self, *keys: str) -> str:
        words = ["spinrt", "bench", "ipc", *(["--quick"] if self.options.quick else [])]
        return shlex.join(words + [word for key in keys for word in ("--only", key)])

    def _ratios(self) -> list[Row]:
        """Every call without payload ÷ the raise that is judged."""
        if RAISE not in self.found:
            return []
        made = []
        for subject in self._calls():
            if subject.name == RAISE or subject.params.get("bytes", 0):
                continue
            row = Row.of(OVER_RAISE, _over(self._middles(subject.key), self._raise), "x", over_raise_params(subject))
            made.append(replace(row, command=self._command(subject.key, RAISE)))
        return made

    def _self_ratios(self) -> list[Row]:
        """A subject ÷ itself in the same rounds: how much of a ratio says nothing."""
        pairs = [subject for subject in self.subjects if noise.AGAIN in subject.params]
        made = []
        for subject in pairs:
            first = {key: one for key, one in subject.params.items() if key != noise.AGAIN}
            values = _over(self._middles(subject.key), self._middles(key_of(subject.name, first)))
            row = Row.of(A_OVER_A, values, "x", a_over_a_params(subject))
            made.append(replace(row, command=self._command(key_of(subject.name, first))))
        return made

    def _instructions(self) -> list[Row]:
        made = []
        for key, count in self.counts.each.items():
            name, *pairs = key.split(" ")
            params = {"form": name, **dict(pair.split("=") for pair in pairs), "counter": self.counts.source}
            row = Row.of("instructions", [count], "instructions", params)
            made.append(replace(row, command=self._command("instructions")))
        return made

    # --------------------------------------------------------------------------------------------------------- targets

    def _targets(self) -> list[Target]:
        wanted = {
            SAME_TARGET: self._best(SAME),
            TWO_TARGET: self._best(TWO),
            SPIN_TARGET: key_of(SPIN, {"bytes": 0, "cores": TWO}),
            GETPID_TARGET: GETPID,
        }
        return [self._target(name, key) for name, key in wanted.items()]

    def _target(self, name: str, key: str | None) -> Target:
        missing = [row for row in (key, RAISE) if row not in self.found]
        if key is None or missing:
            reason = "--only left out what it compares" if self.options.only.wanted else self._one_core()
            return Target(name, None, ">=", LIMITS[name], reason)
        return Target(name, ratio(self._middles(key), self._raise), ">=", LIMITS[name])

    def _one_core(self) -> str:
        return self.skipped.get("cores=two", "was not measured")

    def _best(self, place: str) -> str | None:
        """The form in which the kernel wakes the callee soonest; none unless all of them were measured."""
        keys = [key_of(form, {"bytes": 0, "cores": place}) for form in MEDIATED]
        if any(key not in self.found for key in keys):
            return None
        return min(keys, key=lambda key: median(self._middles(key)))

    # ---------------------------------------------------------------------------------------------------------- tables

    def _tables(self) -> list[Table]:
        keys = {
            (published.IN_PLACE, "plain call in C"): key_of(NATIVE, {"bytes": 0}),
            (published.IN_PLACE, "spinrt, raise from Cython"): RAISE,
            (published.IN_PLACE, "spinrt, the same in C with an undo log"): key_of(
                FROM_C, {"bytes": 0, "transactional": YES}
            ),
            (published.IN_PLACE, "spinrt, raise from Python"): key_of(FROM_PYTHON, {"bytes": 0, "transactional": YES}),
            (published.SYSTEM_CALL, "Linux, getpid"): GETPID,
            (published.ACROSS, "Linux, best with both ends on one core"): self._best(SAME),
            (published.ACROSS, "Linux, best on two cores"): self._best(TWO),
            (published.ACROSS, "shared memory, both spinning on two cores"): key_of(SPIN, {"bytes": 0, "cores": TWO}),
        }
        plain_call = key_of(NATIVE, {"bytes": 0})
        if any(key not in self.found for key in (RAISE, noise.CYCLE, plain_call)):
            return []
        ns = {key: median(self._middles(found)) for key, found in keys.items() if found and found in self.found}
        plain = median(self._middles(plain_call))
        cycle = median(self._middles(noise.CYCLE))
        judged = median(self._raise)
        ours = summary.table(self._calls(), self.found, judged)
        return [ours, published.table(published.Measured(plain, judged, cycle, ns))]

    def _with_log(self) -> list[str]:
        """The same targets for the extension in C, which has state and so a log to open."""
        other = key_of(FROM_C, {"bytes": 0, "transactional": YES})
        keys = {"one core": self._best(SAME), "two cores": self._best(TWO), "getpid": GETPID}
        if other not in self.found or any(key not in self.found for key in keys.values()):
            return []
        over = {name: ratio(self._middles(key), self._middles(other)) for name, key in keys.items() if key}
        best = {name: key.split(" ")[0] for name, key in keys.items() if key}
        shown = ", ".join(f"{best[name]} on {name}" if name != best[name] else name for name in keys)
        ratios = ", ".join(number(one) for one in over.values())
        return [f"Over a raise of the extension in C with its undo log ({shown}): {ratios} times."]

    # ------------------------------------------------------------------------------------------------------ from rounds

    def _calls(self) -> list[Subject]:
        """Subjects but for those that are about noise."""
        about_noise = (noise.CYCLE, noise.LOST, noise.LONGEST)
        return [one for one in self.subjects if one.name not in about_noise and noise.AGAIN not in one.params]

    @property
    def _raise(self) -> list[float]:
        return self._middles(RAISE)

    def _middles(self, key: str) -> list[float]:
        """The median of each round."""
        return [median(run.samples) for run in self.found[key]]


def over_raise_params(subject: Subject) -> dict[str, object]:
    """Those of its row beside the raise that is judged."""
    return {"form": subject.name} | {key: one for key, one in subject.params.items() if key != "bytes"}


def a_over_a_params(subject: Subject) -> dict[str, object]:
    """Those of its row beside itself."""
    return {"form": subject.name} | {key: one for key, one in subject.params.items() if key != noise.AGAIN}


def _rates(subject: Subject, runs: Sequence[Taken]) -> list[Row]:
    made = []
    for outstanding, values in ((1, [run.one for run in runs]), (WINDOW, [run.many for run in runs])):
        rates = [1e9 / ns for ns in values if ns]
        if rates:
            params = {**subject.params, "outstanding": outstanding}
            made.append(Row.of(subject.name + RATE_SUFFIX, rates, "calls/s", params))
    return made


def _over(numerator: Sequence[float], denominator: Sequence[float]) -> list[float]:
    return [above / below for above, below in zip(numerator, denominator, strict=True)]
