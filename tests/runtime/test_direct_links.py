"""Extension to extension without anything in between: state, faults, replacement and re-entry of direct links."""

from __future__ import annotations

from typing import Any

import pytest

from spinrt.errors import ConfigError
from spinrt.runtime.capability import Grant
from spinrt.runtime.event import Event
from spinrt.runtime.policy import Policy
from spinrt.runtime.runtime import Runtime
from spinrt.runtime.supervisor import Supervision
from tests.guests import EVENTS, HOST
from tests.runtime.linked_guests import DOUBLER, WORDS, exporter, guest, importer, runtime, words

DIRECT = Policy({WORDS: Grant(WORDS, attenuations={"direct": True}), HOST: Grant(HOST)})

# Counts its calls in a global, and answers the count times ten and the argument; traps for 13.
COUNTER = words(
    "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))"
    " (if (i32.eq (local.get 0) (i32.const 13)) (then unreachable))"
    " (i32.add (i32.mul (global.get $calls) (i32.const 10)) (local.get 0))",
    "(global $calls (mut i32) (i32.const 0))",
)
# Adds up what it was given, in its memory; asks `double` for it.
SUMMER = f"""
(import "{WORDS}" "double" (func $double (param i32) (result i32))) (memory (export "memory") 1)
(func (export "{EVENTS}#add") (param i32 i32) (result i32)
  (i32.store (i32.const 8) (i32.add (i32.load (i32.const 8)) (local.get 1)))
  (i32.add (i32.mul (i32.load (i32.const 8)) (i32.const 1000)) (call $double (local.get 0))))
"""


def linked(body: str = SUMMER, served: str = COUNTER, **hosts: Any) -> tuple[Runtime, Event]:
    made = runtime(hosts)
    made.load(exporter(body=served))
    made.load(guest("doubler", body, imports=(WORDS, HOST), handlers=("add",)), DIRECT)
    return made, made.events[f"{EVENTS}#add"]


def test_a_direct_link_is_in_the_engine() -> None:
    """Both instances are in one store, and the importer names the exporter's as one that it calls."""
    made, event = linked()
    instance = made.domains["doubler"].instance
    assert instance is not None
    assert instance.linked == (made.domains["words"].instance,)
    assert [event.raise_(1, 1), event.raise_(2, 1)] == [1011, 2022]


def test_without_the_word_direct_values_are_passed() -> None:
    """The default keeps the two apart."""
    made = runtime()
    made.load(exporter())
    domain = made.load(importer(), Policy.granting(WORDS))
    assert domain.instance is not None
    assert domain.instance.linked == ()
    assert made.events[f"{EVENTS}#add"].raise_(21, 0) == 42


def test_direct_is_true_or_false() -> None:
    """Anything else is refused where the operator wrote it."""
    made = runtime()
    made.load(exporter())
    with pytest.raises(ConfigError, match="direct"):
        made.load(importer(), Policy({WORDS: Grant(WORDS, attenuations={"direct": "yes"})}))


def test_fault_behind_a_direct_link_is_taken_back_in_both() -> None:
    """The call may have left either half-way: both are what they were, and the next raise works."""
    made, event = linked()
    assert event.raise_(1, 5) == 5011
    assert event.raise_(13, 1) is None
    assert event.raise_(1, 1) == 6021
    assert made.domains["doubler"].counters.faults == 1
    assert made.domains["words"].counters.restarts == made.domains["doubler"].counters.restarts == 0


def test_importer_keeps_its_state_when_the_exporter_fails_elsewhere() -> None:
    """A fault of the exporter in somebody else's call: neither has lost anything."""
    made, event = linked()
    assert event.raise_(1, 5) == 5011
    doubler = made.domains["doubler"]
    other = made.load(importer("other", DOUBLER), Policy.granting(WORDS))
    event.uninstall(doubler)
    assert event.raise_(13, 1) is None  # through values: the exporter's fault
    assert (made.domains["words"].counters.faults, other.counters.faults, doubler.counters.restarts) == (1, 0, 0)
    event.uninstall(other)
    event.install(doubler)
    assert event.raise_(2, 7) == 12022


def test_replacing_the_exporter_links_the_importer_to_the_new_one() -> None:
    """The importer's state stays, and it calls the new version."""
    made, event = linked()
    assert event.raise_(1, 5) == 5011
    made.replace(made.domains["words"], exporter(body=words("(i32.const 500)"), version="2.0.0"))
    assert event.raise_(1, 1) == 6500


def test_exporter_replaced_while_the_importer_runs_serves_the_call_to_its_end() -> None:
    """A raise sees what was there when it began; the next one sees the new version."""
    body = f"""
    (import "{WORDS}" "double" (func $double (param i32) (result i32))) (import "{HOST}" "again" (func $note))
    (func (export "{EVENTS}#add") (param i32 i32) (result i32)
      (call $note) (call $double (local.get 0)))
    """
    made: Runtime

    def again(call: object) -> None:
        if made.domains["words"].extension.manifest.version == "1.0.0":
            made.replace(made.domains["words"], exporter(body=words("(i32.const 500)"), version="2.0.0"))

    made, event = linked(body, again=again)
    assert event.raise_(1, 0) == 11
    assert event.raise_(1, 0) == 500


def test_live_instances_move_with_their_links() -> None:
    """Collecting the store changes no answer of a linked pair."""
    made, event = linked()
    assert event.raise_(1, 5) == 5011
    made.stores.collect()
    assert event.raise_(1, 1) == 6021


def test_importer_and_exporter_call_each_other_only_one_way() -> None:
    """An exporter that is running already is not entered again, directly or otherwise."""
    caught: list[str] = []
    made: Runtime

    def again(call: object) -> None:
        if not caught:
            caught.append("once")
            made.domains["words"].exports[f"{WORDS}#double"](None, 1)
            made.events[f"{EVENTS}#add"].raise_(1, 1)

    served = words("(call $note) (i32.const 3)", f'(import "{HOST}" "again" (func $note))')
    made = runtime({"again": again})
    made.load(exporter(body=served, imports=(HOST,)), Policy.granting(HOST))
    made.load(importer(body=DOUBLER), DIRECT)
    assert made.events[f"{EVENTS}#add"].raise_(1, 1) is None
    assert made.domains["doubler"].counters.faults >= 1
    assert made.events[f"{EVENTS}#add"].raise_(1, 1) == 3


def test_collecting_goes_on_while_an_exporter_is_quarantined() -> None:
    """An importer that waits to be linked again is moved like any other, with its state."""
    made = runtime()
    made.load(exporter(body=COUNTER, limits={"undo_bytes": 0}), Policy(supervision=Supervision(faults=1)))
    doubler = made.load(guest("doubler", SUMMER, imports=(WORDS, HOST), handlers=("add",)), DIRECT)
    event = made.events[f"{EVENTS}#add"]
    assert event.raise_(1, 5) == 5011
    event.uninstall(doubler)
    made.load(importer("other", DOUBLER), Policy.granting(WORDS))
    for _ in range(4):
        event.raise_(13, 1)
    assert doubler.instance is not None
    assert doubler.instance.stale
    generation = made.stores.shared.generation
    made.stores.collect()
    assert made.stores.shared.generation == generation + 1
    event.install(doubler)
    assert event.raise_(1, 1) is None
