"""What an operator can ask about snapshots.

Taking and deleting is done by the server when one runs, else here. Everything that only reads is done here at any
time, beside a server too: packs and log are only looked at.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from spinrt.errors import DataLocked, NotFound, StateError, UsageError
from spinrt.mail.control import Handler
from spinrt.mail.snapshotting import Snapshotting
from spinrt.mail.store.changes import OPAQUE_KINDS
from spinrt.mail.store.snapshot_index import HINT, named
from spinrt.mail.store.snapshots import find_snapshot
from spinrt.mail.store.store import Store
from spinrt.mail.store.views import SnapshotReader, branch_bases
from spinrt.storage.background import in_background
from spinrt.storage.datadir import PAGES_NAME, DataDirectory
from spinrt.storage.log import Log
from spinrt.storage.pages import LocalPages
from spinrt.storage.protocols import Object, Snapshot
from spinrt.storage.readonly import ReadOnlyDevice
from spinrt.storage.rows import Malformed
from spinrt.storage.tree import shape_of
from spinrt.storage.tree_count import changed_count


def snapshot_handlers(snapshotting: Snapshotting, store: Store) -> Mapping[str, Handler]:
    """Operations for the control socket."""

    async def create(arguments: Mapping[str, Any]) -> Any:
        label = arguments.get("label")
        if label == "":
            raise UsageError("snapshot label '': is empty", hint="leave --label out")
        return snapshot_as_json(await snapshotting.take("" if label is None else str(label)))

    async def delete(arguments: Mapping[str, Any]) -> Any:
        wanted = arguments.get("snapshots")
        if not isinstance(wanted, list):
            raise UsageError("snapshot delete: found no list of snapshots")
        directory = snapshotting.config.data_directory
        pinned = snapshotting.pinned() | branch_bases(directory)
        return await in_background(_delete, directory, store, [str(one) for one in wanted], pinned)

    return {"snapshot.create": create, "snapshot.delete": delete}


def _delete(directory: Path, store: Store, wanted: list[str], pinned: set[bytes]) -> list[str]:
    pages = store.snapshots.pages
    found = [find_snapshot(directory, pages.snapshots(), one) for one in wanted]
    for snapshot in found:
        if snapshot.identity in pinned:
            raise StateError(
                f"snapshot {snapshot.identity.hex()[:12]}: a mirror or a branch builds on it",
                hint="discard the branch, or bring the mirror up to date first",
            )
    for snapshot in found:
        pages.delete(snapshot.identity)
    return [snapshot.identity.hex() for snapshot in found]


# ------------------------------------------------------------------------------------------------------------- reading


@contextlib.contextmanager
def reading(data_directory: Path) -> Iterator[LocalPages]:
    """The page store of a data directory, to look at, whoever runs on it.

    Raises:
        NotFound: There are no snapshots yet.
    """
    directory = data_directory / PAGES_NAME
    if not directory.is_dir():
        raise NotFound(f"data directory {data_directory}: has no snapshots", hint="`spinrt snapshot create` takes one")
    try:
        pages = LocalPages.open(directory, read_only=True)
    except StateError:
        _build_table(data_directory, directory)
        pages = LocalPages.open(directory, read_only=True)
    try:
        yield pages
    finally:
        pages.close()


def _build_table(data_directory: Path, directory: Path) -> None:
    """The derived table is missing: whoever owns the directory builds it; if nobody does, it is done now."""
    with contextlib.suppress(DataLocked), DataDirectory.open(data_directory):
        LocalPages.open(directory).close()


@contextlib.contextmanager
def opened(data_directory: Path, pages: LocalPages, snapshot: Snapshot) -> Iterator[SnapshotReader]:
    """A snapshot opened for reading, its bodies from the log as it is now, which is only looked at.

    Raises:
        As `SnapshotReader`; Malformed, too, when what is read inside makes no sense.
    """
    log = Log.open(data_directory / "log", device=ReadOnlyDevice(data_directory / "log"), opaque_kinds=OPAQUE_KINDS)
    try:
        with SnapshotReader(pages, snapshot, log) as reader:
            yield reader
    except (TypeError, ValueError, ArithmeticError, LookupError, sqlite3.Error) as error:
        # Any column of a made-up index may hold anything: what stumbles over that is nobody's mistake here.
        raise Malformed(f"{named(snapshot)}: holds what no mail index holds: {error}", hint=HINT) from error
    finally:
        log.close()


def snapshot_as_json(snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot for programs; docs/operating/snapshots.md."""
    return {
        "id": snapshot.identity.hex(),
        "parent": snapshot.parent.hex() if snapshot.parent else None,
        "label": snapshot.label,
        "time": f"{datetime.fromtimestamp(snapshot.time_ns // 10**9, UTC):%Y-%m-%dT%H:%M:%SZ}",
        "time_ns": snapshot.time_ns,
        "log": snapshot.log_identity.hex(),
        "position": snapshot.position,
        "objects": [_object_as_json(item) for item in snapshot.objects],
    }


