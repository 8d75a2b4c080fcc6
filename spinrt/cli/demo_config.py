"""The demo's server configuration: free ports, throw-away passwords, the shipped extensions and what they are granted.

Grants are written out, never implied: each extension gets the interfaces that its manifest asks for, and delivery gets
them attenuated to the mailboxes, flags and header fields that the demo's rules use.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from spinrt.cli.demo_ledger import ADDED_FIELDS
from spinrt.cli.demo_messages import DOMAIN, RULES, USERS
from spinrt.cli.starter import SHIPPED
from spinrt.errors import UsageError
from spinrt.mail.accounts import hash_password
from spinrt.sandbox.manifest import Manifest

EXTENSIONS = ("delivery", "audit", "undo-hook")
FILE_NAME = "spinrt.yaml"
PASSWORDS_NAME = "passwords.yaml"
LOG_NAME = "server.log"

ATTENUATIONS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "delivery": {
        "spinrt:mail/delivery@1.0.0": {
            "mailboxes": ["INBOX", "INBOX/*", "Junk"],
            "flags": ["\\Flagged", "$Junk"],
            "headers": [field.decode() for field in ADDED_FIELDS],
            "discard": False,
        }
    }
}
"""Extension → interface → what the grant is narrowed to."""

SETTINGS: Mapping[str, Mapping[str, Any]] = {"delivery": {"rules": list(RULES)}}
"""Extension → its configuration."""


def write_config(directory: Path) -> dict[str, str]:
    """Write configuration and passwords into an empty directory; return the passwords by account."""
    passwords = {user: secrets.token_urlsafe(12) for user in USERS}
    text = yaml.safe_dump(_content(passwords), sort_keys=False, allow_unicode=True, width=120)
    (directory / FILE_NAME).write_text(text, encoding="utf-8")
    path = directory / PASSWORDS_NAME
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(passwords), encoding="utf-8")
    return passwords


def certificate(directory: Path) -> Path:
    """Where the server that runs in the directory puts its self-signed certificate."""
    return directory / "data" / "tls" / "certificate.pem"


def _content(passwords: Mapping[str, str]) -> dict[str, Any]:
    return {
        "data_directory": "data",
        "hostname": "localhost",
        "domains": [DOMAIN],
        "postmaster": USERS[0],
        "listen": {"smtp": "127.0.0.1:0", "lmtp": None, "imap": "127.0.0.1:0"},
        "tls": {"self_signed": True},
        "logging": {"level": "warning"},
        "accounts": {user: {"password_hash": hash_password(password)} for user, password in passwords.items()},
        "extensions": {name: _extension(name) for name in EXTENSIONS},
    }


def _extension(name: str) -> dict[str, Any]:
    path = SHIPPED / name / "manifest.yaml"
    if not path.exists():
        raise UsageError(f"extension {name}: {path} is not there", hint="`spinrt build` makes the shipped extensions")
    narrowed = ATTENUATIONS.get(name, {})
    grants = {wanted.interface: dict(narrowed.get(wanted.interface, {})) for wanted in Manifest.read(path).imports}
    return {"grants": grants, "config": dict(SETTINGS.get(name, {}))}
