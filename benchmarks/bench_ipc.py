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
from benchmarks.ipc.report import A_OVER_A, OVER_RAISE, Report, a_over_a_params, over_raise_params
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
    """Whether one of its rows is asked for, or a ratio that it is needed for."""
    params, only = subject.params, options.only
    if _is_repeated(subject) and only.takes(A_OVER_A, a_over_a_params(subject)):
        return True
    compared = only.names(OVER_RAISE) and noise.AGAIN not in params and not params.get("bytes", 0)
    if compared and (subject.name == inprocess.RAISE or only.takes(OVER_RAISE, over_raise_params(subject))):
        return True
    outstanding = ({**params, "outstanding": count} for count in (1, 16))
    return only.takes(subject.name, params) or any(only.takes(subject.name + RATE_SUFFIX, one) for one in outstanding)


def _again(subjects: Sequence[Subject]) -> list[Subject]:
    """The raise that is judged, and a form of the kernel, once more."""
    return [noise.again(subject) for subject in subjects if _is_repeated(subject)]


def _is_repeated(subject: Subject) -> bool:
    pipe = {"bytes": 0, "cores": SAME}
    first = {key: one for key, one in subject.params.items() if key != noise.AGAIN}
    return subject.name == inprocess.RAISE or (subject.name == "pipe" and first == pipe)


def _counts(scale: Scale, options: Options) -> Counts:
    if options.only.wanted and not any("instructions" in text for text in options.only.wanted):
        return Counts()
    progress("ipc: counting instructions")
    return instructions.measure(counted.NAMES, slowly=scale.counted)


if __name__ == "__main__":
    sys.exit(main("ipc", benchmark, takes=["only", "mail"]))
