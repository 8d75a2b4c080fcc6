"""``spinrt reload``: changed extensions, into the server that runs."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from spinrt.cli.common import add_config, add_json, load_config, print_json
from spinrt.errors import NotFound
from spinrt.mail.config import Config
from spinrt.mail.control import NoServer, request

EPILOG = """\
Reads `extensions` of the configuration again, and loads, replaces or unloads what
changed there, in a manifest or in a module. What is wrong keeps its last good
version. A new version that fails three times within its first minute or its
first 1000 handlers gives its place back, to the last version that has proved
itself. --wait looks for so long whether one does.

exit codes: 0 all is as configured, 1 something was not reloaded or has given
its place back, or no server runs, 2 the configuration is wrong

examples:
  spinrt check build/delivery && spinrt reload
  spinrt reload --wait 60
"""
LOOK_EVERY_S = 0.2
WAIT_S_MAX = 3600.0
DONE = ("loaded", "replaced", "unloaded")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    add_config(parser)
    add_json(parser)
    parser.add_argument(
        "--wait", type=seconds, default=0.0, metavar="SECONDS", help="until what was replaced has proved itself"
    )


def seconds(text: str) -> float:
    """Parse a time to wait."""
    found = float(text)
    if not 0 <= found <= WAIT_S_MAX:
        raise ValueError(text)
    return found


def run(arguments: argparse.Namespace) -> int:
    config = load_config(arguments)
    try:
        done: dict[str, Any] = request(config.data_directory, "extensions.reload", {})
    except NoServer:
        raise NotFound(
            f"reload: no server runs on {config.data_directory}", hint="`spinrt serve` loads what is configured"
        ) from None
    done["failed"] |= _returned_within(config, done["replaced"], arguments.wait)
    if arguments.json:
        print_json(done)
    else:
        for action in DONE:
            for name in done[action]:
                print(f"{action}: {name}")
        if not any(done[action] for action in (*DONE, "failed")):
            print("nothing changed in the extensions; other changes of the configuration count from the next start")
    for name, reason in done["failed"].items():
        print(f"spinrt: not reloaded: {name}: {reason}", file=sys.stderr)
    return 1 if done["failed"] else 0


def _returned_within(config: Config, names: list[str], wait_s: float) -> dict[str, str]:
    """Look until none of these is on probation, or so long; say which gave their places back, and why."""
    until_s = time.monotonic() + wait_s
    while names:
        domains = {one["name"]: one for one in request(config.data_directory, "inspect", {})["domains"]}
        found = [domains[name] for name in names if name in domains]
        if time.monotonic() >= until_s or not any(one["probation"] for one in found):
            return {
                one["name"]: f"{one['returned']['text']}: {one['returned']['reason']}"
                for one in found
                if one["returned"]
            }
        time.sleep(LOOK_EVERY_S)
    return {}
