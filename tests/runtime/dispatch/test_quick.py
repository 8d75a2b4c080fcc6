"""The raise of one handler without guards: whatever is not everyday about it is as it is for any other raise."""

from __future__ import annotations

import gc
import time
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from spinrt._core import list_handles
from spinrt.errors import SpinError, UsageError
from spinrt.runtime.policy import Policy
from spinrt.runtime.tables import TIERS
from spinrt.sandbox.loader import check_extension
from spinrt.sandbox.manifest import Manifest
from tests.guests import BUMP, wat
from tests.runtime.dispatch.support import HOST, INTERFACES, World, adder, function, named

EDGES = [0, 1, 255, 256, 257, 2**15 - 1, 2**30 - 1, 2**30, 2**31, 2**32 - 1, 2**32, 2**60, 2**63 - 1, 2**63, 2**64 - 1]
INTEGERS = st.sampled_from([*EDGES, *(-edge for edge in EDGES), 2**64, True, False]) | st.integers(-300, 300)
WIDE = "(param i64 i32 f64 i32 i32) (result i64)"
ONE = "(param i32) (result i32)"
ECHO = function("one", ONE, "(local.get 0)")


def answer_of(world: World, name: str, *arguments: Any) -> Any:
    """What a raise answers, or how it is refused."""
    try:
        found = world.runtime.events[f"test:dispatch/events@1.0.0#{name}"].raise_(*arguments)
    except SpinError as error:
        return type(error), str(error)
    return type(found), found


@pytest.fixture(scope="module")
def worlds() -> list[World]:
    """The same guest on every tier."""
    made = [World(tier) for tier in sorted(TIERS)]
    for world in made:
        for name in ("wide", "one", "ping", "add"):
            world.define(name)
        world.load(
            ECHO
            + function("ping", "", "")
            + adder(0)
            + function("wide", WIDE, "(i64.add (local.get 0) (i64.extend_i32_s (local.get 1)))"),
            *("wide", "one", "ping", "add"),
        )
    return made


@given(INTEGERS, INTEGERS, st.floats() | INTEGERS, st.booleans(), st.characters())
def test_all_kinds_of_scalars_cross_alike(worlds: list[World], a: int, b: int, c: float, d: bool, e: str) -> None:
    """Small and large integers, out of range, bools, floats, characters: one answer or one refusal on all tiers."""
    for name, arguments in (("wide", (a, b, c, d, e)), ("one", (a,)), ("add", (a, b)), ("ping", ())):
        found = [answer_of(world, name, *arguments) for world in worlds]
        assert found.count(found[0]) == len(found), (name, arguments, found)


@pytest.mark.parametrize("arguments", [("1",), (1.0,), (None,)])
def test_what_does_not_fit_is_refused_by_all(worlds: list[World], arguments: tuple[Any, ...]) -> None:
    """What is no integer."""
    found = [answer_of(world, "one", *arguments) for world in worlds]
    assert found.count(found[0]) == len(found)
    assert issubclass(found[0][0], SpinError)


@pytest.mark.parametrize("arguments", [(), (1,), (1, 2), (1, 2, 3)])
def test_another_number_of_arguments_is_refused_by_all(worlds: list[World], arguments: tuple[int, ...]) -> None:
    """By the interpreter for an event of one parameter, unless it is raised in a context; nothing ran."""
    for world in worlds:
        for name, takes in (("one", 1), ("add", 2), ("ping", 0)):
            event = world.runtime.events[f"test:dispatch/events@1.0.0#{name}"]
            if len(arguments) == takes:
                continue
            before = [binding.counts for binding in event.bindings]
            said = f"found {len(arguments)} arguments, expected {takes}"
            with pytest.raises(UsageError, match=f"event test:dispatch/events@1.0.0#{name}: {said}"):
                event.raise_in(None, *arguments)
            with pytest.raises(TypeError if takes == 1 else UsageError, match="one argument" if takes == 1 else said):
                event.raise_(*arguments)
            assert [binding.counts for binding in event.bindings] == before


def test_a_raise_takes_no_keywords(worlds: list[World]) -> None:
    """Nothing is taken for something else."""
    for world in worlds:
        for name, arguments in (("one", (1,)), ("add", (1, 2)), ("ping", ())):
            event = world.runtime.events[f"test:dispatch/events@1.0.0#{name}"]
            with pytest.raises(TypeError, match="takes no keyword arguments"):
                event.raise_(*arguments, context=1)


