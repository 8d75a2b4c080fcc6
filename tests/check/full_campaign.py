"""Make every handler of every shipped extension fail wherever it can, and count.

    python -m tests.check.full_campaign --inputs 1000 --seed 0

What `spinrt check` does, over all that ships, with more inputs and no bound worth the name; the extension that files
mail is tried with several sets of rules. Prints what was tried, and the sum. Exit code 1 when anything was found, or
nothing was injected.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from time import perf_counter

from spinrt.check.campaign import FAULT_NAMES, Options, run_campaign
from spinrt.check.report import examine
from spinrt.check.subject import Subject, read_subject
from spinrt.cli.check_show import print_verdict, showing_progress
from spinrt.mail.extensions import SHIPPED

BOUND = 1_000_000
RULES = (
    "always -> flag $Label; file Archive; stop",
    "header Subject exists -> flag \\Flagged; header X-Seen 'by ${detail}'; file 'INBOX/${list}'; stop",
    "header X-Spam-Flag is YES -> reject 550 'no'; stop\nsize over 1K -> discard\nsender matches '*' -> file INBOX",
)


def subjects() -> Iterator[tuple[str, Subject]]:
    """Every shipped extension with what it asks for, and the rules of ``delivery`` one by one."""
    for path in sorted(SHIPPED.glob("*/manifest.yaml")):
        found = read_subject(path.parent)
        yield found.manifest.name, found
        for number, rules in enumerate(RULES if found.manifest.name == "delivery" else (), 1):
            yield (
                f"{found.manifest.name}, rules {number}",
                replace(found, policy=replace(found.policy, config={"rules": rules})),
            )


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1000, metavar="N", help="inputs for each handler")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--fault", action="append", choices=FAULT_NAMES, metavar="CLASS")
    arguments = parser.parse_args(given)
    options = Options(arguments.seed, BOUND, arguments.inputs, frozenset(arguments.fault or FAULT_NAMES))
    injected, safe, began = 0, True, perf_counter()
    for name, subject in subjects():
        print(f"\n{name}")
        with showing_progress() as progress:
            verdict = run_campaign(subject, options, progress)
        print_verdict(examine(subject).report, verdict)
        injected += verdict.injected
        safe &= verdict.is_safe
        if verdict.interrupted:
            return 130
    print(f"\n{injected:,} faults injected in {perf_counter() - began:.0f} s, seed {options.seed}")
    print("all state was as before, each time" if safe else "NOT SAFE")
    return 0 if safe and injected else 1


if __name__ == "__main__":
    sys.exit(main())
