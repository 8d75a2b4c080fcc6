"""Events: order, results, faults and effects, with real guests."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import Any

import pytest

from spinrt._core import Call
from spinrt.errors import (
    AbiError,
    ClosedError,
    HandlerFailed,
    LinkError,
    NoHandler,
    SpinError,
    StateError,
    Trapped,
    UnresolvedImport,
    UsageError,
)
from spinrt.host.clock import ClockInterface
from spinrt.runtime import fold
from spinrt.runtime.call import Transaction
from spinrt.runtime.event import OnFault
from spinrt.runtime.policy import Policy
from spinrt.runtime.runtime import Runtime
from spinrt.sandbox.types import Err, Ok, Result
from tests.guests import BUMP, EVENTS, HOST, extension, granted, interfaces, runtime

NOTE = f'(import "{HOST}" "note" (func $note (param i32 i32)))'


@dataclass
class Note:
    """An effect that a test can see being applied."""

    text: str
    applied: list[str]

    def apply(self) -> None:
        self.applied.append(self.text)


def noting(applied: list[str]) -> Any:
    return {"note": lambda call, text: call.journal.append(Note(text, applied))}


def adder(name: str, plus: int, order: int = 100) -> Any:
    body = f'(func (export "{EVENTS}#add") (param i32 i32) (result i32) (i32.add (local.get 0) (i32.const {plus})))'
    return extension(body, name=name, handlers=("add",), order=order, imports=())


def noter(name: str, text: str, after: str = "") -> Any:
    """A guest that notes a text on `ping` and then does ``after``."""
    body = (
        f'{NOTE} {BUMP} (data (i32.const 64) "{text}")'
        f'(func (export "{EVENTS}#ping") (call $note (i32.const 64) (i32.const {len(text)})) {after})'
    )
    return extension(body, name=name, handlers=("ping",))


def test_handlers_run_in_order_and_results_fold() -> None:
    """Lower numbers run first; equal numbers in order of installation; the last result counts."""
    made = runtime(events=())
    event = made.define(f"{EVENTS}#add", fold=fold.every)
    for name, plus, order in (("third", 3, 200), ("first", 1, 50), ("second", 2, 100)):
        made.load(adder(name, plus, order))
    assert event.raise_(10, 0) == [11, 12, 13]
    assert [binding.domain.name for binding in event.bindings if binding.domain] == ["first", "second", "third"]


def test_every_order_of_install_uninstall_and_raise_agrees_with_a_list() -> None:
    """For all orders of three installs and one uninstall, the event does what a sorted Python list does."""
    for order in permutations([0, 1, 2]):
        for gone in (0, 1, 2):
            made = runtime()
            event = made.define(f"{EVENTS}#add", fold=fold.every)
            bindings = {}
            for number in order:
                handler = lambda call, left, right, number=number: left + number  # noqa: E731
                bindings[number] = event.install(handler, order=number)
            event.uninstall(bindings[gone])
            assert event.raise_(0, 0) == [number for number in (0, 1, 2) if number != gone]


def test_enum_results_fold_to_the_highest_and_results_to_the_first_error() -> None:
    """The fold follows the result's type when none is given."""
    made = runtime(events=("judge", "check"))
    for mood in ("middle", "high", "low"):
        made.events[f"{EVENTS}#judge"].install(lambda call, text, mood=mood: mood)
    answers: tuple[Result, ...] = (Ok(), Err("no"), Err("never"))
    for answer in answers:
        made.events[f"{EVENTS}#check"].install(lambda call, text, answer=answer: answer)
    assert made.events[f"{EVENTS}#judge"].raise_("x") == "high"
    assert made.events[f"{EVENTS}#check"].raise_("x") == Err("no")


@pytest.mark.parametrize("name", ["highest", "lowest", None])
@pytest.mark.parametrize("moods", [["low"], ["low", "low"], ["high", "high", "high"]])
def test_enum_results_that_agree_fold_to_what_they_say(name: str | None, moods: list[str]) -> None:
    """One or many of the same."""
    event = runtime(events=("judge",)).events[f"{EVENTS}#judge"]
    event.set_fold(name)
    for mood in moods:
        event.install(lambda call, text, mood=mood: mood)
    assert event.raise_("x") == moods[0]


