"""A runtime for hostile guests: what they may import, the events that run them, and what they must not change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from spinrt import _core
from spinrt._core import DeliveryContext, LentMessage, LogRecord
from spinrt.errors import HandlerFailed, SpinError
from spinrt.host.clock import ClockInterface, RandomInterface
from spinrt.host.config import ConfigInterface
from spinrt.host.control import ControlInterface
from spinrt.host.kv import KvInterface, KvSpaces
from spinrt.host.logging import LoggingInterface
from spinrt.mail.host.context import RecipientContext
from spinrt.mail.host.delivery import DeliveryInterface
from spinrt.mail.host.effects import MAIL_EFFECTS
from spinrt.mail.host.message import MessageInterface
from spinrt.mail.host.outbound import OutboundInterface
from spinrt.runtime import fold
from spinrt.runtime.call import Transaction
from spinrt.runtime.capability import Closure, Grant, HostInterface, mint
from spinrt.runtime.domain import Domain
from spinrt.runtime.event import OnFault
from spinrt.runtime.policy import Policy
from spinrt.runtime.runtime import Runtime
from tests.hostile.guests import EVENTS, IMPORTS, Guest, bystander, interfaces

DELIVER: Final = "spinrt:mail/delivery-events@1.0.0#deliver"
THING: Final = f"{IMPORTS['host']}#thing"
MESSAGE: Final = b"From: a@example.net\r\nSubject: x\r\n\r\nbody\r\n"
ARGUMENTS: Final[Mapping[str, tuple[Any, ...]]] = {
    "take-text": ("zw\u00f6lf",),
    "take-texts": ("one", "other"),
    "take-numbers": ([1, 2, 3],),
}
"""What an event is raised with behind ``who`` and ``step``."""


class Thing:
    """What handles name."""


class StillClock:
    """A clock on which no rate ever comes back."""

    def wall_ns(self) -> int:
        return 1_790_000_000 * 10**9

    def monotonic_s(self) -> float:
        return 0.0


@dataclass(frozen=True, slots=True)
class Answered:
    """A raise gave these results: of the guest, if it ran, and of the bystander, if it handles the event."""

    results: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """The guest, a raise or a loading failed."""

    code: str
    line: str

    @classmethod
    def of(cls, error: SpinError) -> Failed:
        """Of the guest's own error where the raise failed with it. No variable of a caller may hold that: its frames
        would be held by it in turn."""
        if isinstance(error, HandlerFailed) and isinstance(error.__cause__, SpinError):
            error = error.__cause__
        return cls(error.code, error.line())


@dataclass(frozen=True, slots=True)
class State:
    """What a raise that failed must leave as it was.

    ``outside`` is what the host keeps for the guest: its map, records, notes, things given away. ``memory`` and
    ``handles`` are its own.
    """

    outside: tuple[Any, ...]
    memory: bytes
    handles: int


@dataclass(slots=True)
class _Keep:
    """An effect: one entry more in a list."""

    entries: list[Any]
    value: Any

    def apply(self) -> None:
        self.entries.append(self.value)


class TrialHost(HostInterface):
    """``hostile:trial/host``."""

    interface_id = IMPORTS["host"]
    pure = ("echo", "[method]thing.size", "[method]thing.name")

    def __init__(self, world: World) -> None:
        self._world = world

    def bind(self, function: str, grant: Grant, domain: Domain) -> Closure:
        closures: dict[str, Closure] = {
            "lend": lambda call: Thing(),
            "lend-other": lambda call: Thing(),
            "take": self._keep,
            "foreign": lambda call: self._world.foreign,
            "note": self._keep,
            "echo": lambda call, text: text,
            "send": lambda call, texts: len(texts),
            "again": lambda call, step: self._world.raise_again(domain, step),
            "nudge": lambda call: self._world.nudge(),
            "kill": lambda call: domain.kill("it asked for it", "the trial"),
            "unload": lambda call: self._world.runtime.unload(domain),
            "[method]thing.name": lambda call, thing: type(thing).__name__,
            "[method]thing.size": lambda call, thing: 7,
            "[method]other.size": lambda call, other: 8,
        }
        return closures[function]

    def _keep(self, call: Any, value: Any) -> None:
        if call is not None:
            call.journal.append(_Keep(self._world.kept, value))


class World:
    """One runtime with the bystander and, one after another or together, hostile guests.

    Args:
        on_fault: What a raise does when a guest fails: go on without it, or fail and say why.
    """

    def __init__(self, on_fault: OnFault = OnFault.REFUSE) -> None:
        self.on_fault = on_fault
        self.spaces = KvSpaces()
        self.records: list[LogRecord] = []
        self.kept: list[Any] = []
        self.numbers: dict[str, int] = {}
        self.runtime = Runtime(interfaces=interfaces(), clock=StillClock())
        for interface in self._exported():
            self.runtime.export(interface)
        for name in interfaces().get(EVENTS).functions:
            self.runtime.define(f"{EVENTS}#{name}", fold=fold.every, on_fault=on_fault)
        self.runtime.define(DELIVER, fold=fold.every, on_fault=on_fault)
        self.bystander = self.runtime.load(bystander(), Policy.granting(IMPORTS["host"]))
        self.nudges = 0
        self.foreign = self._raise("look", 0, 0, Thing())[0]

    def _exported(self) -> list[HostInterface]:
        return [
            TrialHost(self),
            KvInterface(self.spaces),
            LoggingInterface(self.records.append, lambda: 0),
            ClockInterface(),
            RandomInterface(),
            ConfigInterface(),
            ControlInterface(),
            DeliveryInterface(),
            MessageInterface(),
            OutboundInterface("mail.example.org", lambda: 0.0),
        ]

    def load(self, guest: Guest, *, afresh: bool = False) -> Domain:
        """Load a guest under its policy; ``afresh``: from its bytes.

        Raises:
            SpinError: It is refused.
        """
        self.numbers.pop(guest.name, None)
        extension = guest.load() if afresh else guest.extension
        domain = self.runtime.load(extension, Policy.from_mapping(guest.policy))
        self.numbers[guest.name] = guest.number
        return domain

    def unload(self, domain: Domain) -> None:
        """Let go of a guest, unless it brought that about itself."""
        if self.runtime.domains.get(domain.name) is domain:
            self.runtime.unload(domain)

    # ---------------------------------------------------------------------------------------------------------- raises

    def run(self, guest: Guest, event: str, step: int, arguments: tuple[Any, ...] | None = None) -> Answered | Failed:
        """Raise an event for one guest; any error that is not spinrt's own goes through."""
        try:
            if event == "deliver":
                return Answered(tuple(self._deliver(guest, step)))
            extra = ARGUMENTS.get(event, ()) if arguments is None else arguments
            if event == "look":
                extra = (mint(interfaces(), Thing(), THING, ["size"]),)
            return Answered(tuple(self._raise(event, guest.number, step, *extra)))
        except SpinError as error:
            return Failed.of(error)

    def _raise(self, event: str, *arguments: Any) -> Any:
        return self.runtime.events[f"{EVENTS}#{event}"].raise_(*arguments)

    def _deliver(self, guest: Guest, step: int) -> list[Any]:
        """Deliver one message; the answer is the verdict, then what the guest wants done, in words."""
        message = LentMessage(lambda offset, length: MESSAGE[offset : offset + length], len(MESSAGE))
        context = DeliveryContext("id-1", "smtp", "s@example.net", message)
        context.recipient = RecipientContext("r@example.org", guest.name, str(step))
        envelope = ("id-1", "smtp", "192.0.2.1", None, "s@example.net", "r@example.org", guest.name, str(step))
        with Transaction(context) as transaction:
            answers = transaction.raise_(self.runtime.events[DELIVER], envelope, message)
            wanted = [one.describe() for one in transaction.effects if isinstance(one, MAIL_EFFECTS)]
            transaction.commit()
        return [*answers, *wanted]

    def raise_again(self, domain: Domain, step: int) -> int:
        """A guest raises its own event from within a call of the host: the sum of what it gave."""
        results: list[int] = self._raise("run", self.numbers.get(domain.name, 0), step)
        return sum(results) & 0xFFFFFFFF

    def nudge(self) -> int:
        """Raise what the bystander counts."""
        answer: int = self._raise("steady", 0)[0]
        return answer

    # ----------------------------------------------------------------------------------------------------------- state

    def state(self, domain: Domain, guest: Guest) -> State:
        """What a guest has now."""
        space = dict(self.spaces.space(domain.name).values)
        instance = domain.instance
        memory, handles = b"", 0
        if instance is not None and not instance.broken:
            size = max(0, instance.memory_size - guest.stack_bytes)
            memory = _core.peek(instance, guest.stack_bytes, size) if size else b""
            handles = instance.handle_count
        return State((space, len(self.records), len(self.kept)), memory, handles)

    def check_bystander(self) -> None:
        """It answers as ever, and nothing of its memory has changed meanwhile.

        Raises:
            AssertionError: It does not.
        """
        self.nudges += 1
        assert self._raise("steady", 9) == [9 << 32 | self.nudges & 0xFFFFFFFF]
        assert self._raise("speak", "Still Here") == ["sTILL hERE"]
        assert self.bystander.counters.faults == 0
        assert self.bystander.instance is not None
        assert self.bystander.instance.handle_count == 1
