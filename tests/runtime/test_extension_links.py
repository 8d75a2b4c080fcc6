"""Extensions that import from extensions: values, authority, whose fault it is, and what holds them back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinrt._core import Call
from spinrt.errors import HandlerFailed, LinkDenied, LinkError, StateError, UnresolvedImport
from spinrt.runtime.capability import Grant
from spinrt.runtime.domain import Domain
from spinrt.runtime.event import OnFault
from spinrt.runtime.policy import Policy
from tests.guests import BUMP, EVENTS, HOST
from tests.runtime.linked_guests import (
    ALL_WORDS,
    MORE,
    WORDS,
    exporter,
    guest,
    importer,
    runtime,
    words,
)

GRANTED = Policy.granting(WORDS)
BOTH = Policy.granting(WORDS, HOST)
NOTE = f'(import "{HOST}" "note" (func $note (param i32 i32)))'
# Answers with what `shout` of the exporter made of the text.
ECHO = f"""
(import "{WORDS}" "shout" (func $shout (param i32 i32 i32))) {BUMP}
(func (export "{EVENTS}#echo") (param i32 i32) (result i32)
  (call $shout (local.get 0) (local.get 1) (i32.const 32)) (i32.const 32))
"""


@dataclass
class Note:
    text: str
    applied: list[str]

    def apply(self) -> None:
        self.applied.append(self.text)


def noting(applied: list[str], callers: list[str] | None = None) -> dict[str, Any]:
    def note(call: Call, text: str) -> None:
        call.journal.append(Note(text, applied))
        if callers is not None:
            callers.append(call.domain.name)

    return {"note": note}


def test_import_is_served_by_an_extension() -> None:
    """A scalar goes over and its answer comes back."""
    made = runtime()
    made.load(exporter())
    made.load(importer(), GRANTED)
    assert made.events[f"{EVENTS}#add"].raise_(21, 0) == 42


@settings(max_examples=30, deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8"), min_size=1, max_size=200))
def test_text_goes_over_and_back(text: str) -> None:
    """Strings are lifted from the one memory and lowered into the other, both ways."""
    made = runtime(events=("echo",))
    made.load(exporter())
    made.load(guest("echo", ECHO, imports=(WORDS,), handlers=("echo",)), GRANTED)
    first = text.encode()[0] & 223
    try:
        expected = (bytes([first]) + text.encode()[1:]).decode()
    except UnicodeDecodeError:
        expected = None
    assert made.events[f"{EVENTS}#echo"].raise_(text) == expected


def test_compound_values_go_over_and_back() -> None:
    """Records, lists and variants too: the importer gives the count back that it got inside of a list of a variant."""
    body = f"""
    (import "{WORDS}" "repeat" (func $repeat (param i32 i32 i32 i32))) {BUMP} (data (i32.const 100) "word")
    (func (export "{EVENTS}#add") (param i32 i32) (result i32)
      (call $repeat (i32.const 100) (i32.const 4) (local.get 0) (i32.const 200))
      (i32.add (i32.mul (i32.load8_u (i32.const 200)) (i32.const 1000))
        (i32.load (i32.add (i32.load (i32.const 204)) (i32.const 8)))))
    """
    made = runtime()
    made.load(exporter())
    made.load(guest("repeater", body, imports=(WORDS,), handlers=("add",)), GRANTED)
    assert made.events[f"{EVENTS}#add"].raise_(7, 0) == 1007


def test_importer_needs_a_grant_of_what_it_imports() -> None:
    """An interface of another extension is granted like any other, function by function."""
    made = runtime()
    made.load(exporter())
    with pytest.raises(LinkDenied, match="not granted"):
        made.load(importer())
    with pytest.raises(LinkDenied, match="double"):
        made.load(importer(), Policy({WORDS: Grant(WORDS, ("shout",))}))
    made.load(importer(), Policy({WORDS: Grant(WORDS, ("double",))}))


def test_policy_of_the_exporter_decides_who_may_import() -> None:
    """It keeps an interface back, or gives it to some; that holds for direct resolving too."""
    made = runtime()
    hidden = made.load(exporter(), Policy.from_mapping({"exports": {}}))
    with pytest.raises(UnresolvedImport, match="nobody exports"):
        made.load(importer(), GRANTED)
    made.unload(hidden)
    chosen = made.load(exporter(), Policy.from_mapping({"exports": {WORDS: {"to": ["other", "third"]}}}))
    with pytest.raises(LinkDenied, match="words exports it to other, third only"):
        made.load(importer(), GRANTED)
    with pytest.raises(LinkDenied, match="only"):
        made.create(importer(), GRANTED).resolve(chosen)
    made.load(importer("third"), GRANTED)
    made.unload(made.domains["third"])
    made.unload(chosen)
    made.load(exporter(), Policy.from_mapping({"exports": {WORDS: {}}}))
    made.load(importer(), GRANTED)


def test_authorizer_sees_the_importer_itself() -> None:
    """It is asked at each import, with the domain and its grant, not with a name that anybody can take."""
    asked: list[tuple[Domain, Grant]] = []

    def authorize(importing: Domain, grant: Grant) -> str | None:
        asked.append((importing, grant))
        return None if importing.extension.manifest.version == "1.0.0" else "too new"

    made = runtime()
    made.load(exporter(), authorizer=authorize)
    domain = made.load(importer(), GRANTED)
    assert asked == [(domain, GRANTED.grants[WORDS])]
    with pytest.raises(LinkDenied, match="too new"):
        made.load(importer("second", version="2.0.0"), GRANTED)


def test_exporter_runs_as_itself_in_the_call_of_the_importer() -> None:
    """Host functions see who calls; effects of both go into one journal, in order, and are committed together."""
    applied: list[str] = []
    callers: list[str] = []
    made = runtime(noting(applied, callers))
    note = "(call $note (i32.const 8) (i32.const 1))"
    inner = words(f"{note} (local.get 0)", f'{NOTE} (data (i32.const 8) "w")')
    outer = f"""
    (import "{WORDS}" "double" (func $double (param i32) (result i32))) {NOTE} {BUMP} (data (i32.const 8) "i")
    (func (export "{EVENTS}#add") (param i32 i32) (result i32)
      {note} (drop (call $double (i32.const 1))) {note} (i32.const 5))
    """
    made.load(exporter(body=inner, imports=(HOST,)), Policy.granting(HOST))
    made.load(guest("outer", outer, imports=(WORDS, HOST), handlers=("add",)), BOTH)
    assert made.events[f"{EVENTS}#add"].raise_(1, 1) == 5
    assert applied == ["i", "w", "i"]
    assert callers == ["outer", "words", "outer"]


def test_fault_of_the_exporter_is_pinned_to_it() -> None:
    """The exporter is noted, the importer is cut short and not noted; both are what they were, effects gone."""
    applied: list[str] = []
    made = runtime(noting(applied))
    trap = "(call $note (i32.const 8) (i32.const 1)) (if (i32.eqz (local.get 0)) (then unreachable)) (local.get 0)"
    made.load(exporter(body=words(trap, NOTE), imports=(HOST,)), Policy.granting(HOST))
    made.load(importer(), GRANTED)
    event = made.events[f"{EVENTS}#add"]
    assert [event.raise_(0, 0), event.raise_(3, 0), event.raise_(0, 0), event.raise_(4, 0)] == [None, 3, None, 4]
    at_fault, cut_short = made.domains["words"].counters, made.domains["doubler"].counters
    assert (at_fault.faults, at_fault.restarts) == (2, 0)
    assert (cut_short.faults, cut_short.restarts) == (0, 0)
    assert "unreachable" in at_fault.last_fault
    assert len(applied) == 2


def test_fault_goes_through_a_chain_and_stays_with_who_failed() -> None:
    """Of three, the last one fails: it alone is noted, all three are what they were."""
    middle = f"""
    (import "{WORDS}" "double" (func $double (param i32) (result i32)))
    (func (export "{MORE}#triple") (param i32) (result i32) (i32.add (call $double (local.get 0)) (local.get 0)))
    """
    first = f"""
    (import "{MORE}" "triple" (func $triple (param i32) (result i32)))
    (func (export "{EVENTS}#add") (param i32 i32) (result i32) (call $triple (local.get 0)))
    """
    made = runtime()
    last = words("(i32.div_u (i32.mul (local.get 0) (i32.mul (local.get 0) (i32.const 2))) (local.get 0))")
    made.load(exporter(body=last))
    made.load(guest("middle", middle, imports=(WORDS,), exports=(MORE,)), GRANTED)
    made.load(guest("first", first, imports=(MORE,), handlers=("add",)), Policy.granting(MORE))
    event = made.events[f"{EVENTS}#add"]
    assert [event.raise_(5, 0), event.raise_(0, 0), event.raise_(6, 0)] == [15, None, 18]
    counted = {name: (one.counters.faults, one.counters.restarts) for name, one in made.domains.items()}
    assert counted == {"words": (1, 0), "middle": (0, 0), "first": (0, 0)}


def test_fault_of_the_importer_leaves_the_exporter_alone() -> None:
    """What the importer does with the answer is its own affair."""
    body = f"""
    (import "{WORDS}" "double" (func $double (param i32) (result i32)))
    (func (export "{EVENTS}#add") (param i32 i32) (result i32) (drop (call $double (local.get 0))) unreachable)
    """
    made = runtime()
    made.load(exporter())
    made.load(importer(body=body), GRANTED)
    assert made.events[f"{EVENTS}#add"].raise_(1, 0) is None
    assert made.domains["words"].counters.faults == 0
    assert made.domains["words"].counters.restarts == 0
    assert made.domains["doubler"].counters.faults == 1


def test_nonsense_from_the_importer_is_the_importers_fault() -> None:
    """A string outside of the importer's memory is found when it is lifted; the exporter never runs."""
    body = ECHO.replace("(call $shout (local.get 0) (local.get 1)", "(call $shout (i32.const 65530) (i32.const 100)")
    made = runtime(events=("echo",))
    made.load(exporter())
    made.load(guest("echo", body, imports=(WORDS,), handlers=("echo",)), GRANTED)
    assert made.events[f"{EVENTS}#echo"].raise_("x") is None
    assert made.domains["words"].counters.faults == 0
    assert made.domains["echo"].counters.faults == 1


