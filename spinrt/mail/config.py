"""The configuration: one YAML file, read into frozen values, complete and checked before anything starts.

``load`` opens nothing but that file and the accounts file that it names, and needs no network. Whatever is wrong is one
ConfigError that starts with ``file:line: key path``. Relative paths start at the directory of the file.

An example with every key and its meaning is docs/operating/spinrt.example.yaml; a test keeps it complete.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TypeVar

from spinrt import limits, trace
from spinrt.errors import ConfigError
from spinrt.mail import config_reader as reader
from spinrt.mail import config_values as values
from spinrt.mail.accounts_file import Account, check_together, load_accounts, read_accounts
from spinrt.mail.config_mirror import Mirrors, read_keep, read_mirrors
from spinrt.mail.config_reader import Section, Value
from spinrt.mail.config_values import Endpoint, TcpEndpoint
from spinrt.mail.imap.limits import ImapLimits
from spinrt.mail.outbound import RetryPolicy, SmarthostTls
from spinrt.mail.outbound import Smarthost as Connection
from spinrt.mail.smtp.limits import SmtpLimits
from spinrt.mail.throttle import ThrottleLimits
from spinrt.runtime.policy import Policy
from spinrt.storage.retention import Retention
from spinrt.storage.schedule import Keep

T = TypeVar("T")

ACCOUNTS_FILE_DEFAULT = "accounts.yaml"
SMTP_DEFAULT = TcpEndpoint("127.0.0.1", 2525)
LMTP_DEFAULT = TcpEndpoint("127.0.0.1", 2424)
IMAP_DEFAULT = TcpEndpoint("127.0.0.1", 2143)
LOG_BYTES_CEILING = 2**50
SMARTHOST_PORTS = {"none": 25, "starttls": 587, "tls": 465}


@dataclass(frozen=True, slots=True)
class Listen:
    """Where each service listens; none means not at all."""

    smtp: Endpoint | None = SMTP_DEFAULT
    submission: Endpoint | None = None
    """As ``smtp``, but only for those who log in (RFC 6409)."""
    smtps: Endpoint | None = None
    """Submission with TLS from the first byte (RFC 8314)."""
    lmtp: Endpoint | None = LMTP_DEFAULT
    imap: Endpoint | None = IMAP_DEFAULT
    imaps: Endpoint | None = None

    def services(self) -> list[tuple[str, Endpoint]]:
        """Those that listen: name and place."""
        pairs = ((item.name, getattr(self, item.name)) for item in fields(self))
        return [(name, endpoint) for name, endpoint in pairs if endpoint is not None]


@dataclass(frozen=True, slots=True)
class Tls:
    """What the server shows for a certificate. ``certificate`` and ``key`` are PEM files, both or none."""

    certificate: Path | None = None
    key: Path | None = None
    self_signed: bool = True
    """Without files: make a certificate in the data directory. False: no TLS."""

    @property
    def enabled(self) -> bool:
        return self.certificate is not None or self.self_signed


@dataclass(frozen=True, slots=True)
class Smarthost:
    """Where mail that leaves goes. ``security``: ``none``, ``starttls`` (required, verified) or ``tls``."""

    host: str
    port: int
    security: str
    user: str | None
    password_file: Path | None
    timeout_s: float

    def connection(self) -> Connection:
        """Return what the outbound queue needs, with the password read from its file.

        Raises:
            ConfigError: The password file cannot be read.
        """
        tls = {"none": SmarthostTls.NONE, "starttls": SmarthostTls.STARTTLS, "tls": SmarthostTls.IMPLICIT}
        return Connection(
            self.host, self.port, tls[self.security], self.user, self._password(), timeout_s=self.timeout_s
        )

    def _password(self) -> str | None:
        if self.password_file is None:
            return None
        try:
            return self.password_file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{self.password_file}: password of the smarthost cannot be read: {error}") from None


@dataclass(frozen=True, slots=True)
class ExtensionConfig:
    """One extension as the operator wants it."""

    name: str
    where: str
    """``file:line: key path`` of this section, for complaints."""
    policy: Policy
    """Its grants, limits and settings; attenuations are checked when it is linked."""
    path: Path | None = None
    """Directory with its manifest; none means the one that ships with spinrt."""
    enabled: bool = True
    order: int | None = None
    """Place among the handlers of an event, lowest first; none leaves the manifest's."""


