"""Checking that a data directory has the bodies that its snapshots need: the half of a snapshot that is not pages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from typing import Final

from spinrt.errors import CorruptRecord, FormatUnknown, NotFound
from spinrt.mail.store.mirrored import body_names
from spinrt.mail.store.snapshot_index import check_state, named, open_view
from spinrt.storage.datadir import PAGES_NAME
from spinrt.storage.fsck.finding import ROWS_SHOWN, Finding, damage, note, quiet
from spinrt.storage.fsck.scratch import scratch
from spinrt.storage.log import Log
from spinrt.storage.pages import LocalPages
from spinrt.storage.protocols import PageStore, Snapshot
from spinrt.storage.readonly import ReadOnlyDevice
from spinrt.storage.rows import Malformed
from spinrt.storage.snapshot import SUFFIX

FETCH: Final = (
    "a mirror may still have them: `spinrt fsck --repair --from` it; of a mirror say `spinrt fsck --repair`, then the"
    " next update brings them; else delete the snapshot"
)

DELETE: Final = "`spinrt snapshot delete` removes it"


def check_snapshots(device: ReadOnlyDevice, log: Log, *, end_is_lost: bool = False) -> Iterator[Finding]:
    """Look for the bodies that each snapshot needs and the one before it did not: each name is looked for once.

    Args:
        device: The directory of the page store; nothing is written through it.
        end_is_lost: Whether it was told that the log's end is gone: bodies behind what is left are not told again.
    """
    before = log.durable if end_is_lost else None
    if not any(name.endswith(SUFFIX) for name in device.list()):
        return
    with ExitStack() as opened:
        try:
            with quiet("spinrt.storage"):
                pages = LocalPages.open(opened.enter_context(scratch()), device, rebuild=True)
        except (CorruptRecord, FormatUnknown):  # told with the pages
            return
        opened.callback(pages.close)
        untold: list[str] = []
        base: Snapshot | None = None
        for snapshot in pages.snapshots():
            yield from _check_snapshot(pages, base, snapshot, log, before, untold)
            base = snapshot
        if untold:
            which = f"{untold[0]} and {len(untold) - 1} more" if len(untold) > 1 else untold[0]
            yield note(PAGES_NAME, None, which, "which bodies it needs cannot be told, for what is damaged")


def _check_snapshot(
    pages: PageStore, base: Snapshot | None, snapshot: Snapshot, log: Log, before: int | None, untold: list[str]
) -> Iterator[Finding]:
    subject = f"snapshot {snapshot.identity.hex()[:12]}"
    try:
        _check_index(pages, snapshot, log)
        names = (name for name in body_names(pages, base, snapshot) if before is None or name < before)
        yield from missing_bodies(((name, f"{name}, needed by {subject}") for name in names), log, FETCH)
    except Malformed as error:
        yield damage(PAGES_NAME, None, named(snapshot), str(error).removeprefix(f"{named(snapshot)}: "), DELETE)
    except FormatUnknown as error:
        yield note(PAGES_NAME, None, named(snapshot), str(error).removeprefix(f"{named(snapshot)}: "), error.hint)
    except (CorruptRecord, NotFound):  # damage of pages is told with the pages
        untold.append(subject)


def _check_index(pages: PageStore, snapshot: Snapshot, log: Log) -> None:
    """Raises as `open_view`. A branch's snapshot says another log than its index, which began at one of ours."""
    with closing(open_view(pages, snapshot)) as view:
        if snapshot.log_identity == log.identity:
            check_state(view, snapshot)


def missing_bodies(named: Iterable[tuple[int, str]], log: Log, hint: str) -> Iterator[Finding]:
    """Tell which of the bodies, each with what is said of it, the log does not hold."""
    missing = 0
    for name, said in named:
        if not log.holds(name):
            missing += 1
            if missing <= ROWS_SHOWN:
                yield damage("log", None, f"message body {said}", "is not in the log", hint)
    if missing > ROWS_SHOWN:
        yield damage("log", None, "message bodies", f"{missing - ROWS_SHOWN} more are not in the log", hint)
