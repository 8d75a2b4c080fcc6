"""``spinrt profile``: where the running server's extensions spend their time."""

from __future__ import annotations

import argparse
from pathlib import Path

from spinrt.cli.common import add_config, load_config
from spinrt.errors import NotFound
from spinrt.mail.control import NoServer, request
from spinrt.mail.operations import PROFILE_SECONDS_MAX

EPILOG = """\
Guest code is sampled once a millisecond while it runs; what does not run costs
nothing. The file opens in https://profiler.firefox.com (drag it there: it
stays in your browser).

example:
  spinrt profile --seconds 30 profile.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.add_argument("file", type=Path, help="where the profile is written; replaced if it is there")
    parser.add_argument(
        "--seconds",
        type=float,
        default=10.0,
        metavar="N",
        help=f"how long (default: 10, at most {PROFILE_SECONDS_MAX})",
    )
    add_config(parser)


def run(arguments: argparse.Namespace) -> int:
    config = load_config(arguments)
    try:
        taken = request(config.data_directory, "profile", {"seconds": arguments.seconds})
    except NoServer:
        raise NotFound(
            f"profile: found no server that runs on {config.data_directory}", hint="`spinrt serve` starts one"
        ) from None
    arguments.file.write_text(taken["profile"], encoding="utf-8")
    print(f"{taken['samples']} samples of guest code in {arguments.file}")
    return 0
