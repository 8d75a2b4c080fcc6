"""``spinrt snapshot``: the mail store as it was, kept at the price of what changed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from spinrt.cli.common import add_config, add_json, load_config, print_json, print_table, printable
from spinrt.errors import NotFound
from spinrt.mail.config_values import format_size

if TYPE_CHECKING:
    from spinrt.mail.config import Config
    from spinrt.mail.store.views import SnapshotReader
    from spinrt.storage.protocols import Snapshot

EPILOG = """\
A snapshot is named by `newest`, by its label, or by the first digits of its
id. All of it works with and without a running server; only delete changes
what is there. More: docs/operating/snapshots.md

examples:
  spinrt snapshot create --label before-upgrade
  spinrt snapshot list
  spinrt snapshot diff before-upgrade newest
  spinrt snapshot open newest alice INBOX           the messages that were there
  spinrt snapshot open newest alice INBOX 17        one of them
  spinrt snapshot export before-upgrade /srv/then   a data directory of that moment
  spinrt snapshot delete 3f9a1c

What was exported is checked as `spinrt fsck --quick` does.
exit codes of export: 0 exported, 1 not exported, 3 exported, and damaged
"""
ID_DIGITS: Final = 12
READ_BYTES: Final = 1024 * 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, text: str) -> argparse.ArgumentParser:
        below = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        add_config(below)
        return below

    create = action("create", "take a snapshot now")
    create.add_argument("--label", help="name it; retention leaves it alone then")
    listing = action("list", "list snapshots, the oldest first")
    show = action("show", "show what a snapshot holds")
    show.add_argument("snapshot")
    diff = action("diff", "show what changed from one snapshot to another")
    diff.add_argument("old")
    diff.add_argument("new", nargs="?", default="newest", help="default: newest")
    delete = action("delete", "remove snapshots, and what only they need")
    delete.add_argument("snapshots", nargs="+", metavar="SNAPSHOT")
    opened = action("open", "look into a snapshot: accounts, mailboxes, messages, one message")
    for name in ("snapshot", "user", "mailbox", "uid"):
        opened.add_argument(name, nargs=None if name == "snapshot" else "?", type=int if name == "uid" else str)
    export = action("export", "write a snapshot out as a data directory")
    export.add_argument("snapshot")
    export.add_argument("target", type=Path, help="directory that does not exist, or is empty")
    for one in (create, listing, show, diff, delete, opened, export):
        add_json(one)


def run(arguments: argparse.Namespace) -> int:
    config = load_config(arguments)
    if arguments.action == "export":
        return _export(config, arguments)
    result, show = _ACTIONS[arguments.action](config, arguments)
    if arguments.json:
        print_json(result)
    else:
        show(result)
    return 0


Show = Callable[[Any], None]


def _create(config: Config, arguments: argparse.Namespace) -> tuple[Any, Show]:
    from spinrt.mail.asking import ask

    made = ask(config, "snapshot.create", label=arguments.label)
    return made, lambda one: print(f"snapshot {one['id'][:ID_DIGITS]} at log position {one['position']}")


def _delete(config: Config, arguments: argparse.Namespace) -> tuple[Any, Show]:
    from spinrt.mail.asking import ask

    gone = ask(config, "snapshot.delete", snapshots=arguments.snapshots)
    return gone, lambda ids: print(f"deleted {', '.join(id_[:ID_DIGITS] for id_ in ids)}")


def _list(config: Config, arguments: argparse.Namespace) -> tuple[Any, Show]:
    from spinrt.mail.snapshot_operations import reading, snapshot_as_json

    try:
        with reading(config.data_directory) as pages:
            return [snapshot_as_json(one) for one in pages.snapshots()], _print_list
    except NotFound:
        return [], _print_list


def _print_list(snapshots: list[Mapping[str, Any]]) -> None:
    if not snapshots:
        print("there are no snapshots; `spinrt snapshot create` takes one")
        return
    rows = [
        [one["id"][:ID_DIGITS], one["time"], one["position"], _total(one), printable(one["label"])] for one in snapshots
    ]
    print_table(rows, ["id", "time", "log position", "size", "label"])


def _total(snapshot: Mapping[str, Any]) -> str:
    return _about(sum(item["bytes"] for item in snapshot["objects"]))


def _about(size_bytes: int) -> str:
    """A size for people, to about a hundredth."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.3g} {unit}"
    return format_size(size_bytes)