@pytest.mark.parametrize("answer", ["none such", 7, [], None])
@pytest.mark.parametrize("count", [1, 3])
def test_results_that_are_no_case_are_refused_though_they_agree(answer: object, count: int) -> None:
    """Handlers in Python may answer anything."""
    event = runtime(events=("judge",)).events[f"{EVENTS}#judge"]
    for _ in range(count):
        event.install(lambda call, text: answer)
    with pytest.raises(SpinError):
        event.raise_("x")


def test_no_handler_is_an_error_only_when_a_result_is_due() -> None:
    """Without handlers an event without a result does nothing; one with a result needs a default."""
    made = runtime(events=("ping", "add"))
    assert made.events[f"{EVENTS}#ping"].raise_() is None
    with pytest.raises(NoHandler):
        made.events[f"{EVENTS}#add"].raise_(1, 2)
    assert made.define(f"{EVENTS}#judge", default="low").raise_("x") == "low"


def test_effects_are_applied_when_the_raise_succeeded() -> None:
    """Effects of all handlers are applied in order, after the last handler ran."""
    applied: list[str] = []
    made = runtime(noting(applied), events=("ping",))
    made.load(noter("one", "first"), granted())
    made.load(noter("two", "second"), granted())
    made.events[f"{EVENTS}#ping"].install(lambda call: applied.append("host"), order=500)
    made.events[f"{EVENTS}#ping"].raise_()
    assert applied == ["host", "first", "second"]


def test_faulting_handler_is_skipped_with_its_effects() -> None:
    """Others run, its own effects are dropped, and the next raise finds it as it was."""
    applied: list[str] = []
    made = runtime(noting(applied), events=("ping",))
    made.load(noter("bad", "lost", "unreachable"), granted())
    domain = made.load(noter("good", "kept"), granted())
    for _ in range(3):
        made.events[f"{EVENTS}#ping"].raise_()
    assert applied == ["kept"] * 3
    bad = made.domains["bad"].counters
    assert (bad.faults, bad.restarts, domain.counters.faults) == (3, 0, 0)
    assert "unreachable" in bad.last_fault


def test_refusing_event_fails_and_applies_nothing() -> None:
    """With on_fault refuse, one fault drops the effects of all."""
    applied: list[str] = []
    made = runtime(noting(applied))
    event = made.define(f"{EVENTS}#ping", on_fault=OnFault.REFUSE)
    made.load(noter("good", "kept"), granted())
    made.load(noter("bad", "lost", "unreachable"), granted())
    with pytest.raises(HandlerFailed, match="bad"):
        event.raise_()
    assert applied == []


def test_transaction_applies_all_raises_or_none() -> None:
    """Raises in one transaction share a journal; leaving it without commit drops everything."""
    applied: list[str] = []
    made = runtime(noting(applied), events=("ping",))
    made.load(noter("one", "first"), granted())
    event = made.events[f"{EVENTS}#ping"]
    with Transaction() as transaction:
        transaction.raise_(event)
        transaction.raise_(event)
        assert len(transaction.effects) == 2
    assert applied == []
    with pytest.raises(StateError):
        transaction.raise_(event)
    with Transaction() as transaction:
        transaction.raise_(event)
        transaction.commit()
    assert applied == ["first"]


def test_effect_limit_holds_for_each_handler() -> None:
    """A handler that promises more than it may is a fault; its effects are dropped."""
    applied: list[str] = []
    made = runtime(noting(applied), events=("ping",))
    loop = "(local $i i32) (loop (call $note (i32.const 64) (i32.const 1)) (br 0))"
    body = f'{NOTE} {BUMP} (func (export "{EVENTS}#ping") {loop})'
    made.load(extension(body, handlers=("ping",), limits={"effects": 5}), granted())
    made.events[f"{EVENTS}#ping"].raise_()
    assert applied == []
    assert "limits.effects" in made.domains["guest"].counters.last_fault


