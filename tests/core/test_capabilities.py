"""Capabilities by themselves: narrowing, delegation, revocation, and what they keep alive."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinrt._core import Capability, Revocation
from spinrt.errors import CapabilityRevoked, QuotaExceeded, RightsExceeded, UsageError

THING = "test:guest/host@1.0.0#thing"
NOON_NS = 1_790_000_000 * 10**9


class Thing:
    """What the capabilities are of."""


def test_use_gives_the_object_to_who_has_the_right() -> None:
    """All rights by default; a narrowed one has exactly its own."""
    thing = Thing()
    whole = Capability(thing, THING)
    narrow = whole.attenuate(["name"])

    assert whole.use("anything") is thing
    assert narrow.use("name") is narrow.use() is thing
    with pytest.raises(RightsExceeded, match=r"found a use of size, expected one of its rights: name"):
        narrow.use("size")
    with pytest.raises(RightsExceeded, match="none"):
        whole.attenuate([]).use("name")


def test_rights_only_shrink() -> None:
    """Neither attenuation nor delegation gives a right that was not there."""
    narrow = Capability(Thing(), THING, ["name", "size"], granter="alice").delegate("bob", rights=["name"])

    assert narrow.rights == {"name"}
    assert (narrow.granter, narrow.holder) == ("alice", "bob")
    for widened in (["name", "size"], ["size"]):
        with pytest.raises(RightsExceeded, match="size besides its own, expected only some of: name"):
            narrow.attenuate(widened)
        with pytest.raises(RightsExceeded):
            narrow.delegate("carol", rights=widened)
    assert narrow.delegate("carol").rights == {"name"}
    assert narrow.delegate("carol").granter == "bob"


def test_revocation_is_transitive_and_says_who_when_and_why() -> None:
    """What was made from a revoked capability is dead with it; those above and beside it live."""
    root = Capability(Thing(), THING)
    middle, sister = root.delegate("bob"), root.delegate("eve")
    leaf = middle.attenuate(["name"]).delegate("carol")

    middle.revoke("alice", "bob left", time_ns=NOON_NS)

    for dead in (middle, leaf, leaf):
        with pytest.raises(CapabilityRevoked, match=r"alice revoked it at 2026-09-21 14:13:20Z: bob left"):
            dead.use("name")
        with pytest.raises(CapabilityRevoked):
            dead.attenuate(["name"])
        with pytest.raises(CapabilityRevoked):
            dead.delegate("dave")
    assert root.use() is sister.use()
    assert leaf.revoked is middle.revocation
    assert leaf.revocation is None


def test_first_revocation_stays() -> None:
    """Nobody can rewrite who took it back."""
    capability = Capability(Thing(), THING)
    capability.revoke("alice", "first", time_ns=1)
    capability.revoke("bob", "second", time_ns=2)

    found = capability.revoked
    assert isinstance(found, Revocation)
    assert (found.by, found.reason, found.time_ns) == ("alice", "first", 1)


def test_chain_is_bounded() -> None:
    """32 links, so that a check has a bound."""
    link = Capability(Thing(), THING)
    for _ in range(31):
        link = link.delegate("next")
    assert link.depth == 31
    assert link.use() is not None
    with pytest.raises(QuotaExceeded, match="chain of 32"):
        link.delegate("one more")
    assert len(link.chain()) == 32


def test_revoked_capability_keeps_nothing_alive() -> None:
    """Revoking the root lets go of the object at once, whoever still holds something made from it."""
    thing = Thing()
    watch = weakref.ref(thing)
    root = Capability(thing, THING)
    leaf = root.delegate("bob")
    del thing
    assert watch() is not None

    root.revoke("alice", "enough")

    assert watch() is None
    assert leaf.revoked is root.revocation


def test_revoking_in_the_middle_lets_go_for_those_below() -> None:
    """With the root dropped, a revoked branch is no longer a reason to keep the object."""
    thing = Thing()
    watch = weakref.ref(thing)
    root = Capability(thing, THING)
    middle = root.delegate("bob")
    leaf = middle.delegate("carol")
    del thing, root
    assert leaf.use() is watch()

    middle.revoke("alice", "enough")

    assert watch() is None
    with pytest.raises(CapabilityRevoked):
        leaf.use()


def test_parents_do_not_keep_children_and_dropping_is_no_revocation() -> None:
    """A child that nobody holds is gone; a child outlives the variable that its parent was in."""
    root = Capability(Thing(), THING)
    child = root.delegate("bob")
    watch = weakref.ref(child)
    del child
    assert watch() is None

    child = root.delegate("bob")
    thing = weakref.ref(root.use())
    del root
    assert child.use() is thing()
    del child
    gc.collect()
    assert thing() is None


def test_a_cycle_through_the_object_is_collected() -> None:
    """An object that holds a capability of itself is garbage when nobody else holds it."""
    thing = Thing()
    thing.own = Capability(thing, THING)  # type: ignore[attr-defined]
    watch = weakref.ref(thing)
    del thing
    gc.collect()

    assert watch() is None


def test_misuse_by_the_host_is_refused() -> None:
    """No capability of a capability, of nothing, made twice, copied or pickled."""
    capability = Capability(Thing(), THING)
    with pytest.raises(UsageError, match="expected the object itself"):
        Capability(capability, THING)
    with pytest.raises(TypeError):
        Capability(None, THING)
    with pytest.raises(UsageError, match="made already"):
        capability.__init__(Thing(), THING)  # type: ignore[misc]
    with pytest.raises(TypeError):
        copy.copy(capability)
    with pytest.raises(TypeError):
        pickle.dumps(capability)
    revoked = Capability(Thing(), THING)
    revoked.revoke("alice", "x")
    with pytest.raises(UsageError, match="made already"):
        revoked.__init__(Thing(), THING)  # type: ignore[misc]


def test_there_are_as_many_rights_as_bits() -> None:
    """A resource with more methods than rights fit is refused by name, and its rights stay apart."""
    resource = "test:many/host@1.0.0#thing"
    names = [f"r{number}" for number in range(64)]
    each = [Capability(Thing(), resource, [name]) for name in names]
    for number, capability in enumerate(each):
        assert capability.use(names[number]) is not None
        with pytest.raises(RightsExceeded):
            capability.use(names[number - 1])
    with pytest.raises(UsageError, match="at most 64"):
        Capability(Thing(), resource, ["r64"])


RIGHTS = ("a", "b", "c", "d")
ACTIONS = st.sampled_from(("attenuate", "delegate", "revoke"))
STEPS = st.lists(
    st.tuples(st.integers(0, 9), ACTIONS, st.frozensets(st.sampled_from(RIGHTS))),
    max_size=20,
)


@given(STEPS)
def test_any_tree_agrees_with_the_plain_model(steps: list[tuple[int, str, frozenset[str]]]) -> None:
    """Against a model that keeps (parent, rights, revoked) and walks up."""
    made = [Capability(Thing(), THING, RIGHTS)]
    model: list[tuple[int | None, frozenset[str]]] = [(None, frozenset(RIGHTS))]
    revoked: set[int] = set()

    def dead(number: int | None) -> bool:
        while number is not None:
            if number in revoked:
                return True
            number = model[number][0]
        return False

    for wish, action, rights in steps:
        number = wish % len(made)
        if action == "revoke":
            made[number].revoke("x", "y")
            revoked.add(number)
            continue
        allowed = rights <= model[number][1] and not dead(number)
        try:
            new = made[number].attenuate(rights) if action == "attenuate" else made[number].delegate("z", rights=rights)
        except (CapabilityRevoked, RightsExceeded):
            assert not allowed
        else:
            assert allowed
            made.append(new)
            model.append((number, rights))
    for number, capability in enumerate(made):
        for right in RIGHTS:
            try:
                capability.use(right)
            except CapabilityRevoked:
                assert dead(number)
            except RightsExceeded:
                assert right not in model[number][1]
            else:
                assert not dead(number)
                assert right in model[number][1]
