"""Compare the tiers on random programs for as long as wanted.

Run: ``python -m tests.runtime.dispatch.campaign --minutes 10 --seed 1``.

Each program has a seed of its own, counted up from the given one; the first disagreement is printed with its seed.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time

from spinrt.runtime.tables import TIERS
from tests.runtime.dispatch.programs import choices_of, disagreement


def main() -> int:
    """Run; 1 when the tiers disagreed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--choices", type=int, default=500, help="length of a program")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)  # faults are what the programs are for
    end = time.monotonic() + options.minutes * 60
    seed = options.seed
    while time.monotonic() < end:
        found = disagreement(choices_of(seed, options.choices), sorted(TIERS))
        if found:
            print(f"seed {seed}: {found}")
            return 1
        seed += 1
    print(f"{seed - options.seed} programs agree on tiers {sorted(TIERS)}, seeds {options.seed} to {seed - 1}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
