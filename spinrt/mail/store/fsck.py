"""Checking a whole data directory that nobody uses: format, permissions, log, pages, and the index against the log.

`check_directory` changes nothing. The index is checked by SQLite, then compared row by row with one that is built anew
beside it from the records that it says it covers: everything in it follows from the log, so everything in it is
checked. Memory: SQLite's caches; the index that is compared with lies in a temporary directory.
"""

from __future__ import annotations

import contextlib
import sqlite3
import stat
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

from spinrt.errors import ConfigError, CorruptRecord, FormatUnknown, NotFound
from spinrt.mail.store.changes import OPAQUE_KINDS
from spinrt.mail.store.codec import decode_body
from spinrt.mail.store.fsck_snapshots import check_snapshots, missing_bodies
from spinrt.mail.store.index import INDEX_NAME, Index, remove_index
from spinrt.mail.store.recovery import SUSPECT_NAME, Promoted, has_all_history, open_index
from spinrt.mail.store.schema import SCHEMA_VERSION, TABLES, schema_version
from spinrt.mail.store.snapshot_index import checked_index
from spinrt.mail.store.snapshots import index_of, write_object
from spinrt.mail.store.witness import covered_position, opened_index
from spinrt.storage.datadir import FORMAT_NAME, FORMAT_VERSION, read_format
from spinrt.storage.fsck.finding import ROWS_SHOWN, Advance, Finding, Severity, damage, note, quiet, unwatched
from spinrt.storage.fsck.log import LOST_END, RESTORE, LogCheck
from spinrt.storage.fsck.pages import PagesCheck
from spinrt.storage.fsck.places import check_places
from spinrt.storage.fsck.scratch import scratch
from spinrt.storage.log import Log
from spinrt.storage.mirror.book import is_mirror
from spinrt.storage.pages import LocalPages
from spinrt.storage.readonly import ReadOnlyDevice
from spinrt.storage.segment import segment_starts

REBUILD: Final = "`spinrt fsck --repair` has the next start build it anew from the log"
BUILT: Final = "the next start builds it anew from the log"
MESSAGES_SHOWN: Final = 100
"""Of those that have damaged bytes; of more only how many there are."""
WRITE_FORMAT: Final = f"all else is of format {FORMAT_VERSION}, and whole: `spinrt fsck --repair` writes the file"
INDEX: Final = f"index/{INDEX_NAME}"
_OURS: Final = frozenset((".log", ".pack", ".snap", ".sqlite"))


