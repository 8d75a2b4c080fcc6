"""What others did because of a handler is taken back with it; what is not committed can be, and is nobody else's."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from spinrt._core import Call, list_handles
from spinrt.errors import CapabilityRevoked, DeadlineExceeded, HandlerFailed, SpinError, UsageError
from spinrt.runtime.call import Transaction
from spinrt.runtime.capability import Closure, Grant
from spinrt.runtime.event import OnFault
from spinrt.runtime.policy import Policy
from tests.guests import BUMP, EVENTS, HOST
from tests.runtime.linked_guests import WORDS, exporter, guest, words
from tests.runtime.transactions.guests import ADD, COUNT, FAIL, IMPORTS, World, counter


class Effect:
    """Something that happens when a raise is committed."""

    def __init__(self, seen: list[str], name: str) -> None:
        self.seen, self.name = seen, name

    def apply(self) -> None:
        self.seen.append(self.name)


def test_a_raise_from_within_goes_with_the_handler_that_caused_it() -> None:
    """What another extension did in a raise by a host function goes when the handler that called it fails."""
    seen: list[str] = []
    worlds: list[World] = []

    def again(call: Call) -> None:
        call.journal.append(Effect(seen, "outer"))
        worlds[0].judge.raise_("x")

    def note(call: Call, _text: str) -> None:
        call.journal.append(Effect(seen, "inner"))

    inner = guest(
        "inner",
        f"""(import "{HOST}" "note" (func $note (param i32 i32)))
        (memory (export "memory") 1) (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
        (i32.const 1024))
        (func (export "{EVENTS}#judge") (param i32 i32) (result i32)
        {COUNT} (call $note (i32.const 0) (i32.const 0)) (i32.const 1))""",
        imports=(HOST,),
        handlers=("judge",),
    )
    world = World(counter("(call $again)"), inner, functions={"again": again, "note": note})
    worlds.append(world)
    before = world.memory(0), world.memory(1)
    assert world.add.raise_(1, 1) is None
    assert (world.memory(0), world.memory(1)) == before
    assert seen == []
    assert world.add.raise_(1, 2) == 1
    assert seen == ["outer", "inner"]
    assert world.memory(1) != before[1]


def test_a_raise_from_within_that_fails_leaves_the_rest() -> None:
    """A host function may catch the failure of its own raise: that raise is taken back, the handler's changes stay."""
    worlds: list[World] = []

    def again(_call: Call) -> None:
        with pytest.raises(HandlerFailed):
            worlds[0].add.raise_(5, 5)

    other = guest(
        "other",
        f'(memory (export "memory") 1) (func (export "{EVENTS}#add") {ADD} {COUNT} {FAIL} (i32.const 0))',
        handlers=("add",),
    )
    world = World(functions={"again": again}, on_fault=OnFault.REFUSE)
    worlds.append(world)
    world.domains.append(world.runtime.load(other))
    caller = world.runtime.load(
        guest(
            "caller",
            f"""(import "{HOST}" "again" (func $again)) (memory (export "memory") 1)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
        (func (export "{EVENTS}#judge") (param i32 i32) (result i32) {COUNT} (call $again) (i32.const 2))""",
            imports=(HOST,),
            handlers=("judge",),
        ),
        Policy.granting(HOST),
    )
    world.domains.append(caller)
    before = world.memory(0)
    assert world.judge.raise_("x") == "high"
    assert world.memory(0) == before
    assert world.memory(1)[128] == 1


