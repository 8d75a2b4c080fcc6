"""What ``spinrt fsck --repair`` does with what it found, in a data directory whose lock the caller holds.

First single bytes are found by trying and put right where they lie, then what is left is fetched from a mirror if there
is one, then derived tables that do not fit are removed: the next start builds them anew. In the end everything is
checked once more, and what is no longer wrong counts as repaired.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

from spinrt.mail.store.fsck import REBUILD, WRITE_FORMAT, DirectoryCheck
from spinrt.mail.store.gap import close_gap
from spinrt.mail.store.missing import missing_names
from spinrt.mail.store.recovery import suspect_index
from spinrt.storage.datadir import FORMAT_VERSION, write_format
from spinrt.storage.device import open_regular
from spinrt.storage.fsck.finding import Finding, Mend, Severity, repaired
from spinrt.storage.fsck.log import LogCheck
from spinrt.storage.fsck.packs import mend_packs
from spinrt.storage.fsck.pages import REBUILD_TABLE, REWRITE, PagesCheck
from spinrt.storage.fsck.places import REBUILD_PLACES
from spinrt.storage.mirror.book import FileBook, is_mirror
from spinrt.storage.page_table import remove_table
from spinrt.storage.pages import LocalPages
from spinrt.storage.places import remove_places
from spinrt.storage.readonly import ReadOnlyDevice

_DERIVED: Final[dict[str, Callable[[Path], None]]] = {
    REBUILD: lambda path: suspect_index(path / "index"),
    REBUILD_TABLE: lambda path: remove_table(path / "pages"),
    REBUILD_PLACES: lambda path: remove_places(path / "log"),
    WRITE_FORMAT: lambda path: write_format(path, FORMAT_VERSION),
    REWRITE: lambda path: LocalPages.open(path / "pages").close(),
}

_AT_START: Final = "the next start builds it anew"
_WRITTEN: Final = {REWRITE: "it is whole again", WRITE_FORMAT: "it is written"}
"""Those of which nothing is left to the next start."""


class Fetch(Protocol):
    """Gets damaged pages, by digest, bodies of records, by position, and bodies that are in no record any more, by
    name, from a second copy and puts them right."""

    def __call__(self, digests: Sequence[bytes], positions: Sequence[int], missing: Sequence[int]) -> object: ...


def mend_directory(
    path: Path, found: Iterable[Finding], fetch: Fetch | None = None, check: DirectoryCheck | None = None
) -> list[Finding]:
    """Mend what can be mended; return the findings as they are then.

    Args:
        found: What a check found.
        fetch: Asks a mirror.
        check: Looks once more in the end; when nothing is damaged, nothing is looked at again.

    Raises:
        SpinError: The mirror cannot be asked; what was mended until then stays so.
        OSError: A file cannot be written.
    """
    before = list(found)
    if not any(finding.severity is Severity.DAMAGE for finding in before):
        return before
    mended = list(_by_trying(path))
    if fetch is not None:
        mended += _from_mirror(path, fetch)
    _have_source_asked(path)
    left = _without_derived(path, list((check or DirectoryCheck(path)).findings()))
    still = {(finding.place, finding.subject) for finding in left}
    told = {(finding.place, finding.subject) for finding in mended}
    for finding in before:
        gone = finding.severity is Severity.DAMAGE and (finding.place, finding.subject) not in still
        if gone and told.isdisjoint(_names(finding)):
            mended.append(finding._replace(severity=Severity.REPAIRED, remedy=""))
    return [*mended, *left]


def _names(finding: Finding) -> set[tuple[str, str]]:
    """What `_by_trying` may call the same: it knows where a record or an entry begins, and nothing of what is in it."""
    return {(finding.place, finding.subject.partition(",")[0]), (finding.place, f"entry at {finding.offset}")}


def _by_trying(path: Path) -> Iterator[Finding]:
    """Single bytes of log and packs."""
    check = LogCheck(ReadOnlyDevice(path / "log"), mend=_writer(path / "log"))
    yield from (finding for finding in check.findings() if finding.severity is Severity.REPAIRED)
    yield from mend_packs(ReadOnlyDevice(path / "pages"), "pages", _writer(path / "pages"))


def _writer(directory: Path) -> Mend:
    """Return what puts a byte into a file, durably."""

    def write(name: str, offset: int, byte: int) -> None:
        descriptor = open_regular(directory / name, os.O_WRONLY)
        try:
            os.pwrite(descriptor, bytes((byte,)), offset)
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    return write


def _from_mirror(path: Path, fetch: Fetch) -> Iterator[Finding]:
    pages = PagesCheck(ReadOnlyDevice(path / "pages"))
    checks = (LogCheck(ReadOnlyDevice(path / "log")), pages)
    wanted = {finding.wanted for check in checks for finding in check.findings()}
    digests = sorted({one for one in wanted if isinstance(one, bytes)} | pages.missing.keys())
    positions = sorted(one for one in wanted if isinstance(one, int))
    if digests or positions:
        fetch(digests, positions, ())
    if gone := close_gap(path):
        said = "given up; the bodies in them that are needed lie at the log's end"
        yield repaired("log", None, f"segments before the gap, {len(gone)} from {gone[0]} on", said)
    if missing := missing_names(path):
        fetch((), (), missing)


def _have_source_asked(path: Path) -> None:
    """Have the next update of a mirror bring the bodies that it lost: else it asks for new ones alone."""
    if is_mirror(path) and missing_names(path):
        book = FileBook(path)
        book.write(replace(book.read(), complete=False))


def _without_derived(path: Path, found: list[Finding]) -> list[Finding]:
    """Remove the derived tables that are wrong, write what follows from the rest, and say so."""
    for remedy in {finding.remedy for finding in found} & _DERIVED.keys():
        _DERIVED[remedy](path)
    return [
        finding._replace(severity=Severity.REPAIRED, remedy=_WRITTEN.get(finding.remedy, _AT_START))
        if finding.remedy in _DERIVED
        else finding
        for finding in found
    ]
