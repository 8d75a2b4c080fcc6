"""What it costs that a call which fails did not happen: the undo log, the way back, and what others notice of it.

One extension in C, six kernels of real programs and handlers that do next to nothing, runs with an undo log and without
one; deadlines are on for both. docs/benchmarks.md says what each row and target means.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass, replace

from benchmarks.harness import Options, Result, compare, main, progress
from benchmarks.timing import Subject, of_thread, one_run
from benchmarks.transactions import alternatives, bystanders, faults, instrumenting, kernels, mail, nulls
from benchmarks.transactions.guests import LAYOUTS, build, pairs
from benchmarks.transactions.report import Found, Report


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything."""

    layouts: int
    null_layouts: int
    run_ns: int
    rounds: int
    bystanders: bystanders.Scale
    mail: mail.Scale


FULL = Scale(LAYOUTS, nulls.LAYOUTS, 4_000_000, 21, bystanders.Scale(1.0, 11), mail.Scale(3000, 2_000_000, 401, 9))
QUICK = Scale(LAYOUTS, nulls.LAYOUTS, 1_000_000, 9, bystanders.Scale(0.5, 5), mail.Scale(1000, 2_000_000, 101, 3))


def benchmark(options: Options) -> Result:
    """Everything, at full or quick scale."""
    logging.getLogger("spinrt").setLevel(logging.ERROR)  # handlers fail here a million times, which is what is measured
    return measure(QUICK if options.quick else FULL)


def measure(scale: Scale) -> Result:
    """Build the guests, see that the kernels produce what they must, and measure the parts one after the other."""
    progress(f"transactions: {scale.layouts} layouts of the kernels, and a large module")
    built = build(scale.layouts)
    extension, code = built[0].extension, built[0].code
    guests = pairs(built)
    hashes = kernels.checked_hashes(guests.values())
    modules = instrumenting.modules(code)
    subjects = [
        *nulls.subjects(scale.null_layouts),
        *kernels.subjects(guests),
        *alternatives.subjects(extension),
        *faults.subjects(extension),
        *instrumenting.subjects(modules),
    ]
    times = _compare(subjects, scale)
    progress(f"transactions: bystanders, {scale.bystanders.rounds} rounds")
    beside = bystanders.measure(extension, scale.bystanders)
    progress(f"transactions: mail, {scale.mail.rounds} rounds")
    delivered = mail.measure(scale.mail)
    found = Found(times, modules, hashes, kernels.log_bytes(code), beside, delivered)
    return Report(found).result()


def _compare(subjects: list[Subject], scale: Scale) -> dict[str, list[float]]:
    progress(f"transactions: {len(subjects)} subjects, {scale.rounds} rounds")
    runs = {
        subject.key: one_run(replace(subject, measure=of_thread(subject.measure)), scale.run_ns) for subject in subjects
    }
    return compare(runs, scale.rounds)


if __name__ == "__main__":
    sys.exit(main("transactions", benchmark))
