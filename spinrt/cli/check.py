"""``spinrt check``: try an extension before a server sees it."""

from __future__ import annotations

import argparse
from pathlib import Path

from spinrt.check.campaign import (
    BOUND,
    BOUND_QUICK,
    FAULT_NAMES,
    INPUTS,
    INPUTS_QUICK,
    Options,
    run_campaign,
)
from spinrt.check.junit import write_junit
from spinrt.check.report import StaticReport, examine
from spinrt.check.subject import Subject, read_policy, read_subject
from spinrt.check.verdict import Verdict
from spinrt.cli.check_show import print_report, print_summary, print_verdict, showing_progress
from spinrt.cli.common import add_json, print_json
from spinrt.errors import UsageError

EPILOG = f"""\
Looks at the module, loads, links and initialises it against the interfaces of the
mail system, in a runtime of its own: nothing is served, written or sent. Then runs
each handler with ordinary and hostile arguments, and makes it fail: before each
instruction that changes state, at each host call, at each limit, at its deadline.
After each fault all state must be what it was, and the next raise must be as good.

PATH is a directory with a manifest, or a module. Without --policy it gets all that
it asks for. A policy file holds what stands under `extensions.NAME`: grants,
limits, config, exports.

faults: {", ".join(FAULT_NAMES[:6])},
  {", ".join(FAULT_NAMES[6:])}

exit codes: 0 safe as far as tried, 1 findings, or nothing could be tried, or its
init failed, or its memory does not fit into its limits, 2 it does not load or link,
or the input is wrong, 130 interrupted

examples:
  spinrt check build/delivery
  spinrt check build/delivery --static        only look, and print grants to give
  spinrt check build/delivery --quick --junit check.xml
  spinrt check build/delivery --seed 7 --bound 1000000 --fault instruction
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.add_argument("path", type=Path, metavar="PATH", help="directory with manifest.yaml, or a module")
    parser.add_argument("--policy", type=Path, metavar="FILE", help="grants, limits, config and exports, as YAML")
    parser.add_argument(
        "--wit", action="append", default=[], type=Path, metavar="PATH", help="more WIT files, or directories of them"
    )
    parser.add_argument("--static", action="store_true", help="only look, link and initialise; run no handler")
    parser.add_argument("--quick", action="store_true", help=f"--bound {BOUND_QUICK} --inputs {INPUTS_QUICK}")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="what chance follows from (default: 0)")
    parser.add_argument(
        "--bound", type=_positive, metavar="N", help=f"faults for each handler, input and class (default: {BOUND:,})"
    )
    parser.add_argument("--inputs", type=_positive, metavar="N", help=f"inputs for each handler (default: {INPUTS})")
    parser.add_argument(
        "--fault", action="append", choices=FAULT_NAMES, metavar="CLASS", help="only this class; may be repeated"
    )
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write the verdict as JUnit XML, too")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    if arguments.junit is not None and not arguments.junit.parent.is_dir():
        raise UsageError(f"--junit {arguments.junit}: found no directory {arguments.junit.parent}, expected one")
    policy = None if arguments.policy is None else read_policy(arguments.policy)
    subject = read_subject(arguments.path, policy=policy, wit=arguments.wit)
    examined = examine(subject)
    verdict = None
    if examined.error is None and not arguments.static:
        with showing_progress() as progress:
            verdict = run_campaign(subject, _options(arguments), progress)
    _print(arguments, subject, examined.report, verdict)
    if arguments.junit is not None:
        write_junit(arguments.junit, examined.report, verdict)
    if examined.error is not None:
        raise examined.error
    return _exit_code(verdict)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"found {text}, expected at least 1")
    return number


def _options(arguments: argparse.Namespace) -> Options:
    bound, inputs = (BOUND_QUICK, INPUTS_QUICK) if arguments.quick else (BOUND, INPUTS)
    return Options(
        arguments.seed,
        arguments.bound or bound,
        arguments.inputs or inputs,
        frozenset(arguments.fault or FAULT_NAMES),
    )


def _print(arguments: argparse.Namespace, subject: Subject, report: StaticReport, verdict: Verdict | None) -> None:
    if arguments.json:
        print_json({"format": 1, "static": report.as_json(), "campaign": verdict.as_json() if verdict else None})
        return
    if verdict is None:
        print_report(subject, report)
        return
    print_summary(report)
    print_verdict(report, verdict)


def _exit_code(verdict: Verdict | None) -> int:
    if verdict is None:
        return 0
    if verdict.found:
        return 1
    if verdict.interrupted:
        raise KeyboardInterrupt
    return 0 if verdict.is_safe else 1
