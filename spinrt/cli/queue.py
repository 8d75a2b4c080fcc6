"""``spinrt queue``: mail that waits to leave through the smarthost."""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime
from typing import Any

from spinrt.cli.common import add_config, add_json, load_config, print_json, print_table
from spinrt.mail.asking import ask
from spinrt.mail.operations import QUEUE_ACTIONS

EPILOG = """\
Works with and without a running server. Several ids are changed all or none.

examples:
  spinrt queue list
  spinrt queue hold 7 8             not sent until released
  spinrt queue release --all
  spinrt queue retry 9              now, instead of when it is due
  spinrt queue drop 9
  spinrt queue list --all --json    also what was sent or dropped
"""
ACTIONS = {
    "hold": "keep messages back until they are released",
    "release": "let held messages go",
    "retry": "try waiting or failed messages now",
    "drop": "give messages up; nobody is told",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="list messages", description="List messages.")
    listing.add_argument("--all", action="store_true", help="also those that were sent or dropped")
    add_config(listing)
    add_json(listing)
    for name, text in ACTIONS.items():
        action = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        chosen = action.add_mutually_exclusive_group(required=True)
        chosen.add_argument("ids", nargs="*", type=int, default=[], metavar="ID", help="from `spinrt queue list`")
        chosen.add_argument("--all", action="store_true", help="every message it applies to")
        add_config(action)
        add_json(action)


def run(arguments: argparse.Namespace) -> int:
    config = load_config(arguments)
    if arguments.action == "list":
        entries = ask(config, "queue.list", all=arguments.all)
        print_json(entries) if arguments.json else _print_entries(entries)
        return 0
    assert arguments.action in QUEUE_ACTIONS
    changed = ask(config, "queue.change", action=arguments.action, ids=arguments.ids)
    if arguments.json:
        print_json(changed)
    else:
        print(f"{arguments.action}: {len(changed)} message{'' if len(changed) == 1 else 's'}")
    return 0


def _print_entries(entries: list[dict[str, Any]]) -> None:
    if not entries:
        print("the queue is empty")
        return
    now_s = time.time()
    rows = [
        [entry["id"], entry["state"], entry["kind"], entry["extension"], entry["sender"] or "<>", entry["recipient"],
         entry["size_bytes"], entry["attempts"], _due(entry, now_s), entry["note"]]
        for entry in entries
    ]  # fmt: skip
    print_table(rows, ["id", "state", "kind", "from", "sender", "recipient", "bytes", "tries", "due", "note"])


def _due(entry: dict[str, Any], now_s: float) -> str:
    if entry["state"] != "waiting":
        return ""
    if entry["next_s"] <= now_s:
        return "now"
    return f"{datetime.fromtimestamp(entry['next_s'], UTC):%Y-%m-%d %H:%M:%S}Z"
