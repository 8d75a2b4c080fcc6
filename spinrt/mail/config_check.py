"""The start of a server rehearsed, for ``spinrt config check``: what ``serve`` would refuse is refused here.

Certificates are read, and every extension is loaded, linked and initialised, over a runtime whose stores are empty and
whose log goes nowhere. The data directory is neither read nor made, and no port is opened; directories of mirrors are
looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

from spinrt._core import LogRecord
from spinrt.errors import ConfigError, SpinError
from spinrt.mail.config import Config, ExtensionConfig
from spinrt.mail.extensions import load_extensions, make_runtime
from spinrt.mail.mirror_server import check_mirrors
from spinrt.mail.service import loop_factory
from spinrt.mail.tls import load_context
from spinrt.runtime.domain import Domain
from spinrt.runtime.policy import LIMITS_CEILING
from spinrt.sandbox.manifest import LIMIT_NAMES


def rehearse(config: Config) -> list[str]:
    """Do what ``serve`` does before it opens anything; return what works and is probably not meant.

    Raises:
        ConfigError: ``serve`` would not start; names the file, and the line where it is known.
    """
    try:
        _read_files(config)
        mail = make_runtime(hostname=config.hostname, has_smarthost=config.smarthost is not None, log_sink=_drop)
        load_extensions(mail.runtime, config.extensions)
    except SpinError as error:
        text = str(error)
        is_placed = f"{config.file.name}:" in text.partition(" ")[0]
        raise ConfigError(text if is_placed else f"{config.file}: {text}", hint=error.hint) from error
    return [
        warning for name, domain in mail.runtime.domains.items() for warning in _unused(config.extensions[name], domain)
    ]


def _read_files(config: Config) -> None:
    loop_factory(config.event_loop)
    if config.tls.certificate is not None and config.tls.key is not None:
        load_context(config.tls.certificate, config.tls.key)
    if config.smarthost is not None:
        config.smarthost.connection()
    check_mirrors(config)


def _drop(record: LogRecord) -> None:
    """A rehearsal leaves no trace."""


def _unused(config: ExtensionConfig, domain: Domain) -> Iterator[str]:
    """Grants and limits that change nothing."""
    asked = {wanted.interface for wanted in domain.extension.manifest.imports}
    for grant in config.policy.grants.values():
        if grant.interface not in asked:
            yield f"{grant.where}: {config.name} does not ask for it"
    for name in LIMIT_NAMES:
        allowed, own = getattr(config.policy.limits, name), getattr(domain.extension.manifest.limits, name)
        if allowed > own and allowed != getattr(LIMITS_CEILING, name):
            yield f"{config.where}.limits.{name}: {allowed} is above the manifest's {own}, which stays in force"
