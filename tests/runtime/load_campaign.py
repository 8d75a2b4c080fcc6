"""Load and unload extensions for ever, and see that nothing piles up: ``python -m tests.runtime.load_campaign``.

Each round reads a module, compiles it, links it (now and then against another extension), raises, lets some of them
trap, and unloads, some while they run. Every so often resident memory and the number of mappings (Linux,
``/proc/self``) are printed. After the warm-up they must stay within `RSS_GROWTH_MAX_KIB` and `MAPPINGS_GROWTH_MAX` of
what they were then.
"""

from __future__ import annotations

import argparse
import gc
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from spinrt.errors import SpinError
from spinrt.runtime.policy import Policy
from spinrt.runtime.runtime import Runtime
from spinrt.runtime.stores import DEAD_MAX
from spinrt.sandbox.loader import Extension, check_extension
from spinrt.sandbox.manifest import Manifest
from tests.guests import BUMP, EVENTS, wat
from tests.runtime.linked_guests import ALL_WORDS, WORDS, importer, interfaces, runtime

RSS_GROWTH_MAX_KIB: Final = 16 * 1024
"""The allocator's own ups and downs; a single byte kept for each of 200,000 loads would be 200 KiB, an object far
more."""
MAPPINGS_GROWTH_MAX: Final = 64
"""With nothing waiting to be collected: a dead instance holds up to four."""
WARM_UP_SHARE: Final = 0.1
MANIFEST: Final = f"""
{{spinrt: 1, name: words, version: 1.0.0, module: w.wasm, exports: ['{WORDS}'], handlers: ['{EVENTS}#add']}}
"""


@dataclass(frozen=True, slots=True)
class Use:
    """What the process holds: resident memory and mappings."""

    rss_kib: int
    mappings: int


def use() -> Use:
    """Read it from ``/proc/self``."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    rss = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return Use(int(rss.split()[1]), Path("/proc/self/maps").read_bytes().count(b"\n"))


def grown(base: Use, found: Use) -> list[str]:
    """What is held beyond what was, and more than may be."""
    growth = {"resident KiB": found.rss_kib - base.rss_kib, "mappings": found.mappings - base.mappings}
    bounds = {"resident KiB": RSS_GROWTH_MAX_KIB, "mappings": MAPPINGS_GROWTH_MAX}
    return [f"{name}: grew by {growth[name]}, at most {bounds[name]} is allowed" for name in bounds
            if growth[name] > bounds[name]]  # fmt: skip


@cache
def code() -> bytes:
    """A guest that exports ``words``, and traps on `add` when its second argument is 1."""
    add = f"""
    (func (export "{EVENTS}#add") (param i32 i32) (result i32)
      (if (i32.eq (local.get 1) (i32.const 1)) (then unreachable)) (i32.add (local.get 0) (local.get 1)))
    """
    return wat(f"(module {add} {ALL_WORDS})")


def fresh() -> Extension:
    """The same extension, compiled anew."""
    return check_extension(Manifest.parse(MANIFEST), code(), interfaces=interfaces())


@cache
def _importer() -> Extension:
    return importer()


def one_round(made: Runtime, number: int) -> None:
    """Load, use, unload.

    Raises:
        AssertionError: Something answered wrongly.
    """
    event = made.events[f"{EVENTS}#add"]
    domain = made.load(fresh())
    assert event.raise_(number & 0xFFFF, 2) == (number & 0xFFFF) + 2
    if number % 5 == 0:
        assert event.raise_(0, 1) is None
    if number % 7 == 0:
        user = made.load(_importer(), Policy.granting(WORDS))
        assert event.raise_(4, 0) == 8
        made.unload(user)
    if number % 11 == 0:
        binding = event.install(lambda call, left, right: made.unload(domain) or 0, order=1)
        assert event.raise_(1, 2) == 3
        event.uninstall(binding)
    else:
        made.unload(domain)
    if number % 13 == 0:
        _fail_to_load(made)
    assert made.domains == {}


@cache
def _refusing() -> Extension:
    body = f"(module {BUMP} (func $s unreachable) (start $s))"
    manifest = "{spinrt: 1, name: bad, version: 1.0.0, module: b.wasm}"
    return check_extension(Manifest.parse(manifest), wat(body), interfaces=interfaces())


def _fail_to_load(made: Runtime) -> None:
    try:
        made.load(_refusing())
    except SpinError:
        return
    raise AssertionError("a start function that traps was let in")


def _use_without_dead(made: Runtime) -> Use:
    """What is held when nothing waits to be collected; not more than may wait does before."""
    assert made.stores.shared.dead <= DEAD_MAX
    made.stores.collect()
    return use()


def run(count: int, *, tell: Callable[[int, Use], None] = lambda number, found: None, steps: int = 20) -> list[str]:
    """Do so many rounds, and return what grew beyond its bound: nothing, if all is well.

    Args:
        count: Rounds.
        tell: Called at intervals with the round and what is held then.
        steps: How many intervals.
    """
    made = runtime()
    base: Use | None = None
    found = use()
    for number in range(1, count + 1):
        one_round(made, number)
        if number >= count * WARM_UP_SHARE and base is None:
            base = _use_without_dead(made)
        if number % max(1, count // steps) == 0:
            found = _use_without_dead(made)
            tell(number, found)
    assert base is not None
    return grown(base, found)


def main() -> int:
    parser = argparse.ArgumentParser(description="Load and unload extensions, and watch memory and mappings.")
    parser.add_argument("--count", type=int, default=200_000, help="rounds (default: %(default)s)")
    count = parser.parse_args().count
    logging.disable(logging.CRITICAL)  # the faults are meant
    gc.disable()  # what only the collector would free counts as growth
    began = time.monotonic()
    print(f"{'rounds':>9} {'seconds':>9} {'RSS KiB':>9} {'mappings':>9}")

    def tell(number: int, found: Use) -> None:
        print(f"{number:9} {time.monotonic() - began:9.1f} {found.rss_kib:9} {found.mappings:9}", flush=True)

    grown = run(count, tell=tell)
    for line in grown:
        print(f"not flat: {line}")
    if not grown:
        print(f"flat: within {RSS_GROWTH_MAX_KIB} KiB and {MAPPINGS_GROWTH_MAX} mappings after the first tenth")
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
