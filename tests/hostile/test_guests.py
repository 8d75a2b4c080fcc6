"""Every hostile guest ends as its table says, the bystander answers right after each step, and faults leave nothing."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from spinrt import trace
from spinrt.host.logging import to_trace
from spinrt.mail.host.records import to_diagnostics
from tests.hostile import campaign
from tests.hostile.guests import DIRECTORY, Guest, guests
from tests.hostile.trial import Trial, refusing, skipping, try_guest

GUESTS_MIN = 40


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The faults are meant."""
    with caplog.at_level(logging.CRITICAL, "spinrt"):
        yield


FAULTING = [guest for guest in guests() if any("faults" in expected for expected in guest.raises)]


@pytest.mark.parametrize("guest", guests(), ids=lambda guest: guest.id)
def test_guest_ends_as_stated(guest: Guest) -> None:
    """Where a raise fails with the guest that fails, and says why."""
    try_guest(refusing(), guest)


@pytest.mark.parametrize("guest", FAULTING, ids=lambda guest: guest.id)
def test_guest_ends_as_stated_where_raises_go_on(guest: Guest) -> None:
    """Where a raise goes on without the guest that fails."""
    try_guest(skipping(), guest)


def test_rounds_one_after_another_and_interleaved_leave_memory_flat() -> None:
    """A short run of what `make hostile` does a thousand times."""
    assert campaign.run(2, seed=1) == []


# ----------------------------------------------------------------------------------------------------------- the tables


def test_there_are_enough_guests_and_no_source_without_one() -> None:
    """Every source is some guest's."""
    used = {path for guest in guests() for path in guest.sources if path.exists()}
    there = {path for path in DIRECTORY.glob("*/*") if path.suffix in (".c", ".wat")}

    assert len(guests()) >= GUESTS_MIN
    assert there - used == {DIRECTORY / "bystander" / "bystander.c"}


@pytest.mark.parametrize("guest", guests(), ids=lambda guest: guest.id)
def test_something_tells_a_guest_from_a_harmless_one(guest: Guest) -> None:
    """It is refused, or fails, or answers what a harmless one would not (``instead``: what it would if it could)."""
    told = [expected for expected in guest.raises if _tells(expected)]

    assert guest.refused or told


def _tells(expected: Mapping[str, Any]) -> bool:
    if "answers" in expected:
        return "instead" in expected and expected["instead"] != expected["answers"]
    return bool({"faults", "silent", "wants"} & set(expected))


@pytest.mark.parametrize(
    "wrong",
    [
        {"step": 0, "answers": 1},
        {"step": 0, "faults": "extension.trap"},
        {"step": 0, "silent": True},
        {"step": 0, "wants": [0, 0]},
        {"step": 1, "answers": 0},
        {"step": 1, "faults": "extension.abi"},
        {"step": 1, "faults": "extension.trap", "says": "call stack"},
        {"step": 0, "answers": 0, "map": {"key": 3}},
    ],
    ids=str,
)
def test_a_wrong_table_is_noticed(wrong: Mapping[str, Any]) -> None:
    """The trial fails where the table and the guest differ: in an answer, an error, its text, what it keeps."""
    guest = next(guest for guest in guests() if guest.name == "store-across-end")
    told = Guest(guest.class_, guest.name, guest.number, {**guest.entry, "raises": [wrong]})
    with pytest.raises(AssertionError):
        try_guest(refusing(), told)


def test_a_guest_that_is_let_in_is_noticed() -> None:
    """The trial fails where the table wants it refused, and where it is refused for another reason."""
    loads = next(guest for guest in guests() if guest.name == "store-across-end")
    refused = next(guest for guest in guests() if guest.name == "memory-of-64-bits")
    for guest, entry in ((loads, {"does": "x", "refused": "module"}), (refused, {**refused.entry, "says": "shared"})):
        told = Guest(guest.class_, guest.name, guest.number, entry)
        with pytest.raises(AssertionError):
            try_guest(refusing(), told)


# -------------------------------------------------------------------------------------------------------------- records


def test_a_record_that_forges_lines_stays_one_line() -> None:
    """Whichever way records go: as plain diagnostics of a program, and as those of the mail server."""
    guest = next(guest for guest in guests() if guest.name == "record-that-forges")
    world = refusing()
    list(Trial(world, guest).steps())
    (record,) = world.records
    stream = io.StringIO()
    handler = trace.setup(level="debug", stream=stream)
    logging.getLogger(trace.ROOT).setLevel(logging.DEBUG)
    try:
        to_trace(record)
        to_diagnostics(record)
    finally:
        logging.getLogger(trace.ROOT).removeHandler(handler)

    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert all(line.isprintable() and ("\\u001b" in line or "\\x1b" in line) for line in lines)
