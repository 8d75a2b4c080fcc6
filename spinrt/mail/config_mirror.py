"""The section ``mirror``: where this mail system is mirrored to, and whose mirrors it keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final

from spinrt import limits
from spinrt.errors import ConfigError
from spinrt.mail import config_values as values
from spinrt.mail.config_reader import Section, Value
from spinrt.mail.config_values import TcpEndpoint
from spinrt.storage.schedule import Keep

INTERVAL_S: Final = 15 * 60.0
UPDATE_BYTES_MAX: Final = 16 * 1024 * limits.GIB
IDENTITY_NAME: Final = "mirror"
_NAME_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")


@dataclass(frozen=True, slots=True)
class MirrorTarget:
    """A mirror of this mail system: a directory of this machine, or a spinrt elsewhere."""

    directory: Path | None = None
    at: TcpEndpoint | None = None
    certificate: Path | None = None
    """The other side's certificate; with ``at``."""
    interval_s: float = INTERVAL_S
    """Between two updates; 0: the next one begins when something is there to send."""
    bytes_per_s: int | None = None
    keep: Keep = field(default_factory=Keep)
    """With ``directory``: which of its snapshots stay."""


@dataclass(frozen=True, slots=True)
class MirrorSource:
    """A mail system whose mirror is kept here."""

    directory: Path
    certificate: Path
    update_bytes_max: int = UPDATE_BYTES_MAX
    keep: Keep = field(default_factory=Keep)
    """Which of its snapshots stay, beside the current one and those set aside."""


@dataclass(frozen=True, slots=True)
class Mirrors:
    """All of the section."""

    identity: Path | None = None
    """Directory with this side's ``certificate.pem`` and ``key.pem``; none: ``mirror`` beside the configuration."""
    listen: TcpEndpoint | None = None
    targets: Mapping[str, MirrorTarget] = field(default_factory=dict)
    sources: Mapping[str, MirrorSource] = field(default_factory=dict)


def read_mirrors(section: Section, base: Path) -> Mirrors:
    """Read the section; relative paths start at ``base``. Raises ConfigError."""
    found = Mirrors(
        identity=section.get("identity", values.optional(values.path_below(base)), None),
        listen=section.get("listen", values.optional(values.tcp_endpoint), None),
        targets={_name(name, one): _target(one, base) for name, one in section.section("targets").items()},
        sources={_name(name, one): _source(one.section(), base) for name, one in section.section("sources").items()},
    )
    section.finish()
    directories = [one.directory for one in found.sources.values()]
    directories += [one.directory for one in found.targets.values() if one.directory is not None]
    if len(set(directories)) < len(directories):
        raise ConfigError(f"{section.value.where}: two mirrors share a directory")
    certificates = [one.certificate for one in found.sources.values()]
    if len(set(certificates)) < len(certificates):
        raise ConfigError(f"{section.value.where}: two sources share a certificate; each needs its own")
    return found


def read_keep(section: Section) -> Keep:
    """Read how many snapshots of each period stay."""
    usual, count = Keep(), values.integer(0, 10_000)
    found = Keep(**{item.name: section.get(item.name, count, getattr(usual, item.name)) for item in fields(Keep)})
    section.finish()
    return found


def _name(name: str, value: Value) -> str:
    if not name or name.startswith(".") or not set(name) <= _NAME_CHARACTERS or len(name) > 64:
        raise value.error("a name of lower-case letters, digits and - _ .", found=f"the name {name[:64]!r}")
    return name


def _target(value: Value, base: Path) -> MirrorTarget:
    section, path = value.section(), values.path_below(base)
    found = MirrorTarget(
        directory=section.get("directory", values.optional(path), None),
        at=section.get("at", values.optional(values.tcp_endpoint), None),
        certificate=section.get("certificate", values.optional(path), None),
        interval_s=section.get("interval", values.duration(0.0), INTERVAL_S),
        bytes_per_s=section.get("bytes_per_s", values.optional(values.size()), None),
        keep=read_keep(section.section("keep")),
    )
    section.finish()
    if (found.directory is None) == (found.at is None):
        raise ConfigError(f"{value.where}: expected either a directory, or at and certificate")
    if (found.at is None) != (found.certificate is None):
        raise ConfigError(f"{value.where}: at and certificate come together: nothing is sent to who is not known")
    return found


def _source(section: Section, base: Path) -> MirrorSource:
    path = values.path_below(base)
    found = MirrorSource(
        directory=section.require("directory", path),
        certificate=section.require("certificate", path),
        update_bytes_max=section.get("update_bytes_max", values.size(high=1 << 50), UPDATE_BYTES_MAX),
        keep=read_keep(section.section("keep")),
    )
    section.finish()
    return found