def test_nonsense_from_the_exporter_is_the_exporters_fault() -> None:
    """An answer that breaks the ABI is found when it is lifted, and never reaches the importer."""
    made = runtime(events=("echo",))
    bad = ALL_WORDS.replace("(i32.store (i32.const 20) (local.get 1))", "(i32.store (i32.const 20) (i32.const -1))")
    made.load(exporter(body=bad))
    made.load(guest("echo", ECHO, imports=(WORDS,), handlers=("echo",)), GRANTED)
    assert made.events[f"{EVENTS}#echo"].raise_("x") is None
    assert made.domains["words"].counters.faults == 1
    assert made.domains["echo"].counters.faults == 0


def test_reentrant_call_is_refused() -> None:
    """The exporter causes a raise of the event that the importer is running for: nobody is entered twice."""
    made = runtime({"again": lambda call: made.events[f"{EVENTS}#add"].raise_(1, 0)})
    body = words("(call $again) (local.get 0)", f'(import "{HOST}" "again" (func $again))')
    made.load(exporter(body=body, imports=(HOST,)), Policy.granting(HOST))
    made.load(importer(), GRANTED)
    assert made.events[f"{EVENTS}#add"].raise_(9, 0) == 9
    assert made.domains["doubler"].counters.faults == 1
    assert "entered once" in made.domains["doubler"].counters.last_fault


