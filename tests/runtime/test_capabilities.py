"""Capabilities and external references in the hands of guests, honest and hostile."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from spinrt import _core
from spinrt._core import Capability, ExternalReference
from spinrt.errors import (
    CapabilityRevoked,
    HandlerFailed,
    QuotaExceeded,
    RevokedArgument,
    RightsExceeded,
    UsageError,
    WitError,
    WrongDomain,
)
from spinrt.runtime.binding import ASYNC, SYNC
from spinrt.runtime.capability import check_arguments, mint, reach
from spinrt.runtime.domain import Domain
from spinrt.runtime.event import Event, OnFault
from spinrt.runtime.runtime import Runtime
from tests.guests import BUMP, EVENTS, HOST, extension, granted, interfaces, runtime

THING = f"{HOST}#thing"
IMPORTS = f"""
(import "{HOST}" "[method]thing.name" (func $name (param i32 i32)))
(import "{HOST}" "[method]thing.size" (func $size (param i32) (result i32)))
(import "{HOST}" "[resource-drop]thing" (func $drop (param i32)))
(import "{HOST}" "lend" (func $lend (result i32)))
(import "{HOST}" "take" (func $take (param i32)))
(import "{HOST}" "again" (func $again))
{BUMP}
(global $kept (mut i32) (i32.const 0))
"""


class Thing:
    """What the capabilities are of."""

    def __init__(self, size: int = 7) -> None:
        self.size = size


class World:
    """A runtime whose event ``look`` has one guest; ``again`` does what the test says."""

    def __init__(self, *look: str, on_fault: OnFault = OnFault.REFUSE) -> None:
        self.taken: list[Any] = []
        self.lent: list[Any] = []
        self.named = 0
        self.again: Any = lambda: None
        self.runtime: Runtime = runtime(
            {
                "[method]thing.name": self._name,
                "[method]thing.size": lambda call, thing: thing.size,
                "lend": lambda call: self.lent[-1],
                "take": lambda call, thing: self.taken.append(thing),
                "again": lambda call: self.again(),
            }
        )
        self.look: Event = self.runtime.define(f"{EVENTS}#look", on_fault=on_fault)
        self.domains: list[Domain] = [
            self.runtime.load(self._guest(body, number), granted()) for number, body in enumerate(look)
        ]

    @property
    def domain(self) -> Domain:
        return self.domains[0]

    def _name(self, call: object, thing: Thing) -> str:
        assert isinstance(thing, Thing)
        self.named += 1
        return "thing"

    def _guest(self, body: str, number: int) -> Any:
        text = f'{IMPORTS} (func (export "{EVENTS}#look") (param $thing i32) (result i32) (local $h i32) {body})'
        return extension(text, name=f"guest-{number}", handlers=("look",))

    def mint(self, thing: Thing, rights: tuple[str, ...] | None = None) -> Capability:
        return mint(interfaces(), thing, THING, rights)


def instance_of(domain: Domain) -> _core.Instance:
    return next(iter(domain.exports.values())).guest


NAME = "(call $name (local.get $thing) (i32.const 16))"
SIZE = "(call $size (local.get $thing))"
KEPT_SIZE = "(call $size (global.get $kept))"
KEEP = "(global.set $kept (local.get $thing))"


def cause(error: HandlerFailed) -> BaseException | None:
    return error.__cause__


# ------------------------------------------------------------------------------------------------------------- rights


def test_guest_with_the_right_reaches_the_object() -> None:
    """Host functions get the object itself, as they do without a capability."""
    world = World(f"{NAME} {SIZE}")

    assert world.look.raise_(world.mint(Thing(5))) == 5
    assert world.look.raise_(world.mint(Thing(6), ("name", "size"))) == 6
    assert world.look.raise_(Thing(7)) == 7


def test_guest_without_the_right_is_refused_before_the_host_function_runs() -> None:
    """A method that the capability does not carry is a fault, named; what came before it is allowed."""
    world = World(f"{SIZE} {NAME}")

    with pytest.raises(HandlerFailed) as caught:
        world.look.raise_(world.mint(Thing(), ("size",)))

    assert isinstance(cause(caught.value), RightsExceeded)
    assert "found a use of name, expected one of its rights: size" in str(cause(caught.value))
    assert world.named == 0
    assert world.look.raise_(world.mint(Thing(), ("size", "name"))) == 7


def test_rights_must_be_methods_of_the_resource() -> None:
    """A misspelt right would give nothing, and say nothing."""
    with pytest.raises(UsageError, match=r"rights nam, expected methods of it: name, size"):
        mint(interfaces(), Thing(), THING, ["nam"])
    with pytest.raises(UsageError, match="it has none"):
        mint(interfaces(), Thing(), f"{HOST}#nothing", ["name"])
    with pytest.raises(WitError):
        mint(interfaces(), Thing(), "no:such/host@1.0.0#thing")


def test_capability_of_another_type_is_the_raisers_mistake() -> None:
    """It is refused before anything runs; the guest is not blamed."""
    world = World(SIZE)
    with pytest.raises(UsageError, match="found a capability of"):
        world.look.raise_(Capability(Thing(), f"{HOST}#other"))
    assert world.domain.counters.faults == 0
    assert world.look.raise_(Thing()) == 7


# --------------------------------------------------------------------------------------------------------- revocation


def test_revoked_in_mid_call() -> None:
    """What the guest may use at the begin of its call and not at its end, it may not use at its end."""
    world = World(f"{NAME} (call $again) {SIZE}")
    parent = world.mint(Thing())
    world.again = lambda: parent.revoke("alice", "changed her mind")

    with pytest.raises(HandlerFailed) as caught:
        world.look.raise_(parent.delegate("guest-0"))

    assert isinstance(cause(caught.value), CapabilityRevoked)
    assert "alice revoked it at" in str(cause(caught.value))
    assert "changed her mind" in str(cause(caught.value))
    assert world.named == 1
    assert world.domain.counters.faults == 1


def test_revoked_while_queued() -> None:
    """Arguments that waited are looked at when they are passed: nothing runs, and no extension is at fault."""
    world = World(f"{NAME} {SIZE}")
    parent = world.mint(Thing())
    waiting = (parent.delegate("guest-0"),)
    check_arguments(waiting, "queue")

    parent.revoke("alice", "no more")

    with pytest.raises(RevokedArgument, match=r"alice revoked it .*no more"):
        world.look.raise_(*waiting)
    with pytest.raises(RevokedArgument, match="queue"):
        check_arguments([1, ("a", [waiting])], "queue")
    assert world.named == 0
    assert world.domain.counters.faults == 0
    assert not instance_of(world.domain).broken
    assert world.look.raise_(Thing()) == 7


@pytest.mark.parametrize("whole", [False, True])
def test_revocation_takes_effect_for_what_waits_in_a_queue(whole: bool) -> None:
    """An asynchronous handler and a whole raise that wait do not run, be they of a guest or in Python."""
    world = World(f"{NAME} {SIZE}")
    world.look.uninstall(world.domain)
    mode = SYNC if whole else ASYNC
    ran: list[object] = []
    binding = world.look.install(world.domain, mode=mode)
    world.look.install(lambda call, thing: ran.append(thing) or 0, mode=mode)
    world.look.set_default(0)
    capability, kept = world.mint(Thing()), world.mint(Thing())
    for one in (capability, kept):
        (world.look.raise_later if whole else world.look.raise_)(one.delegate("guest-0"))
    assert (world.named, ran) == (0, [])

    capability.revoke("alice", "no more")
    world.runtime.run_pending()

    assert world.named == len(ran) == 1
    assert binding.counts.faults == world.domain.counters.faults == 0


def test_revoked_between_two_handlers_ends_the_raise() -> None:
    """The second handler does not run, the raise fails as a whole, and neither extension is at fault."""
    world = World(f"{SIZE} (call $again)", f"{NAME} {SIZE}", on_fault=OnFault.SKIP)
    capability = world.mint(Thing())
    world.again = lambda: capability.revoke("alice", "between")

    with pytest.raises(RevokedArgument, match="between"):
        world.look.raise_(capability)

    assert world.named == 0
    assert [domain.counters.faults for domain in world.domains] == [0, 0]


def test_revoked_capability_from_a_host_function_fails_the_guests_call() -> None:
    """A host function that still lends it: the guest's call ends with the reason, and it can go on afterwards."""
    world = World("(drop (call $lend)) (i32.const 1)")
    world.lent.append(world.mint(Thing()))
    assert world.look.raise_(Thing()) == 1
    world.lent[-1].revoke("alice", "gone")

    with pytest.raises(HandlerFailed) as caught:
        world.look.raise_(Thing())

    assert type(cause(caught.value)) is CapabilityRevoked
    assert world.domain.counters.faults == 1
    world.lent.append(Thing())
    assert world.look.raise_(Thing()) == 1


