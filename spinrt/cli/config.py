"""``spinrt config``: start, check and show the configuration file."""

from __future__ import annotations

import argparse
import stat
from pathlib import Path

from spinrt.cli import starter
from spinrt.cli.common import add_config, load_config, option_for
from spinrt.errors import AlreadyExists
from spinrt.mail.accounts_file import Account, default_addresses, save_accounts
from spinrt.mail.config import Config, load

EPILOG = """\
Every key is described in docs/operating/spinrt.example.yaml.

examples:
  spinrt config init spinrt.yaml --domain example.org
  spinrt config check
  spinrt config show --config /etc/spinrt/spinrt.yaml
"""
DEMO_ACCOUNT = DEMO_PASSWORD = "demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    init = actions.add_parser("init", help="write a first file", description="Write a first configuration file.")
    init.add_argument("file", type=Path, nargs="?", default=Path("spinrt.yaml"), help="default: ./spinrt.yaml")
    init.add_argument("--domain", default="example.org", help="mail domain to serve (default: %(default)s)")
    init.add_argument(
        "--demo-account",
        action="store_true",
        help=f"with an account {DEMO_ACCOUNT!r} and the password {DEMO_PASSWORD!r}, for trying it on this machine only",
    )
    init.set_defaults(perform=_init)
    check = actions.add_parser("check", help="check a file", description="Check a configuration file.")
    show = actions.add_parser("show", help="show what is in force", description="Show all settings, defaults included.")
    for action, perform in ((check, _check), (show, _show)):
        add_config(action)
        action.set_defaults(perform=perform)


def run(arguments: argparse.Namespace) -> int:
    arguments.perform(arguments)
    return 0


def _init(arguments: argparse.Namespace) -> None:
    file: Path = arguments.file
    text = starter.text(arguments.domain)
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise AlreadyExists(f"{file}: is there already", hint="it was left as it is") from None
    print(f"wrote {file}")
    option = option_for(file)
    if arguments.demo_account:
        _add_demo_account(load(file))
        print(f"added account {DEMO_ACCOUNT!r} with the password {DEMO_PASSWORD!r}: for this machine only")
        print(f"next: `spinrt serve{option}`")
    else:
        print(f"next: `spinrt user add NAME{option}`, `postmaster: NAME` in {file}, then `spinrt serve{option}`")


def _add_demo_account(config: Config) -> None:
    """An account that also gets the postmaster's mail: nothing is left to set up."""
    from spinrt.mail.accounts import hash_password

    addresses = [*default_addresses(DEMO_ACCOUNT, config.domains), *default_addresses("postmaster", config.domains)]
    save_accounts(
        config.accounts_file, {DEMO_ACCOUNT: Account(DEMO_ACCOUNT, hash_password(DEMO_PASSWORD), tuple(addresses))}
    )


def _check(arguments: argparse.Namespace) -> None:
    from spinrt.mail.config_check import rehearse

    config = load_config(arguments)
    for warning in [*warnings(config), *rehearse(config)]:
        print(f"warning: {warning}")
    names = ", ".join(name for name, _ in config.listen.services()) or "nothing"
    accounts = f"{len(config.accounts)} account{'' if len(config.accounts) == 1 else 's'}"
    print(f"{config.file}: good; serves {names} for {', '.join(config.domains)}; {accounts}")


def _show(arguments: argparse.Namespace) -> None:
    from spinrt.mail.config_show import show

    print(show(load_config(arguments)), end="")


def warnings(config: Config) -> list[str]:
    """What works and is probably not meant."""
    found = []
    if not config.accounts:
        found.append("there are no accounts: every recipient will be refused")
    if config.postmaster is None and not any(
        address.local == "postmaster" for account in config.accounts.values() for address in account.addresses
    ):
        found.append("nobody gets mail for postmaster (RFC 5321 4.5.1 asks for it): set `postmaster`")
    for name, endpoint in config.listen.services():
        if not endpoint.is_local and not config.tls.enabled:
            found.append(f"listen.{name}: {endpoint} is reachable from outside without TLS: nobody can log in there")
        if not endpoint.is_local and name == "lmtp":
            found.append(f"listen.lmtp: {endpoint} is reachable from outside; LMTP is for trusted peers")
    password_file = None if config.smarthost is None else config.smarthost.password_file
    for path in (config.accounts_file, config.tls.key, password_file):
        if path is not None and path.exists() and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            found.append(f"{path}: others than its owner may read it: chmod 600")
    return found
