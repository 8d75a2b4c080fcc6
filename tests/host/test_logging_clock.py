"""Logging, clock and chance as extensions get them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from spinrt._core import Call, LogRecord
from spinrt.errors import ConfigError, QuotaExceeded, StateError
from spinrt.host.clock import ClockInterface, RandomInterface
from spinrt.host.logging import LoggingInterface, to_trace
from spinrt.runtime.capability import Grant

DOMAIN: Any = SimpleNamespace(name="audit")


def writer(records: list[LogRecord], **attenuations: Any) -> Any:
    interface = LoggingInterface(records.append, lambda: 5)
    return interface.bind("write", Grant(interface.interface_id, (), attenuations), DOMAIN)


def test_record_is_written_on_commit_with_name_and_time_of_the_host() -> None:
    """The extension says what; who and when come from the host."""
    records: list[LogRecord] = []
    call = Call()
    writer(records)(call, "info", "filed", [("size", "12")])
    assert records == []
    call.journal.effects[0].apply()
    assert records == [LogRecord("audit", 5, "info", "filed", (("size", "12"),))]


def test_level_of_the_grant_drops_records_below() -> None:
    """A grant of warnings writes no info."""
    call = Call()
    write = writer([], level="warning")
    write(call, "info", "a", [])
    write(call, "error", "b", [])
    assert [record.event for record in call.journal.effects] == ["b"]
    with pytest.raises(ConfigError, match="one of debug"):
        writer([], level="loud")


def test_oversized_records_and_records_outside_calls_are_refused() -> None:
    """A record has bounds, and belongs to a call."""
    with pytest.raises(QuotaExceeded):
        writer([])(Call(), "info", "a", [("k", "v")] * 65)
    with pytest.raises(QuotaExceeded):
        writer([])(Call(), "info", "a", [("k", "v" * 5000)])
    with pytest.raises(StateError):
        writer([])(None, "info", "a", [])


def test_record_cannot_forge_a_line_of_the_trace(caplog: pytest.LogCaptureFixture) -> None:
    """Line ends and quotes in a value stay inside their quotes."""
    with caplog.at_level("DEBUG", "spinrt.extension.audit"):
        to_trace(LogRecord("audit", 0, "info", "filed", (("subject", 'x"\nlevel=error event="forged'),)))
        to_trace(LogRecord("audit", 0, "info", "filed", (("a\nlevel=error b", "c"),)))
    assert all(len(message.splitlines()) == 1 for message in caplog.messages)
    assert caplog.messages[0] == 'event=filed subject="x\\"\\nlevel=error event=\\"forged"'


def test_clock_and_random_come_from_what_was_injected() -> None:
    """So a replay sees the same."""
    clock = ClockInterface(lambda: 7, lambda: 9)
    grant = Grant(clock.interface_id)
    assert (clock.bind("now", grant, DOMAIN)(None), clock.bind("monotonic", grant, DOMAIN)(None)) == (7, 9)
    source = RandomInterface(lambda length: b"r" * length)
    draw = source.bind("bytes", Grant(source.interface_id), DOMAIN)
    assert draw(None, 3) == b"rrr"
    with pytest.raises(QuotaExceeded):
        draw(None, 4097)
