"""``spinrt serve``: the mail system in the foreground."""

from __future__ import annotations

import argparse

from spinrt import trace
from spinrt.cli.common import add_config, load_config

EPILOG = """\
Serves until SIGTERM or Ctrl-C; then takes nothing new, finishes what runs
(drain_timeout in the configuration) and stops. SIGHUP reads accounts again.

example:
  spinrt serve --config spinrt.yaml
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    add_config(parser)
    parser.add_argument("--log-level", choices=list(trace.LEVELS), help="override logging.level")


def run(arguments: argparse.Namespace) -> int:
    config = load_config(arguments)
    level, json_lines = arguments.log_level or config.logging.level, config.logging.format == "json"
    trace.setup(level=level, json_lines=json_lines, buffered=True)
    from spinrt.mail.service import serve

    return serve(config)
