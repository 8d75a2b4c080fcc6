"""The bindings of one event that are installed, in the order in which they run, and the table that raises walk.

Every change is proposed first, which may fail and changes nothing, and then accepted, which cannot fail. So changes
of many events happen together or not at all. A raise that is under way keeps the table that it began with.

Cost: a binding that comes last is O(1) to install (its table shares what is there), and so is uninstalling where no
binding is placed before or after another; the table is then built anew by the next raise. Everything else is O(n log
n).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from spinrt.errors import StateError, UsageError
from spinrt.runtime.binding import Binding, Options
from spinrt.runtime.order import NOTHING_REPLACED, Rank, arrange, is_moved, rank, renamed
from spinrt.runtime.tables import Kind, Publish, Table


class Proposal(NamedTuple):
    """A change that was checked. ``order`` is none where what stays keeps its order and what is added comes last."""

    removed: tuple[Binding, ...]
    added: tuple[Binding, ...]
    replaced: Mapping[Binding, Binding]
    order: list[Binding] | None


class Installed:
    """The bindings of one event.

    Args:
        event: Its name, for messages.
        kind: The class of its tables: the tier.
        publish: Told of every new table, and with none that `build` has to make it.

    Attributes:
        python_count: Handlers in Python among them.
        table: The entries of the bindings; none: `build` has to make it.
    """

    __slots__ = ("_bindings", "_event", "_kind", "_last_rank", "_moved", "_publish", "_tuple", "python_count", "table")

    def __init__(self, event: str, kind: Kind, publish: Publish) -> None:
        self._event = event
        self._kind = kind
        self._bindings: dict[Binding, None] = {}
        self._tuple: tuple[Binding, ...] | None = ()
        self._last_rank: Rank | None = None
        self._moved = False
        self._publish = publish
        self.python_count = 0
        self.table: Table | None = None
        self._put(kind(()))

    @property
    def bindings(self) -> tuple[Binding, ...]:
        """The bindings, in the order in which they run."""
        if self._tuple is None:
            self._tuple = tuple(self._bindings)
        return self._tuple

    def build(self) -> Table:
        """Make the table of what is installed."""
        table = self._kind([binding.entry for binding in self._bindings])
        self._put(table)
        return table

    def _put(self, table: Table | None) -> None:
        self.table = table
        self._publish(table)

    def propose(
        self,
        removed: Iterable[Binding] = (),
        added: Iterable[Binding] = (),
        replaced: Mapping[Binding, Binding] = NOTHING_REPLACED,
    ) -> Proposal:
        """Check a change.

        Args:
            removed: Bindings that go; those that are replaced too.
            added: Bindings that come; those that replace others too.
            replaced: Which of the added stand for which of the removed, where a place names these.

        Raises:
            StateError: One that goes is not installed.
            UsageError: The places contradict each other.
        """
        going, coming = tuple(removed), tuple(added)
        for binding in going:
            self.check(binding)
        if not self._moved and self._keeps_order(coming):
            return Proposal(going, coming, replaced, None)
        gone = frozenset(going)
        stay = [binding for binding in self._bindings if binding not in gone]
        return Proposal(going, coming, replaced, arrange([*stay, *coming], event=self._event, replaced=replaced))

    def accept(self, proposal: Proposal) -> None:
        """Make a change that was proposed since the last one."""
        for binding in proposal.removed:
            binding.installed = False
            self._bindings.pop(binding, None)
            self.python_count -= binding.domain is None
        for binding in proposal.added:
            binding.installed = True
            self._bindings[binding] = None
            self.python_count += binding.domain is None
        self._tuple = None
        if proposal.order is None:
            self._extend_table(proposal)
        else:
            self._take_order(proposal.order, proposal.replaced)

    def reorder(self, binding: Binding, options: Options) -> None:
        """Give a binding other options of order and place.

        Raises:
            UsageError: The places contradict each other; nothing was changed.
        """
        before = binding.options
        binding.options = options
        try:
            order = arrange(list(self._bindings), event=self._event)
        except UsageError:
            binding.options = before
            raise
        self._tuple = None
        self._take_order(order, NOTHING_REPLACED)

    def refresh(self) -> None:
        """The entry of a binding was replaced."""
        self._put(None)

    def check(self, binding: Binding) -> None:
        """Refuse a binding that is not installed here.

        Raises:
            StateError: It is not.
        """
        if binding not in self._bindings:
            raise StateError(f"event {self._event}: found {binding!r:.120}, expected a binding that is installed there")

    def _keeps_order(self, coming: tuple[Binding, ...]) -> bool:
        if not coming:
            return True
        if len(coming) > 1 or is_moved(coming[0]):
            return False
        return self._last_rank is None or not self._bindings or rank(coming[0]) > self._last_rank

    def _extend_table(self, proposal: Proposal) -> None:
        if proposal.removed:
            self._put(None)
        for binding in proposal.added:
            self._last_rank = rank(binding)
            if self.table is not None:
                self._put(self.table.append(binding.entry))

    def _take_order(self, order: list[Binding], replaced: Mapping[Binding, Binding]) -> None:
        for binding in order:
            if replaced and is_moved(binding):
                places = tuple(renamed(place, replaced) for place in binding.places)
                binding.options = binding.options._replace(places=places)
        self._bindings = dict.fromkeys(order)
        self._moved = any(is_moved(binding) for binding in order)
        self._last_rank = rank(order[-1]) if order else None
        self._put(None)
