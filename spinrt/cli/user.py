"""``spinrt user``: the accounts file. Accounts in the configuration itself are the operator's to edit."""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Callable
from dataclasses import replace

from spinrt.cli.common import Subparsers, add_config, add_json, load_config, print_json, print_table
from spinrt.errors import AddressMalformed, AlreadyExists, ConfigError, NotFound, UsageError
from spinrt.mail import config_values
from spinrt.mail.accounts import hash_password
from spinrt.mail.accounts_file import Account, check_together, default_addresses, load_accounts, save_accounts
from spinrt.mail.address import Address, parse_address
from spinrt.mail.config import Config
from spinrt.mail.control import NoServer, request

EPILOG = """\
Accounts live in the file that `accounts_file` of the configuration names
(default: accounts.yaml beside it). A running server is told of changes.

examples:
  spinrt user add alice                                 asks for the password
  spinrt user add bob --address bob@example.org --address sales@example.org
  printf '%s' "$PASSWORD" | spinrt user add carol --password-stdin
  spinrt user passwd alice
  spinrt user remove bob                                keeps bob's mail
  spinrt user hash                                      a hash for `accounts:`
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    add = _action(actions, "add", "add an account", _add)
    add.add_argument("name", help="lower-case letters, digits and . _ - @")
    add.add_argument(
        "--address", action="append", default=[], help="address it receives mail for (default: NAME at every domain)"
    )
    add.add_argument("--catch-all", action="store_true", help="also gets mail for addresses that nobody claims")
    passwd = _action(actions, "passwd", "change a password", _passwd)
    passwd.add_argument("name")
    remove = _action(actions, "remove", "remove an account; its mail stays", _remove)
    remove.add_argument("name")
    add_json(_action(actions, "list", "list all accounts", _list))
    hash_ = actions.add_parser("hash", help="print the hash of a password", description="Print the hash of a password.")
    hash_.set_defaults(perform=_hash)
    for reading in (add, passwd, hash_):
        reading.add_argument("--password-stdin", action="store_true", help="read the password from standard input")


def _action(
    actions: Subparsers, name: str, text: str, perform: Callable[[argparse.Namespace], None]
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    add_config(parser)
    parser.set_defaults(perform=perform)
    return parser


def run(arguments: argparse.Namespace) -> int:
    arguments.perform(arguments)
    return 0


def _add(arguments: argparse.Namespace) -> None:
    config = load_config(arguments)
    name = arguments.name
    if not config_values.is_user_name(name):
        raise UsageError(f"account name {name!r}: expected lower-case letters, digits and . _ - @")
    if name in config.accounts:
        raise AlreadyExists(f"account {name!r}: is there already", hint=f"`spinrt user passwd {name}` changes it")
    addresses = tuple(_address(text, config) for text in arguments.address) or default_addresses(name, config.domains)
    if not addresses:
        raise UsageError(f"account {name!r}: is at none of {', '.join(config.domains)}", hint="give --address")
    account = Account(name, "", addresses, arguments.catch_all, where=f"account {name!r}")
    check_together([*config.accounts.values(), account])
    account = replace(account, password_hash=_read_hash(arguments))
    _save(config, {**_filed(config), name: account})
    print(f"added {name}: {', '.join(map(str, addresses))}")


def _passwd(arguments: argparse.Namespace) -> None:
    config = load_config(arguments)
    account = _own(config, arguments.name)
    _save(config, {**_filed(config), account.name: replace(account, password_hash=_read_hash(arguments))})
    print(f"changed the password of {account.name}")


def _remove(arguments: argparse.Namespace) -> None:
    config = load_config(arguments)
    account = _own(config, arguments.name)
    if config.postmaster == account.name:
        raise ConfigError(f"account {account.name!r}: is the postmaster of {config.file}", hint="name another first")
    _save(config, {name: other for name, other in _filed(config).items() if name != account.name})
    print(f"removed {account.name}; the mail stays in {config.data_directory}")


def _list(arguments: argparse.Namespace) -> None:
    config = load_config(arguments)
    filed = _filed(config)
    if arguments.json:
        print_json([_as_json(account, config, filed) for account in config.accounts.values()])
    elif not config.accounts:
        print("no accounts; `spinrt user add NAME` adds one")
    else:
        rows = [
            [a.name, ", ".join(map(str, a.addresses)), "yes" if a.catch_all else "", _file_of(a, config, filed)]
            for a in config.accounts.values()
        ]
        print_table(sorted(rows), ["name", "addresses", "catch-all", "file"])


def _as_json(account: Account, config: Config, filed: dict[str, Account]) -> dict[str, object]:
    return {
        "name": account.name,
        "addresses": [str(address) for address in account.addresses],
        "catch_all": account.catch_all,
        "file": _file_of(account, config, filed),
    }


def _file_of(account: Account, config: Config, filed: dict[str, Account]) -> str:
    return str(config.accounts_file if account.name in filed else config.file)


def _hash(arguments: argparse.Namespace) -> None:
    print(_read_hash(arguments))


def _filed(config: Config) -> dict[str, Account]:
    return load_accounts(config.accounts_file, config.domains)


def _own(config: Config, name: str) -> Account:
    """The account of that name, if it is in the accounts file."""
    account = _filed(config).get(name)
    if account is not None:
        return account
    if name in config.accounts:
        raise ConfigError(f"account {name!r}: stands in {config.file}, which only you edit", hint="`spinrt user hash`")
    raise NotFound(f"account {name!r}: does not exist", hint="`spinrt user list` shows all")


def _address(text: str, config: Config) -> Address:
    try:
        address = parse_address(text).normalised()
    except AddressMalformed as error:
        raise UsageError(str(error), hint=error.hint) from None
    if address.domain not in config.domains:
        raise UsageError(f"address {text!r}: expected one at {', '.join(config.domains)}", hint="see `domains`")
    return address


def _read_hash(arguments: argparse.Namespace) -> str:
    password = sys.stdin.readline().rstrip("\r\n") if arguments.password_stdin else _ask_password()
    try:
        return hash_password(password)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _ask_password() -> str:
    if not sys.stdin.isatty():
        raise UsageError("password: there is no terminal to ask on", hint="use --password-stdin")
    password = getpass.getpass("password: ")
    if getpass.getpass("again: ") != password:
        raise UsageError("password: the two are not the same")
    return password


def _save(config: Config, accounts: dict[str, Account]) -> None:
    """Write the accounts file and tell a running server."""
    save_accounts(config.accounts_file, accounts)
    try:
        request(config.data_directory, "accounts.reload", {})
    except NoServer:
        return