def test_revoked_handle_can_be_dropped() -> None:
    """Cleaning up is always allowed."""
    world = World("(local.set $h (call $lend)) (call $again) (call $drop (local.get $h)) (i32.const 3)")
    world.lent.append(world.mint(Thing()))
    world.again = lambda: world.lent[-1].revoke("alice", "gone")

    assert world.look.raise_(Thing()) == 3
    assert _core.live_handles(instance_of(world.domain)) == 0


def test_capability_that_is_given_away_stays_one() -> None:
    """A host function that takes a resource gets the capability, not the object: rights and revocation go along."""
    world = World("(call $take (call $lend)) (i32.const 0)")
    thing = Thing()
    world.lent.append(world.mint(thing).delegate("guest-0", rights=["size"]))

    world.look.raise_(Thing())

    (given,) = world.taken
    assert isinstance(given, Capability)
    assert reach(given, "size") is thing
    assert reach(thing) is thing
    with pytest.raises(RightsExceeded):
        reach(given, "name")


def test_revoked_capability_cannot_be_given_away() -> None:
    """It is checked when it is lifted, also where it is no receiver."""
    world = World("(local.set $h (call $lend)) (call $again) (call $take (local.get $h)) (i32.const 0)")
    world.lent.append(world.mint(Thing()))
    world.again = lambda: world.lent[-1].revoke("alice", "gone")

    with pytest.raises(HandlerFailed) as caught:
        world.look.raise_(Thing())

    assert isinstance(cause(caught.value), CapabilityRevoked)
    assert world.taken == []