@dataclass(frozen=True, slots=True)
class Logging:
    format: str = "text"
    level: str = "info"


@dataclass(frozen=True, slots=True)
class Metrics:
    listen: TcpEndpoint | None = None
    """Where `GET /metrics` is answered; none means not at all."""


@dataclass(frozen=True, slots=True)
class Scrub:
    """How often log and pages are read to find damage, and how fast."""

    interval_s: float | None = 86400.0
    """From the end of one pass to the next; none: never."""
    bytes_per_s: int = 4 * limits.MIB


@dataclass(frozen=True, slots=True)
class Storage:
    """How messages are kept."""

    compression: str = "zstd"
    """``zstd`` or ``none``: for what is stored from now on; both are read."""
    retention: Retention = field(default_factory=Retention)
    """What the log keeps beside what messages and snapshots need."""
    scrub: Scrub = field(default_factory=Scrub)


@dataclass(frozen=True, slots=True)
class Snapshots:
    """When snapshots are taken, and which of them stay."""

    interval_s: float | None = 3600.0
    """None: only by hand."""
    keep: Keep = field(default_factory=Keep)


@dataclass(frozen=True, slots=True)
class Config:
    """All of it. ``file`` is where it was read, ``shown`` how that is called in messages: as the operator named it."""

    file: Path
    shown: Path
    data_directory: Path
    hostname: str
    domains: tuple[str, ...]
    postmaster: str | None
    listen: Listen
    tls: Tls
    accounts: Mapping[str, Account]
    """Those of this file and of the accounts file together."""
    accounts_file: Path
    smtp: SmtpLimits
    lmtp: SmtpLimits
    imap: ImapLimits
    throttle: ThrottleLimits
    smarthost: Smarthost | None
    queue: RetryPolicy
    extensions: Mapping[str, ExtensionConfig]
    logging: Logging
    metrics: Metrics
    storage: Storage
    snapshots: Snapshots
    mirror: Mirrors
    event_loop: str
    drain_timeout_s: float


def load(path: Path, shown: Path | None = None) -> Config:
    """Read and check a configuration file.

    Args:
        path: Where it is.
        shown: What to call it in messages and in ``where``; its path by default.

    Raises:
        ConfigError: Anything is wrong with it; names file, line and key.
    """
    named = path if shown is None else shown
    return _config(reader.load(path, named), path.absolute(), named)


def parse(text: str, path: Path) -> Config:
    """As ``load``, from text that is already here."""
    return _config(reader.parse(text, path), path.absolute(), path)


def _config(top: Section, file: Path, shown: Path) -> Config:
    base = file.parent
    smtp = _smtp(top.section("smtp"), SmtpLimits(message_bytes_max=limits.MESSAGE_BYTES_MAX))
    config = Config(
        file=file,
        shown=shown,
        data_directory=top.get("data_directory", values.path_below(base), base / "data"),
        hostname=top.get("hostname", values.host_name, "localhost"),
        domains=top.get("domains", values.list_of(values.domain), ("localhost",)),
        postmaster=top.get("postmaster", values.optional(values.text), None),
        listen=_listen(top.section("listen"), base),
        tls=_tls(top.section("tls"), base),
        accounts={},
        accounts_file=top.get("accounts_file", values.path_below(base), base / ACCOUNTS_FILE_DEFAULT),
        smtp=smtp,
        lmtp=_smtp(top.section("lmtp"), smtp),
        imap=_bounds(top.section("imap"), ImapLimits()),
        throttle=_bounds(top.section("throttle"), ThrottleLimits()),
        smarthost=top.get("smarthost", values.optional(lambda value: _smarthost(value.section(), base)), None),
        queue=_bounds(top.section("queue"), RetryPolicy()),
        extensions=_extensions(top.section("extensions"), base),
        logging=_logging(top.section("logging")),
        metrics=_metrics(top.section("metrics")),
        storage=_storage(top.section("storage")),
        snapshots=_snapshots(top.section("snapshots")),
        mirror=read_mirrors(top.section("mirror"), base),
        event_loop=top.get("event_loop", values.choice("auto", "asyncio", "uvloop"), "auto"),
        drain_timeout_s=top.get("drain_timeout", values.duration(0.0), 30.0),
    )
    own = read_accounts(top.section("accounts"), config.domains)
    top.finish()
    return _checked(with_accounts(config, own))