@dataclass(slots=True)
class DirectoryCheck:
    """One pass over a data directory. The caller holds its lock (`spinrt.storage.datadir.held`).

    Args:
        path: The data directory.
        advance: Told of bytes of log and index that were checked.
    """

    path: Path
    advance: Advance = unwatched
    replayed: bool = True
    """Whether the index is compared with the log, which takes as long as building it."""
    complete: bool = field(default=True, init=False)
    """Whether everything was looked at by the time the last finding came: not so when the index was not compared, or
    damage hides what lies behind it."""
    _end_is_lost: bool = field(default=False, init=False)
    """Whether that was told: what it entails is told no more."""
    _damaged: set[int] = field(default_factory=set, init=False)
    """Positions of the records in the log that are damage."""
    _pages: ReadOnlyDevice = field(init=False)
    """One for all: what is found wrong with a pack's header is right for those who look after that."""

    def __post_init__(self) -> None:
        self._pages = ReadOnlyDevice(self.path / "pages")

    @property
    def total_bytes(self) -> int:
        """How much `advance` will be told in all, about."""
        log = _bytes_of(self.path / "log")
        return log + _bytes_of(self.path / "pages") + (log if self.replayed else 0)

    def findings(self) -> Iterator[Finding]:
        """Check everything; yield what is wrong as it is found.

        Raises:
            ConfigError: Nothing there is of a data directory.
            FormatUnknown: A newer version wrote it.
        """
        unformatted = list(_check_format(self.path))
        if unformatted and not any((self.path / name).is_dir() for name in ("log", "index", "pages")):
            raise ConfigError(
                f"{self.path}: is no data directory: found neither {FORMAT_NAME} nor log, index or pages",
                hint="name one with --data, or its configuration",
            )
        damaged = False
        for finding in self._others():
            damaged |= finding.severity is Severity.DAMAGE
            yield finding
        known = not damaged and ((self.path / INDEX).exists() or is_mirror(self.path))
        for finding in unformatted:
            yield finding._replace(remedy=WRITE_FORMAT) if known and finding.severity is Severity.DAMAGE else finding

    def _others(self) -> Iterator[Finding]:
        """Everything but the format."""
        yield from _check_modes(self.path)
        irregular = list(_check_kinds(self.path))
        if irregular:
            yield from irregular
            return
        witness = partial(covered_position, self.path)
        self._damaged.clear()
        log_check = LogCheck(ReadOnlyDevice(self.path / "log"), advance=self.advance, witness=witness)
        sound = True
        for finding in log_check.findings():
            sound = sound and finding.severity is not Severity.DAMAGE
            if isinstance(finding.wanted, int):
                self._damaged.add(finding.wanted)
            yield finding
        self._end_is_lost = log_check.lost_end
        yield from PagesCheck(self._pages, advance=self.advance).findings()
        yield from self._check_derived(log_check.end, sound)

    def _check_derived(self, log_end: int, sound: bool) -> Iterator[Finding]:
        """The tables that follow from the log: of places, and the index."""
        if not segment_starts(ReadOnlyDevice(self.path / "log")):
            yield from self._check_index(None, log_end, sound)
            return
        try:
            device = ReadOnlyDevice(self.path / "log")
            witness = partial(covered_position, self.path)
            log = Log.open(self.path / "log", device=device, opaque_kinds=OPAQUE_KINDS, witness=witness)
        except (CorruptRecord, FormatUnknown):  # told with the log
            yield from self._check_index(None, log_end, sound)
            return
        try:
            yield from check_places(self.path / "log", log)
            for finding in check_snapshots(self._pages, log, end_is_lost=self._end_is_lost):
                self.complete = self.complete and finding.severity is not Severity.NOTE  # what it needs is not known
                yield finding
            yield from self._check_index(log, log_end, sound)
        finally:
            log.close()

    def _check_index(self, log: Log | None, log_end: int, sound: bool) -> Iterator[Finding]:
        """What is wrong with the index; what the next start would build anew is damage when it could not."""
        buildable = None
        for finding in self._index_findings(log, log_end, sound):
            if buildable is None and finding.remedy in (REBUILD, BUILT):
                buildable = self._is_buildable(log)
            if buildable is False and finding.remedy in (REBUILD, BUILT):
                problem = f"{finding.problem}; it cannot be built anew: no log from its beginning, no snapshot"
                yield damage(finding.place, finding.offset, finding.subject, problem, RESTORE)
            else:
                yield finding

    def _is_buildable(self, log: Log | None) -> bool:
        """Whether there is what an index is built from; of a log that cannot be opened that was told already."""
        if log is None:
            return not (self.path / INDEX).exists()
        with contextlib.suppress(CorruptRecord):
            if has_all_history(log, log.durable):
                return True
        with scratch() as directory:
            return self._restore(directory, log, log.durable)

    def _index_findings(self, log: Log | None, log_end: int, sound: bool) -> Iterator[Finding]:
        path = self.path / INDEX
        if not path.exists() and is_mirror(self.path):
            self.complete = self.complete and log is not None
            return
        compared = False
        try:
            compared = yield from self._compared_index(path, log, log_end, sound)
        finally:
            self.complete = self.complete and compared

    def _compared_index(self, path: Path, log: Log | None, log_end: int, sound: bool) -> Generator[Finding, None, bool]:
        """Yield what is wrong with the index; return whether it was compared with the log, or there is none."""
        if not path.exists():
            yield note(INDEX, None, "index", "is missing", BUILT)
            return log is not None
        try:
            with opened_index(path) as connection:
                return (yield from self._check_opened(connection, log, log_end, sound))
        except sqlite3.Error as error:
            yield damage(INDEX, None, "index", str(error), REBUILD)
        return False

    def _check_opened(
        self, connection: sqlite3.Connection, log: Log | None, log_end: int, sound: bool
    ) -> Generator[Finding, None, bool]:
        version = schema_version(connection)
        if version != SCHEMA_VERSION:
            problem = f"has schema {version}, expected {SCHEMA_VERSION}"
            yield note(INDEX, None, "index", problem, BUILT)
            return False
        broken = [str(row[0]) for row in connection.execute(f"PRAGMA integrity_check({ROWS_SHOWN})")]
        if broken != ["ok"]:
            yield from (damage(INDEX, None, "index", text.replace("\n", " "), REBUILD) for text in broken)
            return False
        if self._damaged:
            yield from _mail_in(connection, self._damaged)
        if (path := self.path / "index" / SUSPECT_NAME).exists():
            yield note(f"index/{path.name}", None, "mark", "the index was found damaged while running", BUILT)
        (applied,) = connection.execute("SELECT applied FROM state").fetchone() or (0,)
        if applied > log_end:
            if not self._end_is_lost:
                problem = f"covers the log up to {applied}, but the log ends at {log_end}: records were lost"
                yield damage(INDEX, None, "table state", problem, LOST_END)
            return False
        if log is None:
            return False
        yield from _check_bodies(connection, log)
        if not (self.replayed and sound):
            return False
        return (yield from self._compare_with_log(connection, log, applied))

    def _compare_with_log(
        self, connection: sqlite3.Connection, log: Log, applied: int
    ) -> Generator[Finding, None, bool]:
        """Compare with an index of the same records: of all there are, or of those behind the newest snapshot."""
        with scratch() as directory:
            if not log.whole and not self._restore(directory, log, applied):
                problem = "cannot be compared: the log does not begin at its beginning, and no snapshot can be used"
                yield note(INDEX, None, "index", problem)
                return False
            try:
                with quiet("spinrt.mail.store"):
                    rebuilt = self._rebuilt(directory, log, applied)
            except Promoted as error:
                yield note(INDEX, None, "index", f"cannot be compared: {error}", error.hint)
                return False
            except (CorruptRecord, FormatUnknown) as error:
                yield damage("log", None, "records", error.line(), RESTORE)
                return False
            try:
                for table in TABLES:
                    yield from _compare(table, connection, rebuilt.connection)
            finally:
                rebuilt.close()
        return True

    def _rebuilt(self, target: Path, log: Log, applied: int) -> Index:
        try:
            return open_index(target, log, self._progress(log), end=applied)
        except Promoted:  # the log does not have all of the history, though it has its beginning
            remove_index(target / INDEX_NAME)
            if not self._restore(target, log, applied):
                raise
            return open_index(target, log, self._progress(log), end=applied)

    def _restore(self, target: Path, log: Log, applied: int) -> bool:
        """Write the index of the newest snapshot of this log; tell whether there is one that can be read."""
        with contextlib.ExitStack() as stack:
            pages = LocalPages.open(target / "pages", self._pages, rebuild=True)
            stack.callback(pages.close)
            for snapshot in reversed(pages.snapshots()):
                if (
                    index_of(snapshot)
                    and snapshot.log_identity == log.identity
                    and log.start <= snapshot.position <= applied
                ):
                    with contextlib.suppress(CorruptRecord, NotFound):
                        write_object(pages, checked_index(pages, snapshot), target / INDEX_NAME)
                        return True
        return False

    def _progress(self, log: Log) -> Callable[[int, int], None]:
        told = log.start

        def progress(position: int, _end: int) -> None:
            nonlocal told
            self.advance(position - told)
            told = position

        return progress