def _show(config: Config, arguments: argparse.Namespace) -> tuple[Any, Show]:
    from spinrt.mail.snapshot_operations import reading, snapshot_as_json
    from spinrt.mail.store.snapshots import find_snapshot

    directory = config.data_directory
    with reading(directory) as pages:
        return snapshot_as_json(find_snapshot(directory, pages.snapshots(), arguments.snapshot)), _print_snapshot


def _print_snapshot(snapshot: Mapping[str, Any]) -> None:
    for key in ("id", "parent", "label", "time", "log", "position"):
        print(f"{key + ':':<10}{printable(str(snapshot[key] or '-'))}")
    print()
    rows = [
        [printable(item["name"]), _about(item["bytes"]), item["pages"], item["root"][:ID_DIGITS]]
        for item in snapshot["objects"]
    ]
    print_table(rows, ["object", "size", "pages", "root"])


def _diff(config: Config, arguments: argparse.Namespace) -> tuple[Any, Show]:
    from spinrt.mail.snapshot_operations import differences, reading
    from spinrt.mail.store.snapshots import find_snapshot

    with reading(config.data_directory) as pages:
        directory, every = config.data_directory, pages.snapshots()
        old, new = find_snapshot(directory, every, arguments.old), find_snapshot(directory, every, arguments.new)
        return differences(directory, pages, old, new), _print_differences


def _print_differences(found: Mapping[str, Any]) -> None:
    if not found["objects"]:
        print("nothing changed")
        return
    print_table([[printable(one["name"]), one["change"], one["pages"]] for one in found["objects"]],
                ["object", "change", "pages"])  # fmt: skip
    if found["mailboxes"]:
        print()
        rows = [
            [
                one["user"],
                printable(one["mailbox"]),
                one["change"],
                one["came"],
                one["messages_before"],
                one["messages"],
            ]
            for one in found["mailboxes"]
        ]
        print_table(rows, ["account", "mailbox", "change", "came", "messages before", "messages"])


def _open(config: Config, arguments: argparse.Namespace) -> tuple[Any, Show]:
    from spinrt.mail.store.snapshots import find_snapshot

    directory = config.data_directory
    return look_into(directory, lambda every: find_snapshot(directory, every, arguments.snapshot), arguments)


def look_into(
    data_directory: Path, choose: Callable[[list[Snapshot]], Snapshot], arguments: argparse.Namespace
) -> tuple[Any, Show]:
    """List accounts, mailboxes of ``user`` or messages of ``mailbox`` in a snapshot, or print the message ``uid``."""
    from spinrt.mail.snapshot_operations import opened, reading

    with reading(data_directory) as pages, opened(data_directory, pages, choose(pages.snapshots())) as reader:
        if arguments.uid is not None:
            return _message(reader, arguments)
        if arguments.mailbox is not None:
            return _messages(reader, arguments.user, arguments.mailbox), _print_rows
        if arguments.user is not None:
            return _mailboxes(reader, arguments.user), _print_rows
        return [{"account": user} for user in reader.users()], _print_rows


def _print_rows(rows: list[Mapping[str, Any]]) -> None:
    if not rows:
        print("there is nothing")
        return
    print_table([[printable(str(cell)) for cell in row.values()] for row in rows], list(rows[0]))