def _object_as_json(item: Object) -> dict[str, Any]:
    pages = shape_of(item.size, item.page_bytes).counts[0]
    return {"name": item.name, "kind": item.kind, "bytes": item.size, "pages": pages, "root": item.root.hex()}


def differences(
    data_directory: Path, pages: LocalPages, old: Snapshot, new: Snapshot
) -> dict[str, list[dict[str, Any]]]:
    """What changed from one snapshot to another: objects by pages, mailboxes by their counters."""
    before = {item.name: item for item in old.objects}
    after = {item.name: item for item in new.objects}
    objects = [
        _object_change(pages, name, before.get(name), after.get(name)) for name in sorted(before.keys() | after.keys())
    ]
    with opened(data_directory, pages, old) as one, opened(data_directory, pages, new) as other:
        was, now = _mailbox_counters(one), _mailbox_counters(other)
    mailboxes = [
        _mailbox_change(*key, was.get(key), now.get(key)) for key in sorted(was.keys() | now.keys())
    ]  # fmt: skip
    return {
        "objects": [change for change in objects if change["change"] != "same"],
        "mailboxes": [change for change in mailboxes if change["change"] != "same"],
    }


def _object_change(pages: LocalPages, name: str, old: Object | None, new: Object | None) -> dict[str, Any]:
    if new is None or old is None:
        item, change = (new, "added") if old is None else (old, "removed")
        assert item is not None
        return {"name": name, "change": change, "pages": shape_of(item.size, item.page_bytes).counts[0]}
    if old == new:
        return {"name": name, "change": "same", "pages": 0}
    return {"name": name, "change": "changed", "pages": changed_count(pages, old, new)}


def _mailbox_counters(reader: SnapshotReader) -> dict[tuple[str, str], tuple[int, int, int, int]]:
    """(user, mailbox) → UIDVALIDITY, UIDNEXT, highest MODSEQ, messages."""
    found = {}
    for user in reader.users():
        for mailbox in reader.mailboxes(user):
            status = reader.status(mailbox.id)
            found[str(user), str(mailbox.name)] = (  # in a made-up index they may be anything: `opened` says so
                int(status.uidvalidity), int(status.uidnext), int(status.highest_modseq), int(status.messages),
            )  # fmt: skip
    return found


def _mailbox_change(
    user: str, name: str, old: tuple[int, int, int, int] | None, new: tuple[int, int, int, int] | None
) -> dict[str, Any]:
    change = {"user": user, "mailbox": name, "change": "same", "came": 0, "messages_before": 0, "messages": 0}
    if old is not None:
        change |= {"change": "removed", "messages_before": old[3]}
    if new is not None:
        again = old is not None and old[0] != new[0]
        came = new[1] - (old[1] if old is not None and not again else 1)
        change |= {"change": "added" if old is None or again else "changed", "came": came, "messages": new[3]}
        if old == new:
            change["change"] = "same"
    return change
