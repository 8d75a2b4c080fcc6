"""All hostile guests, round after round in one process, and nothing piles up: ``python -m tests.hostile.campaign``.

A round tries every guest twice: one after the other, and all loaded at once and raised in random order. After every
step the bystander answers, and its memory is as it left it. Every so often resident memory and the number of mappings
(Linux, ``/proc/self``) are printed; after the warm-up they must stay within the bounds of
`tests.runtime.load_campaign`.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from spinrt.sandbox.cache import VARIABLE
from tests.hostile.guests import Guest, guests
from tests.hostile.trial import Trial, refusing, skipping, try_guest, try_loading
from tests.hostile.world import World
from tests.runtime.load_campaign import MAPPINGS_GROWTH_MAX, RSS_GROWTH_MAX_KIB, Use, grown, use

WARM_UP_SHARE: Final = 0.1


def one_after_another(world: World, tried: Sequence[Guest]) -> None:
    """Try each guest to its end before the next is loaded.

    Raises:
        AssertionError: One did not end as it must, or the bystander noticed.
    """
    for guest in tried:
        try_guest(world, guest)


def interleaved(world: World, tried: Sequence[Guest], choose: random.Random) -> None:
    """Load all guests, then raise the next step of one at random until all are through; others are refused meanwhile.

    Raises:
        AssertionError: As `one_after_another`.
    """
    refused = [guest for guest in tried if guest.refused]
    running = [iter(Trial(world, guest).steps()) for guest in tried if not guest.refused]
    while running:
        position = choose.randrange(len(running))
        if next(running[position], running) is running:
            running[position] = running[-1]
            running.pop()
        if refused and choose.random() < 0.5:
            try_loading(world, refused.pop(choose.randrange(len(refused))))
        world.check_bystander()
    for guest in refused:
        try_loading(world, guest)


def held(worlds: Sequence[World]) -> tuple[Use, int]:
    """What the process holds when nothing waits to be collected, and how many objects Python's collector had to free.

    Without it the free lists of Python fill, too: they are bounded, and no growth that counts.
    """
    for world in worlds:
        world.records.clear()
        world.kept.clear()
        world.runtime.stores.collect()
    cyclic = gc.collect()
    return use(), cyclic


def run(
    rounds: int,
    *,
    seed: int,
    tried: Sequence[Guest] | None = None,
    tell: Callable[[int, Use], None] = lambda number, found: None,
    intervals: int = 20,
) -> list[str]:
    """Do so many rounds, and return what grew beyond its bound, or went by Python's collector alone: nothing, if all is
    well.

    Args:
        rounds: How many; two at least.
        seed: Of the order in which guests are raised.
        tried: Which guests; all by default.
        tell: Called at intervals with the round and what is held then.
        intervals: How many of them.

    Raises:
        AssertionError: A guest did not end as it must.
    """
    worlds = (refusing(), skipping())
    chosen, choose = guests() if tried is None else tried, random.Random(seed)
    warm = max(1, round(rounds * WARM_UP_SHARE))
    base = found = use()
    cyclic = 0
    with no_collector():
        for number in range(1, rounds + 1):
            one_after_another(worlds[number % 2], chosen)
            interleaved(worlds[(number + 1) % 2], chosen, choose)
            if number == warm:
                base, _ = held(worlds)
            elif number % max(1, rounds // intervals) == 0 and number > warm:
                found, freed = held(worlds)
                cyclic += freed
                tell(number, found)
    return grown(base, found) + ([f"cycles: {cyclic} objects, expected none"] if cyclic else [])


@contextmanager
def no_collector() -> Iterator[None]:
    """What goes away in here does so by itself, unless somebody asks."""
    gc.collect()
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def main() -> int:
    parser = argparse.ArgumentParser(description="Try all hostile guests, and watch memory and mappings.")
    parser.add_argument("--rounds", type=int, default=1000, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the order of raises (default: %(default)s)")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)  # the faults are meant
    with tempfile.TemporaryDirectory(prefix="hostile-") as scratch:
        os.environ[VARIABLE] = scratch  # modules are kept and read back, but not among the user's own
        return campaign(arguments.rounds, arguments.seed)


def campaign(rounds: int, seed: int) -> int:
    """Do it, print what is held on the way, and return the exit code."""
    began = time.monotonic()
    print(f"{len(guests())} guests, seed {seed}")
    print(f"{'rounds':>9} {'seconds':>9} {'RSS KiB':>9} {'mappings':>9}")

    def tell(number: int, found: Use) -> None:
        print(f"{number:9} {time.monotonic() - began:9.1f} {found.rss_kib:9} {found.mappings:9}", flush=True)

    lines = run(rounds, seed=seed, tell=tell)
    for line in lines:
        print(f"not flat: {line}")
    if not lines:
        print(f"flat: within {RSS_GROWTH_MAX_KIB} KiB and {MAPPINGS_GROWTH_MAX} mappings after the first tenth")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