def _mailboxes(reader: SnapshotReader, user: str) -> list[dict[str, Any]]:
    found = [(mailbox, reader.status(mailbox.id)) for mailbox in reader.mailboxes(user)]
    if not found:
        raise NotFound(f"account {user!r}: has no mailboxes in this snapshot")
    return [
        {"mailbox": mailbox.name, "messages": status.messages, "unseen": status.unseen, "bytes": status.size}
        for mailbox, status in found
    ]


def _mailbox_id(reader: SnapshotReader, user: str, name: str) -> int:
    mailbox = reader.mailbox(user, name)
    if mailbox is None:
        raise NotFound(f"mailbox {name!r} of {user!r}: does not exist in this snapshot")
    return mailbox.id


def _messages(reader: SnapshotReader, user: str, name: str) -> list[dict[str, Any]]:
    from spinrt.mail.message.view import MessageView

    mailbox_id = _mailbox_id(reader, user, name)
    rows = []
    for uid in reader.uids(mailbox_id):
        message = reader.message(mailbox_id, uid)
        if message is None:
            continue
        headers = MessageView(partial(reader.read, message.body), message.body.size).headers
        shown = {name: (headers.value(name) or b"").decode("utf-8", "replace") for name in ("from", "subject")}
        rows.append({"uid": uid, "flags": " ".join(sorted(message.flags)), "bytes": message.body.size, **shown})
    return rows


def _message(reader: SnapshotReader, arguments: argparse.Namespace) -> tuple[Any, Show]:
    """Print the message as it came, while the snapshot is open; with --json only what is known of it."""
    mailbox_id = _mailbox_id(reader, arguments.user, arguments.mailbox)
    message = reader.message(mailbox_id, arguments.uid)
    if message is None:
        raise NotFound(f"message {arguments.uid} in {arguments.mailbox!r}: does not exist in this snapshot")
    if not arguments.json:
        for offset in range(0, message.body.size, READ_BYTES):
            sys.stdout.buffer.write(reader.read(message.body, offset, READ_BYTES))
        sys.stdout.buffer.flush()
    described = {"uid": message.uid, "flags": sorted(message.flags), "modseq": message.modseq,
                 "bytes": message.body.size, "sha256": message.body.digest.hex()}  # fmt: skip
    return described, lambda _: None


def _export(config: Config, arguments: argparse.Namespace) -> int:
    from spinrt.cli.copied import damage_in, tell_damage

    target: Path = arguments.target.absolute()
    result = _copy(config, arguments.snapshot, target)
    damaged = damage_in(target)
    if arguments.json:
        print_json(result | {"damaged": len(damaged)})
    else:
        print(f"exported to {target} ({_about(result['log_bytes'])} of log)")
    return tell_damage("snapshot export", damaged, "repair the store (`spinrt fsck`) and export again")


def _copy(config: Config, name: str, target: Path) -> dict[str, Any]:
    from spinrt.mail.snapshot_operations import reading
    from spinrt.mail.store.changes import OPAQUE_KINDS
    from spinrt.mail.store.export import export_snapshot
    from spinrt.mail.store.snapshots import find_snapshot
    from spinrt.storage.log import Log
    from spinrt.storage.readonly import ReadOnlyDevice

    with reading(config.data_directory) as pages:
        snapshot = find_snapshot(config.data_directory, pages.snapshots(), name)
        directory = config.data_directory / "log"
        log = Log.open(directory, device=ReadOnlyDevice(directory), opaque_kinds=OPAQUE_KINDS)
        try:
            log_bytes = export_snapshot(pages, snapshot, log, target)
        finally:
            log.close()
    return {"target": str(target), "snapshot": snapshot.identity.hex(), "log_bytes": log_bytes}


_ACTIONS: Final[Mapping[str, Callable[[Config, argparse.Namespace], tuple[Any, Show]]]] = {
    "create": _create,
    "list": _list,
    "show": _show,
    "diff": _diff,
    "delete": _delete,
    "open": _open,
}
