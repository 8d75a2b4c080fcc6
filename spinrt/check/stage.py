"""A runtime in which one extension runs, with nothing around it that changes by itself.

It has the interfaces and events of the mail system, over maps that are empty, a log that goes nowhere, and clocks and
random bytes that begin anew with each raise. An interface that mail does not serve is served with values made from its
WIT; an event that nobody defines is defined as one that fails closed.

`Stage.load` links and initialises the extension as a server would do it.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable, Iterable
from typing import Any, Final

from spinrt._core import Call, LogRecord
from spinrt.check.inputs import Values
from spinrt.check.samples import mail_resources
from spinrt.check.subject import Subject
from spinrt.errors import LinkError
from spinrt.mail.extensions import MailRuntime, Surroundings, check_grants, make_runtime
from spinrt.runtime.capability import Closure, Grant, HostInterface
from spinrt.runtime.debug import DebugDomain
from spinrt.runtime.domain import LIFECYCLE, Domain
from spinrt.runtime.event import OnFault
from spinrt.runtime.handlers import install_handlers
from spinrt.runtime.linker import link
from spinrt.runtime.policy import Policy
from spinrt.runtime.quota import Quotas
from spinrt.runtime.source import HostDomain
from spinrt.sandbox.loader import Extension
from spinrt.sandbox.types import Interface

Wrap = Callable[[HostInterface], HostInterface]

_EPOCH_NS: Final = 1_790_000_000_000_000_000
_ANSWERS: Final = 8
"""Answers of a made function before they come again."""


class Stage:
    """Where one extension runs.

    Args:
        subject: The extension; it loads.
        seed: What made interfaces answer follows from it.
        wrap: Puts something in front of every interface that is served; nothing by default.

    Attributes:
        mail: The runtime.
        records: Log records that were written, which happens when a raise is committed.
    """

    def __init__(self, subject: Subject, *, seed: int = 0, wrap: Wrap | None = None) -> None:
        assert subject.extension is not None
        self.subject = subject
        self.extension: Extension = subject.extension
        self.records: list[LogRecord] = []
        self._chance = Chance(seed)
        self.mail: MailRuntime = make_runtime(
            hostname="check.test",
            has_smarthost=True,
            log_sink=self.records.append,
            interfaces=subject.interfaces,
            surroundings=Surroundings(self._chance.wall_ns, self._chance.monotonic_ns, self._chance.random_bytes),
        )
        self.runtime = self.mail.runtime
        self._serve_what_is_missing()
        if wrap is not None:
            self._wrap(wrap)
        for handler in self.extension.manifest.handlers:
            if handler.event not in self.runtime.events:
                self.runtime.define(handler.event, on_fault=OnFault.REFUSE)

    def reset(self) -> None:
        """Let time and chance begin anew: the raise that comes sees what the last one saw."""
        self._chance.reset()

    def load(
        self,
        policy: Policy | None = None,
        *,
        extension: Extension | None = None,
        quotas: Callable[[Domain], Quotas] | None = None,
    ) -> Domain:
        """Link and initialise the extension, and install its handlers.

        Args:
            policy: What it is granted; that of the subject by default.
            extension: What to load in place of the subject's own, such as one that was compiled otherwise.
            quotas: Makes its rates; they are asked before each call of a function that its interface calls `outside`.

        Raises:
            UsageError: A grant is of something that does not exist.
            LinkError, ExtensionError: It does not link, or its init refused or failed.
        """
        given = self.subject.policy if policy is None else policy
        check_grants(self.runtime, given)
        self.reset()
        domain = self.runtime.create(extension or self.extension, given)
        if quotas is not None:
            domain.quotas = quotas(domain)
        link(domain, self.runtime.nameserver)
        effects = domain.start()
        install_handlers(self.runtime.events, domain)
        for effect in effects:
            effect.apply()
        return domain

    def _serve_what_is_missing(self) -> None:
        for id_ in served_interfaces(self.extension):
            if self.runtime.nameserver.exporter(id_) is None and id_ != LIFECYCLE:
                self.runtime.export(MadeInterface(self.subject.interfaces.get(id_), self._chance))

    def _wrap(self, wrap: Wrap) -> None:
        for id_ in served_interfaces(self.extension):
            source = self.runtime.nameserver.exporter(id_)
            if source is not None:
                self.runtime.nameserver.replace(source, HostDomain(wrap(source.interface(id_))))


def missing(stage: Stage) -> tuple[str, ...]:
    """Return one line for each import that nobody serves under the subject's policy, with its type."""
    domain = stage.runtime.create(stage.extension, stage.subject.policy)
    debug = DebugDomain()
    with contextlib.suppress(LinkError):
        link(domain, stage.runtime.nameserver)
    domain.resolve(debug)
    return tuple(debug.report())


class Chance:
    """Time, chance and made answers, the same after each `reset`."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self._ticks = itertools.count(1)
        self._random: random.Random | None = None

    def wall_ns(self) -> int:
        return _EPOCH_NS + 1000 * next(self._ticks)

    def monotonic_ns(self) -> int:
        return 1000 * next(self._ticks)

    def random_bytes(self, length: int) -> bytes:
        if self._random is None:  # seeding takes longer than most handlers
            self._random = random.Random(self.seed)
        return self._random.randbytes(length)

    def next(self) -> int:
        """A number that grows."""
        return next(self._ticks)


class MadeInterface(HostInterface):
    """An interface that answers with values of its functions' types, and does nothing."""

    def __init__(self, interface: Interface, chance: Chance) -> None:
        self.interface_id = interface.id
        self._interface = interface
        self._chance = chance

    def check(self, grant: Grant) -> None:
        """Which attenuations make sense, only the real exporter knows."""

    def bind(self, function: str, grant: Grant, domain: Domain) -> Closure:
        result = self._interface.functions[function].result
        chance = self._chance
        if result is None:
            return lambda call, *arguments: None
        values = Values(random.Random(f"{chance.seed}/{self.interface_id}#{function}"), mail_resources())
        made = [values.ordinary(result) for _ in range(_ANSWERS)]

        def answer(call: Call | None, *arguments: Any) -> Any:
            return made[chance.next() % _ANSWERS]

        return answer


def served_interfaces(extension: Extension) -> Iterable[str]:
    """The interfaces that an extension imports from, each once."""
    return dict.fromkeys(imported.interface for imported in extension.imports)
