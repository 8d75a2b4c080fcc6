"""Diagnostics: one event is one line, whatever a peer sends."""

from __future__ import annotations

import io
import json
import logging
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinrt import trace


def written(*, json_lines: bool = False, **fields: object) -> str:
    stream = io.StringIO()
    trace.setup(stream=stream, json_lines=json_lines)
    trace.log(trace.component("smtp"), logging.INFO, "accepted", **fields)
    return stream.getvalue()


def test_text_line_has_time_level_component_event_and_pairs() -> None:
    line = written(peer="127.0.0.1", size=4096, subject="a b", empty="", data=b"x\xff")

    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info    smtp accepted"
        r' peer=127\.0\.0\.1 size=4096 subject="a b" empty="" data="x\\\\xff"\n',
        line,
    )


@given(st.text())
def test_one_event_is_one_line(text: str) -> None:
    """Nothing that a peer sends starts a second line or forges a field, and it can be read back."""
    line = written(value=text)

    assert len(line.splitlines()) == 1
    shown = line.rstrip("\n").partition(" value=")[2]
    assert (json.loads(shown) if shown.startswith('"') else shown) == text


def test_json_lines_hold_the_same_and_keep_their_own_fields() -> None:
    line = json.loads(written(json_lines=True, level="forged", size=3, data=b"x"))

    assert (line["level"], line["component"], line["event"], line["size"], line["data"]) == (
        "info",
        "smtp",
        "accepted",
        3,
        "x",
    )


def test_level_filters_and_setup_replaces_itself() -> None:
    """Two set-ups write once."""
    stream = io.StringIO()
    trace.setup(stream=io.StringIO())
    trace.setup(stream=stream, level="warning")
    logger = trace.component("x")
    trace.log(logger, logging.INFO, "no")
    trace.log(logger, logging.ERROR, "yes")

    assert stream.getvalue().count("\n") == 1
    with pytest.raises(KeyError):
        trace.setup(level="loud")


def test_traceback_stays_on_the_line() -> None:
    stream = io.StringIO()
    trace.setup(stream=stream)
    try:
        raise ValueError("a\nb")
    except ValueError:
        trace.component("x").exception("it\nbroke")

    assert stream.getvalue().count("\n") == 1
    assert "ValueError" in stream.getvalue()


def test_a_record_of_an_extension_is_one_line_whatever_it_holds() -> None:
    """Past ``logging`` or through it: event, names and values are quoted."""
    stream = io.StringIO()
    fields = {"plain": "v", "forged\nname=x": "a b"}
    lines = []
    for buffered in (True, False):
        trace.setup(stream=stream, buffered=buffered)
        trace.log_direct(trace.component("audit"), logging.INFO, 1_700_000_000_123_456_789, "an event", fields)
        trace.flush()
        lines.append(stream.getvalue())
        stream.seek(0)
        stream.truncate()

    assert lines[0] == ('2023-11-14T22:13:20.123Z info    audit "an event" plain=v "forged\\nname=x"="a b"\n')
    assert lines[1][25:] == lines[0][25:]


class Listener(logging.Handler):
    """Keeps the messages it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(record.getMessage())


def test_a_handler_of_its_own_gets_what_is_written_directly() -> None:
    """The short way is taken only when nobody else listens."""
    handler = Listener()
    logger = trace.component("listened")
    trace.setup(stream=io.StringIO(), buffered=True)
    logger.addHandler(handler)
    try:
        trace.log_direct(logger, logging.INFO, 0, "event", {"key": "value"})
    finally:
        logger.removeHandler(handler)

    assert handler.seen == ["event"]


def test_buffered_lines_come_later_and_in_order() -> None:
    stream = io.StringIO()
    trace.setup(stream=stream, buffered=True)
    logger = trace.component("x")
    trace.log(logger, logging.INFO, "first")
    assert stream.getvalue() == ""

    deadline_s = time.monotonic() + 10
    while not stream.getvalue() and time.monotonic() < deadline_s:
        time.sleep(0.01)
    trace.log_direct(logger, logging.INFO, 0, "second", {})
    trace.log(logger, logging.WARNING, "third")

    assert [line.split()[3] for line in stream.getvalue().splitlines()] == ["first", "second", "third"]


def test_replacing_the_buffered_handler_loses_nothing() -> None:
    stream = io.StringIO()
    trace.setup(stream=stream, buffered=True)
    trace.log(trace.component("x"), logging.INFO, "kept")
    trace.setup(stream=io.StringIO())

    assert "kept" in stream.getvalue()
