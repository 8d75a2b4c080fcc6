"""Events marked long give up the interpreter's lock while guests run: other threads go on, and may end them."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from spinrt.errors import UsageError
from spinrt.runtime.event import Event
from spinrt.runtime.policy import Policy
from spinrt.runtime.runtime import Runtime
from tests.guests import EVENTS, HOST, extension, runtime

LIMITS = {"deadline_ms": 100}
# Counts down from its left argument, and asks the host now and then.
SPIN = f"""
(import "{HOST}" "again" (func $again))
(func (export "{EVENTS}#add") (param $left i32) (param $right i32) (result i32)
  (call $again)
  (loop $more (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
  (call $again) (local.get $right))
"""


def spinner(*, handlers: int = 1, again: Any = None, long: bool = True) -> tuple[Runtime, Event]:
    made = runtime({"again": again or (lambda call: None)})
    event = made.define(f"{EVENTS}#add", long=long, default=0)
    for number in range(handlers):
        made.load(extension(SPIN, name=f"spin-{number}", handlers=("add",), limits=LIMITS), Policy.granting(HOST))
    return made, event


class Ticking:
    """Another thread that counts as long as the block runs."""

    def __init__(self) -> None:
        self.count = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.wait(0.001):
            self.count += 1

    def __enter__(self) -> Ticking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@pytest.mark.parametrize("handlers", [1, 3])
def test_other_threads_run_while_a_long_event_does(handlers: int) -> None:
    """The guest spins until its deadline; a thread counts meanwhile, and the next raise works."""
    made, event = spinner(handlers=handlers)
    with Ticking() as ticking:
        before = ticking.count
        assert event.raise_(0, 7) == 0  # 2**32 turns: all of them end at their deadline
        assert ticking.count > before
    assert [domain.counters.faults for domain in made.domains.values()] == [1] * handlers
    assert event.raise_(5, 7) == 7


@pytest.mark.parametrize("handlers", [1, 3])
def test_host_functions_of_a_long_event_hold_the_lock(handlers: int) -> None:
    """They are Python like any other, raise what they want, and may raise events themselves."""
    seen: list[int] = []

    def again(call: Any) -> None:
        seen.append(len(seen))
        if len(seen) == 3:
            raise ValueError("a mistake of the host")

    made, event = spinner(handlers=handlers, again=again)
    results = [event.raise_(3, 7) for _ in range(3)]
    assert results == ([7, 0, 7] if handlers == 1 else [7, 7, 7])
    assert sum(domain.counters.faults for domain in made.domains.values()) == 1


def test_another_thread_may_kill_what_runs_long() -> None:
    """It ends at the next tick, and nothing of it runs again."""
    entered = threading.Event()

    def kill() -> None:
        entered.wait()
        domain.kill("took too long for me", by="another thread")

    made, event = spinner(again=lambda call: entered.set())
    domain = made.domains["spin-0"]
    killer = threading.Thread(target=kill)
    killer.start()
    assert event.raise_(0, 7) == 0
    killer.join()
    assert "took too long for me" in domain.counters.last_fault
    assert event.raise_(1, 7) == 0


def test_another_thread_may_not_raise_meanwhile() -> None:
    """A runtime belongs to one thread, whoever holds the lock."""
    caught: list[BaseException] = []
    entered = threading.Event()
    _, event = spinner(again=lambda call: entered.set())

    def intrude() -> None:
        entered.wait()
        try:
            event.raise_(1, 1)
        except UsageError as error:
            caught.append(error)

    intruder = threading.Thread(target=intrude)
    intruder.start()
    event.raise_(0, 7)
    intruder.join()
    assert len(caught) == 1
    assert "another thread" in str(caught[0])
    assert event.raise_(1, 7) == 7