def test_reentrant_call_of_the_exporter_is_the_importers_failure() -> None:
    """The exporter is running for somebody else: whoever calls it then is refused, and the exporter is not at fault."""
    made = runtime({"again": lambda call: made.events[f"{EVENTS}#add"].raise_(1, 0)}, events=("add", "ping"))
    ping = f'(func (export "{EVENTS}#ping") (call $again))'
    body = f'(import "{HOST}" "again" (func $again)) {ALL_WORDS} {ping}'
    made.load(exporter(body=body, imports=(HOST,), handlers=("ping",)), Policy.granting(HOST))
    made.load(importer(), GRANTED)
    made.events[f"{EVENTS}#ping"].raise_()
    assert made.domains["words"].counters.faults == 0
    assert made.domains["doubler"].counters.faults == 1
    assert made.events[f"{EVENTS}#add"].raise_(4, 0) == 8


def test_effects_of_the_exporter_are_bounded_by_its_own_limit() -> None:
    """The importer's room does not widen what the exporter may promise."""
    applied: list[str] = []
    made = runtime(noting(applied))
    note = "(call $note (i32.const 8) (i32.const 1))"
    made.load(
        exporter(body=words(f"{note * 3} (local.get 0)", NOTE), imports=(HOST,), limits={"effects": 2}),
        Policy.granting(HOST),
    )
    made.load(importer(), GRANTED)
    assert made.events[f"{EVENTS}#add"].raise_(1, 0) is None
    assert applied == []
    assert (made.domains["words"].counters.faults, made.domains["doubler"].counters.faults) == (1, 0)