# --------------------------------------------------------------------------------------------------------------- files


def _check_format(path: Path) -> Iterator[Finding]:
    try:
        version = read_format(path)
    except CorruptRecord as error:
        yield damage(FORMAT_NAME, 0, "format", str(error).partition(": ")[2], f"write 'spinrt-data {FORMAT_VERSION}'")
        return
    if version is None:
        yield damage(FORMAT_NAME, None, "format", "is missing", "this may be no data directory, or half a backup")
    elif version > FORMAT_VERSION:
        raise FormatUnknown(f"data directory {path}: format {version}, this version knows up to {FORMAT_VERSION}")
    elif version < FORMAT_VERSION:
        yield note(FORMAT_NAME, 0, "format", f"version {version}", f"the next start makes it {FORMAT_VERSION}")


def _check_modes(path: Path) -> Iterator[Finding]:
    """Mail is nobody else's: the directory is open to its owner alone, whatever the modes below it are."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        problem = f"mode {mode:03o}, expected 700: others can read mail"
        yield note(".", None, "directory", problem, "the next start sets it")
    owner = path.stat().st_uid
    for name in ("log", "pages", "index"):
        for entry in _files(path / name):
            found = entry.stat()
            if found.st_uid != owner:
                yield note(f"{name}/{entry.name}", None, "file", f"belongs to user {found.st_uid}, expected {owner}")
            elif found.st_mode & 0o077:
                problem = f"mode {stat.S_IMODE(found.st_mode):03o}, expected 600"
                yield note(f"{name}/{entry.name}", None, "file", problem)


def _check_kinds(path: Path) -> Iterator[Finding]:
    """What has the name of one of our files and is none; nothing can be checked before it is gone."""
    for name in ("log", "pages", "index"):
        for entry in sorted((path / name).iterdir()) if (path / name).is_dir() else ():
            if entry.suffix in _OURS and not entry.is_file():
                remedy = "move it away: nothing else was checked"
                yield damage(f"{name}/{entry.name}", None, "file", "is no regular file", remedy)


def _bytes_of(path: Path) -> int:
    return sum(entry.stat().st_size for entry in _files(path))


def _files(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_file()) if path.is_dir() else []


# --------------------------------------------------------------------------------------------------------------- index


def _check_bodies(connection: sqlite3.Connection, log: Log) -> Iterator[Finding]:
    """Every body that the index names is in the log; its bytes were checked with the log."""
    rows = connection.execute("SELECT name, bytes FROM bodies ORDER BY name")
    yield from missing_bodies(((name, f"{name}, {size} bytes") for name, size in rows), log, RESTORE)


def _mail_in(connection: sqlite3.Connection, damaged: set[int]) -> Iterator[Finding]:
    """Whose messages have bytes in records that are damaged, so that somebody can be asked to send them again."""
    query = "SELECT user, name, uid, body FROM messages JOIN mailboxes ON id = mailbox_id ORDER BY user, name, uid"
    told = 0
    for user, name, uid, body in connection.execute(query):
        with contextlib.suppress(CorruptRecord):  # told with the table
            position = next((one.position for one in decode_body(body).extents if one.position in damaged), None)
            if position is None:
                continue
            told += 1
            if told <= MESSAGES_SHOWN:
                subject = f"UID {uid} of {user}, mailbox {name!r}"
                yield note(INDEX, None, subject, f"has bytes in the damaged record at {position}")
    if told > MESSAGES_SHOWN:
        yield note(INDEX, None, "table messages", f"{told - MESSAGES_SHOWN} more have bytes in damaged records")


def _compare(table: str, found: sqlite3.Connection, expected: sqlite3.Connection) -> Iterator[Finding]:
    """Compare a table with what the log says, in the order of its key."""
    keys = _key_columns(found, table)
    order = ", ".join(str(number + 1) for number in keys)
    query = f"SELECT * FROM {table} ORDER BY {order}"
    wrong = 0
    for row, twin in _pairs(found.execute(query), expected.execute(query), keys):
        if row != twin:
            wrong += 1
            if wrong <= ROWS_SHOWN:
                yield _wrong_row(table, keys, row, twin)
    if wrong > ROWS_SHOWN:
        yield damage(INDEX, None, f"table {table}", f"{wrong - ROWS_SHOWN} more rows differ", REBUILD)


_Row: TypeAlias = tuple[Any, ...]


def _pairs(
    found: Iterator[_Row], expected: Iterator[_Row], keys: list[int]
) -> Iterator[tuple[_Row | None, _Row | None]]:
    """Rows of the same key side by side; none where one side has no such row."""
    row, twin = next(found, None), next(expected, None)
    while row is not None or twin is not None:
        key = None if row is None else [row[number] for number in keys]
        twin_key = None if twin is None else [twin[number] for number in keys]
        if twin_key is None or (key is not None and key < twin_key):
            yield row, None
            row = next(found, None)
        elif key is None or twin_key < key:
            yield None, twin
            twin = next(expected, None)
        else:
            yield row, twin
            row, twin = next(found, None), next(expected, None)


def _key_columns(connection: sqlite3.Connection, table: str) -> list[int]:
    columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
    keys = sorted((column[5], column[0]) for column in columns if column[5])
    return [number for _, number in keys]


def _wrong_row(table: str, keys: list[int], row: _Row | None, twin: _Row | None) -> Finding:
    shown = row or twin
    assert shown is not None
    key = ", ".join(f"{shown[number]!r:.60}" for number in keys)
    subject = f"table {table}, row ({key})"
    if row is None or twin is None:
        problem = "the log says that there is none" if twin is None else "is missing, the log has it"
    else:
        column = next(number for number, pair in enumerate(zip(row, twin, strict=True)) if pair[0] != pair[1])
        problem = f"column {column} is {row[column]!r:.60}, the log says {twin[column]!r:.60}"
    return damage(INDEX, None, subject, problem, REBUILD)
