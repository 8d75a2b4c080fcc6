"""``spinrt backup``: a copy of the data directory, consistent at one moment."""

from __future__ import annotations

import argparse
from pathlib import Path

from spinrt.cli.common import add_config, add_json, load_config, print_json
from spinrt.cli.copied import damage_in, tell_damage
from spinrt.mail.asking import ask
from spinrt.mail.config_values import format_size

EPILOG = """\
Works with and without a running server. The copy is itself a data directory:
to go back, stop the server, move the data directory away, move the copy to
its place, start the server. Configuration and accounts file are yours to copy.
The copy is checked as `spinrt fsck --quick` does.

exit codes: 0 copied, 1 not copied, 3 copied, and what was copied is damaged

example:
  spinrt backup /var/backups/spinrt-2026-11-21
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.add_argument("target", type=Path, help="directory that does not exist, or is empty")
    add_config(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    result = ask(load_config(arguments), "backup", target=str(arguments.target.absolute()))
    damaged = damage_in(Path(result["target"]))
    if arguments.json:
        print_json(result | {"damaged": len(damaged)})
    else:
        print(f"backed up to {result['target']} ({format_size(result['log_bytes'])} of log)")
    return tell_damage("backup", damaged, "keep the one before it (`spinrt fsck` looks closer)")
