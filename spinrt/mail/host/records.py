"""Where records of extensions go: spinrt's own diagnostics, under the extension's name."""

from __future__ import annotations

import logging

from spinrt import trace
from spinrt._core import LogRecord

_loggers: dict[str, logging.Logger] = {}


def to_diagnostics(record: LogRecord) -> None:
    """Write one record as one line; costs next to nothing when its level is off.

    Event and fields are the extension's own text: they are quoted, so that no guest can forge a line or a field.
    """
    logger = _loggers.get(record.extension)
    if logger is None:
        logger = _loggers[record.extension] = trace.component(f"extension.{record.extension}")
    level = trace.LEVELS[record.level]
    if logger.isEnabledFor(level):  # else nobody reads event and fields out of what the guest wrote
        trace.log_direct(logger, level, record.time_ns, record.event, dict(record.fields))