def test_use_after_drop_and_after_the_call() -> None:
    """A dropped handle and a borrow that was kept are refused, whatever is behind them."""
    dropped = World("(local.set $h (call $lend)) (call $drop (local.get $h)) (call $size (local.get $h))")
    dropped.lent.append(dropped.mint(Thing()))
    with pytest.raises(HandlerFailed) as caught:
        dropped.look.raise_(Thing())
    assert isinstance(cause(caught.value), CapabilityRevoked)

    kept = World(f"(if (i32.eqz (global.get $kept)) (then {KEEP} (return (i32.const 0)))) {KEPT_SIZE}")
    capability = kept.mint(Thing())
    assert kept.look.raise_(capability) == 0
    with pytest.raises(HandlerFailed) as caught:
        kept.look.raise_(capability)
    assert isinstance(cause(caught.value), CapabilityRevoked)


@pytest.mark.parametrize("number", [0, 1, 2, 0x10001, 0x7FFFFFFF, -1])
def test_forged_numbers_name_nothing(number: int) -> None:
    """A guest that invents handles gets none, though another guest has one with that number."""
    world = World(f"(call $size (i32.const {number}))", SIZE)
    references = [world.domains[1].externalize(Thing(), THING) for _ in range(2)]

    with pytest.raises(HandlerFailed) as caught:
        world.look.raise_(world.mint(Thing()).attenuate([]))

    assert isinstance(cause(caught.value), (WrongDomain, CapabilityRevoked, RightsExceeded))
    assert len(references) == 2


# ------------------------------------------------------------------------------------------------ external references


def test_object_goes_in_and_comes_back() -> None:
    """What is externalized belongs to the guest across calls, and comes back as the same object."""
    world = World(f"(if (i32.eqz (global.get $kept)) (then {KEEP})) {KEPT_SIZE}")
    thing = Thing(9)
    reference = world.domain.externalize(thing, THING)

    assert world.domain.internalize(reference) is thing
    assert world.look.raise_(reference) == 9
    thing.size = 10
    assert world.look.raise_(Thing(1)) == 10
    assert reference.resource == THING


def test_externalized_rights_and_revocation_hold() -> None:
    """The guest has what it was given, as long as its granter wants."""
    world = World(SIZE)
    capability = world.mint(Thing(), ("name", "size"))
    narrow = world.domain.externalize(capability, THING, ["name"])
    wide = world.domain.externalize(capability, THING)
    assert world.look.raise_(wide) == 7
    with pytest.raises(RightsExceeded):
        world.domain.externalize(capability.attenuate(["name"]), THING, ["size"])
    capability.revoke("alice", "over")
    with pytest.raises(CapabilityRevoked, match="over"):
        world.domain.internalize(wide)
    with pytest.raises(HandlerFailed) as caught:
        world.look.raise_(narrow)
    assert isinstance(cause(caught.value), CapabilityRevoked)
    with pytest.raises(CapabilityRevoked):
        world.domain.externalize(capability, THING)


