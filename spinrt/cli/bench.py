"""``spinrt bench``: the benchmarks of a checkout. They are not part of an installed package."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import spinrt
from spinrt.errors import NotFound, UsageError

EPILOG = """\
examples:
  spinrt bench                        list the benchmarks
  spinrt bench mail                   a table for people
  spinrt bench mail --quick --json    small parameters (within 60 s), JSON for programs

Exit code 0 says that it ran, whatever it found: look at the targets.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.add_argument("name", nargs="?", help="benchmark to run; none lists them")
    parser.add_argument("--quick", action="store_true", help="small parameters, within 60 s")
    parser.add_argument("--json", action="store_true", help="print JSON for programs instead of a table")


def run(arguments: argparse.Namespace) -> int:
    root = checkout()
    names = benchmarks(root)
    if arguments.name is None:
        print("\n".join(names))
        return 0
    if arguments.name not in names:
        raise NotFound(f"benchmark {arguments.name!r}: does not exist", hint=f"there are {', '.join(names)}")
    flags = [flag for flag in ("--quick", "--json") if getattr(arguments, flag[2:])]
    sys.stdout.flush()
    # A process of its own: what this one imported must not be part of what is measured.
    search_path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", f"benchmarks.bench_{arguments.name}", *flags]
    return subprocess.run(command, check=False, env=os.environ | {"PYTHONPATH": search_path}).returncode


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
