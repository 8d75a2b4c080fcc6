"""Accounts as files hold them: ``accounts:`` of the configuration, and the accounts file that ``spinrt user`` keeps.

Two places, because two hands write them. The configuration is the operator's, with comments that no program may lose;
the accounts file belongs to ``spinrt user``, which writes it anew each time, atomically and readable by its owner only.
Both have the same form:

    alice:
      password_hash: "$argon2id$v=19$m=19456,t=2,p=1$…"
      addresses: [alice@example.org, sales@example.org]    # default: the account's name at every domain
      catch_all: true                                      # also whatever nobody else claims

A password itself never stands in either.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import argon2
import yaml

from spinrt.errors import ConfigError
from spinrt.mail import config_values as values
from spinrt.mail.address import Address
from spinrt.mail.config_reader import Section, Value, load

HEAD = "# Written by `spinrt user`; edit the configuration instead, or stop the server before you edit this.\n"


@dataclass(frozen=True, slots=True)
class Account:
    """One user of the mail system."""

    name: str
    password_hash: str
    """Argon2id in PHC form."""
    addresses: tuple[Address, ...]
    """Normalised (``Address.normalised``), at least one."""
    catch_all: bool = False
    """Gets mail for addresses of our domains that nobody claims."""
    where: str = ""
    """``file:line: key path``, for complaints; empty when it was made by a program."""


def read_accounts(section: Section, domains: tuple[str, ...]) -> dict[str, Account]:
    """Read a mapping of names to accounts.

    Raises:
        ConfigError: A name, hash or address is malformed, or an address is at none of ``domains``.
    """
    found: dict[str, Account] = {}
    for name, value in section.items():
        if not values.is_user_name(name):
            raise value.error("a name of lower-case letters, digits, '.', '_', '-', '@'", found=repr(name[:80]))
        found[name] = _account(name, value, domains)
    return found


def _account(name: str, value: Value, domains: tuple[str, ...]) -> Account:
    section = value.section()
    account = Account(
        name=name,
        password_hash=section.require("password_hash", _password_hash),
        addresses=section.get("addresses", lambda member: _addresses(member, domains), ()),
        catch_all=section.get("catch_all", values.truth, False),
        where=value.where,
    )
    section.finish()
    if account.addresses:
        return account
    own = default_addresses(name, domains)
    if not own:
        raise value.error(f"addresses, because the name is at none of {', '.join(domains)}", found="none")
    return Account(name, account.password_hash, own, account.catch_all, account.where)


def default_addresses(name: str, domains: Iterable[str]) -> tuple[Address, ...]:
    """Addresses of an account that lists none: its name at every domain, or its name if that is an address of ours."""
    local, at, domain = name.rpartition("@")
    if at:
        return (Address(local, domain).normalised(),) if domain.lower() in domains else ()
    return tuple(Address(name, domain).normalised() for domain in domains)


def _addresses(value: Value, domains: tuple[str, ...]) -> tuple[Address, ...]:
    members = value.values("a list of addresses")
    if not members:
        raise value.error("at least one address", found="an empty list")
    found = []
    for member in members:
        address = values.address(member)
        if address.domain not in domains:
            raise member.error(f"an address at one of the domains {', '.join(domains)}")
        found.append(address)
    return tuple(found)


def _password_hash(value: Value) -> str:
    text = values.text(value)
    try:
        kind = argon2.extract_parameters(text).type
    except argon2.exceptions.InvalidHashError:
        kind = None
    if kind is not argon2.Type.ID:
        # What stands there may be a password by mistake: it must not end up in a log.
        raise value.error("an argon2id hash", found="something else", hint="`spinrt user hash` makes one")
    return text


def check_together(accounts: Iterable[Account]) -> None:
    """Refuse accounts that claim the same address, or the same unclaimed ones.

    Raises:
        ConfigError: Two accounts share an address, or both catch all.
    """
    owners: dict[Address, Account] = {}
    catcher: Account | None = None
    for account in accounts:
        for address in account.addresses:
            other = owners.setdefault(address, account)
            if other is not account:
                raise ConfigError(f"{account.where}: address {address} belongs to account {other.name!r} already")
        if account.catch_all:
            if catcher is not None:
                raise ConfigError(
                    f"{account.where}: catch_all is set, but account {catcher.name!r} catches all already"
                )
            catcher = account


def load_accounts(path: Path, domains: tuple[str, ...]) -> dict[str, Account]:
    """Read an accounts file; one that is not there holds no accounts.

    Raises:
        ConfigError: It is malformed or cannot be read.
    """
    return read_accounts(load(path), domains) if path.exists() else {}


def save_accounts(path: Path, accounts: Mapping[str, Account]) -> None:
    """Replace an accounts file, all or nothing; only its owner may read it.

    An existing file keeps its owner, so that root may add an account to a file of the server's.

    Raises:
        ConfigError: The directory cannot be written.
    """
    content = {name: _plain(account) for name, account in sorted(accounts.items())}
    text = HEAD + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)
    try:
        _replace(path, text.encode())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None


def _plain(account: Account) -> dict[str, object]:
    plain: dict[str, object] = {
        "password_hash": account.password_hash,
        "addresses": [str(address) for address in account.addresses],
    }
    return plain | ({"catch_all": True} if account.catch_all else {})


def _replace(path: Path, data: bytes) -> None:
    """Write beside, sync, rename over: a reader sees the old file or the new one."""
    descriptor, beside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
            if path.exists() and os.geteuid() == 0:
                owner = path.stat()
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
        os.rename(beside, path)
    except BaseException:
        os.unlink(beside)
        raise
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
