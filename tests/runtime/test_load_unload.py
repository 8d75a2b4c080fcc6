"""Loading and unloading for ever, unloading what runs, and very many at once."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from spinrt.errors import StateError
from spinrt.runtime import fold
from spinrt.runtime.capability import Grant, HostInterface
from spinrt.runtime.domain import Domain, DomainState
from spinrt.runtime.policy import Policy
from spinrt.runtime.stores import DEAD_MAX
from tests.guests import EVENTS, HOST
from tests.runtime import load_campaign
from tests.runtime.linked_guests import guest, runtime

AGAIN = f'(import "{HOST}" "again" (func $again))'
CALLS_AGAIN = f"""
{AGAIN} (func (export "{EVENTS}#add") (param i32 i32) (result i32) (call $again) (i32.add (local.get 0) (local.get 1)))
"""


class Watched(HostInterface):
    """Serves ``again`` with a closure that lives as long as an instance holds it."""

    interface_id = HOST

    def __init__(self, action: Callable[[], object]) -> None:
        self.action = action
        self.closures: list[weakref.ref[Any]] = []

    def bind(self, function: str, grant: Grant, domain: Domain) -> Any:
        def closure(call: Any) -> None:
            self.action()

        self.closures.append(weakref.ref(closure))
        return closure

    @property
    def alive(self) -> int:
        return sum(one() is not None for one in self.closures)


@contextmanager
def no_collector() -> Iterator[None]:
    """What goes away in here does so by itself."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def test_two_thousand_loads_leave_memory_and_mappings_flat(caplog: pytest.LogCaptureFixture) -> None:
    """No growth beyond the stated bounds after the warm-up, without the help of the collector."""
    with no_collector(), caplog.at_level(logging.CRITICAL, "spinrt"):
        assert load_campaign.run(2000) == []


def test_loads_leave_no_cycles_behind(caplog: pytest.LogCaptureFixture) -> None:
    """A server need not wait for the collector to be rid of what was unloaded."""
    made = runtime()
    with caplog.at_level(logging.CRITICAL, "spinrt"):
        for number in range(1, 40):
            load_campaign.one_round(made, number)
        with no_collector():
            for number in range(40, 120):
                load_campaign.one_round(made, number)
            made.stores.collect()
            assert gc.collect() == 0


def watched(action: Callable[[], object]) -> tuple[Any, Watched]:
    made = runtime()
    made.nameserver.withdraw(made.nameserver.exporter(HOST))
    interface = Watched(action)
    made.export(interface)
    return made, interface


def test_unloaded_domain_lets_go_of_everything() -> None:
    """The instance and its closures go when the domain is unloaded, without the collector."""
    made, interface = watched(lambda: None)
    with no_collector():
        for _ in range(3):
            made.unload(made.load(guest("one", CALLS_AGAIN, imports=(HOST,), handlers=("add",)), Policy.granting(HOST)))
        assert (len(interface.closures), interface.alive) == (3, 0)


def test_domain_unloaded_while_it_runs_goes_when_the_outermost_raise_ends() -> None:
    """It runs to its end and gives its result; so does a raise below it that began later and finds it gone."""
    inner: list[object] = []

    def action() -> None:
        made.unload(domain)
        inner.append(event.raise_(1, 1))
        inner.append(interface.alive)

    made, interface = watched(action)
    event = made.events[f"{EVENTS}#add"]
    domain = made.load(guest("one", CALLS_AGAIN, imports=(HOST,), handlers=("add",)), Policy.granting(HOST))
    with no_collector():
        assert event.raise_(2, 3) == 5
        assert inner == [None, 1]
        assert domain.state is DomainState.DESTROYED
        assert interface.alive == 0
    assert event.raise_(2, 3) is None


def test_domain_that_unloads_itself_and_traps_is_not_restarted() -> None:
    """A fault of what is gone makes no fresh instance."""
    made, interface = watched(lambda: made.unload(domain))
    body = CALLS_AGAIN.replace("(i32.add (local.get 0) (local.get 1))", "unreachable")
    domain = made.load(guest("one", body, imports=(HOST,), handlers=("add",)), Policy.granting(HOST))
    with no_collector():
        assert made.events[f"{EVENTS}#add"].raise_(1, 1) is None
        assert interface.alive == 0
    assert domain.counters.restarts == 0


def test_domain_cannot_be_unloaded_twice_by_a_handler() -> None:
    """The second attempt, from within the same raise, is a plain error."""
    caught: list[str] = []

    def action() -> None:
        for _ in range(2):
            try:
                made.unload(domain)
            except StateError as error:
                caught.append(str(error))

    made, _ = watched(action)
    domain = made.load(guest("one", CALLS_AGAIN, imports=(HOST,), handlers=("add",)), Policy.granting(HOST))
    assert made.events[f"{EVENTS}#add"].raise_(1, 1) == 2
    assert caught == ["domain one: it is not loaded here"]


def test_a_thousand_extensions_at_once() -> None:
    """All loaded, all run in order, each with a memory of its own; then all unloaded."""
    body = f"""
    (memory (export "memory") 1) (func (export "{EVENTS}#add") (param i32 i32) (result i32)
      (i32.store (i32.const 8) (i32.add (i32.load (i32.const 8)) (local.get 0))) (i32.load (i32.const 8)))
    """
    made = runtime(events=())
    event = made.define(f"{EVENTS}#add", fold=fold.every)
    before = load_campaign.use()
    domains = [made.load(guest(f"one-{number}", body, handlers=("add",))) for number in range(1000)]
    assert event.raise_(3, 0) == [3] * 1000
    assert event.raise_(4, 0) == [7] * 1000
    for domain in domains:
        made.unload(domain)
    assert event.bindings == ()
    del domains, domain
    assert made.stores.shared.dead <= DEAD_MAX
    made.stores.collect()
    assert load_campaign.use().mappings - before.mappings <= load_campaign.MAPPINGS_GROWTH_MAX