def test_a_raise_in_a_context_shows_it_to_host_functions(tier: int) -> None:
    """With the answer that it has without one, and none of it is left behind."""
    world = World(tier)
    event = world.define("one")
    world.load(function("one", ONE, "(call $leave) (local.get 0)"), "one")
    seen: list[object] = []
    world.leave = lambda call: seen.append(call.context)
    assert [event.raise_in("here", 5), event.raise_(6)] == [5, 6]
    assert seen == ["here", None]


@pytest.mark.parametrize("end", ["(i32.const 7)", "(unreachable)"])
def test_a_handler_that_uninstalls_itself_runs_to_its_end(tier: int, end: str) -> None:
    """What is on the stack stays until it has ended, and its end is still pinned to it."""
    world = World(tier)
    event = world.define("one", default=0)
    domain = world.load(function("one", ONE, f"(call $note (i32.const 1)) (call $leave) {end}"), "one")

    def leave(call: Any) -> None:
        event.uninstall(domain)
        gc.collect()

    world.leave = leave
    assert event.raise_(1) == (7 if "7" in end else 0)
    assert domain.counters.faults == (0 if "7" in end else 1)
    assert world.applied == ([1] if "7" in end else [])
    assert event.raise_(1) == 0


STORES = """
  (local $was i32) (local $left i32)
  (local.set $was (i32.load (i32.const 1024)))
  (local.set $left (i32.and (local.get 0) (i32.const 0xfffff)))
  (loop $more
    (i32.store offset=1024 (i32.shl (i32.and (local.get $left) (i32.const 1)) (i32.const 2)) (local.get 0))
    (local.set $left (i32.sub (local.get $left) (i32.const 1)))
    (br_if $more (i32.gt_s (local.get $left) (i32.const 0))))
  (if (i32.and (local.get 0) (i32.const 0x100000)) (then (memory.fill (i32.const 8192) (local.get 0) (i32.const 4096))))
  (if (i32.and (local.get 0) (i32.const 0x200000)) (then (unreachable)))
  (i32.store (i32.const 1024) (local.get 0))
  (local.get $was)"""
"""Answers what the call before stored; so many stores as the low bits say, bits above make it fill memory and fail."""


@given(
    st.lists(
        st.sampled_from([0, 1, 2, 7, 70_000]).flatmap(
            lambda n: st.sampled_from([n, n | 1 << 20, n | 1 << 21, n | 3 << 20])
        ),
        max_size=12,
    )
)
def test_what_a_handler_stored_is_kept_by_each_raise_that_succeeds(steps: list[int]) -> None:
    """Few stores, more than are kept of a log, copies of ranges, and raises that fail in between."""
    for tier in sorted(TIERS):
        world = World(tier)
        event = world.define("one", default=-1 & 0xFFFFFFFF)
        world.load(function("one", ONE, STORES), "one")
        last = 0
        for step in steps:
            failing = step & 1 << 21
            assert event.raise_(step) == (0xFFFFFFFF if failing else last), (tier, steps)
            last = last if failing else step


def test_others_take_its_place_while_it_runs(tier: int) -> None:
    """Raises from within see the new table; the one that is under way ends as it began."""
    world = World(tier)
    event = world.define("one", default=0)
    domain = world.load(function("one", ONE, "(call $leave) (unreachable)"), "one", name="old")
    seen: list[int] = []

    def leave(call: Any) -> None:
        event.uninstall(domain)
        world.load(function("one", ONE, "(i32.const 9)"), "one", name="new")
        seen.append(event.raise_(1))

    world.leave = leave
    assert event.raise_(1) == 0
    assert seen == [9]
    assert domain.counters.faults == 1
    assert event.raise_(1) == 9


class Loud:
    """A resource whose end raises the event again."""

    def __init__(self, event: Any, seen: list[Any]) -> None:
        self.event, self.seen = event, seen

    def __del__(self) -> None:
        self.seen.append(self.event.raise_(0))


class LoudEffect(Loud):
    """An effect whose end raises the event again."""

    def apply(self) -> None:
        raise AssertionError("applied")


