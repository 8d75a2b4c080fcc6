"""``spinrt fsck``: check everything that is stored."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from spinrt.cli.common import add_config, add_json, load_config, print_json
from spinrt.errors import UsageError
from spinrt.mail.config_values import format_size
from spinrt.mail.mending import Fetch, mend_directory
from spinrt.mail.repair import find_mirror, repair_from, repair_identity
from spinrt.mail.store.fsck import DirectoryCheck
from spinrt.storage.datadir import held
from spinrt.storage.fsck.finding import Finding, Severity

if TYPE_CHECKING:
    from spinrt.mail.config import Config
    from spinrt.storage.mirror.link import Identity

EPILOG = """\
Checks every byte of the log and of the pages, every snapshot, and the index
against an index that is built anew from the log. Changes nothing, unless
--repair is given. The server must not run; while it does, it reads log and
pages again and again by itself (see `scrub` in the configuration).

exit codes: 0 nothing is wrong (or all was repaired), 3 stored data is damaged,
4 the data directory is in use

examples:
  spinrt fsck
  spinrt fsck --data /var/backups/spinrt-2026-11-21
  spinrt fsck --repair
  spinrt fsck --repair --from cellar
"""
DAMAGED: Final = 3
BAR_CELLS: Final = 30
BAR_S: Final = 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.add_argument("--data", type=Path, metavar="DIR", help="data directory (default: the configuration's)")
    parser.add_argument("--quick", action="store_true", help="do not compare the index with the log row by row")
    parser.add_argument("--repair", action="store_true", help="mend what can be mended")
    parser.add_argument(
        "--from",
        dest="source",
        metavar="MIRROR",
        help="with --repair: get what is damaged from there, one of mirror.targets or a mirror's directory",
    )
    add_config(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    if arguments.source is not None and not arguments.repair:
        raise UsageError("fsck: --from without --repair", hint="say --repair, too")
    path: Path = arguments.data if arguments.data is not None else load_config(arguments).data_directory
    with held(path):
        check = DirectoryCheck(path, replayed=not arguments.quick)
        bar = Bar(check.total_bytes)
        check.advance = bar.advance
        found = _tell(check.findings(), bar, quiet=arguments.json)
        if arguments.repair and any(finding.severity is Severity.DAMAGE for finding in found):
            check = DirectoryCheck(path, replayed=not arguments.quick)
            mended = mend_directory(path, found, _fetch(arguments, path), check)
            found = _tell(mended, bar, quiet=arguments.json, told=found)
    damaged = [finding for finding in found if finding.severity is Severity.DAMAGE]
    if arguments.json:
        print_json(as_json(path, found, complete=check.complete))
    else:
        print(_summary(path, found) + ("" if check.complete or damaged else "; not everything was checked"))
    return DAMAGED if damaged else 0


def _fetch(arguments: argparse.Namespace, path: Path) -> Fetch | None:
    """What asks the mirror that ``--from`` names."""
    if arguments.source is None:
        return None
    config = load_config(arguments) if arguments.data is None else None
    target = find_mirror(config, arguments.source)

    def fetch(digests: Sequence[bytes], positions: Sequence[int], missing: Sequence[int]) -> object:
        identity = _identity(config)
        return repair_from(target, identity, path, digests=digests, positions=positions, missing=missing)

    return fetch


def _identity(config: Config | None) -> Callable[[], Identity]:
    def none() -> Identity:
        raise UsageError("fsck: a mirror elsewhere needs the configuration", hint="leave --data out")

    return none if config is None else repair_identity(config)


def as_json(path: Path, found: list[Finding], *, complete: bool) -> dict[str, object]:
    """The result for programs; docs/operating/fsck.md."""
    return {
        "data": str(path),
        "damaged": any(finding.severity is Severity.DAMAGE for finding in found),
        "complete": complete,
        "findings": [
            {
                "severity": finding.severity.value,
                "place": finding.place,
                "offset": finding.offset,
                "subject": finding.subject,
                "problem": finding.problem,
                "remedy": finding.remedy,
            }
            for finding in found
        ],
    }


def _tell(findings: Iterable[Finding], bar: Bar, *, quiet: bool, told: Collection[Finding] = ()) -> list[Finding]:
    """Print what was not told before; return all."""
    found = []
    for finding in findings:
        found.append(finding)
        if not quiet and finding not in told:
            bar.clear()
            print(finding.line())
    bar.clear()
    return found


def _summary(path: Path, found: list[Finding]) -> str:
    counts = {severity: sum(finding.severity is severity for finding in found) for severity in Severity}
    if not counts[Severity.DAMAGE] and not counts[Severity.REPAIRED]:
        notes = f"; notes: {counts[Severity.NOTE]}" if counts[Severity.NOTE] else ""
        return f"{path}: nothing is damaged{notes}"
    return f"{path}: damaged: {counts[Severity.DAMAGE]}, repaired: {counts[Severity.REPAIRED]}"


class Bar:
    """How far it is, on a terminal's standard error; nothing elsewhere."""

    def __init__(self, total: int) -> None:
        self._total = max(total, 1)
        self._done = 0
        self._shown_s = 0.0
        self._visible = sys.stderr.isatty()

    def advance(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if self._visible and now - self._shown_s > BAR_S:
            self._shown_s = now
            part = min(self._done / self._total, 1.0)
            cells = "#" * int(part * BAR_CELLS)
            text = f"[{cells:<{BAR_CELLS}}] {part:4.0%} of {format_size(self._total)}"
            print(f"\r{text}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._visible and self._shown_s:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._shown_s = 0.0
