"""In which order bindings run: groups, numbers, installation, and places beside each other."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinrt.errors import UsageError
from spinrt.runtime.event import Event
from spinrt.runtime.order import FIRST, LAST, After, Before, arrange, is_moved, rank
from tests.runtime.dispatch.support import note, ping


def names(event: Event) -> str:
    return "".join(binding.by for binding in event.bindings if isinstance(binding.by, str))


def install(event: Event, name: str, **options: Any) -> Any:
    return event.install(note([], name), by=name, **options)


def test_first_ones_come_first_and_last_ones_last_whatever_their_numbers(tier: int) -> None:
    """Among themselves they keep their numbers, and then installation."""
    event = ping(tier)
    install(event, "d", place=LAST, order=1)
    install(event, "c", order=200)
    install(event, "b")
    install(event, "a", place=FIRST, order=900)
    install(event, "e", place=LAST, order=1)
    assert names(event) == "abcde"


def test_before_and_after_move_no_further_than_they_must(tier: int) -> None:
    """What stands right already stays; what moves comes right beside the other."""
    event = ping(tier)
    a, b, _, _ = (install(event, name) for name in "abcd")
    install(event, "x", place=Before(b))
    assert names(event) == "axbcd"
    install(event, "y", order=1, place=After(a))
    assert names(event) == "ayxbcd"
    install(event, "z", place=After(b))
    assert names(event) == "ayxbcdz"
    install(event, "w", order=1, place=Before(a))
    assert names(event) == "wayxbcdz"


def test_names_stand_for_all_of_that_name_now_and_later(tier: int) -> None:
    """A place beside somebody who has nothing there means nothing until he has."""
    event = ping(tier)
    install(event, "a", place=After("z"))
    install(event, "b", place=Before("a"))
    assert names(event) == "ba"
    install(event, "z", order=500)
    install(event, "z", order=600)
    assert names(event) == "bzza"
    event.uninstall(event.bindings[1])
    event.uninstall(event.bindings[1])
    assert names(event) == "ba"


def test_wishes_that_only_others_can_fulfil_are_fulfilled(tier: int) -> None:
    """Between two that stand the other way round: one of them gives way."""
    event = ping(tier)
    low = install(event, "l", order=1)
    high = install(event, "h", order=9)
    install(event, "m", place=(After(high), Before(low)))
    assert names(event) == "hml"


def test_a_circle_is_named_and_changes_nothing(tier: int) -> None:
    """The error names who must run before whom."""
    event = ping(tier)
    install(event, "a", place=After("c"))
    install(event, "b", place=After("a"))
    with pytest.raises(UsageError, match="circle") as caught:
        install(event, "c", place=After("b"), order=7)
    assert str(caught.value).count("before") == 3
    assert names(event) == "ab"
    with pytest.raises(UsageError, match="circle"):
        event.reorder(event.bindings[0], place=After("b"))
    assert names(event) == "ab"


def test_reordering_takes_effect_and_can_be_taken_back(tier: int) -> None:
    """A new number, a place, and none again."""
    event = ping(tier)
    a, b = install(event, "a"), install(event, "b")
    event.reorder(a, order=300)
    assert names(event) == "ba"
    event.reorder(b, place=LAST)
    assert names(event) == "ab"
    event.reorder(b)
    assert names(event) == "ba"
    event.reorder(b, order=301)
    assert names(event) == "ab"


def test_places_that_make_no_sense_are_refused(tier: int) -> None:
    """Both ends, a binding of another event, and what is no place."""
    event, other = ping(tier), ping(tier)
    for place in ((FIRST, LAST), Before(install(other, "o")), ("first",)):
        with pytest.raises(UsageError):
            event.install(note([], "x"), place=place)
    assert event.bindings == ()


def test_a_swapped_binding_keeps_those_beside_it(tier: int) -> None:
    """What was placed beside the old one stands beside the new one."""
    event = ping(tier)
    old = install(event, "a")
    install(event, "b")
    install(event, "x", place=Before(old))
    new = event.swap(old, note([], "n"), by="n")
    assert names(event) == "xnb"
    event.reorder(new, order=500)
    assert names(event) == "bxn"


ORDERS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from("nnnfl"),
        st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=2),
    ),
    max_size=10,
)


@given(ORDERS)
def test_any_order_is_a_sorting_that_respects_the_places(given_orders: Any) -> None:
    """All constraints hold, bindings without places keep their order among each other, and errors are circles."""
    event = ping(0)
    made: list[Any] = []
    for position, (order, group, beside) in enumerate(given_orders):
        edges = {"n": [], "f": [FIRST], "l": [LAST]}[group]
        places = [(Before if before else After)(f"{other}") for before, other in beside if other != position]
        try:
            made.append(
                event.install(note([], ""), by=str(position), order=order, place=(*edges, *places))  # type: ignore[misc]
            )
        except UsageError as error:
            assert "circle" in str(error)
    order_of = {binding: number for number, binding in enumerate(event.bindings)}
    assert set(order_of) == set(made)
    for binding in made:
        for place in binding.places:
            for other in made:
                if isinstance(place, Before) and other.by == place.other:
                    assert order_of[binding] < order_of[other]
                if isinstance(place, After) and other.by == place.other:
                    assert order_of[other] < order_of[binding]
    assert arrange(made[::-1], event="x") == list(event.bindings)
    if not any(is_moved(binding) for binding in made):
        assert list(event.bindings) == sorted(made, key=rank)
