"""A configuration as YAML again: every key with the value in force, defaults included.

What is shown reads back as the same configuration, but for password hashes, which are left out: the text may be pasted
into a bug report.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

from spinrt.mail.config import Config, ExtensionConfig
from spinrt.mail.config_values import TcpEndpoint, UnixEndpoint, bounds_key, format_duration, format_size, is_time
from spinrt.runtime.policy import DEFAULT_SUPERVISION, LIMITS_CEILING

APART = frozenset({"file", "shown", "accounts", "smtp", "lmtp", "extensions", "drain_timeout_s"})
"""Fields of Config that do not look in the file as their dataclass does."""


def show(config: Config) -> str:
    """Return the configuration as YAML."""
    return yaml.safe_dump(as_mapping(config), sort_keys=False, allow_unicode=True, width=1000)


def as_mapping(config: Config) -> dict[str, Any]:
    """Return the configuration as the mapping that its file would hold, without accounts."""
    shown = {item.name: _plain(getattr(config, item.name)) for item in fields(config) if item.name not in APART}
    return shown | {
        "smtp": _smtp(config.smtp),
        "lmtp": _smtp(config.lmtp),
        "extensions": {name: _extension(extension) for name, extension in config.extensions.items()},
        "drain_timeout": format_duration(config.drain_timeout_s),
    }


def _smtp(limits: Any) -> dict[str, Any]:
    shown: dict[str, Any] = _plain(limits)
    return shown | {"bare_newlines": "normalise" if shown.pop("normalise_newlines") else "refuse"}


def _extension(extension: ExtensionConfig) -> dict[str, Any]:
    policy = extension.policy
    grants = {
        id_: ({"functions": list(grant.functions)} if grant.functions else {}) | dict(grant.attenuations)
        for id_, grant in policy.grants.items()
    }
    lowered = _differing(policy.limits, LIMITS_CEILING)
    supervision = _differing(policy.supervision, DEFAULT_SUPERVISION)
    shown: dict[str, Any] = {"enabled": extension.enabled}
    if extension.path is not None:
        shown["path"] = str(extension.path)
    if extension.order is not None:
        shown["order"] = extension.order
    if policy.exports is not None:
        shown["exports"] = {id_: {"to": list(names)} if names else {} for id_, names in policy.exports.items()}
    if supervision:
        shown["supervision"] = supervision
    return shown | {"grants": grants, "limits": lowered, "config": dict(policy.config)}


def _differing(found: Any, usual: Any) -> dict[str, Any]:
    """The fields of a dataclass that are not as usual."""
    pairs = ((item.name, getattr(found, item.name), getattr(usual, item.name)) for item in fields(found))
    return {name: value.value if isinstance(value, Enum) else value for name, value, other in pairs if value != other}


def _plain(value: Any) -> Any:
    match value:
        case None | bool() | int() | str():
            return value
        case Path() | TcpEndpoint() | UnixEndpoint():
            return str(value)
        case Enum():
            return value.value
        case tuple():
            return [_plain(member) for member in value]
        case Mapping():
            return {name: _plain(member) for name, member in value.items()}
        case _:
            return {bounds_key(item.name): _field(item.name, getattr(value, item.name)) for item in fields(value)}


def _field(name: str, value: Any) -> Any:
    """One field of a dataclass, with the unit that its name tells."""
    if isinstance(value, bool) or value is None:
        return value
    if "_bytes_" in name or name.endswith("_bytes"):
        return format_size(value)
    if isinstance(value, float):
        return format_duration(value) if is_time(name) else value
    return _plain(value)
