"""What a copy of a data directory that was just made holds of the store's damage: said by whoever made it."""

from __future__ import annotations

import sys
from pathlib import Path

from spinrt.cli.fsck import DAMAGED, Bar
from spinrt.mail.store.fsck import DirectoryCheck
from spinrt.storage.datadir import held
from spinrt.storage.fsck.finding import Finding, Severity


def damage_in(copy: Path) -> list[Finding]:
    """What of a copy is not as it was written, as ``spinrt fsck --quick`` finds it: the store is damaged there, too."""
    with held(copy):
        check = DirectoryCheck(copy, replayed=False)
        bar = Bar(check.total_bytes)
        check.advance = bar.advance
        found = [finding for finding in check.findings() if finding.severity is Severity.DAMAGE]
        bar.clear()
    return found


def tell_damage(command: str, damaged: list[Finding], advice: str) -> int:
    """Name the places on standard error, and what to do; return the exit code."""
    for finding in damaged:
        print(f"spinrt: {finding.line()}", file=sys.stderr)
    if not damaged:
        return 0
    places = "1 place" if len(damaged) == 1 else f"{len(damaged)} places"
    print(f"spinrt: {command}: the store is damaged in {places}, and so is the copy: {advice}", file=sys.stderr)
    return DAMAGED
