"""The shipped extensions in a runtime of their own, with a message of given fields and every host call written down."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import spinrt
from spinrt._core import LogRecord
from spinrt.host.config import ConfigInterface
from spinrt.host.logging import LoggingInterface
from spinrt.runtime.capability import Functions
from spinrt.runtime.policy import Policy
from spinrt.runtime.runtime import Runtime
from spinrt.sandbox.abi import record_class
from spinrt.sandbox.types import Ok, RecordType
from spinrt.sandbox.wit import shipped

SHIPPED = Path(spinrt.__file__).parent / "extensions"
CONFIG = "spinrt:extension/config@1.0.0"
MESSAGE = "spinrt:mail/message@1.0.0"
DELIVERY = "spinrt:mail/delivery@1.0.0"
LOGGING = "spinrt:logging/logging@1.0.0"
TAGS = "spinrt:undo/tags@1.0.0"
EVENTS = "spinrt:mail/delivery-events@1.0.0"
UNDO = "spinrt:undo/undo-events@1.0.0"

Answer = Callable[..., Any]


@dataclass
class FakeMessage:
    """What the message capability answers from: fields in order, and a size."""

    fields: list[tuple[str, bytes]]
    size: int = 1000


@dataclass
class Bench:
    """A runtime with one shipped extension; `calls` has (function, arguments…) of all host calls, in order."""

    answer: Answer = lambda function, *arguments: Ok()
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    records: list[LogRecord] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.runtime = Runtime()
        self.runtime.export(ConfigInterface())
        self.runtime.export(LoggingInterface(self.records.append, lambda: 0))
        self.runtime.export(Functions(MESSAGE, self._message_functions()))
        for id in (DELIVERY, TAGS):
            names = shipped().get(id).functions
            self.runtime.export(Functions(id, {name: self._recorder(name) for name in names}))
        for id in (EVENTS, UNDO):
            for name in shipped().get(id).functions:
                self.runtime.define(f"{id}#{name}")

    def load(self, name: str, config: Mapping[str, str] | None = None) -> None:
        policy = Policy.granting(CONFIG, MESSAGE, DELIVERY, LOGGING, TAGS, config=config)
        self.runtime.load(SHIPPED / name, policy)

    def raise_(self, event: str, *arguments: Any) -> Any:
        result = self.runtime.events[event].raise_(*arguments)
        for domain in self.runtime.domains.values():
            assert domain.counters.faults == 0, domain.counters.last_fault
        return result

    def effects(self) -> list[tuple[Any, ...]]:
        """The calls that change something."""
        return [call for call in self.calls if call[0] not in ("header", "size")]

    def _recorder(self, name: str) -> Answer:
        def function(call: Any, *arguments: Any) -> Any:
            self.calls.append((name, *arguments))
            return self.answer(name, *arguments)

        return function

    def _message_functions(self) -> dict[str, Answer]:
        def header(call: Any, message: FakeMessage, name: str, nth: int) -> bytes | None:
            self.calls.append(("header", name, nth))
            values = [value for key, value in message.fields if key.lower() == name.lower()]
            return values[nth] if nth < len(values) else None

        def size(call: Any, message: FakeMessage) -> int:
            self.calls.append(("size",))
            return message.size

        return {"[method]message.header": header, "[method]message.size": size}


def record(interface: str, name: str, /, **values: Any) -> Any:
    """A value of a record type of the shipped interfaces."""
    type_ = shipped().get(interface).types[name]
    assert isinstance(type_, RecordType)
    return record_class(type_)(**values)


def envelope(**changes: Any) -> Any:
    values: dict[str, Any] = {
        "delivery_id": "d1",
        "protocol": "smtp",
        "peer": "192.0.2.1",
        "authenticated": None,
        "sender": "joe@example.net",
        "recipient": "bob@example.org",
        "user": "bob",
        "detail": None,
    }
    return record(EVENTS, "envelope", **(values | changes))


def outcome(**changes: Any) -> Any:
    values: dict[str, Any] = {
        "recipient": "bob@example.org",
        "user": "bob",
        "mailboxes": ["INBOX"],
        "flags": [],
        "refused": None,
    }
    return record("spinrt:mail/envelope@1.0.0", "outcome", **(values | changes))


def receipt(*outcomes: Any, **changes: Any) -> Any:
    values: dict[str, Any] = {
        "delivery_id": "d1",
        "protocol": "lmtp",
        "peer": "192.0.2.1",
        "sender": "joe@example.net",
        "size": 1000,
        "outcomes": list(outcomes),
    }
    return record(EVENTS, "receipt", **(values | changes))