def test_what_an_exporter_did_for_a_handler_that_failed_is_taken_back() -> None:
    """Importer fails after the exporter served it: both are what they were, linked through values and directly."""
    body = words(f"{COUNT} (i32.load (i32.const 128))")
    importer = guest(
        "importer",
        f"""(import "{WORDS}" "double" (func $double (param i32) (result i32))) (memory (export "memory") 1)
        (func (export "{EVENTS}#add") {ADD} (local $got i32) {COUNT}
        (local.set $got (call $double (i32.const 1))) {FAIL} (local.get $got))""",
        imports=(WORDS,),
        handlers=("add",),
    )
    for direct in (False, True):
        world = World()
        policy = Policy({WORDS: Grant(WORDS, attenuations={"direct": direct})})
        world.domains += [world.runtime.load(exporter(body=body)), world.runtime.load(importer, policy)]
        before = world.memory(0), world.memory(1)
        assert world.add.raise_(1, 1) is None
        assert (world.memory(0), world.memory(1)) == before
        assert world.add.raise_(1, 2) == 1
        assert world.add.raise_(2, 2) is None
        assert world.add.raise_(1, 2) == 2
        assert [domain.counters.restarts for domain in world.domains] == [0, 0]


@pytest.mark.parametrize("tier", [0, 1, 2])
def test_a_raise_that_fails_as_a_whole_takes_back_those_that_succeeded(tier: int) -> None:
    """Where one failure fails the raise, handlers that ran before it did not happen either."""
    world = World(counter(name="first", fail=""), counter(name="second"), on_fault=OnFault.REFUSE)
    world.add.tier = tier
    before = world.memory(0), world.memory(1)
    with pytest.raises(HandlerFailed):
        world.add.raise_(1, 1)
    assert (world.memory(0), world.memory(1)) == before
    assert world.add.raise_(1, 2) == 1


@pytest.mark.parametrize("tier", [0, 1, 2])
def test_isolated_handlers_are_taken_back_one_by_one(tier: int) -> None:
    """Where failures are skipped, the others keep what they did: each counts its own successes."""
    fails = "(if (i32.eq (local.get $a) (i32.const {})) (then unreachable))"
    world = World(*(counter(name=f"e{number}", fail=fails.format(number)) for number in range(4)), fold=list)
    world.add.tier = tier
    assert world.add.raise_(9, 0) == [1, 1, 1, 1]
    assert world.add.raise_(2, 0) == [2, 2, 2]
    assert world.add.raise_(0, 0) == [3, 2, 3]
    assert world.add.raise_(9, 0) == [3, 4, 3, 4]


def test_the_same_instance_many_times_in_one_raise() -> None:
    """One handler of an instance fails, another one of the same instance in the same raise keeps what it did."""
    world = World(counter(), fold=list)
    world.add.install(world.domains[0])
    assert world.add.raise_(1, 2) == [1, 2]
    assert world.add.raise_(3, 3) is None
    assert world.add.raise_(1, 2) == [3, 4]


def test_a_transaction_that_is_not_committed_did_not_happen() -> None:
    """Several raises in a transaction see each other's changes; rolled back, all are gone, committed, all stay."""
    world = World(counter())
    before = world.memory()
    with Transaction() as transaction:
        assert transaction.raise_(world.add, 1, 2) == 1
        assert transaction.raise_(world.add, 1, 2) == 2
        assert transaction.raise_(world.add, 1, 1) is None
        assert transaction.raise_(world.add, 1, 2) == 3
    assert world.memory() == before
    with Transaction() as transaction:
        assert transaction.raise_(world.add, 1, 2) == 1
        transaction.commit()
    assert world.add.raise_(1, 2) == 2


def test_another_raise_does_not_see_what_is_not_committed() -> None:
    """An extension with changes of an open transaction refuses others, and serves them when that has ended."""
    world = World(counter())
    transaction = Transaction()
    assert transaction.raise_(world.add, 1, 2) == 1
    with pytest.raises(UsageError, match="still open"):
        world.add.raise_(1, 2)
    with Transaction() as other, pytest.raises(UsageError, match="still open"):
        other.raise_(world.add, 1, 2)
    assert transaction.raise_(world.add, 1, 2) == 2
    transaction.commit()
    assert world.add.raise_(1, 2) == 3
    assert world.domains[0].counters.faults == 0


def test_unloading_waits_for_an_open_transaction() -> None:
    """What would move or close an instance with uncommitted changes is done when they are settled."""
    world = World(counter(), counter(name="other"))
    transaction = Transaction()
    transaction.raise_(world.add, 1, 2)
    world.runtime.unload(world.domains[1])
    transaction.commit()
    assert world.add.raise_(1, 2) == 2


