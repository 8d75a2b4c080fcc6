"""What a check finds, and how far it is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Final, NamedTuple

ROWS_SHOWN: Final = 5
"""Of one kind of damage in one table so many are told one by one; of more only how many there are."""

_TABLE_TIMES_MAX: Final = 16
_TABLE_BYTES_MORE: Final = 64 * 1024 * 1024


class Severity(Enum):
    """How bad it is."""

    NOTE = "note"
    """As a crash may leave it, or derived and made anew by the next start: nothing is lost."""
    DAMAGE = "damage"
    """Stored data is wrong or missing."""
    REPAIRED = "repaired"
    """Was damage until now."""


class Finding(NamedTuple):
    """One thing that is not as it should be."""

    severity: Severity
    place: str
    """File or table, from the data directory on."""
    offset: int | None
    """Bytes from the start of the file, where it is a matter of bytes."""
    subject: str
    """Which object: a record, a page, a row."""
    problem: str
    remedy: str = ""
    """What to do next."""
    wanted: bytes | int | None = None
    """What a second copy can be asked for: a page by its digest, the body of a record by its position."""

    def line(self) -> str:
        """For people, on one line."""
        where = self.place if self.offset is None else f"{self.place}, offset {self.offset}"
        remedy = f" ({self.remedy})" if self.remedy else ""
        return f"{self.severity.value}: {where}: {self.subject}: {self.problem}{remedy}"


def note(place: str, offset: int | None, subject: str, problem: str, remedy: str = "") -> Finding:
    return Finding(Severity.NOTE, place, offset, subject, problem, remedy)


def damage(
    place: str, offset: int | None, subject: str, problem: str, remedy: str = "", wanted: bytes | int | None = None
) -> Finding:
    return Finding(Severity.DAMAGE, place, offset, subject, problem, remedy, wanted)


def repaired(place: str, offset: int | None, subject: str, problem: str) -> Finding:
    return Finding(Severity.REPAIRED, place, offset, subject, problem)


@contextmanager
def quiet(name: str) -> Iterator[None]:
    """What that part of the program traces of what it opens is of no interest: a check says what it finds."""
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


Mend = Callable[[str, int, int], None]
"""Called with a file's name, an offset in it, and the byte that must be there."""

Advance = Callable[[int], None]
"""Called now and then with the bytes that were checked since the last call."""


def unwatched(_count: int) -> None:
    """Nobody wants to know how far it is."""


def oversize(table: Path, sources: Iterable[Path]) -> str | None:
    """Tell what is wrong with a derived table that is too long to be of some files, before it is copied; none if not.

    A sparse file of a tebibyte costs nothing to make and hours to copy. Counts what waits beside the table, too.
    """
    files = (table, table.with_name(table.name + "-wal"))
    size = sum(path.stat().st_size for path in files if path.exists())
    limit = _TABLE_TIMES_MAX * sum(path.stat().st_size for path in sources) + _TABLE_BYTES_MORE
    return f"has {size} bytes, what it is made of allows {limit} at the most" if size > limit else None
