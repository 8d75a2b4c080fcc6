"""Diagnostics: one event is one line, whatever a peer sends."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinrt import trace


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leave the loggers as they were."""
    logger = logging.getLogger(trace.ROOT)
    before = (logger.handlers[:], logger.level, logger.propagate)
    yield
    logger.handlers[:], logger.level, logger.propagate = before


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
