"""One guest tried: loaded, raised step by step, and compared with what its table says must become of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from spinrt.errors import SpinError
from spinrt.runtime.domain import Domain
from spinrt.runtime.event import OnFault
from tests.hostile.guests import Guest
from tests.hostile.world import Answered, Failed, State, World

LINE_CHARACTERS_MAX: Final = 4096
"""Of an error, as a user is shown it: no guest fills a screen or a log."""


class Trial:
    """A guest that was loaded, at work.

    Args:
        world: Where.
        guest: Who.
    """

    def __init__(self, world: World, guest: Guest) -> None:
        self.world, self.guest = world, guest
        self.domain = world.load(guest)

    def steps(self) -> Iterator[None]:
        """Raise and check, one step at a time; the last one unloads the guest.

        Raises:
            AssertionError: Something did not end as the table says.
        """
        skipping = self.world.on_fault is OnFault.SKIP
        for position, given in enumerate(self.guest.raises):
            expected = {**given, **(given.get("skipping", {}) if skipping else {})}
            for _ in range(expected.get("times", 1)):
                self._step(expected.get("step", position), expected)
                yield
        self.world.unload(self.domain)

    def _step(self, step: int, expected: Mapping[str, Any]) -> None:
        world, guest = self.world, self.guest
        where = f"{guest.id}, step {step}"
        event = expected.get("event", self._usual_event())
        before = world.state(self.domain, guest)
        faults = self.domain.counters.faults
        found = world.run(guest, event, step, _arguments(expected))
        if isinstance(found, Answered):
            found = self._own(found, step, event, where, alone=expected.get("alone", False))
        answered = isinstance(found, Answered) and bool(found.results)
        if self.domain.counters.faults > faults and world.on_fault is OnFault.SKIP:
            found = _skipped(self.domain)
        check_outcome(found, expected, where)
        if not answered and self.domain.is_running and self.domain.death is None:
            _check_state(before, world.state(self.domain, guest), where)
        world.nudges += expected.get("nudges", 0)
        if "map" in expected:
            kept = {key: len(value) for key, value in world.spaces.space(self.domain.name).values.items()}
            assert kept == expected["map"], where

    def _usual_event(self) -> str:
        first = self.guest.entry["handles"][0]
        name = first if isinstance(first, str) else first["event"]
        return str(name).rpartition("#")[2]

    def _own(self, found: Answered, step: int, event: str, where: str, *, alone: bool) -> Answered:
        """The guest's own answer; the bystander's, which comes last unless it was cancelled, must be right."""
        if event != "run" or alone:
            return found
        assert found.results[-1] == (~(self.guest.number ^ step)) & 0xFFFFFFFF, f"{where}: the bystander's answer"
        return Answered(found.results[:-1])


def _check_state(before: State, after: State, where: str) -> None:
    assert after.outside == before.outside, f"{where}: the failed call left something behind"
    assert after.memory == before.memory, f"{where}: the failed call changed memory"
    assert after.handles == before.handles, f"{where}: the failed call changed the handles"


def check_outcome(found: Answered | Failed, expected: Mapping[str, Any], where: str) -> None:
    """Compare what became of a raise, or of a loading, with what must.

    Raises:
        AssertionError: They differ, or an error is not one that can be shown to people.
    """
    if isinstance(found, Failed):
        _check_line(found.line, where)
    if "answers" in expected:
        assert found == Answered((_value(expected["answers"]),)), f"{where}: found {found}"
    elif "wants" in expected:
        assert found == Answered(tuple(expected["wants"])), f"{where}: found {found}"
    elif expected.get("silent"):
        assert found == Answered(()), f"{where}: found {found}"
    else:
        code = expected.get("faults", expected.get("refused"))
        assert isinstance(found, Failed) and found.code == code, f"{where}: found {found}, expected {code}"
        assert re.search(expected.get("says", ""), found.line, re.IGNORECASE), f"{where}: found {found.line!r}"


def _check_line(line: str, where: str) -> None:
    assert line.isprintable(), f"{where}: found what steers a terminal in {line!r}"
    assert len(line) <= LINE_CHARACTERS_MAX, f"{where}: found an error of {len(line)} characters"


def _value(given: Any) -> Any:
    """What a table writes under ``case`` is a case and its payload; under ``set``, flags."""
    if isinstance(given, dict):
        kind, items = next(iter(given.items()))
        return {"case": tuple, "set": frozenset}[kind](items)
    return given


def _arguments(expected: Mapping[str, Any]) -> tuple[Any, ...] | None:
    return tuple(expected["arguments"]) if "arguments" in expected else None


def _skipped(domain: Domain) -> Failed:
    """The fault that a raise went on from."""
    line = domain.counters.last_fault
    return Failed(line.partition(": ")[0], line)


def try_loading(world: World, guest: Guest) -> None:
    """A guest that must be refused is refused, and nothing of it is left.

    Raises:
        AssertionError: It is not, or for another reason.
    """
    kept, space = len(world.kept), dict(world.spaces.space(guest.name).values)
    try:
        world.unload(world.load(guest, afresh=True))
    except SpinError as error:
        check_outcome(Failed.of(error), guest.entry, guest.id)
    else:
        raise AssertionError(f"{guest.id}: it was let in")
    assert (len(world.kept), world.spaces.space(guest.name).values) == (kept, space), f"{guest.id}: it left something"
    assert guest.name not in world.runtime.domains


def try_guest(world: World, guest: Guest) -> None:
    """Try one guest from its loading to its end, the bystander answering after each step.

    Raises:
        AssertionError: Something did not end as the table says.
    """
    if guest.refused:
        try_loading(world, guest)
    else:
        for _ in Trial(world, guest).steps():
            world.check_bystander()
    world.check_bystander()


def refusing() -> World:
    """A world whose raises fail with a guest that fails."""
    return World(OnFault.REFUSE)


def skipping() -> World:
    """A world whose raises go on without a guest that fails."""
    return World(OnFault.SKIP)
