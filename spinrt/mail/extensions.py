"""The mail system's runtime: what extensions can import here, which events there are, and loading what is configured.

Nothing is granted by default. An extension gets what ``extensions.NAME.grants`` of the configuration says; the starter
configuration spells out what the shipped ones ask for.
"""

from __future__ import annotations

import difflib
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import spinrt
from spinrt import trace
from spinrt.errors import ConfigError, SpinError
from spinrt.host.clock import ClockInterface, RandomInterface
from spinrt.host.config import ConfigInterface
from spinrt.host.control import ControlInterface
from spinrt.host.kv import KvInterface, KvSpaces
from spinrt.host.logging import LoggingInterface, Sink
from spinrt.mail.config import ExtensionConfig
from spinrt.mail.host.delivery import DeliveryInterface
from spinrt.mail.host.ledger import KvLedger
from spinrt.mail.host.message import MessageInterface
from spinrt.mail.host.outbound import OutboundInterface
from spinrt.mail.host.records import to_diagnostics
from spinrt.mail.host.tags import TagsInterface
from spinrt.runtime.capability import Grant
from spinrt.runtime.event import Event, OnFault
from spinrt.runtime.policy import Policy
from spinrt.runtime.runtime import Runtime
from spinrt.sandbox.loader import Extension, load_extension
from spinrt.sandbox.wit import Interfaces

SHIPPED: Final = Path(spinrt.__file__).parent / "extensions"
"""Extensions that come with spinrt, one directory each."""

_LOG = trace.component("extensions")
_MAIL: Final = "spinrt:mail/{}@1.0.0#{}"
_UNDO: Final = ("before-rewind", "inconsistency", "compensate", "after-replay")


@dataclass(frozen=True, slots=True)
class MailEvents:
    """The events that the mail system raises."""

    deliver: Event
    filed: Event
    append: Event
    flags_changed: Event


