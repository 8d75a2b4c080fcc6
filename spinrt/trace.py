"""Diagnostics: one line per event, made to be searched.

    2026-11-21T08:15:02.113Z info  smtp accepted peer=127.0.0.1 size=4096 recipients=2

Time (UTC), level, component, event, then ``key=value`` pairs; a value with blanks, quotes, control characters or ``=``
is written as a JSON string, so that a line is always one line and a peer cannot forge another. With ``json`` each line
is one JSON object with the same fields.

The component is the last part of the logger's name. Pairs are passed as ``extra={"fields": {...}}``; ``log`` does it:

    _LOG = trace.component("smtp")
    trace.log(_LOG, logging.INFO, "accepted", peer=peer, size=size)

This is about spinrt itself. What extensions write goes through the *logging* interface.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, TextIO

ROOT: Final = "spinrt"
LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_PLAIN_FORBIDDEN: Final = frozenset(' "=\\')


def component(name: str) -> logging.Logger:
    """Return the logger of that component."""
    return logging.getLogger(f"{ROOT}.{name}")


def log(logger: logging.Logger, level: int, event: str, /, **fields: object) -> None:
    """Write one event with its fields, if the level is on. ``event`` is fixed text; what varies is a field."""
    if logger.isEnabledFor(level):
        logger.log(level, event, extra={"fields": fields})


def setup(*, level: str = "info", json_lines: bool = False, stream: TextIO | None = None) -> logging.Handler:
    """Send spinrt's diagnostics to ``stream`` (standard error by default) and return the handler that does it.

    Calling it again replaces what the last call set. Only the ``spinrt`` loggers are touched, never the root logger.

    Raises:
        KeyError: ``level`` is none of ``LEVELS``.
    """
    logger = logging.getLogger(ROOT)
    threshold = LEVELS[level]
    for handler in [h for h in logger.handlers if isinstance(h.formatter, TextFormatter | JsonFormatter)]:
        logger.removeHandler(handler)
    fresh = logging.StreamHandler(sys.stderr if stream is None else stream)
    fresh.setFormatter(JsonFormatter() if json_lines else TextFormatter())
    logger.addHandler(fresh)
    logger.setLevel(threshold)
    logger.propagate = False
    return fresh


def format_value(value: object) -> str:
    """Write one value so that the line stays one line: plain when it can be, else as a JSON string."""
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    if text and text.isprintable() and _PLAIN_FORBIDDEN.isdisjoint(text):
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())


class TextFormatter(logging.Formatter):
    """The greppable form; see the head of this file."""

    def format(self, record: logging.LogRecord) -> str:
        pairs = "".join(f" {key}={format_value(value)}" for key, value in _fields(record, self).items())
        return f"{_time(record)} {record.levelname.lower():<7} {_component(record)} {_event(record)}{pairs}"


class JsonFormatter(logging.Formatter):
    """One JSON object per line: ``time``, ``level``, ``component``, ``event``, and the fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "component": _component(record),
            "event": _event(record),
        }
        line.update((key, value) for key, value in _fields(record, self).items() if key not in line)
        return json.dumps(line, default=_json_value)


def _json_value(value: object) -> object:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def _component(record: logging.LogRecord) -> str:
    return record.name.rpartition(".")[2]


def _event(record: logging.LogRecord) -> str:
    """The message on one line: text that did not come through ``log`` may hold line breaks."""
    text = record.getMessage()
    return text if text.isprintable() else json.dumps(text)


def _fields(record: logging.LogRecord, formatter: logging.Formatter) -> Mapping[str, object]:
    fields: Mapping[str, object] = getattr(record, "fields", {})
    if record.exc_info:
        return {**fields, "traceback": formatter.formatException(record.exc_info)}
    return fields
