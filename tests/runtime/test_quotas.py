"""Rates over many calls, and ending an extension for good."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinrt._core import LogRecord, Rate
from spinrt.errors import HandlerFailed, Killed, QuotaExceeded, SpinError
from spinrt.host.logging import LoggingInterface
from spinrt.runtime.capability import Functions, Grant
from spinrt.runtime.domain import Domain
from spinrt.runtime.event import Event, OnFault
from spinrt.runtime.policy import Policy
from spinrt.runtime.runtime import Runtime
from spinrt.sandbox.loader import check_extension
from spinrt.sandbox.manifest import LIMITS_HIGHEST, Manifest
from spinrt.sandbox.wit import Interfaces, Source, shipped
from tests.guests import BUMP, EVENTS, HOST, TEST_WIT, extension, granted, interfaces, wat

LOGGING = "spinrt:logging/logging@1.0.0"

NOTE = f'(import "{HOST}" "note" (func $note (param i32 i32)))'
CALL = "(call $note (i32.const 0) (i32.const 0))"


@dataclass
class HandClock:
    """A clock that stands still until it is moved."""

    now_s: float = 0.0

    def wall_ns(self) -> int:
        return 1_790_000_000 * 10**9

    def monotonic_s(self) -> float:
        return self.now_s


class Outside(Functions):
    """The test interface; its ``note`` reaches outside."""

    outside = frozenset({"note"})


@dataclass
class World:
    runtime: Runtime
    event: Event
    domain: Domain
    clock: HandClock
    notes: list[str]

    def fault(self) -> SpinError:
        """What a raise fails with, behind `HandlerFailed`."""
        with pytest.raises(HandlerFailed) as caught:
            self.event.raise_()
        assert isinstance(caught.value.__cause__, SpinError)
        return caught.value.__cause__


def world(body: str, note: Any = None, *, policy: Policy | None = None, **limits: int) -> World:
    clock, notes = HandClock(), list[str]()
    runtime = Runtime(interfaces=interfaces(), clock=clock)
    runtime.export(Outside(HOST, {"note": note or (lambda call, text: notes.append(text))}))
    event = runtime.define(f"{EVENTS}#ping", on_fault=OnFault.REFUSE)
    text = f'{NOTE} {BUMP} (func (export "{EVENTS}#ping") {body})'
    domain = runtime.load(extension(text, handlers=("ping",), limits=limits), policy or granted())
    return World(runtime, event, domain, clock, notes)


# --------------------------------------------------------------------------------------------------------------- rates


def test_rate_holds_a_minute_and_comes_back_evenly() -> None:
    """As many as a minute allows at once, then one for each share of a minute."""
    clock = HandClock()
    rate = Rate(6, clock)
    assert [rate.take() for _ in range(7)] == [True] * 6 + [False]
    clock.now_s = 9.9
    assert not rate.take()
    clock.now_s = 10.0
    assert rate.take()
    assert not rate.take()
    clock.now_s = 10_000.0
    assert rate.left == 6


@given(st.integers(1, 50), st.lists(st.floats(0, 30), max_size=200))
def test_rate_never_allows_more_than_its_bucket_and_what_came_back(per_minute: int, waits_s: list[float]) -> None:
    """Over any stretch of time: the bucket, and what has come back meanwhile."""
    clock = HandClock()
    rate = Rate(per_minute, clock)
    taken = 0
    for wait_s in waits_s:
        clock.now_s += wait_s
        while rate.take():
            taken += 1
        assert taken <= per_minute * (1 + clock.now_s / 60) + 1e-6


def test_clock_that_goes_back_gives_nothing() -> None:
    """It never should; if it does, nobody gains."""
    clock = HandClock(100.0)
    rate = Rate(1, clock)
    assert rate.take()
    clock.now_s = 0.0
    assert not rate.take()
    clock.now_s = 1.0
    assert not rate.take()


def test_calls_that_reach_outside_are_counted_over_calls() -> None:
    """The limit is named, and after a while it goes on."""
    made = world(CALL, outside_calls_per_minute=3)
    for _ in range(3):
        made.event.raise_()

    error = made.fault()

    assert type(error) is QuotaExceeded
    assert "more than 3 calls that reach the outside, with test:guest/host@1.0.0#note in a minute" in str(error)
    assert "outside_calls_per_minute" in error.hint
    assert len(made.notes) == 3
    made.clock.now_s = 20.0
    made.event.raise_()
    assert len(made.notes) == 4


def test_records_count_though_they_are_served_in_c() -> None:
    """The host's logging has a fast path in front of its closure, and the rate stands in front of both."""
    written: list[LogRecord] = []
    clock = HandClock()
    runtime = Runtime(interfaces=Interfaces.parse([Source("test.wit", TEST_WIT)], known=shipped()), clock=clock)
    runtime.export(LoggingInterface(written.append))
    event = runtime.define(f"{EVENTS}#ping", on_fault=OnFault.REFUSE)
    body = f"""
    (import "{LOGGING}" "write" (func $write (param i32 i32 i32 i32 i32))) {BUMP} (data (i32.const 64) "hello")
    (func (export "{EVENTS}#ping")
      (call $write (i32.const 1) (i32.const 64) (i32.const 5) (i32.const 0) (i32.const 0)))
    """
    manifest = Manifest.parse(
        f"{{spinrt: 1, name: writer, version: 1.0.0, module: a.wasm, imports: ['{LOGGING}'], "
        f"handlers: ['{EVENTS}#ping'], limits: {{outside_calls_per_minute: 2}}}}"
    )
    runtime.load(
        check_extension(manifest, wat(f"(module {body})"), interfaces=runtime.interfaces), Policy.granting(LOGGING)
    )
    event.raise_()
    event.raise_()
    with pytest.raises(HandlerFailed, match=LOGGING):
        event.raise_()
    assert [record.event for record in written] == ["hello", "hello"]


