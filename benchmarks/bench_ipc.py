"""Extensions against inter-process communication: what one call costs, by every way there is to make it.

The same work, on the same machine, in the same rounds; what the kernel carries is measured between two programs in C.
docs/design/bench-ipc.md says what makes it fair, docs/benchmarks.md what each row and target means.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence

from benchmarks import filters
from benchmarks.harness import Options, Result, compare, main, progress
from benchmarks.ipc import counted, inprocess, instructions, kernel, noise, pythonic
from benchmarks.ipc.cores import SAME, TWO, Cores, held_to
from benchmarks.ipc.instructions import Counts
from benchmarks.ipc.report import Report
from benchmarks.ipc.subject import FULL, QUICK, RATE_SUFFIX, Scale, Subject


def benchmark(options: Options) -> Result:
    """Everything, at full or quick scale: calls, then mail filters."""
    result = measure(QUICK if options.quick else FULL, options)
    result.add(filters.measure(options))
    return result


def measure(scale: Scale, options: Options) -> Result:
    """Build the callees, start the partners, run every subject that is wanted once in each of so many rounds."""
    cores = Cores.choose()
    skipped = {} if cores.other is not None else {f"cores={TWO}": "this process may use one core only"}
    with contextlib.ExitStack() as stack:
        stack.enter_context(held_to(cores.caller))
        progress("ipc: callees in this process, in C and in Python")
        near, missing = inprocess.subjects(scale, inprocess.build())
        apart, missing_apart = stack.enter_context(pythonic.subjects(cores, scale))
        made = [*noise.subjects(cores, scale), *near, *kernel.subjects(cores, scale), *apart]
        chosen = [subject for subject in [*made, *_again(made)] if _wanted(options, subject)]
        progress(f"ipc: {len(chosen)} subjects, {scale.rounds} rounds")
        found = compare({subject.key: subject.run for subject in chosen}, scale.rounds) if chosen else {}
    return Report(options, chosen, found, skipped | missing | missing_apart, _counts(scale, options)).result()


def _wanted(options: Options, subject: Subject) -> bool:
    """Whether one of its rows is asked for."""
    params = subject.params
    outstanding = ({**params, "outstanding": count} for count in (1, 16))
    return options.only.takes(subject.name, params) or any(
        options.only.takes(subject.name + RATE_SUFFIX, one) for one in outstanding
    )


def _again(subjects: Sequence[Subject]) -> list[Subject]:
    """The raise that is judged, and a form of the kernel, once more."""
    pipe = {"bytes": 0, "cores": SAME}
    return [
        noise.again(subject)
        for subject in subjects
        if subject.name == inprocess.RAISE or (subject.name == "pipe" and subject.params == pipe)
    ]


def _counts(scale: Scale, options: Options) -> Counts:
    if options.only.wanted and not any("instructions" in text for text in options.only.wanted):
        return Counts()
    progress("ipc: counting instructions")
    return instructions.measure(counted.NAMES, slowly=scale.counted)


if __name__ == "__main__":
    sys.exit(main("ipc", benchmark, takes=["only", "mail"]))