def test_effects_of_the_exporter_count_for_the_importer() -> None:
    """Nobody gets more room by asking somebody else."""
    applied: list[str] = []
    made = runtime(noting(applied))
    note = "(call $note (i32.const 8) (i32.const 1))"
    made.load(exporter(body=words(f"{note * 3} (local.get 0)", NOTE), imports=(HOST,)), Policy.granting(HOST))
    made.load(importer(limits={"effects": 2}), GRANTED)
    assert made.events[f"{EVENTS}#add"].raise_(1, 0) is None
    assert applied == []


def test_exporter_in_use_is_not_unloaded() -> None:
    """The error names who uses it; unresolved, it goes, and the importer waits for another one."""
    made = runtime()
    source = made.load(exporter())
    domain = made.load(importer(), GRANTED)
    second = made.load(importer("second"), GRANTED)
    with pytest.raises(StateError, match="in use by doubler, second"):
        made.unload(source)
    assert made.events[f"{EVENTS}#add"].raise_(1, 0) == 2
    made.unload(second)
    domain.unresolve(source)
    made.unload(source)
    assert made.events[f"{EVENTS}#add"].raise_(1, 0) is None
    domain.resolve(made.load(exporter("other", words("(i32.mul (local.get 0) (i32.const 10))"))))
    domain.initialize()
    assert made.events[f"{EVENTS}#add"].raise_(1, 0) == 10


def test_exporter_unloaded_under_a_raise_serves_until_it_ends() -> None:
    """A raise runs what was there when it began."""
    made = runtime()
    source = made.load(exporter())
    domain = made.load(importer(), GRANTED)

    def meddle(call: Call, left: int, right: int) -> int:
        domain.unresolve(source)
        made.unload(source)
        return 0

    event = made.events[f"{EVENTS}#add"]
    binding = event.install(meddle, order=1)
    assert event.raise_(2, 0) == 4
    event.uninstall(binding)
    assert event.raise_(2, 0) is None


def test_cycles_are_refused_by_name() -> None:
    """An import that would lead back to the importer is not bound."""
    made = runtime()
    body = f'(import "{WORDS}" "double" (func (param i32) (result i32))) {ALL_WORDS}'
    own = made.create(guest("narcissus", body, imports=(WORDS,), exports=(WORDS,)), GRANTED)
    with pytest.raises(LinkError, match="narcissus -> narcissus"):
        own.resolve(own)


def test_resources_of_an_extension_cannot_be_imported() -> None:
    """An interface with resources is the host's: an extension that claims to export it serves no methods."""
    made = runtime()
    body = f'(import "{HOST}" "[method]thing.name" (func (param i32 i32)))'
    domain = made.create(guest("asker", body, imports=(HOST,)), Policy.granting(HOST))
    exports = "".join(
        f'(func (export "{HOST}#{name}") {core})'
        for name, core in (
            ("note", "(param i32 i32)"),
            ("shout", "(param i32 i32) (result i32) (i32.const 16)"),
            ("again", ""),
            ("lend", "(result i32) (i32.const 1)"),
            ("take", "(param i32)"),
        )
    )
    source = made.create(guest("fake", f"{BUMP} {exports}", exports=(HOST,)))
    source.initialize()
    with pytest.raises(LinkError, match="fake exports no such function"):
        domain.resolve(source)
    assert source.importers() == ()