@pytest.mark.parametrize(("undo_bytes", "left"), [(0, 5), (65_536, 15)])
def test_a_fault_takes_back_one_call_or_everything(undo_bytes: int, left: int) -> None:
    """After a fault the memory is what it was before the call; without an undo log it is that of a fresh instance."""
    body = (
        '(memory (export "memory") 1)'
        f'(func (export "{EVENTS}#add") (param i32 i32) (result i32)'
        " (i32.store (i32.const 64) (i32.add (i32.load (i32.const 64)) (local.get 0)))"
        " (if (local.get 1) (then unreachable)) (i32.load (i32.const 64)))"
    )
    made = runtime()
    event = made.define(f"{EVENTS}#add", default=-1)
    made.load(extension(body, handlers=("add",), imports=(), limits={"undo_bytes": undo_bytes}))
    assert [event.raise_(5, 0), event.raise_(5, 0), event.raise_(5, 1), event.raise_(5, 0)] == [5, 10, -1, left]


def test_unloading_uninstalls_and_closes() -> None:
    """After unload nothing of it runs, its name is free, and what Python kept of it is closed."""
    made = runtime(events=("add",))
    domain = made.load(adder("one", 1))
    event = made.events[f"{EVENTS}#add"]
    made.unload(domain)
    with pytest.raises(NoHandler):
        event.raise_(1, 2)
    with pytest.raises(StateError):
        made.unload(domain)
    made.load(adder("one", 2))
    assert event.raise_(1, 0) == 3
    with pytest.raises((UsageError, ClosedError)):
        event.install(domain)


def test_uninstalling_oneself_while_running_ends_after_this_raise() -> None:
    """A raise walks the table that it began with."""
    made = runtime()
    event = made.define(f"{EVENTS}#add", fold=fold.every)
    bindings: list[Any] = []

    def leave(call: Call, left: int, right: int) -> int:
        for binding in bindings:
            event.uninstall(binding)
        return 0

    bindings.append(event.install(leave, order=1))
    bindings.append(event.install(lambda call, left, right: 1, order=2))
    assert event.raise_(0, 0) == [0, 1]
    with pytest.raises(NoHandler):
        event.raise_(0, 0)


def test_reentrant_raise_is_refused_for_the_running_guest_only() -> None:
    """A guest that causes a raise of its own event is not entered again; the inner raise skips it."""
    depth: list[str] = []
    made = runtime({"again": lambda call: inner()}, events=("ping",))
    event = made.events[f"{EVENTS}#ping"]

    def inner() -> None:
        depth.append("inner")
        event.raise_()

    made.load(
        extension(
            f'(import "{HOST}" "again" (func $again)) (func (export "{EVENTS}#ping") (call $again))', handlers=("ping",)
        ),
        granted(),
    )
    event.install(lambda call: depth.append("host"), order=500)
    event.raise_()
    assert depth == ["inner", "host", "host"]
    assert made.domains["guest"].counters.faults == 1


def test_wrong_arguments_are_the_raisers_mistake() -> None:
    """Nobody is blamed or restarted for arguments of the wrong type."""
    made = runtime(events=("add",))
    made.load(adder("one", 1))
    with pytest.raises(UsageError, match="expected an integer"):
        made.events[f"{EVENTS}#add"].raise_("x", 2)
    with pytest.raises(UsageError, match="arguments"):
        made.events[f"{EVENTS}#add"].raise_(1)
    assert made.domains["one"].counters.faults == 0


def test_init_refusal_keeps_the_extension_out() -> None:
    """An extension whose init says no is not installed, and its name stays free."""
    body = (
        f'{BUMP} (data (i32.const 32) "bad rules") (func (export "spinrt:extension/lifecycle@1.0.0#init") (result i32)'
        " (i32.store (i32.const 16) (i32.const 1)) (i32.store (i32.const 20) (i32.const 32))"
        " (i32.store (i32.const 24) (i32.const 9)) (i32.const 16))"
    )
    from spinrt.sandbox.loader import check_extension
    from spinrt.sandbox.manifest import Manifest
    from tests.guests import wat

    manifest = Manifest.parse(
        "{spinrt: 1, name: x, version: 1.0.0, module: x.wasm, exports: ['spinrt:extension/lifecycle@1.0.0']}"
    )
    made = Runtime()
    with pytest.raises(LinkError, match="bad rules"):
        made.load(check_extension(manifest, wat(f"(module {body})")))
    assert made.domains == {}


def test_event_that_nobody_defines_is_refused() -> None:
    """Handlers need an event; events need an interface."""
    with pytest.raises(UsageError, match="nobody defines"):
        runtime().load(adder("one", 1))
    with pytest.raises(UnresolvedImport, match="no function"):
        runtime().define(f"{EVENTS}#nothing")