def with_accounts(config: Config, own: Mapping[str, Account]) -> Config:
    """Return the configuration with the accounts ``own`` and those that the accounts file holds now.

    Raises:
        ConfigError: An account is in both, or two claim the same address.
    """
    filed = load_accounts(config.accounts_file, config.domains)
    for name in own.keys() & filed.keys():
        raise ConfigError(f"{filed[name].where}: account {name!r} is in {config.file} already")
    together = {**own, **filed}
    check_together(together.values())
    return replace(config, accounts=together)


def _checked(config: Config) -> Config:
    """Refuse what is well formed and cannot work."""
    if config.postmaster is not None and config.postmaster not in config.accounts:
        raise ConfigError(f"{config.file}: postmaster: there is no account {config.postmaster!r}")
    if not config.tls.enabled:
        for name in ("smtps", "imaps"):
            if getattr(config.listen, name) is not None:
                raise ConfigError(f"{config.file}: listen.{name}: needs TLS, but tls.self_signed is false")
    seen: dict[Endpoint, str] = {}
    places = [(f"listen.{name}", endpoint) for name, endpoint in config.listen.services()]
    if config.metrics.listen is not None:
        places.append(("metrics.listen", config.metrics.listen))
    if config.mirror.listen is not None:
        places.append(("mirror.listen", config.mirror.listen))
    for name, endpoint in places:
        other = seen.setdefault(endpoint, name)
        if other != name and not (isinstance(endpoint, TcpEndpoint) and endpoint.port == 0):
            raise ConfigError(f"{config.file}: {name}: {endpoint} is taken by {other}")
    return config


def _bounds(section: Section, defaults: T) -> T:
    found = values.bounds(section, defaults)
    section.finish()
    return found


def _smtp(section: Section, defaults: SmtpLimits) -> SmtpLimits:
    normalise = section.get("bare_newlines", values.choice("refuse", "normalise"), None)
    found = values.bounds(section, defaults, apart=("normalise_newlines",))
    section.finish()
    return found if normalise is None else replace(found, normalise_newlines=normalise == "normalise")


def _listen(section: Section, base: Path) -> Listen:
    defaults = Listen()
    anywhere, tcp = values.optional(values.endpoint(base)), values.optional(values.tcp_endpoint)
    found = {
        item.name: section.get(
            item.name, tcp if item.name.startswith("imap") else anywhere, getattr(defaults, item.name)
        )
        for item in fields(Listen)
    }
    section.finish()
    return Listen(**found)


def _tls(section: Section, base: Path) -> Tls:
    path = values.path_below(base)
    found = Tls(
        certificate=section.get("certificate", values.optional(path), None),
        key=section.get("key", values.optional(path), None),
        self_signed=section.get("self_signed", values.truth, True),
    )
    section.finish()
    if (found.certificate is None) != (found.key is None):
        missing = "certificate" if found.certificate is None else "key"
        raise ConfigError(f"{section.value.where}: {missing!r} is missing; certificate and key come together")
    return found


