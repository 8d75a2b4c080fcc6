"""What became of one transaction, for people: the demo, benchmarks, tests. Made only when somebody observes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from spinrt._core import AddHeader, LogRecord, Tag
from spinrt.host.kv import KvEffect
from spinrt.mail.host.effects import MailEffect
from spinrt.runtime.domain import Domain


@dataclass(slots=True)
class ExtensionReport:
    """One extension's part in one transaction.

    Attributes:
        calls: Handlers of it that ran.
        ns: Time in them, host functions included.
        effects: What it promised, in a few words each (``file into INBOX/lists``), in order.
    """

    calls: int = 0
    ns: int = 0
    effects: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """One transaction, when its answer is given.

    Attributes:
        delivery_id: Names it, in the store too.
        protocol: ``smtp`` or ``lmtp``.
        sender: Empty for the null sender.
        recipients: Forward paths as the peer gave them.
        size: Bytes of the message.
        codes: SMTP reply codes: one over SMTP, one for each recipient over LMTP.
        extensions: By name, in the order in which they first ran.
        placed: (user, mailbox, uid) of each copy.
        message_ns: From the first octet of the message until the answer, waiting for the disk included.
        work_ns: The part of it in which the message was decided and written: the event loop was busy with it.
    """

    delivery_id: str
    protocol: str
    sender: str
    recipients: tuple[str, ...]
    size: int
    codes: tuple[int, ...]
    extensions: dict[str, ExtensionReport]
    placed: tuple[tuple[str, str, int], ...]
    message_ns: int
    work_ns: int

    @property
    def extensions_ns(self) -> int:
        """Time in all extensions."""
        return sum(extension.ns for extension in self.extensions.values())


class Observed:
    """Collects what extensions do while one transaction runs."""

    def __init__(self) -> None:
        self.extensions: dict[str, ExtensionReport] = {}

    def note_handler(self, domain: Domain | None, ns: int) -> None:
        """One handler ran that long."""
        part = self._part(domain.name if domain is not None else "host")
        part.calls += 1
        part.ns += ns

    def note_effects(self, effects: Iterable[object]) -> None:
        """These were promised."""
        for effect in effects:
            name, text = describe(effect)
            self._part(name).effects.append(text)

    def _part(self, name: str) -> ExtensionReport:
        return self.extensions.setdefault(name, ExtensionReport())


def describe(effect: object) -> tuple[str, str]:
    """Return the extension that promised an effect, and the effect in a few words."""
    match effect:
        case MailEffect() | AddHeader():
            return effect.extension, effect.describe()
        case Tag():
            return effect.extension, f"tag {effect.key}"
        case LogRecord():
            return effect.extension, f"log {effect.event}"
        case KvEffect():
            return effect.space.name, effect.describe()
        case _:
            return "host", type(effect).__name__