@pytest.mark.parametrize("handlers", [1, 2])
def test_what_a_fault_lets_go_of_does_not_enter_the_guest_again(tier: int, handlers: int) -> None:
    """Its handler is being taken back: what would run in the middle of that is refused, and leaves no effect."""
    world = World(tier)
    event = world.define("one", default=0)
    body = """
    (call $note (i32.add (local.get 0) (i32.const 5)))
    (if (local.get 0) (then (call $leave) (unreachable)))
    (i32.const 7)
    """
    domain = world.load(function("one", ONE, body), "one")
    if handlers == 2:
        world.load(function("one", ONE, "(i32.const 3)"), "one", name="second")
    seen: list[int] = []
    world.leave = lambda call: call.journal.append(LoudEffect(event, seen))
    other = 3 if handlers == 2 else 0
    for _ in range(3):
        assert event.raise_(1) == other
    assert seen == [other] * 3
    assert world.applied == []
    assert domain.counters.faults == 6
    assert event.raise_(0) == (other or 7)
    assert world.applied == [5]


DROPPING = f"""
(module
  (import "{HOST}" "[resource-drop]thing" (func $drop (param i32)))
  (import "{HOST}" "note" (func $note (param i32)))
  {BUMP}
  (global $inside (mut i32) (i32.const 0))
  (func (export "{named("one")}") {ONE}
    (if (global.get $inside) (then (call $note (i32.const 99))))
    (global.set $inside (i32.const 1))
    (if (local.get 0) (then (call $drop (local.get 0))))
    (global.set $inside (i32.const 0))
    (i32.const 1)))
"""


@pytest.mark.parametrize("handlers", [1, 2])
def test_dropping_a_handle_does_not_enter_the_guest_again(tier: int, handlers: int) -> None:
    """What ends with a handle may run code of the host in the middle of a handler: a host call as any other."""
    world = World(tier)
    event = world.define("one", default=0, fold="first")
    manifest: dict[str, Any] = {
        "spinrt": 1,
        "name": "dropping",
        "version": "1.0.0",
        "module": "g.wasm",
        "imports": [HOST],
    }
    manifest["handlers"] = [{"event": named("one")}]
    checked = check_extension(Manifest.parse(yaml.safe_dump(manifest)), wat(DROPPING), interfaces=INTERFACES)
    domain = world.runtime.load(checked, Policy.granting(HOST))
    if handlers == 2:
        world.load(function("one", ONE, "(i32.const 0)"), "one", name="second")
    seen: list[Any] = []
    domain.externalize(Loud(event, seen), f"{HOST}#thing")
    assert domain.instance is not None
    assert event.raise_(list_handles(domain.instance)[0][0]) in (0, 1)
    assert len(seen) == 1
    assert 99 not in world.applied


def test_changes_of_the_event_do_not_keep_raises_from_being_timed(tier: int) -> None:
    """However often handlers come and go, one in 1,024 is."""
    world = World(tier)
    event = world.define("one")
    world.load(ECHO, "one")
    binding = event.bindings[0]
    for number in range(1024):
        assert event.raise_(number) == number
        if number % 100 == 0:
            event.uninstall(
                world.load(function("one", ONE, "(i32.const 7)"), {"event": "one", "place": "first"}, name=f"g{number}")
            )
    if tier:
        assert sum(count for _, count in binding.entry.latency()) == 1


def test_one_raise_in_1024_is_timed(tier: int) -> None:
    """On the way that has no clock, too; all of them are counted."""
    world = World(tier)
    event = world.define("one")
    world.load(ECHO, "one")
    for number in range(3 * 1024):
        assert event.raise_(number) == number
    binding = event.bindings[0]
    assert binding.counts.raises == 3 * 1024
    if tier:
        assert sum(count for _, count in binding.entry.latency()) == 3


def test_each_raise_has_a_clock_and_quotas_of_its_own(tier: int) -> None:
    """Ticks that met it and host calls that it made are no later raise's."""
    world = World(tier)
    world.hour = 7
    event = world.define("one", default=0)
    spin = (
        "(local $n i32) (loop (br_if 0 (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (local.get 0))))"
    )
    domain = world.load(
        function("one", ONE, f"{spin} (call $hour)"), "one", limits={"deadline_ms": 100, "host_calls": 1}
    )
    began = time.thread_time()
    while time.thread_time() - began < 0.3:
        assert event.raise_(3_000_000) == 7
    for _ in range(10):
        assert event.raise_(1) == 7
    assert domain.counters.faults == 0
