"""What several subcommands share: where the configuration is, tables, JSON."""

from __future__ import annotations

import argparse
import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tabulate import tabulate

from spinrt.errors import ConfigError

if TYPE_CHECKING:
    from spinrt.mail.config import Config

CONFIG_VARIABLE = "SPINRT_CONFIG"
CONFIG_PLACES = (Path("spinrt.yaml"), Path("var/spinrt.yaml"), Path("/etc/spinrt/spinrt.yaml"))
"""Looked for in this order; the second is where `make run` puts it."""


class Subparsers(Protocol):
    """What ``ArgumentParser.add_subparsers`` returns."""

    def add_parser(self, name: str, **settings: Any) -> argparse.ArgumentParser: ...


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add ``--config``."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="configuration file (default: $SPINRT_CONFIG, ./spinrt.yaml, ./var/spinrt.yaml, /etc/spinrt/spinrt.yaml)",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="print JSON for programs instead of text for people")


def config_path(given: Path | None) -> Path:
    """Return the configuration file to use.

    Raises:
        ConfigError: None was given and there is none in the usual places.
    """
    if given is not None:
        return given
    if named := os.environ.get(CONFIG_VARIABLE):
        return Path(named)
    for place in CONFIG_PLACES:
        if place.exists():
            return place
    places = ", ".join(str(place) for place in CONFIG_PLACES)
    raise ConfigError(
        f"no configuration: looked for {places}",
        hint="name one with --config FILE; `spinrt config init` writes a first one",
    )


def option_for(file: Path) -> str:
    """What a command line must say to use that configuration: nothing when it is found by itself."""
    if CONFIG_VARIABLE not in os.environ and file == next((place for place in CONFIG_PLACES if place.exists()), None):
        return ""
    return f" --config {shlex.quote(str(file))}"


def load_config(arguments: argparse.Namespace) -> Config:
    """Load the configuration that ``--config`` and its defaults lead to."""
    from spinrt.mail.config import load

    return load(config_path(arguments.config))


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))


def print_table(rows: Sequence[Sequence[object]], headers: Sequence[str]) -> None:
    """Print rows as people read them; numbers to the right, texts as they are."""
    print(tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=False))


def printable(text: str) -> str:
    """What a guest had a hand in, without what a terminal would obey."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
