"""``spinrt bench``: the benchmarks of a checkout. They are not part of an installed package."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import spinrt
from spinrt.errors import UsageError

EPILOG = """\
examples:
  spinrt bench                        list the benchmarks
  spinrt bench mail                   a table for people
  spinrt bench mail --quick --json    small parameters (within 60 s), JSON for programs
  spinrt bench ipc --only 'pipe bytes=64 cores=same'
                                      rows by name, of filters and ipc: they can measure some alone
  spinrt bench all --report now.html  everything, and one page of it

Which part runs is said on standard error. Exit code 0 says that it ran,
whatever it found: look at the targets. Ctrl-C stops everything it started.
"""
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.add_argument("name", nargs="?", help="benchmark to run; none lists them")
    parser.add_argument("--quick", action="store_true", help="small parameters, within 60 s")
    parser.add_argument("--json", action="store_true", help="print JSON for programs instead of a table")
    parser.add_argument("--save", metavar="FILE", help="write the JSON there too")
    parser.add_argument("--only", action="append", default=[], metavar="ROW", help="rows, of filters and ipc")
    parser.add_argument("--mail", metavar="PATH", help="your own messages, for benchmarks that send any")
    parser.add_argument("--report", metavar="FILE", help="where the page of all goes")


def run(arguments: argparse.Namespace) -> int:
    root = checkout()
    names = benchmarks(root)
    if arguments.name is None:
        print("\n".join(names))
        return 0
    if arguments.name not in names:
        raise UsageError(f"benchmark {arguments.name!r}: does not exist", hint=f"there are {', '.join(names)}")
    flags = [flag for flag in ("--quick", "--json") if getattr(arguments, flag[2:])]
    flags += [word for row in arguments.only for word in ("--only", row)]
    for flag in ("--save", "--mail", "--report"):
        flags += [flag, getattr(arguments, flag[2:])] if getattr(arguments, flag[2:]) else []
    for flag in ("--save", "--report"):
        _check_target(flag, getattr(arguments, flag[2:]))
    sys.stdout.flush()
    # A process of its own: what this one imported must not be part of what is measured.
    search_path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", f"benchmarks.bench_{arguments.name}", *flags]
    return _run(command, os.environ | {"PYTHONPATH": search_path})


def _check_target(flag: str, named: str | None) -> None:
    """Raise UsageError when a result could not be written there: before what takes minutes, not after it."""
    if not named:
        return
    path = Path(named)
    if path.is_dir() or not path.parent.is_dir():
        found = "a directory" if path.is_dir() else f"no directory {path.parent}"
        raise UsageError(f"bench {flag} {named}: found {found}, expected a file's name", hint="name a file")


def _run(command: list[str], environment: Mapping[str, str]) -> int:
    """Run a benchmark and return its exit code. What would end us ends it: it has servers to stop and files to remove.

    It has a session of its own, so that a Ctrl-C at the terminal reaches it once, through us.
    """
    child = subprocess.Popen(command, env=environment, start_new_session=True)
    before = {number: signal.signal(number, lambda number, _: child.send_signal(number)) for number in ENDING}
    try:
        code = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code


def checkout() -> Path:
    """Return the root of the checkout that this package runs from.

    Raises:
        UsageError: It was installed, not checked out.
    """
    root = Path(spinrt.__file__).parents[1]
    if not (root / "benchmarks" / "harness.py").is_file():
        raise UsageError(
            f"bench: found no benchmarks beside {root / 'spinrt'}: they are not part of the installed package",
            hint="run it in a checkout: `make bench BENCH=mail`",
        )
    return root


def benchmarks(root: Path) -> list[str]:
    """Names of the benchmarks of a checkout, sorted."""
    return sorted(path.stem.removeprefix("bench_") for path in (root / "benchmarks").glob("bench_*.py"))