def _smarthost(section: Section, base: Path) -> Smarthost:
    security = section.get("security", values.choice("none", "starttls", "tls"), "starttls")
    found = Smarthost(
        host=section.require("host", values.host_name),
        port=section.get("port", values.integer(1, values.PORT_MAX), SMARTHOST_PORTS[security]),
        security=security,
        user=section.get("user", values.optional(values.text), None),
        password_file=section.get("password_file", values.optional(values.path_below(base)), None),
        timeout_s=section.get("timeout", values.duration(), 60.0),
    )
    section.finish()
    if (found.user is None) != (found.password_file is None):
        raise ConfigError(f"{section.value.where}: user and password_file come together")
    if found.user is not None and security == "none":
        raise ConfigError(f"{section.value.where}: security is none: the password would go in the clear")
    return found


def _extensions(section: Section, base: Path) -> dict[str, ExtensionConfig]:
    return {name: _extension(name, value, base) for name, value in section.items()}


def _extension(name: str, value: Value, base: Path) -> ExtensionConfig:
    section = value.section()
    found = ExtensionConfig(
        name=name,
        where=value.where,
        policy=_policy(value, section),
        path=section.get("path", values.optional(values.path_below(base)), None),
        enabled=section.get("enabled", values.truth, True),
        order=section.get("order", values.optional(values.integer(-(2**31), 2**31 - 1)), None),
    )
    section.finish()
    return found


def _policy(value: Value, section: Section) -> Policy:
    """Let the runtime read the policy, and add the line to its complaints and to those it will make when linking."""
    content = {
        "grants": section.get("grants", Value.plain, None),
        "limits": section.get("limits", Value.plain, None),
        "exports": section.get("exports", Value.plain, None),
        "supervision": section.get("supervision", Value.plain, None),
        "config": {key: _setting(member) for key, member in section.section("config").items()},
    }
    try:
        policy = Policy.from_mapping(content, where=value.path)
    except ConfigError as error:
        place = value.deepest(str(error))
        raise ConfigError(f"{place.file}:{place.line}: {error}", hint=error.hint) from None
    placed = {id_: replace(grant, where=value.deepest(grant.where).where) for id_, grant in policy.grants.items()}
    return replace(policy, grants=placed)


def _setting(value: Value) -> str:
    """A setting of an extension: it sees text; a list becomes lines, so that rules can stand one below the other."""
    plain = value.plain()
    if isinstance(plain, list) and all(isinstance(member, str) for member in plain):
        return "\n".join(plain)
    if plain is None or isinstance(plain, dict | list):
        raise value.error("text, a number, a truth value, or a list of texts")
    return str(value.node.value)


def _logging(section: Section) -> Logging:
    found = Logging(
        format=section.get("format", values.choice("text", "json"), "text"),
        level=section.get("level", values.choice(*trace.LEVELS), "info"),
    )
    section.finish()
    return found


def _metrics(section: Section) -> Metrics:
    found = Metrics(listen=section.get("listen", values.optional(values.tcp_endpoint), None))
    section.finish()
    return found


def _storage(section: Section) -> Storage:
    retention = section.section("retention")
    size = values.size(limits.MIB, LOG_BYTES_CEILING)
    found = Storage(
        compression=section.get("compression", values.choice("zstd", "none"), "zstd"),
        retention=Retention(
            age_s=retention.get("age", values.optional(values.duration(3600.0, 100 * 366 * 86400.0)), None),
            log_bytes_max=retention.get("log_bytes_max", values.optional(size), None),
        ),
        scrub=_scrub(section.section("scrub")),
    )
    retention.finish()
    section.finish()
    return found


def _scrub(section: Section) -> Scrub:
    usual = Scrub()
    found = Scrub(
        interval_s=section.get("interval", values.optional(values.duration()), usual.interval_s),
        bytes_per_s=section.get("bytes_per_s", values.size(), usual.bytes_per_s),
    )
    section.finish()
    return found


def _snapshots(section: Section) -> Snapshots:
    defaults = Snapshots()
    keep = read_keep(section.section("keep"))
    interval_s = section.get("interval", values.optional(values.duration()), defaults.interval_s)
    section.finish()
    return Snapshots(interval_s, keep)
