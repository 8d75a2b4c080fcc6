"""Every benchmark, one after the other, each in a process of its own, and one page for all that they find.

The page is ``build/bench/report.html`` unless ``--report`` names another place; the JSON of each lies beside it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import Interrupted, ended_by_signals, progress
from benchmarks.report.page import page

ROOT: Final = Path(__file__).parents[1]
REPORT: Final = Path("build/bench/report.html")
NOT_BY_THEMSELVES: Final = {"all": "this one", "filters": "part of ipc"}
TAKES_MAIL: Final = ("ipc", "storage")
"""Benchmarks that send the user's messages, if there are any."""


def names() -> list[str]:
    """Every benchmark of the checkout that is no part of another one, sorted."""
    found = (path.stem.removeprefix("bench_") for path in (ROOT / "benchmarks").glob("bench_*.py"))
    return sorted(name for name in found if name not in NOT_BY_THEMSELVES)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run them all; one that fails does not keep the others from running.

    Returns:
        0 when all ran, whatever they found; 1 when one did not; or 128 and the number of the signal that ended it.
    """
    parsed = _parser().parse_args(arguments)
    parsed.report.parent.mkdir(parents=True, exist_ok=True)
    try:
        with ended_by_signals():
            results, failures = _run_all(parsed)
    except Interrupted as error:
        progress(f"all: interrupted by {error}; everything it started is stopped")
        return 128 + error.number
    when = datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    parsed.report.write_text(page(results, _command(parsed), when, failures), encoding="utf-8")
    progress(f"all: report in {parsed.report}")
    if parsed.json:
        print(json.dumps(results, indent=2, allow_nan=False))
    return 1 if failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="spinrt bench all", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small parameters: all of it within 2 minutes")
    parser.add_argument("--json", action="store_true", help="print a list of all results instead of tables")
    parser.add_argument("--report", type=Path, default=REPORT, metavar="FILE", help=f"the page; {REPORT} by default")
    parser.add_argument("--mail", type=Path, metavar="PATH", help="your own messages instead of the samples")
    return parser


def _command(parsed: argparse.Namespace) -> str:
    words = ["spinrt", "bench", "all", *(["--quick"] if parsed.quick else [])]
    return shlex.join(words + (["--mail", str(parsed.mail)] if parsed.mail else []))


def _run_all(parsed: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """What each found, and why those failed that did."""
    results, failures = [], {}
    for name in names():
        began = time.monotonic()
        saved = parsed.report.parent / f"{name}.json"
        saved.unlink(missing_ok=True)
        code = _run(name, saved, parsed)
        if code == 0 and saved.is_file():
            results.append(json.loads(saved.read_text(encoding="utf-8")))
        else:
            failures[name] = f"exit code {code}"
        progress(f"all: {name} took {time.monotonic() - began:.0f} s")
    return results, failures


def _run(name: str, saved: Path, parsed: argparse.Namespace) -> int:
    """Run one; whatever ends us ends it first, in order: it has servers to stop."""
    command = [sys.executable, "-m", f"benchmarks.bench_{name}", "--save", str(saved)]
    command += ["--quick"] if parsed.quick else []
    command += ["--mail", str(parsed.mail)] if parsed.mail and name in TAKES_MAIL else []
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    output = subprocess.DEVNULL if parsed.json else None
    child = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, stdout=output, start_new_session=True)
    try:
        return child.wait()
    except Interrupted as error:
        child.send_signal(error.number)
        child.wait()
        raise


if __name__ == "__main__":
    sys.exit(main())