def test_guest_that_answers_nonsense_is_a_fault() -> None:
    """A result that breaks the ABI is skipped like a trap."""
    made = runtime()
    event = made.define(f"{EVENTS}#judge", default="low")
    body = f'{BUMP} (func (export "{EVENTS}#judge") (param i32 i32) (result i32) (i32.const 99))'
    made.load(extension(body, handlers=("judge",), imports=()))
    assert event.raise_("x") == "low"
    assert made.domains["guest"].counters.last_fault.startswith(AbiError.code)
    assert Trapped.code not in made.domains["guest"].counters.last_fault


def test_runtime_belongs_to_its_thread() -> None:
    """Loading from another thread is refused."""
    import threading

    made = Runtime(interfaces=interfaces())
    caught: list[BaseException] = []

    def load() -> None:
        try:
            made.load(adder("one", 1))
        except StateError as error:
            caught.append(error)

    thread = threading.Thread(target=load)
    thread.start()
    thread.join()
    assert len(caught) == 1


def test_interrupt_leaves_the_next_raise_whole() -> None:
    """Ctrl-C inside a host function ends the raise; the guest is fresh for the next one, and nobody is blamed."""
    answers: list[BaseException | None] = [KeyboardInterrupt(), None]
    applied: list[str] = []

    def note(call: Call, text: str) -> None:
        answer = answers.pop(0)
        if answer is not None:
            raise answer
        call.journal.append(Note(text, applied))

    made = runtime({"note": note}, events=("ping",))
    made.load(noter("one", "first"), granted())
    with pytest.raises(KeyboardInterrupt):
        made.events[f"{EVENTS}#ping"].raise_()
    made.events[f"{EVENTS}#ping"].raise_()
    assert applied == ["first"]
    assert made.domains["one"].counters.faults == 0


def test_instance_whose_init_refuses_is_never_used() -> None:
    """When a restart's init says no, handlers stay out until an init agrees."""
    from spinrt.sandbox.loader import check_extension
    from spinrt.sandbox.manifest import Manifest
    from spinrt.sandbox.wit import Interfaces, Source, shipped
    from tests.guests import TEST_WIT, wat

    clock = "spinrt:clock/clock@1.0.0"
    body = (
        f'(import "{clock}" "now" (func $now (result i64))) {BUMP}'
        '(func (export "spinrt:extension/lifecycle@1.0.0#init") (result i32)'
        " (i32.store (i32.const 16) (i64.eqz (call $now))) (i32.store (i32.const 20) (i32.const 0))"
        " (i32.store (i32.const 24) (i32.const 0)) (i32.const 16))"
        f'(func (export "{EVENTS}#add") (param i32 i32) (result i32)'
        " (if (local.get 1) (then unreachable)) (i32.const 7))"
    )
    known = Interfaces.parse([Source("test.wit", TEST_WIT)], known=shipped())
    manifest = Manifest.parse(
        f"{{spinrt: 1, name: x, version: 1.0.0, module: x.wasm, imports: ['{clock}'],"
        f" exports: ['spinrt:extension/lifecycle@1.0.0'], handlers: ['{EVENTS}#add'], limits: {{undo_bytes: 0}}}}"
    )
    times = [1]
    made = Runtime(interfaces=known)
    made.export(ClockInterface(lambda: times[-1]))
    event = made.define(f"{EVENTS}#add", default=0)
    made.load(check_extension(manifest, wat(f"(module {body})"), interfaces=known), Policy.granting(clock))
    assert event.raise_(0, 0) == 7
    times.append(0)
    assert [event.raise_(0, 1), event.raise_(0, 0), event.raise_(0, 0)] == [0, 0, 0]
    times.append(2)
    assert [event.raise_(0, 0), event.raise_(0, 0)] == [0, 7]


def test_results_and_defaults_that_are_no_case_are_refused() -> None:
    """A Python handler or a default that answers nonsense is named."""
    made = runtime(events=("judge",))
    made.events[f"{EVENTS}#judge"].install(lambda call, text: "hihg")
    with pytest.raises(UsageError, match="hihg"):
        made.events[f"{EVENTS}#judge"].raise_("x")
    with pytest.raises(UsageError, match="default"):
        runtime().define(f"{EVENTS}#judge", default="lwo")
