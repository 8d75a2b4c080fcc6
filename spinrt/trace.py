"""Diagnostics: one line per event, made to be searched.

    2026-11-21T08:15:02.113Z info  smtp accepted peer=127.0.0.1 size=4096 recipients=2

Time (UTC), level, component, event, then ``key=value`` pairs; a value with blanks, quotes, control characters or ``=``
is written as a JSON string, so that a line is always one line and a peer cannot forge another. With ``json`` each line
is one JSON object with the same fields.

The component is the last part of the logger's name. Pairs are passed as ``extra={"fields": {...}}``; ``log`` does it:

    _LOG = trace.component("smtp")
    trace.log(_LOG, logging.INFO, "accepted", peer=peer, size=size)

This is about spinrt itself. What extensions write goes through the *logging* interface, and `log_direct` puts it here.

With ``buffered`` lines are written up to `FLUSH_S` later, many at once, by a thread: a busy server writes thousands of
them each second, and its event loop should not wait for a terminal or a pipe. Warnings and above are written at once,
with all that waits in front of them; so is everything when the process ends in order. A crash or SIGKILL may lose what
was written below warning in the last `FLUSH_S` seconds.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final, TextIO

ROOT: Final = "spinrt"
LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
FLUSH_S: Final = 0.1
"""Seconds that a buffered line waits at most for its writer to begin."""
WAITING_MAX: Final = 20_000
"""Buffered lines; beyond them whoever writes one waits for the stream."""

_is_plain = re.compile(r"[!#-<>-\[\]-~]++").fullmatch
_NOT_PLAIN = re.compile(r'[ "=\\]')
_quote_ascii = json.JSONEncoder().encode
_quote = json.JSONEncoder(ensure_ascii=False).encode


_LEVEL_NAMES: Final = {number: name for name, number in LEVELS.items()}
_ROOT_LOGGER: Final = logging.getLogger(ROOT)


def component(name: str) -> logging.Logger:
    """Return the logger of that component."""
    return logging.getLogger(f"{ROOT}.{name}")


def log(logger: logging.Logger, level: int, event: str, /, **fields: object) -> None:
    """Write one event with its fields, if the level is on. ``event`` is fixed text; what varies is a field."""
    if logger.isEnabledFor(level):
        logger.log(level, event, extra={"fields": fields})


def log_direct(logger: logging.Logger, level: int, time_ns: int, event: str, fields: Mapping[str, str]) -> None:
    """Write one event of many, past what makes ``logging`` slow when nobody uses it: records, filters, more handlers.

    Args:
        logger: From `component`.
        level: One of the values of `LEVELS`.
        time_ns: Nanoseconds since 1970-01-01 UTC.
        event: Varying text: it is quoted where needed, as names and values of fields are.
        fields: Name to value.
    """
    if not logger.isEnabledFor(level):
        return
    handlers = _ROOT_LOGGER.handlers
    only = handlers[0] if len(handlers) == 1 else None
    if type(only) is BufferedHandler and logger.parent is _ROOT_LOGGER and not logger.handlers and not logger.filters:
        only.put(time_ns, level, logger.name, format_value(event), fields)
    else:
        logger.log(level, "%s", format_value(event), extra={"fields": fields})


def flush() -> None:
    """Write what waits to be written."""
    for handler in _ROOT_LOGGER.handlers:
        handler.flush()


def setup(
    *, level: str = "info", json_lines: bool = False, stream: TextIO | None = None, buffered: bool = False
) -> logging.Handler:
    """Send spinrt's diagnostics to ``stream`` (standard error by default) and return the handler that does it.

    Calling it again replaces what the last call set. Only the ``spinrt`` loggers are touched, never the root logger.
    ``buffered``: see the head of this file.

    Raises:
        KeyError: ``level`` is none of ``LEVELS``.
    """
    logger = _ROOT_LOGGER
    threshold = LEVELS[level]
    for handler in [h for h in logger.handlers if isinstance(h.formatter, TextFormatter | JsonFormatter)]:
        logger.removeHandler(handler)
        handler.close()
    formatter = JsonFormatter() if json_lines else TextFormatter()
    to = sys.stderr if stream is None else stream
    fresh = BufferedHandler(to, formatter) if buffered else logging.StreamHandler(to)
    fresh.setFormatter(formatter)
    logger.addHandler(fresh)
    logger.setLevel(threshold)
    logger.propagate = False
    return fresh


def format_value(value: object) -> str:
    """Write one value so that the line stays one line: plain when it can be, else as a JSON string."""
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    if _is_plain(text):
        return text
    if not text.isprintable():
        return _quote_ascii(text)
    return _quote(text) if not text or _NOT_PLAIN.search(text) else text


_name = lru_cache(maxsize=1024)(format_value)
"""Names of fields are few."""


class TextFormatter(logging.Formatter):
    """The greppable form; see the head of this file."""

    def format(self, record: logging.LogRecord) -> str:
        return self.line(_time_ns(record), record.levelno, record.name, _event(record), _fields(record, self))

    def line(self, time_ns: int, level: int, name: str, event: str, fields: Mapping[str, object]) -> str:
        """Write one line, without its end; ``event`` is one line already."""
        pairs = "".join(
            [
                f" {_name(key)}={value if type(value) is str and _is_plain(value) else format_value(value)}"
                for key, value in fields.items()
            ]
        )
        return f"{_stamp(time_ns)} {_level_name(level):<7} {name[name.rfind('.') + 1 :]} {event}{pairs}"


class JsonFormatter(logging.Formatter):
    """One JSON object per line: ``time``, ``level``, ``component``, ``event``, and the fields."""

    def format(self, record: logging.LogRecord) -> str:
        return self.line(_time_ns(record), record.levelno, record.name, _event(record), _fields(record, self))

    def line(self, time_ns: int, level: int, name: str, event: str, fields: Mapping[str, object]) -> str:
        """Write one line, without its end."""
        line: dict[str, object] = {
            "time": _stamp(time_ns),
            "level": _level_name(level),
            "component": name[name.rfind(".") + 1 :],
            "event": event,
        }
        line.update((key, value) for key, value in fields.items() if key not in line)
        return _json_line(line)


class BufferedHandler(logging.Handler):
    """Writes lines a little later, many at once; see the head of this file."""

    def __init__(self, stream: TextIO, formatter: TextFormatter | JsonFormatter) -> None:
        super().__init__()
        self._stream, self._line = stream, formatter.line
        self._waiting: deque[str] = deque()
        self._writing = threading.Lock()
        self._due = self._ended = False
        self._wake = threading.Event()
        threading.Thread(target=self._run, name="spinrt-trace", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:
            self.handleError(record)
        else:
            self._put(line, record.levelno)

    def put(self, time_ns: int, level: int, name: str, event: str, fields: Mapping[str, object]) -> None:
        """Write one line that is no record of ``logging``."""
        self._put(self._line(time_ns, level, name, event, fields), level)

    def _put(self, line: str, level: int) -> None:
        waiting = self._waiting
        waiting.append(line)
        if level >= logging.WARNING or len(waiting) > WAITING_MAX:
            self.flush()
        elif not self._due:
            self._due = True
            self._wake.set()

    def flush(self) -> None:
        """Write all that waits, now."""
        with self._writing:
            waiting = self._waiting
            lines = [waiting.popleft() for _ in range(len(waiting))]
            if lines:
                self._write(lines)

    def close(self) -> None:
        """Write what waits and end the thread; ``logging`` does it when the process ends."""
        self.flush()
        self._ended = True
        self._wake.set()
        super().close()

    def _write(self, lines: Iterable[str]) -> None:
        """As ``logging``: who cannot write diagnostics has nobody to tell, and goes on."""
        try:
            self._stream.write("\n".join(lines) + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            return

    def _run(self) -> None:
        """Body of the writing thread."""
        while self._wake.wait() and not self._ended:
            self._wake.clear()
            time.sleep(FLUSH_S)
            self._due = False  # before the lines are taken: one that comes after this wakes us again
            self.flush()


def _json_value(value: object) -> object:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


_json_line = json.JSONEncoder(default=_json_value).encode


def _time_ns(record: logging.LogRecord) -> int:
    return int(record.created * 1000) * 1_000_000


def _stamp(time_ns: int) -> str:
    second, rest_ns = divmod(time_ns, 1_000_000_000)
    return f"{_second(second)}.{rest_ns // 1_000_000:03d}Z"


@lru_cache(maxsize=4)
def _second(second: int) -> str:
    """A second since 1970 as text; the lines of one second share it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def _level_name(level: int) -> str:
    return _LEVEL_NAMES.get(level) or logging.getLevelName(level).lower()


def _event(record: logging.LogRecord) -> str:
    """The message on one line: text that did not come through ``log`` may hold line breaks."""
    text = record.getMessage()
    return text if text.isprintable() else json.dumps(text)


def _fields(record: logging.LogRecord, formatter: logging.Formatter) -> Mapping[str, object]:
    fields: Mapping[str, object] = getattr(record, "fields", {})
    if record.exc_info:
        return {**fields, "traceback": formatter.formatException(record.exc_info)}
    return fields
