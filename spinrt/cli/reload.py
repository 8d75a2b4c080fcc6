"""``spinrt reload``: changed extensions, into the server that runs."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from spinrt.cli.common import add_config, add_json, load_config, print_json
from spinrt.errors import NotFound
from spinrt.mail.control import NoServer, request

EPILOG = """\
Reads `extensions` of the configuration again, and loads, replaces or unloads what
changed there, in a manifest or in a module. What is wrong keeps its last good
version. A new version that fails three times within its first minute or its
first 1000 handlers gives its place back.

exit codes: 0 all is as configured, 1 something was not reloaded or no server
runs, 2 the configuration is wrong

example:
  spinrt check build/delivery && spinrt reload
"""
DONE = ("loaded", "replaced", "unloaded")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    add_config(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    config = load_config(arguments)
    try:
        done: dict[str, Any] = request(config.data_directory, "extensions.reload", {})
    except NoServer:
        raise NotFound(
            f"reload: no server runs on {config.data_directory}", hint="`spinrt serve` loads what is configured"
        ) from None
    if arguments.json:
        print_json(done)
    else:
        for action in DONE:
            for name in done[action]:
                print(f"{action}: {name}")
        if not any(done[action] for action in (*DONE, "failed")):
            print("nothing changed")
    for name, reason in done["failed"].items():
        print(f"spinrt: not reloaded: {name}: {reason}", file=sys.stderr)
    return 1 if done["failed"] else 0