def test_interrupt_in_the_exporter_leaves_both_fresh() -> None:
    """Ctrl-C below an extension's import is nobody's fault, and the next raise works."""
    answers: list[BaseException | None] = [KeyboardInterrupt(), None]

    def again(call: Call) -> None:
        if (answer := answers.pop(0)) is not None:
            raise answer

    made = runtime({"again": again})
    body = words("(call $again) (local.get 0)", f'(import "{HOST}" "again" (func $again))')
    made.load(exporter(body=body, imports=(HOST,)), Policy.granting(HOST))
    made.load(importer(), GRANTED)
    event = made.events[f"{EVENTS}#add"]
    with pytest.raises(KeyboardInterrupt):
        event.raise_(1, 0)
    assert event.raise_(1, 0) == 1
    assert [one.counters.faults for one in made.domains.values()] == [0, 0]


def test_refusing_event_names_the_exporter() -> None:
    """What the raiser is told says which import failed, and of whom."""
    made = runtime(events=())
    event = made.define(f"{EVENTS}#add", on_fault=OnFault.REFUSE)
    made.load(exporter(body=words("unreachable")))
    made.load(importer(), GRANTED)
    with pytest.raises(HandlerFailed, match=f"doubler failed: .*{WORDS}#double from words.*unreachable"):
        event.raise_(1, 0)


def looping(deadline_ms: int) -> tuple[Any, Policy]:
    """An exporter that never comes back, and a policy that lets it."""
    limits = {"deadline_ms": deadline_ms}
    return exporter(body=words("(loop (br 0)) (local.get 0)"), limits=limits), Policy.from_mapping({"limits": limits})


def test_deadline_of_the_importer_holds_in_the_exporter() -> None:
    """Asking somebody with more time gives nobody more time: the importer's call is over, and it is its fault."""
    made = runtime()
    made.load(*looping(60_000))
    made.load(importer(limits={"deadline_ms": 20}), GRANTED)
    assert made.events[f"{EVENTS}#add"].raise_(1, 0) is None
    assert made.domains["words"].counters.faults == 0
    assert made.domains["doubler"].counters.faults == 1
    assert "still running at the importer's deadline" in made.domains["doubler"].counters.last_fault
    assert [one.counters.restarts for one in made.domains.values()] == [0, 0]


def test_deadline_of_the_exporter_is_its_own() -> None:
    """It ends first: the exporter is at fault, the importer is cut short."""
    made = runtime()
    made.load(*looping(20))
    limits = {"deadline_ms": 60_000}
    made.load(importer(limits=limits), Policy(GRANTED.grants, Policy.from_mapping({"limits": limits}).limits))
    assert made.events[f"{EVENTS}#add"].raise_(1, 0) is None
    assert made.domains["words"].counters.last_fault.startswith("extension.deadline: ")
    assert (made.domains["words"].counters.faults, made.domains["doubler"].counters.faults) == (1, 0)


def test_deadline_of_a_handler_holds_in_raises_that_it_causes() -> None:
    """A handler that has an event raised for it is over when its own time is: who ran for it then is not at fault."""
    made = runtime({"again": lambda call: made.events[f"{EVENTS}#ping"].raise_()}, events=("add", "ping"))
    limits = {"deadline_ms": 60_000}
    forever = guest("forever", f'(func (export "{EVENTS}#ping") (loop (br 0)))', handlers=("ping",), limits=limits)
    made.load(forever, Policy.from_mapping({"limits": limits}))
    body = f"""
    (import "{HOST}" "again" (func $again))
    (func (export "{EVENTS}#add") (param i32 i32) (result i32) (call $again) (loop (br 0)) (i32.const 1))
    """
    made.load(guest("outer", body, imports=(HOST,), handlers=("add",), limits={"deadline_ms": 20}), BOTH)
    assert made.events[f"{EVENTS}#add"].raise_(1, 0) is None
    assert (made.domains["forever"].counters.faults, made.domains["outer"].counters.faults) == (0, 1)
