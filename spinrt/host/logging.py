"""``spinrt:logging``: structured records of extensions; each is an effect, written when its call succeeded."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import ClassVar, TypeAlias

from spinrt._core import Call, LogFunction, LogRecord
from spinrt.errors import QuotaExceeded, StateError
from spinrt.runtime.capability import Closure, Grant, HostInterface
from spinrt.runtime.domain import Domain

LEVELS = ("debug", "info", "warning", "error")
FIELDS_MAX = 64
TEXT_CHARACTERS_MAX = 4096


Sink: TypeAlias = Callable[[LogRecord], None]


def to_trace(record: LogRecord) -> None:
    """The default sink: the process's own diagnostics, one line a record, under ``spinrt.extension.NAME``."""
    text = " ".join(f"{_quote(name)}={_quote(value)}" for name, value in record.fields)
    level = getattr(logging, record.level.upper())
    logging.getLogger(f"spinrt.extension.{record.extension}").log(level, "event=%s %s", _quote(record.event), text)


def _quote(value: str) -> str:
    plain = value.isprintable() and " " not in value and '"' not in value and value != ""
    return value if plain else '"' + value.encode("unicode_escape").decode().replace('"', '\\"') + '"'


class LoggingInterface(HostInterface):
    """``spinrt:logging/logging``. A grant may carry ``level``: records below it are dropped.

    Args:
        sink: Where records go when their call is committed.
        now: Clock in nanoseconds since 1970.
    """

    interface_id = "spinrt:logging/logging@1.0.0"
    attenuations: ClassVar = {"level": "lowest level that is written"}
    outside: ClassVar = frozenset({"write"})

    def __init__(self, sink: Sink = to_trace, now: Callable[[], int] = time.time_ns) -> None:
        self._sink, self._now = sink, now

    def bind(self, function: str, grant: Grant, domain: Domain) -> Closure:
        lowest = grant.attenuations.get("level", LEVELS[0])
        if lowest not in LEVELS:
            raise grant.refuse("level", lowest, f"one of {', '.join(LEVELS)}")
        written = frozenset(LEVELS[LEVELS.index(lowest) :])
        name, sink, now = domain.name, self._sink, self._now

        def write(call: Call | None, level: str, event: str, fields: list[tuple[str, str]]) -> None:
            if call is None:
                raise StateError(f"extension {name}: found a log record outside of a call, expected it inside one")
            _check_record(name, event, fields)
            if level in written:
                call.journal.append(LogRecord(name, now(), level, event, tuple(fields), sink))

        return LogFunction(name, LEVELS, written, sink, now, write)


def _check_record(name: str, event: str, fields: list[tuple[str, str]]) -> None:
    if len(fields) > FIELDS_MAX:
        raise QuotaExceeded(
            f"extension {name}: found a log record of {len(fields)} fields, expected at most {FIELDS_MAX}"
        )
    _check_text(name, event)
    for key, value in fields:
        if len(key) > TEXT_CHARACTERS_MAX or len(value) > TEXT_CHARACTERS_MAX:
            _check_text(name, max(key, value, key=len))


def _check_text(name: str, text: str) -> None:
    if len(text) > TEXT_CHARACTERS_MAX:
        raise QuotaExceeded(
            f"extension {name}: found {len(text)} characters in one text of a log record, "
            f"expected at most {TEXT_CHARACTERS_MAX}"
        )