@dataclass(frozen=True, slots=True)
class MailRuntime:
    """The runtime, and what the mail system needs of it at hand."""

    runtime: Runtime
    events: MailEvents
    spaces: KvSpaces
    ledger: KvLedger


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Time and chance as extensions see them: the machine's by default.

    Attributes:
        wall_ns: Nanoseconds since 1970-01-01 UTC.
        monotonic_ns: Nanoseconds of a clock that never goes back.
        random_bytes: Gives so many random bytes.
    """

    wall_ns: Callable[[], int] = time.time_ns
    monotonic_ns: Callable[[], int] = time.monotonic_ns
    random_bytes: Callable[[int], bytes] = secrets.token_bytes


def make_runtime(
    *,
    hostname: str,
    has_smarthost: bool,
    kv_load: Callable[[str], dict[str, bytes]] = lambda space: {},
    log_sink: Sink = to_diagnostics,
    interfaces: Interfaces | None = None,
    surroundings: Surroundings = Surroundings(),
) -> MailRuntime:
    """Make a runtime with the interfaces and events of mail, and no extension.

    Args:
        hostname: Name of this system, for notices.
        has_smarthost: Whether anything can leave; without, ``spinrt:mail/outbound`` does not link.
        kv_load: What is stored of one extension's map.
        log_sink: Where log records of extensions go.
        interfaces: WIT interfaces, those of mail among them; those that come with spinrt by default.
        surroundings: Time and chance as extensions see them.
    """
    runtime = Runtime(interfaces=interfaces)
    spaces = KvSpaces(kv_load)
    exported = (
        MessageInterface(),
        DeliveryInterface(),
        TagsInterface(),
        LoggingInterface(log_sink, surroundings.wall_ns),
        KvInterface(spaces),
        ClockInterface(surroundings.wall_ns, surroundings.monotonic_ns),
        RandomInterface(surroundings.random_bytes),
        ConfigInterface(),
        ControlInterface(),
    )
    for interface in exported:
        runtime.export(interface)
    if has_smarthost:
        runtime.export(OutboundInterface(hostname, lambda: surroundings.wall_ns() / 1e9))
    else:
        runtime.nameserver.withhold(OutboundInterface.interface_id, "no smarthost is configured")
    return MailRuntime(runtime, _define_events(runtime), spaces, KvLedger(spaces, kv_load))


def _define_events(runtime: Runtime) -> MailEvents:
    """What decides fails closed: no mail is misfiled, and no append let through, because an extension is broken."""
    for name in _UNDO:  # declared, so that extensions which handle them load; raised by the undo system
        runtime.define(f"spinrt:undo/undo-events@1.0.0#{name}", on_fault=OnFault.REFUSE, may_defer=False)
    return MailEvents(
        deliver=runtime.define(
            _MAIL.format("delivery-events", "deliver"), default="pass", on_fault=OnFault.REFUSE, may_defer=False
        ),
        filed=runtime.define(_MAIL.format("delivery-events", "filed"), on_fault=OnFault.SKIP, may_defer=False),
        append=runtime.define(_MAIL.format("imap-events", "append"), on_fault=OnFault.REFUSE, may_defer=False),
        flags_changed=runtime.define(
            _MAIL.format("imap-events", "flags-changed"), on_fault=OnFault.SKIP, may_defer=False
        ),
    )


def load_extensions(runtime: Runtime, configured: Mapping[str, ExtensionConfig]) -> None:
    """Load and link what is configured and enabled.

    Raises:
        UsageError, LinkError, ExtensionError: What is wrong with one of them, and where the operator wrote it; the
            service does not start then.
    """
    for config in configured.values():
        if config.enabled:
            put_in_place(runtime, config)


def put_in_place(runtime: Runtime, config: ExtensionConfig) -> None:
    """Load one extension, or replace the version that is loaded by what is configured now.

    Raises:
        UsageError, LinkError, ExtensionError: What is wrong with it, and where the operator wrote it; what was loaded
            goes on.
    """
    check_grants(runtime, config.policy)
    loaded = runtime.domains.get(config.name)
    try:
        extension = _find(runtime, config)
        order = config.order
        orders = None if order is None else {handler.event: order for handler in extension.manifest.handlers}
        if loaded is None:
            runtime.load(extension, config.policy, orders=orders)
        else:
            runtime.replace(loaded, extension, config.policy, orders=orders)
    except SpinError as error:
        raise _placed(error, config) from error
    handled = " ".join(handler.event.partition("#")[2] for handler in extension.manifest.handlers)
    trace.log(
        _LOG,
        logging.INFO,
        "loaded" if loaded is None else "replaced",
        extension=extension.name,
        version=extension.manifest.version,
        handles=handled,
    )


def directory_of(config: ExtensionConfig) -> Path:
    """Where an extension lies: as configured, or among those that come with spinrt."""
    return config.path or SHIPPED / config.name


def _find(runtime: Runtime, config: ExtensionConfig) -> Extension:
    """Load the extension from its directory: the configured one, or the one that ships under that name."""
    directory = directory_of(config)
    if not directory.is_dir():
        shipped = ", ".join(sorted(path.parent.name for path in SHIPPED.glob("*/manifest.yaml"))) or "none"
        raise ConfigError(
            f"{config.where}: found no extension at {directory}",
            hint=f"give its path, or use one that comes with spinrt: {shipped}",
        )
    extension = load_extension(directory, interfaces=runtime.interfaces)
    if extension.name != config.name:
        raise ConfigError(
            f"{config.where}: the manifest in {directory} says {extension.name!r}, expected {config.name!r}",
            hint="the section must have the extension's own name",
        )
    return extension


def check_grants(runtime: Runtime, policy: Policy) -> None:
    """Refuse grants of what does not exist: a misspelt name would grant nothing, and say nothing.

    Raises:
        ConfigError: There is one; says what was probably meant.
    """
    for grant in policy.grants.values():
        _check_names(runtime, grant)


def _check_names(runtime: Runtime, grant: Grant) -> None:
    if grant.interface not in runtime.interfaces.ids():
        raise _unknown(grant, "interface", grant.interface, runtime.interfaces.ids())
    known = runtime.interfaces.get(grant.interface).functions
    for function in grant.functions:
        if function not in known:
            raise _unknown(grant, "function", function, known)


def _unknown(grant: Grant, kind: str, found: str, known: Iterable[str]) -> ConfigError:
    near = difflib.get_close_matches(found, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
    return ConfigError(f"{grant.where}: unknown {kind} {found!r}", hint=hint)


def _placed(error: SpinError, config: ExtensionConfig) -> SpinError:
    """The error with file and line in front of it, unless it has them already."""
    file = config.where.partition(": ")[0].rpartition(":")[0]
    text = str(error)
    return error if text.startswith(f"{file}:") else type(error)(f"{config.where}: {text}", hint=error.hint)