def test_a_guard_changes_nothing() -> None:
    """What a guard writes, memory and globals, is gone before any handler runs."""
    guard = f'(func (export "wants") {ADD} {COUNT} (global.set $top (i32.const 5000)) (i32.load (i32.const 128)))'
    world = World(counter(extra=guard))
    assert world.add.raise_(1, 2) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, ZeroDivisionError])
def test_python_errors_in_host_functions_take_everything_back(error: type[BaseException]) -> None:
    """An interrupt, lack of memory, a mistake of the host: what the handler did before is gone."""
    armed = [True]

    def again(_call: Call) -> None:
        if armed[0]:
            raise error

    world = World(counter("(call $again)"), functions={"again": again})
    before = world.memory()
    with contextlib.suppress(error, SpinError):
        world.add.raise_(1, 2)
    assert world.memory() == before
    armed[0] = False
    assert world.add.raise_(1, 2) == 1


class Thing:
    """A resource of the host."""


def test_handles_come_back_and_vanish() -> None:
    """A handle dropped in a failed call has its number and object again; one made in it is gone for good."""
    taken: list[Any] = []
    functions: dict[str, Closure] = {"lend": lambda _call: Thing(), "take": lambda _call, thing: taken.append(thing)}
    change = """
      (if (i32.eq (local.get $a) (i32.const 1)) (then (i32.store (i32.const 200) (call $lend))))
      (if (i32.eq (local.get $a) (i32.const 2)) (then (call $drop (i32.load (i32.const 200)))))
      (if (i32.eq (local.get $a) (i32.const 3)) (then (call $take (i32.load (i32.const 200)))))
      (if (i32.eq (local.get $a) (i32.const 4)) (then (i32.store (i32.const 204) (call $lend)) (call $drop
      (i32.load (i32.const 204)))))
    """
    world = World(counter(change), functions=functions)
    instance = world.domains[0].instance
    assert instance is not None
    assert world.add.raise_(1, 1) is None
    assert list_handles(instance) == []
    assert world.add.raise_(1, 0) == 1
    held = list_handles(instance)
    assert len(held) == 1
    for failing in (2, 3, 4):
        assert world.add.raise_(failing, failing) is None
        assert list_handles(instance) == held
    assert len(taken) == 1  # the host saw it; the guest has it back all the same
    assert world.add.raise_(4, 0) == 2
    assert list_handles(instance) == held
    assert world.add.raise_(2, 0) == 3
    assert list_handles(instance) == []
    assert world.add.raise_(2, 0) is None
    assert CapabilityRevoked.code in world.domains[0].counters.last_fault


def test_growth_of_a_nested_call_is_taken_back_when_the_outer_one_is_late() -> None:
    """The inner guest is made anew while the deadline of the call that it served has passed."""
    worlds: list[World] = []
    spin = f"{COUNT} (call $again) (loop $l (br $l)) (i32.const 0)"
    grow = f"{COUNT} (drop (memory.grow (i32.const 2))) (loop $l (br $l)) (i32.const 0)"
    head = f"{IMPORTS} {BUMP} (func (export"
    outer = f'{head} "{EVENTS}#add") (param i32 i32) (result i32) {spin})'
    inner = f'{head} "{EVENTS}#judge") (param i32 i32) (result i32) {grow})'
    world = World(
        guest("outer", outer, imports=(HOST,), handlers=("add",), limits={"deadline_ms": 10}),
        guest("inner", inner, imports=(HOST,), handlers=("judge",), limits={"deadline_ms": 5000}),
        functions={"again": lambda *_: worlds[0].judge.raise_("a text") and None},
    )
    worlds.append(world)
    before = [world.memory(0), world.memory(1)]
    for _ in range(3):
        assert world.add.raise_(1, 2) is None
        assert [world.memory(0), world.memory(1)] == before
    assert [one.counters.restarts for one in world.domains] == [0, 0]
    assert DeadlineExceeded.code in world.domains[0].counters.last_fault