def test_a_fresh_instance_has_no_fresh_rate() -> None:
    """Faulting is no way to get more."""
    made = world(f"{CALL} unreachable", outside_calls_per_minute=2)
    for _ in range(5):
        made.fault()
    assert len(made.notes) == 2


def test_policy_clamps_the_rate() -> None:
    """The lower of wish and policy holds, as for every limit."""
    policy = Policy.from_mapping({"grants": {HOST: {}}, "limits": {"outside_calls_per_minute": 1}})
    made = world(CALL, policy=policy, outside_calls_per_minute=100)
    assert made.domain.limits.outside_calls_per_minute == 1
    made.event.raise_()
    assert isinstance(made.fault(), QuotaExceeded)


# ---------------------------------------------------------------------------------------------------------------- kill


def test_killed_extension_runs_no_more_and_says_why() -> None:
    """Every later call fails with who, when and why; there is no restart, and it can be unloaded."""
    made = world(CALL)
    made.event.raise_()

    made.domain.kill("it writes too much", "alice")

    for _ in range(2):
        error = made.fault()
        assert isinstance(error, Killed)
        assert str(error).endswith("killed by alice at 2026-09-21 14:13:20Z: it writes too much")
    assert len(made.notes) == 1
    assert made.domain.counters.restarts == 0
    made.domain.kill("again", "bob")
    assert "alice" in str(made.fault())
    made.runtime.unload(made.domain)
    made.event.raise_()


def test_killed_by_a_host_function_that_it_called() -> None:
    """It does not come back from that call, and nothing that it promised happens."""
    made = world(f"{CALL} {CALL}", lambda call, text: kill(call))

    def kill(call: Any) -> None:
        call.journal.append(None)
        made.domain.kill("enough", "the host")

    error = made.fault()

    assert isinstance(error, Killed)
    assert made.domain.counters.faults == 1


def test_killed_from_another_thread_while_it_waits_for_the_host() -> None:
    """A thread of the operator's ends it as soon as the host function returns."""
    inside, done, ran = threading.Event(), threading.Event(), list[int]()

    def note(call: Any, text: str) -> None:
        ran.append(1)
        inside.set()
        assert done.wait(10)

    made = world(f"{CALL} {CALL}", note)

    def operate() -> None:
        assert inside.wait(10)
        made.domain.kill("too slow", "operator")
        done.set()

    thread = threading.Thread(target=operate)
    thread.start()
    error = made.fault()
    thread.join()

    assert isinstance(error, Killed)
    assert ran == [1]


@contextmanager
def handling(number: signal.Signals, handler: Any) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def test_killed_from_a_signal_handler() -> None:
    """A signal that comes while the host serves it."""
    made = world(f"{CALL} {CALL}", lambda call, text: signal.raise_signal(signal.SIGUSR1))
    with handling(signal.SIGUSR1, lambda number, frame: made.domain.kill("signal", "operator")):
        assert isinstance(made.fault(), Killed)


def test_killed_in_the_middle_of_an_endless_loop() -> None:
    """A signal handler ends guest code at the next tick, long before its deadline; the loop calls nothing."""
    policy = Policy({HOST: Grant(HOST)}, LIMITS_HIGHEST)
    made = world("(loop (br 0))", policy=policy, deadline_ms=60_000)
    with handling(signal.SIGVTALRM, lambda number, frame: made.domain.kill("it loops", "operator")):
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.02)
        error = made.fault()

    assert isinstance(error, Killed)
    assert "killed by operator" in str(error)


def test_killed_extension_is_skipped_where_the_event_skips() -> None:
    """Others of the event go on."""
    made = world(CALL)
    made.event.on_fault = OnFault.SKIP
    ran: list[int] = []
    made.event.install(lambda call: ran.append(1))
    made.domain.kill("enough", "alice")
    made.event.raise_()
    assert ran == [1]


def test_kills_do_not_pile_up_tracebacks() -> None:
    """The same refusal again and again is a fresh error: none drags the frames of those before along."""
    made = world(CALL)
    made.domain.kill("enough", "alice")

    def depth(error: BaseException) -> int:
        trace, frames = error.__traceback__, 0
        while trace is not None:
            trace, frames = trace.tb_next, frames + 1
        return frames

    assert depth(made.fault()) == depth(made.fault()) == depth(made.fault())
