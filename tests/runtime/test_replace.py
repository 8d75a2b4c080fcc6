"""Hot swap: a new version between two raises, the last good one when anything is wrong with it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from spinrt.errors import LinkDenied, LinkError, ModuleError, SpinError, StateError, UsageError
from spinrt.runtime import fold
from spinrt.runtime.capability import Functions
from spinrt.runtime.domain import Domain, DomainState
from spinrt.runtime.inspect import describe
from spinrt.runtime.order import FIRST
from spinrt.runtime.policy import Policy
from spinrt.runtime.replace import Probation
from spinrt.runtime.runtime import Runtime
from tests.guests import BUMP, EVENTS, HOST
from tests.runtime.clocks import HandClock
from tests.runtime.linked_guests import (
    ALL_WORDS,
    LIFECYCLE,
    MORE,
    WORDS,
    exporter,
    guest,
    importer,
    interfaces,
    runtime,
    words,
)

ADD = f"{EVENTS}#add"
GRANTED = Policy.granting(WORDS)
TEN_TIMES = "(i32.mul (local.get 0) (i32.const 10))"


def only_five(call: Any, left: int, right: int) -> bool:
    """A guard that others impose."""
    return left == 5


INIT = f'(func (export "{LIFECYCLE}#init") (result i32) (i32.const 64))'
REFUSING = f"""
{BUMP} (data (i32.const 64) "\\01\\00\\00\\00\\60\\00\\00\\00\\02\\00\\00\\00") (data (i32.const 96) "no") {INIT}
"""


def adding(plus: int, *, version: str = "1.0.0", name: str = "adder", body: str = "", **options: Any) -> Any:
    """Answers its left argument and ``plus``, and traps when the right one is 1."""
    add = f"""
    (func (export "{ADD}") (param i32 i32) (result i32)
      (if (i32.eq (local.get 1) (i32.const 1)) (then unreachable)) (i32.add (local.get 0) (i32.const {plus})))
    """
    return guest(name, add + body, handlers=("add",), version=version, **options)


def made_with(clock: HandClock | None = None) -> tuple[Runtime, Any]:
    """A runtime whose ``add`` answers the list of all results."""
    made = Runtime(interfaces=interfaces(), clock=clock or HandClock())
    made.export(Functions(HOST, {"again": lambda call: None, "note": lambda call, text: None}))
    return made, made.define(ADD, fold=fold.every, default=None)


def test_new_version_answers_from_the_next_raise_on() -> None:
    """The name is the same, the domain another; the old one is let go when the new one is proved."""
    made, event = made_with()
    old = made.load(adding(1))
    new = made.replace(old, adding(2, version="2.0.0"))
    assert event.raise_(10, 0) == [12]
    assert made.domains == {"adder": new}
    assert (old.is_loaded, old.state) == (False, DomainState.INITIALISED)
    with pytest.raises(StateError, match="not loaded here"):
        made.replace(old, adding(3))
    for _ in range(1000):
        event.raise_(1, 0)
    made.end_probations()
    assert old.state is DomainState.DESTROYED
    assert made.replacements == {}


def test_handlers_keep_what_others_decided() -> None:
    """Place in the order, imposed guards and an order that is not the manifest's stay; the rest is the manifest's."""
    made, event = made_with()
    first, middle, last = (made.load(adding(number, name=f"a{number}")) for number in (1, 2, 3))
    binding = next(one for one in event.bindings if one.domain is middle)
    event.impose(binding, only_five)
    new = made.replace(middle, adding(20, name="a2", version="2.0.0"))
    assert event.raise_(5, 0) == [6, 25, 8]
    assert event.raise_(6, 0) == [7, 9]
    event.reorder(next(one for one in event.bindings if one.domain is new), order=500)
    newer = made.replace(new, adding(30, name="a2", version="3.0.0"))
    assert event.raise_(5, 0) == [6, 8, 35]
    event.reorder(next(one for one in event.bindings if one.domain is newer), place=FIRST)
    made.replace(newer, adding(40, name="a2", version="4.0.0"))
    assert event.raise_(5, 0) == [45, 6, 8]
    assert [one.domain for one in event.bindings if one.domain in (first, last)] == [first, last]


def test_handlers_come_and_go_with_the_manifest() -> None:
    """What the new manifest does not name is uninstalled; what it adds is installed; what the program did, stays."""
    made, event = made_with()
    ping = made.define(f"{EVENTS}#ping")
    old = made.load(adding(1))
    event.install(old, by="operator", order=500)
    body = f'(func (export "{EVENTS}#ping")) (func (export "{ADD}") (param i32 i32) (result i32) (i32.const 7))'
    new = made.replace(old, guest("adder", body, handlers=("ping", "add"), version="2.0.0"))
    assert event.raise_(1, 0) == [7, 7]
    assert [one.by for one in event.bindings] == [new, "operator"]
    assert len(ping.bindings) == 1
    back = made.replace(new, adding(1, version="3.0.0"))
    assert ping.bindings == ()
    assert event.raise_(1, 0) == [2, 2]
    made.unload(back)
    assert event.bindings == ()


def refusals() -> dict[str, Callable[[], Any]]:
    """New versions that something is wrong with, each at another step."""
    return {
        "another name": lambda: adding(2, name="other"),
        "unknown event": lambda: guest("adder", f'(func (export "{EVENTS}#ping"))', handlers=("ping",)),
        "no grant": lambda: guest(
            "adder", f'(import "{HOST}" "note" (func (param i32 i32)))', imports=(HOST,), version="2.0.0"
        ),
        "taken interface": lambda: adding(2, body=ALL_WORDS, exports=(WORDS,)),
        "trapping start": lambda: adding(2, body="(func $s unreachable) (start $s)"),
        "refusing init": lambda: adding(2, body=REFUSING, exports=(LIFECYCLE,)),
        "too large": lambda: adding(2, body="(memory 200)", limits={"memory_bytes": 65536}),
    }


@pytest.mark.parametrize("what", list(refusals()))
def test_whatever_fails_the_old_version_goes_on(what: str) -> None:
    """The error says so; nothing of the new version is left, and a later one may still come."""
    made, event = made_with()
    made.load(exporter())
    old = made.load(adding(1))
    with pytest.raises(SpinError, match=r"replace adder 1\.0\.0 by .*; the old version goes on"):
        made.replace(old, refusals()[what]())
    assert event.raise_(1, 0) == [2]
    assert made.domains["adder"] is old
    assert made.replacements == {}
    assert old.is_loaded
    made.replace(old, adding(5, version="2.0.0"))
    assert event.raise_(1, 0) == [6]


def test_directory_that_does_not_load_keeps_the_old_version(tmp_path: Any) -> None:
    """A module that is no module is refused before anything else is looked at."""
    made, event = made_with()
    old = made.load(adding(1))
    (tmp_path / "manifest.yaml").write_text("{spinrt: 1, name: adder, version: 2.0.0, module: a.wasm}")
    (tmp_path / "a.wasm").write_bytes(b"\0asm\1\0\0\0garbage")
    with pytest.raises(ModuleError, match="the old version goes on"):
        made.replace(old, tmp_path)
    assert event.raise_(1, 0) == [2]


def test_authorizer_of_an_event_may_refuse_the_swap() -> None:
    """All or nothing: the handlers of the other event stay the old ones too."""
    made, event = made_with()
    body = f'(func (export "{EVENTS}#ping"))'
    made.define(f"{EVENTS}#ping")
    old = made.load(guest("adder", adding_body(1) + body, handlers=("ping", "add")))
    event.authorizer = lambda request: "not now" if request.operation.value == "swap" else None
    with pytest.raises(LinkDenied, match="not now; the old version goes on"):
        made.replace(old, guest("adder", adding_body(2) + body, handlers=("ping", "add"), version="2.0.0"))
    assert [one.domain for one in made.events[f"{EVENTS}#ping"].bindings] == [old]
    assert event.raise_(1, 0) == [2]


def adding_body(plus: int) -> str:
    return f'(func (export "{ADD}") (param i32 i32) (result i32) (i32.add (local.get 0) (i32.const {plus})))'


def test_swap_during_a_raise_takes_effect_for_later_ones() -> None:
    """The raise that is under way runs what was installed when it began; one below it begins later."""
    made, event = made_with()
    old = made.load(adding(1))
    answers: list[Any] = []

    def meddle(call: Any, left: int, right: int) -> int:
        event.uninstall(binding)
        made.replace(old, adding(2, version="2.0.0"))
        answers.append(event.raise_(10, 0))
        with pytest.raises(StateError, match="in this very raise"):
            made.unload(made.domains["adder"])
        return 0

    binding = event.install(meddle, order=1)
    assert event.raise_(10, 0) == [0, 11]
    assert answers == [[12]]
    assert event.raise_(10, 0) == [12]


def test_importers_go_on_with_the_new_version_in_their_own_instance() -> None:
    """Their state stays; a raise under way keeps the exporter that it began with."""
    counting = f"""
    (import "{WORDS}" "double" (func $double (param i32) (result i32))) (memory (export "memory") 1)
    (func (export "{ADD}") (param i32 i32) (result i32)
      (i32.store (i32.const 8) (i32.add (i32.load (i32.const 8)) (i32.const 1)))
      (i32.add (call $double (local.get 0)) (i32.load (i32.const 8))))
    """
    made, event = made_with()
    old = made.load(exporter())
    domain = made.load(importer(body=counting), GRANTED)
    assert event.raise_(100, 0) == [201]
    swapped: list[Domain] = []

    def swap(call: Any, left: int, right: int) -> int:
        swapped.append(made.replace(old, exporter(body=words(TEN_TIMES), version="2.0.0")))
        return 7

    binding = event.install(swap, order=1)
    assert event.raise_(100, 0) == [7, 202]
    event.uninstall(binding)
    assert event.raise_(100, 0) == [1003]
    assert (domain.exporters(), old.importers(), swapped[0].importers()) == ((swapped[0],), (), (domain,))
    with pytest.raises(StateError, match="in use by doubler"):
        made.unload(swapped[0])


def test_version_that_does_not_serve_its_importers_is_refused() -> None:
    """It must export what is imported, to whoever imports it, and not import from them."""
    made, event = made_with()
    old = made.load(exporter())
    made.load(importer(), GRANTED)
    with pytest.raises(LinkError, match="doubler imports it; the old version goes on"):
        made.replace(old, guest("words", "", version="2.0.0"))
    narrow = Policy.from_mapping({"exports": {WORDS: {"to": ["other"]}}})
    with pytest.raises(LinkError, match="exports it to other only"):
        made.replace(old, exporter(version="2.0.0"), narrow)
    assert event.raise_(4, 0) == [8]


def test_version_that_imports_from_its_importer_is_refused() -> None:
    """Also when the way back leads through a third one, or to the version that it replaces."""
    made, _ = made_with()
    old = made.load(exporter())
    middle = f"""
    (import "{WORDS}" "double" (func $double (param i32) (result i32)))
    (func (export "{MORE}#triple") (param i32) (result i32) (call $double (local.get 0)))
    """
    made.load(guest("middle", middle, imports=(WORDS,), exports=(MORE,)), GRANTED)
    back = f'(import "{MORE}" "triple" (func (param i32) (result i32))) {ALL_WORDS}'
    with pytest.raises(LinkError, match="words -> middle -> words"):
        made.replace(old, exporter(body=back, imports=(MORE,), version="2.0.0"), Policy.granting(MORE))
    own = f'(import "{WORDS}" "double" (func (param i32) (result i32))) {ALL_WORDS}'
    with pytest.raises(LinkError, match="words -> words"):
        made.replace(old, exporter(body=own, imports=(WORDS,), version="2.0.0"), GRANTED)
    assert made.domains["words"] is old


def test_version_that_fails_too_often_gives_its_place_back(caplog: pytest.LogCaptureFixture) -> None:
    """After the third fault the old one is there again, with its state and its guards, and one line says so."""
    made, event = made_with()
    old = made.load(adding(1))
    event.impose(event.bindings[0], only_five)
    new = made.replace(old, adding(2, version="2.0.0"))
    with caplog.at_level(logging.INFO, "spinrt.runtime"):
        assert [event.raise_(5, right) for right in (1, 0, 1, 1, 0)] == [None, [7], None, None, [6]]
    lines = [one.getMessage() for one in caplog.records if "event=returned" in one.getMessage()]
    assert len(lines) == 1
    assert lines[0].startswith("extension=adder event=returned from=2.0.0 to=1.0.0 faults=3 reason=")
    assert made.domains["adder"] is old
    assert (old.is_loaded, new.state) == (True, DomainState.DESTROYED)
    assert event.raise_(6, 0) is None
    assert made.replacements == {}
    assert str(made.returned["adder"]) == "2.0.0 was returned to 1.0.0 after 3 faults, at 1970-01-01T00:00:00Z"
    described = describe(made)["domains"][0]
    assert described["returned"]["text"] == str(made.returned["adder"])
    assert "unreachable" in described["returned"]["reason"]
    made.replace(old, adding(3, version="3.0.0"))
    described = describe(made)["domains"][0]
    assert described["returned"] is None
    assert described["probation"] == {"returns_to": "1.0.0", "faults": 0}


def test_return_takes_importers_along() -> None:
    """The exporter that fails is the old one again for those that import from it."""
    made, event = made_with()
    old = made.load(exporter())
    made.load(importer(), GRANTED)
    made.replace(old, exporter(body=words("unreachable"), version="2.0.0"))
    assert [event.raise_(4, 0) for _ in range(4)] == [None, None, None, [8]]
    assert old.importers() == (made.domains["doubler"],)


def test_return_waits_until_the_raise_has_ended() -> None:
    """The walk that meets the last fault ends with what it began with."""
    made, event = made_with()
    old = made.load(adding(1))
    made.replace(old, adding(2, version="2.0.0"), probation=Probation(faults_max=1))
    seen: list[Domain] = []

    def look(call: Any, left: int, right: int) -> int:
        seen.append(made.domains["adder"])
        return 0

    event.install(look, order=500)
    event.raise_(1, 1)
    assert seen[0] is not old
    assert made.domains["adder"] is old


@pytest.mark.parametrize("proved_by", ["raises", "seconds"])
def test_proved_version_stays_whatever_it_does(proved_by: str) -> None:
    """After so many raises, or so much time, faults bring nothing back, and the old one is let go."""
    clock = HandClock()
    made, event = made_with(clock)
    old = made.load(adding(1))
    made.replace(old, adding(2, version="2.0.0"), probation=Probation(faults_max=2, raises=4, seconds=10.0))
    event.raise_(1, 1)
    if proved_by == "raises":
        for _ in range(3):
            event.raise_(1, 0)
    else:
        clock.now_s = 10.0
    for _ in range(5):
        event.raise_(1, 1)
    assert event.raise_(1, 0) == [3]
    assert old.state is DomainState.DESTROYED


def test_without_probation_the_old_version_goes_at_once() -> None:
    """No faults_max, no way back, and nothing is kept aside."""
    made, event = made_with()
    old = made.load(adding(1))
    made.replace(old, adding(2, version="2.0.0"), probation=Probation(faults_max=0))
    assert old.state is DomainState.DESTROYED
    for _ in range(5):
        event.raise_(1, 1)
    assert event.raise_(1, 0) == [3]


def test_what_has_not_proved_itself_is_not_returned_to() -> None:
    """A version that replaces one on probation falls back to the last that was proved."""
    made, event = made_with()
    proved = made.load(adding(1))
    unproved = made.replace(proved, adding(2, version="2.0.0"))
    made.replace(unproved, adding(3, version="3.0.0"))
    assert unproved.state is DomainState.DESTROYED
    assert event.raise_(1, 0) == [4]
    for _ in range(3):
        event.raise_(1, 1)
    assert event.raise_(1, 0) == [2]
    assert made.domains["adder"] is proved
    text = "3.0.0 was returned to 1.0.0 after 3 faults, at 1970-01-01T00:00:00Z; "
    assert str(made.returned["adder"]) == f"{text}what came between (2.0.0) was replaced before it had proved itself"


def test_unloading_a_version_on_probation_lets_go_of_both() -> None:
    """Nothing comes back afterwards."""
    made, event = made_with()
    old = made.load(adding(1))
    new = made.replace(old, adding(2, version="2.0.0"))
    made.unload(new)
    assert (old.state, new.state) == (DomainState.DESTROYED, DomainState.DESTROYED)
    assert (made.domains, made.replacements) == ({}, {})
    assert event.raise_(1, 0) is None


def test_events_of_the_old_version_belong_to_the_new_one() -> None:
    """Ownership goes along, so that the new version may do what the old one might."""
    made, _ = made_with()
    old = made.load(adding(1))
    owned = made.define(f"{EVENTS}#judge", owner=old)
    new = made.replace(old, adding(2, version="2.0.0"))
    assert owned.owner is new
    with pytest.raises(LinkDenied):
        owned.set_default("low", by=old)
    owned.set_default("low", by=new)


def test_replacing_twice_in_one_raise_is_refused() -> None:
    """The second one would have to undo what has not taken effect yet."""
    made, event = made_with()
    old = made.load(adding(1))
    caught: list[str] = []

    def meddle(call: Any, left: int, right: int) -> int:
        new = made.replace(old, adding(2, version="2.0.0"))
        try:
            made.replace(new, adding(3, version="3.0.0"))
        except StateError as error:
            caught.append(str(error))
        return 0

    binding = event.install(meddle, order=1)
    event.raise_(1, 0)
    event.uninstall(binding)
    assert "in this very raise" in caught[0]
    assert event.raise_(1, 0) == [3]


def test_policy_goes_along_unless_another_is_given() -> None:
    """The new version is granted what the old one was."""
    made = runtime({"note": lambda call, text: None})
    body = f'(import "{HOST}" "note" (func (param i32 i32)))'
    policy = Policy.granting(HOST)
    old = made.load(guest("one", body, imports=(HOST,)), policy)
    new = made.replace(old, guest("one", body, imports=(HOST,), version="2.0.0"))
    assert new.policy is policy
    with pytest.raises(LinkDenied, match="old version goes on"):
        made.replace(new, guest("one", body, imports=(HOST,), version="3.0.0"), Policy())


def test_wrong_name_is_a_usage_error() -> None:
    """A replacement is another version of the same extension."""
    made, _ = made_with()
    with pytest.raises(UsageError, match="expected another version of adder"):
        made.replace(made.load(adding(1)), adding(1, name="other"))
