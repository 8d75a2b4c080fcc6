"""``spinrt extension``: look at an extension before a server does."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import yaml

from spinrt.mail.extension_check import Checked, check, read_policy

EPILOG = """\
Loads the extension, links it against the interfaces of the mail system, runs its
init and installs its handlers, in a runtime of its own: nothing is served, written
or sent.

Without --policy it gets all that its manifest asks for, and the grants to put into
the configuration are printed. A policy file holds what stands under
`extensions.NAME`: grants, limits, config, exports.

exit codes: 0 it works, 1 its init failed, 2 it does not load, link or initialise
as it is

examples:
  spinrt extension check build/delivery
  spinrt extension check build/delivery --policy delivery-policy.yaml
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    checking = actions.add_parser(
        "check",
        help="load and link an extension",
        description="Load and link an extension against the mail system.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    checking.add_argument("directory", type=Path, metavar="DIR", help="with manifest.yaml and the module")
    checking.add_argument("--policy", type=Path, metavar="FILE", help="grants, limits, config and exports, as YAML")


def run(arguments: argparse.Namespace) -> int:
    policy = None if arguments.policy is None else read_policy(arguments.policy)
    checked = check(arguments.directory, policy)
    for line in _lines(checked):
        print(line)
    if checked.error is not None:
        raise checked.error
    if policy is None and checked.policy.grants:
        print(_grants(checked), end="")
    return 0


def _lines(checked: Checked) -> Iterator[str]:
    manifest = checked.extension.manifest
    yield f"{manifest.name} {manifest.version}: {'good' if checked.error is None else 'does not link'}"
    for handler in manifest.handlers:
        yield f"  handles {handler.event}"
    for interface in manifest.exports:
        yield f"  exports {interface}"
    for line in checked.missing:
        yield f"  missing {line}"


def _grants(checked: Checked) -> str:
    """What to put into the configuration."""
    grants = {
        id_: {"functions": list(grant.functions)} if grant.functions else {}
        for id_, grant in checked.policy.grants.items()
    }
    content = {"extensions": {checked.extension.name: {"grants": grants}}}
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None)