def test_right_that_was_not_externalized_is_refused() -> None:
    """An attenuated reference is a fault at the method that it lacks."""
    world = World(SIZE)
    with pytest.raises(HandlerFailed) as caught:
        world.look.raise_(world.domain.externalize(Thing(), THING, ["name"]))
    assert isinstance(cause(caught.value), RightsExceeded)


def test_foreign_stale_and_forged_references_are_refused() -> None:
    """Each by name; the extension that would have been called is not at fault."""
    world = World(SIZE)
    other = World(SIZE)
    foreign = other.domain.externalize(Thing(), THING)
    stale = world.domain.externalize(Thing(), THING)
    world.domain.withdraw(stale)
    forged = ExternalReference.__new__(ExternalReference)

    for reference, error, says in (
        (foreign, WrongDomain, "another extension"),
        (stale, CapabilityRevoked, "dropped or withdrawn"),
        (forged, WrongDomain, "never gave out"),
    ):
        with pytest.raises(error, match=says):
            world.domain.internalize(reference)
        with pytest.raises(error, match=says):
            world.domain.withdraw(reference)
        with pytest.raises(UsageError):
            world.look.raise_(reference)
    with pytest.raises(UsageError, match="externalize"):
        ExternalReference()
    assert world.domain.counters.faults == 0
    assert other.look.raise_(foreign) == 7


def test_reference_of_another_type_is_refused() -> None:
    """A reference names one type, too."""
    world = World(SIZE)
    instance = instance_of(world.domain)
    reference = _core.externalize(instance, Thing(), f"{HOST}#other")
    with pytest.raises(UsageError, match="external reference to a"):
        world.look.raise_(reference)


def test_reference_dies_with_the_guests_handle() -> None:
    """The guest owns it and may drop it; the host's reference is stale then, also for the next tenant of the slot."""
    world = World("(call $drop (local.get $thing)) (i32.const 0)")
    reference = world.domain.externalize(Thing(), THING)
    world.look.raise_(reference)

    again = world.domain.externalize(Thing(8), THING)

    with pytest.raises(CapabilityRevoked, match="dropped"):
        world.domain.internalize(reference)
    with pytest.raises(RevokedArgument):
        world.look.raise_(reference)
    assert world.domain.internalize(again).size == 8


def test_reference_outlives_a_fault_that_was_taken_back() -> None:
    """The guest has the handle again, though the failed call may have dropped it; when it goes, so does the object."""
    world = World("(if (i32.eqz (call $size (local.get $thing))) (then unreachable)) (i32.const 1)")
    thing = Thing()
    watch = weakref.ref(thing)
    reference = world.domain.externalize(thing, THING)
    with pytest.raises(HandlerFailed):
        world.look.raise_(Thing(0))

    assert world.domain.internalize(reference) is thing
    world.runtime.unload(world.domain)
    del thing
    gc.collect()
    assert watch() is None


def test_table_is_bounded_and_unloading_lets_go() -> None:
    """The host cannot overfill a guest's table, and what was in it goes with the domain."""
    world = World(SIZE)
    things = [Thing() for _ in range(world.domain.limits.handles)]
    references = [world.domain.externalize(thing, THING) for thing in things]
    with pytest.raises(QuotaExceeded, match="handle table"):
        world.domain.externalize(Thing(), THING)
    watches = [weakref.ref(thing) for thing in things]
    del things

    world.runtime.unload(world.domains.pop())
    gc.collect()

    assert [watch() for watch in watches if watch() is not None] == []
    assert len(references) == len(watches)


def test_generations_wrap_without_confusion() -> None:
    """After 32,768 tenants of a slot its numbers come again; a reference to the first never means a later one."""
    world = World(SIZE)
    instance = instance_of(world.domain)
    first = _core.externalize(instance, Thing(1), THING)
    number = _core.list_handles(instance)[0][0]
    _core.withdraw(instance, first)
    for _ in range((1 << 15) - 1):
        tenant = _core.externalize(instance, Thing(2), THING)
        assert _core.list_handles(instance)[0][0] != number
        _core.withdraw(instance, tenant)
    last = _core.externalize(instance, Thing(3), THING)

    ((again, resource, owned, generation, given),) = _core.list_handles(instance)

    assert (again, resource, owned, generation) == (number, THING, True, 1 << 15)
    assert given.size == 3
    with pytest.raises(CapabilityRevoked):
        _core.internalize(instance, first)
    assert _core.internalize(instance, last).size == 3
