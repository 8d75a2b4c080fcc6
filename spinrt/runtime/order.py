"""In which order the bindings of an event run.

Those placed first, then by ``order``, then those placed last; installation breaks ties. A binding that has to run
before or after another one and would not by that is moved right in front of it, or right behind it: no further than
it must.

How: every binding has a *rank*, a tuple that compares like its place in that order. A moved one takes the rank of the
one it has to stand beside, with -1 (in front) or 1 (behind) where that has its final 0, and its own rank behind this.
The bindings are then taken in order of rank, none before those that must run before it (Kahn's algorithm), which also
serves wishes that contradict each other's ranks but not each other.

Source: docs/design/dispatch.md, "Events, for people".
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from spinrt.errors import UsageError

if TYPE_CHECKING:
    from spinrt.runtime.binding import Binding

Rank: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Edge:
    """At one end of all, whatever their orders: `FIRST` or `LAST`."""

    group: int

    def __repr__(self) -> str:
        return "FIRST" if self.group < 0 else "LAST"


FIRST: Final = Edge(-1)
LAST: Final = Edge(1)


@dataclass(frozen=True, slots=True)
class Before:
    """In front of a binding, or of all that an extension (or somebody) of that name has there, if there are any."""

    other: Binding | str


@dataclass(frozen=True, slots=True)
class After:
    """Behind a binding, or all that an extension (or somebody) of that name has there, if there are any."""

    other: Binding | str


Place: TypeAlias = Edge | Before | After
NOTHING_REPLACED: Final[Mapping[Binding, Binding]] = {}


def renamed(place: Place, replaced: Mapping[Binding, Binding]) -> Place:
    """Return the place with bindings that were replaced named by those that stand for them."""
    if isinstance(place, Edge) or isinstance(place.other, str):
        return place
    return type(place)(replaced.get(place.other, place.other))


def rank(binding: Binding) -> Rank:
    """The place of a binding by its group, order and installation alone."""
    options = binding.options
    group = sum(place.group for place in options.places if isinstance(place, Edge)) if options.places else 0
    return (group, options.order, binding.sequence, 0)


def is_moved(binding: Binding) -> bool:
    """Tell whether a binding's place depends on others."""
    return bool(binding.options.places) and any(not isinstance(place, Edge) for place in binding.places)


def arrange(
    bindings: Sequence[Binding], *, event: str, replaced: Mapping[Binding, Binding] = NOTHING_REPLACED
) -> list[Binding]:
    """Return the bindings in the order in which they run.

    Args:
        bindings: In any order.
        event: Name of their event, for messages.
        replaced: Bindings that places may still name, and which ones stand for them now.

    Raises:
        UsageError: Some must run before each other in a circle; the message names them.
    """
    by_rank = sorted(bindings, key=rank)
    if not any(is_moved(binding) for binding in bindings):
        return by_rank
    return _Arrangement(by_rank, event, replaced).sorted()


class _Arrangement:
    """One sorting of bindings some of which are moved."""

    def __init__(self, bindings: list[Binding], event: str, replaced: Mapping[Binding, Binding]) -> None:
        self._bindings = bindings
        self._event = event
        self._replaced = replaced
        self._named: dict[str, list[Binding]] = {}
        for binding in bindings:
            self._named.setdefault(binding.owner_name, []).append(binding)
        self._installed = set(bindings)
        self._ranks: dict[Binding, Rank] = {}
        self._under_way: set[Binding] = set()

    def sorted(self) -> list[Binding]:
        behind: dict[Binding, list[Binding]] = {binding: [] for binding in self._bindings}
        waits_for = dict.fromkeys(self._bindings, 0)
        for first, second in self._edges():
            behind[first].append(second)
            waits_for[second] += 1
        free = [
            (self._rank(binding), binding.sequence, binding) for binding in self._bindings if not waits_for[binding]
        ]
        heapq.heapify(free)
        arranged: list[Binding] = []
        while free:
            arranged.append(heapq.heappop(free)[2])
            for binding in behind[arranged[-1]]:
                waits_for[binding] -= 1
                if not waits_for[binding]:
                    heapq.heappush(free, (self._rank(binding), binding.sequence, binding))
        if len(arranged) < len(self._bindings):
            raise self._circle(behind, dict.fromkeys(binding for binding in self._bindings if waits_for[binding]))
        return arranged

    def _others(self, binding: Binding, place: Before | After) -> list[Binding]:
        if isinstance(place.other, str):
            return [other for other in self._named.get(place.other, ()) if other is not binding]
        other = self._replaced.get(place.other, place.other)
        return [other] if other in self._installed else []

    def _edges(self) -> list[tuple[Binding, Binding]]:
        """Every pair of which the first must run before the second."""
        edges: set[tuple[Binding, Binding]] = set()
        for binding in self._bindings:
            for place in binding.places:
                if isinstance(place, Before):
                    edges.update((binding, other) for other in self._others(binding, place))
                elif isinstance(place, After):
                    edges.update((other, binding) for other in self._others(binding, place))
        return sorted(edges, key=lambda edge: (edge[0].sequence, edge[1].sequence))

    def _rank(self, binding: Binding) -> Rank:
        """Where a binding wants to be; one that is asked for on the way to its own answer is where it was."""
        own = rank(binding)
        if binding in self._ranks:
            return self._ranks[binding]
        if binding in self._under_way or not is_moved(binding):
            return own
        self._under_way.add(binding)
        moved = own
        for place in binding.places:
            if not isinstance(place, Edge):
                moved = self._move(binding, moved, own, place)
        self._under_way.discard(binding)
        self._ranks[binding] = moved
        return moved

    def _move(self, binding: Binding, found: Rank, own: Rank, place: Before | After) -> Rank:
        ranks = [self._rank(other) for other in self._others(binding, place)]
        if not ranks:
            return found
        if isinstance(place, Before):
            bound = min(ranks)
            return found if found < bound else (*bound[:-1], -1, *own)
        bound = max(ranks)
        return found if found > bound else (*bound[:-1], 1, *own)

    def _circle(self, behind: dict[Binding, list[Binding]], stuck: dict[Binding, None]) -> UsageError:
        """Walk backwards through what is stuck: each waits for one that is stuck too, until one comes again."""
        ahead = {second: first for first in stuck for second in behind[first] if second in stuck}
        path = [next(iter(stuck))]
        while (one := ahead[path[-1]]) not in path:
            path.append(one)
        circle = path[path.index(one) :][::-1]
        names = " before ".join(str(binding) for binding in [*circle, circle[0]])
        return UsageError(f"event {self._event}: found a circle of places: {names}", hint="take one of the places back")
