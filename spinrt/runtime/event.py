"""Events: names with a type that handlers are installed on.

A raise asks the guards of all bindings, and then runs those that passed, in their order. It runs what was installed
when it began: each change builds a new immutable table and swaps one reference. Who may change an event is asked of its
authorizer.

Source: docs/design/dispatch.md; Pardyak and Bershad, "Dynamic Binding for an Extensible System" (OSDI'96).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import partial
from typing import Any, Final

from spinrt._core import Call, Dispatcher, Table
from spinrt.errors import (
    DefaultDue,
    HandlerFailed,
    Quarantined,
    QueueFull,
    SpinError,
    StateError,
    UsageError,
)
from spinrt.runtime.answer import NO_DEFAULT, Answer, FoldSource
from spinrt.runtime.authority import Authorizer, Operation, Principal, authorize
from spinrt.runtime.binding import SYNC, Binding, DomainExport, Ephemeral, HandlerSource, Imposed, Mode, Options
from spinrt.runtime.call import Transaction
from spinrt.runtime.deferred import QUEUE_MAX, DeferredRaise, Pending, Queue
from spinrt.runtime.domain import Domain
from spinrt.runtime.entry import NO_CLOSURE
from spinrt.runtime.fold import last
from spinrt.runtime.guard import Guard, compile_guard, guard_domain
from spinrt.runtime.install import check_places, equip, make_binding, places
from spinrt.runtime.installed import Installed
from spinrt.runtime.order import Place
from spinrt.runtime.reference import RAISERS, Observer, walk
from spinrt.runtime.stores import Stores
from spinrt.runtime.supervisor import Meanwhile
from spinrt.runtime.swap import Swap, swap
from spinrt.runtime.tables import TIERS, default_tier
from spinrt.runtime.tables import Table as AnyTable
from spinrt.sandbox.abi import plan_function
from spinrt.sandbox.types import Function


class OnFault(Enum):
    """What a raise does when a handler fails."""

    SKIP = "skip"
    """Go on without it (fail open)."""
    REFUSE = "refuse"
    """Fail with `HandlerFailed` (fail closed)."""


_REFUSE: Final = OnFault.REFUSE


class Event:
    """A named, typed event; made by `Runtime.define`.

    Args:
        name: ``interface#function``.
        function: Its WIT type.
        fold: How results become one: a name (`spinrt.runtime.fold.NAMED`), a callable that gets the list of them, or
            a domain's export of type ``func(results: list<T>) -> T``; by the result's type when none is given.
        default: The result when no handler gave one: a value, or a handler (a callable, a domain or an export of one).
        on_fault: What to do when a handler fails.
        stores: Those of the runtime that it belongs to, told of each raise; its own by default.
        owner: Who may change everything about it: a domain or a name. Without one, everybody.
        authorizer: Asked about every change; see `spinrt.runtime.authority`.
        intrinsic: The owner's own handler, installed before all others.
        queue_max: How much may wait for it to run later.
        pending: Where that waits: the runtime's.
        long: Its handlers run long.
        may_defer: Handlers may be asynchronous; not where what they promise would come too late.
        tier: The dispatcher: 0 is the reference, for tests and debugging; the fastest by default, unless the
            environment variable ``SPINRT_TIER`` says otherwise.
    """

    def __init__(
        self,
        name: str,
        function: Function,
        *,
        fold: FoldSource = None,
        default: Any = NO_DEFAULT,
        on_fault: OnFault = OnFault.SKIP,
        stores: Stores | None = None,
        owner: Principal = None,
        authorizer: Authorizer | None = None,
        intrinsic: HandlerSource | None = None,
        queue_max: int = QUEUE_MAX,
        pending: Pending | None = None,
        long: bool = False,
        may_defer: bool = True,
        tier: int | None = None,
    ) -> None:
        self.name = name
        self.may_defer = may_defer
        self._stores = stores or Stores()
        self._stores.events.add(self)
        self.function = function
        self._parameter_count = len(function.parameters)
        self.on_fault = on_fault
        self.owner = owner
        self.authorizer: Authorizer | None = None
        self.queue = Queue(name, pending if pending is not None else Pending(), queue_max)
        self.tier = default_tier() if tier is None else tier
        kind = TIERS[self.tier]
        self.answer = Answer(name, function, kind, self.note_fault)
        self.plan = plan_function(name.partition("#")[0], function)
        self.dispatcher = Dispatcher(
            name,
            self.plan,
            on_fault=self.note_fault,
            skips=on_fault is OnFault.SKIP,
            on_nothing=self.answer.nothing,
            raise_slowly=partial(self.raise_in, None),
            raises=self._stores.raises,
        )
        self.dispatcher.tier_max = self.tier
        self.dispatcher.long = long
        self.raise_ = self.dispatcher.raise_
        self.installed = Installed(name, kind, self._publish)
        self._kind = kind
        self.intrinsic: Binding | None = None
        self._sequence = 0
        self.answer.folding = self.answer.checked_fold(fold)
        self.answer.default = self.answer.checked_default(default)
        self._note_answer()
        if intrinsic is not None:
            self.set_intrinsic(intrinsic, by=owner)
        self.authorizer = authorizer  # from here on: what the definition says needs nobody's leave

    def __repr__(self) -> str:
        return f"<Event {self.name}, {len(self.bindings)} bindings>"

    @property
    def bindings(self) -> tuple[Binding, ...]:
        """The installed handlers, in the order in which they run."""
        return self.installed.bindings

    def _publish(self, table: AnyTable | None) -> None:
        """The dispatcher raises without asking: it has what is installed, or nothing, and then asks."""
        self.dispatcher.table = table if isinstance(table, Table) else None

    def _note_answer(self) -> None:
        fold = self.answer.folding.fold
        self.dispatcher.fold = None if fold is last else fold
        self.dispatcher.plain = self.answer.is_plain and not any(
            one.domain is not None and one.domain.calls_for_default for one in self.bindings
        )

    def note_health(self, domain: Domain) -> None:
        """The quarantine of a domain began or ended."""
        if domain.policy.supervision.while_quarantined is Meanwhile.DEFAULT:
            self._note_answer()

    # -------------------------------------------------------------------------------------------------------- bindings

    def install(
        self,
        handler: HandlerSource,
        *,
        by: Principal = None,
        order: int = 100,
        place: Place | Sequence[Place] | None = None,
        guards: Sequence[Guard] = (),
        closure: Any = NO_CLOSURE,
        filters: bool = False,
        cancels: bool = False,
        mode: Mode | Ephemeral = SYNC,
        export: str | None = None,
    ) -> Binding:
        """Install a handler; raises that begin later run it.

        Args:
            handler: A domain, whose export of this event's name it is, an export of one, or a Python callable, called
                as ``handler(call[, closure], *arguments)``.
            by: Who installs it.
            order: Lower ones run first; those with equal numbers as they were installed.
            place: `FIRST`, `LAST`, `Before` or `After` another one, or several of these.
            guards: All must hold, or it does not run; conditions on fields are asked before those that run code.
            closure: Passed in front of the arguments; for exports an integer of 64 bits.
            filters: What it returns stands in for the arguments of those behind it: the one parameter, or all of them.
            cancels: When it ran, those behind it do not.
            mode: `SYNC`, `ASYNC` or `Ephemeral`.
            export: The domain's export, when it is not of this event's name.

        Raises:
            UsageError: The domain exports no such handler, or the callable, a guard or the place makes no sense here.
            SignatureMismatch: The export has another type.
            LinkDenied: The authorizer refuses.
        """
        self._stores.owner.check(f"event {self.name}: install")
        options = Options(order, places(place), tuple(guards), closure, filters, cancels, mode)
        source = DomainExport(handler, export) if export is not None and isinstance(handler, Domain) else handler
        binding = self.make(source, options, by=by)
        self.take_guards(binding, authorize(self, Operation.INSTALL, by, binding))
        self.installed.accept(self.installed.propose(added=(binding,)))
        return binding

    def make(self, source: HandlerSource, options: Options, *, by: Principal, sequence: int | None = None) -> Binding:
        """Check a handler and return its binding, not installed yet; see `install`."""
        if sequence is None:
            self._sequence = sequence = self._sequence + 1
        return make_binding(self, source, options, by=by, sequence=sequence)

    def uninstall(self, binding: Binding | Domain, *, by: Principal = None) -> None:
        """Remove one binding, or all of a domain (which asks for it itself, unless ``by`` says otherwise).

        Raises:
            StateError: It is not installed.
            LinkDenied: The authorizer refuses; nothing was removed.
        """
        self._stores.owner.check(f"event {self.name}: uninstall")
        if isinstance(binding, Domain):
            by = binding if by is None else by
            going = tuple(one for one in self.bindings if one.domain is binding)
        else:
            going = (binding,)
        if not going:
            raise StateError(f"event {self.name}: found no binding of {binding} to uninstall")
        for one in going:
            self.installed.check(one)
            authorize(self, Operation.UNINSTALL, by, one)
        self.installed.accept(self.installed.propose(going))
        self._forget_intrinsic()

    def reorder(
        self,
        binding: Binding,
        *,
        order: int | None = None,
        place: Place | Sequence[Place] | None = None,
        by: Principal = None,
    ) -> None:
        """Give a binding another order (none: the one that it has) and another place (none: no place).

        Raises:
            StateError: It is not installed.
            UsageError: The places contradict each other.
            LinkDenied: The authorizer refuses.
        """
        self._stores.owner.check(f"event {self.name}: reorder")
        order = binding.order if order is None else order
        options = binding.options._replace(order=order, places=places(place))
        self.installed.check(binding)
        check_places(self, options.places)
        authorize(self, Operation.REORDER, by, binding)
        self.installed.reorder(binding, options)

    def impose(self, binding: Binding, guard: Guard, *, by: Principal = None) -> None:
        """Put a guard in front of a binding, and of the guards that it has; from the next raise on.

        Raises:
            StateError: The binding is not installed.
            UsageError, SignatureMismatch: It is no guard of this event.
            LinkDenied: The authorizer refuses.
        """
        self._stores.owner.check(f"event {self.name}: impose")
        self.installed.check(binding)
        compile_guard(guard, self.name, self.function)
        authorize(self, Operation.IMPOSE, by, binding, guard)
        self._reimpose(binding, (Imposed(guard, by), *binding.imposed))

    def lift(self, binding: Binding, guard: Guard, *, by: Principal = None) -> None:
        """Take an imposed guard back: of equal ones the newest.

        Raises:
            StateError: The binding is not installed, or no such guard was imposed on it.
            LinkDenied: The authorizer refuses.
        """
        self._stores.owner.check(f"event {self.name}: lift")
        self.installed.check(binding)
        found = next((one for one in binding.imposed if one.guard == guard), None)
        if found is None:
            raise StateError(f"event {self.name}: found no guard {guard!r:.120} imposed on {binding}")
        authorize(self, Operation.LIFT, by, binding, guard, found)
        kept = list(binding.imposed)
        kept.remove(found)
        self._reimpose(binding, tuple(kept))

    def swap(self, old: Binding, handler: HandlerSource, *, by: Principal = None) -> Binding:
        """Put another handler in the place of one, with its options and the guards imposed on it; see `swap`."""
        made = swap([Swap(self, old, handler)], by=by)[0]
        assert made is not None
        return made

    def drop(self, domain: Domain) -> None:
        """A domain was closed: remove its own without asking anybody. What it guarded of others does not pass."""
        going = [one for one in self.bindings if one.domain is domain]
        if going:
            self.installed.accept(self.installed.propose(going))
            self._forget_intrinsic()
        self.answer.drop(domain)
        self._note_answer()
        for binding in self.bindings:
            if any(guard_domain(guard) is domain for guard in binding.guards):
                self._reimpose(binding, binding.imposed)

    def take_guards(self, binding: Binding, guards: Sequence[Guard]) -> None:
        """Put the guards that the authorizer wants in front of a binding that is not installed yet."""
        if guards:
            equip(binding, (*(Imposed(guard, self.owner) for guard in guards), *binding.imposed))

    def _reimpose(self, binding: Binding, imposed: tuple[Imposed, ...]) -> None:
        equip(binding, imposed)
        self.installed.refresh()

    def note_swapped(self, replaced: Mapping[Binding, Binding]) -> None:
        """Bindings were swapped for others: so may the intrinsic handler."""
        if self.intrinsic is not None:
            self.intrinsic = replaced.get(self.intrinsic, self.intrinsic)
        self._forget_intrinsic()

    def _forget_intrinsic(self) -> None:
        if self.intrinsic is not None and not self.intrinsic.installed:
            self.intrinsic = None

    # ----------------------------------------------------------------------------------------- the owner's decisions

    def set_intrinsic(self, handler: HandlerSource | None, *, by: Principal = None) -> None:
        """Replace the intrinsic handler in its place, or remove it.

        Raises:
            UsageError, SignatureMismatch: As `install`.
            LinkDenied: The authorizer refuses.
        """
        self._stores.owner.check(f"event {self.name}: intrinsic")
        old = self.intrinsic
        made = None
        if handler is not None:
            made = self.make(handler, old.options if old else Options(), by=self.owner, sequence=0)
            equip(made, old.imposed if old else ())
        authorize(self, Operation.INTRINSIC, by, old)
        replaced = {old: made} if old and made else {}
        self.installed.accept(self.installed.propose([old] if old else [], [made] if made else [], replaced))
        self.intrinsic = made

    def set_default(self, default: Any = NO_DEFAULT, *, by: Principal = None) -> None:
        """Set what a raise answers when no handler gave a result: a value or a handler, as in the class; or nothing.

        Raises:
            UsageError, SignatureMismatch: It is no value or handler of this event.
            LinkDenied: The authorizer refuses.
        """
        self._stores.owner.check(f"event {self.name}: default")
        checked = self.answer.checked_default(default)
        authorize(self, Operation.DEFAULT, by)
        self.answer.default = checked
        self._note_answer()

    def set_fold(self, fold: FoldSource = None, *, by: Principal = None) -> None:
        """Set how results become one, as in the class; None: by the result's type.

        Raises:
            UsageError, SignatureMismatch: It does not fold results of this event.
            LinkDenied: The authorizer refuses.
        """
        self._stores.owner.check(f"event {self.name}: fold")
        checked = self.answer.checked_fold(fold)
        authorize(self, Operation.FOLD, by)
        self.answer.folding = checked
        self._note_answer()

    # ---------------------------------------------------------------------------------------------------------- raises

    raise_: Callable[..., Any]
    """``raise_(*arguments)``: run the handlers, apply their effects and return the folded result.

    Args:
        arguments: One for each parameter of the event's type. Handlers in Python get the same objects and must not
            change them.

    Raises:
        NoHandler: A result is due, no handler ran and the event has no default.
        HandlerFailed: A handler failed and the event is not one that skips; nothing was applied.
        UsageError: An argument does not have its parameter's type, or there is another number of them; nothing was
            applied.
        TypeError: There is another number of them, and the event has one parameter.
    """

    def raise_in(self, context: object, *arguments: Any) -> Any:
        """As `raise_`, and host functions find ``context`` in ``call.context``. Never a TypeError."""
        with Transaction(context) as transaction:
            result = transaction.raise_(self, *arguments)
            transaction.commit()
            return result

    def raise_later(self, *arguments: Any, context: object = None) -> None:
        """Queue the whole raise, with whatever is installed when it runs; its result goes to nobody.

        Raises:
            QueueFull: As much waits as may.
            UsageError: An argument does not have its parameter's type, or there is another number of them.
        """
        self.plan.check_arguments(arguments)
        self.queue.check_room()
        self.queue.add(DeferredRaise(self, arguments, context))

    def walk(self, call: Call, arguments: tuple[Any, ...], observer: Observer | None = None) -> Any:
        """Run the handlers inside a call whose journal somebody else commits.

        Whoever lowers the arguments checks them. Handlers in Python do not, nor does a raise that meets no handler.
        """
        if self.installed.python_count:
            self.plan.check_arguments(arguments)
        elif len(arguments) != self._parameter_count:
            raise self._wrong_count(arguments)
        outer = self._begin(call)
        try:
            table = self.installed.table
            if table is None:
                table = self.installed.build()
            if observer is not None:
                results = walk(table.entries, call, arguments, self.note_fault, observer)
            elif self.tier:
                results = self.dispatcher.walk(call, arguments)
            else:
                results = table.walk(call, arguments, self.note_fault)
            if not results:
                self.plan.check_arguments(arguments)
            return self.answer.of(call, arguments, results)
        except UsageError:
            self.plan.check_arguments(arguments)  # says which argument it is
            raise
        finally:
            self._end(call, outer)

    def walk_later(self, binding: Binding, call: Call, arguments: tuple[Any, ...]) -> None:
        """Run an asynchronous handler that was queued."""
        outer = self._begin(call)
        try:
            if binding.later is not None:
                self._kind([binding.later]).walk(call, arguments, self.note_fault)
        finally:
            self._end(call, outer)

    def _begin(self, call: Call) -> str:
        stores = self._stores
        if stores.is_foreign:
            stores.owner.check(f"event {self.name}")
        outer, call.event = call.event, self.name
        stores.raises.depth += 1
        return outer

    def _end(self, call: Call, outer: str) -> None:
        call.event = outer
        self._stores.raises.end()

    def note_fault(self, domain: Domain | None, error: BaseException) -> None:
        """A handler failed: the walk goes on when this returns."""
        kind = type(error)
        if kind in RAISERS:  # nothing ran
            raise error
        if not isinstance(error, SpinError):  # KeyboardInterrupt and the like: nobody's fault, and not ours to keep
            if domain is not None:
                domain.restore()
            return
        if isinstance(error, Quarantined) and domain is not None:
            self._do_without(domain, error)
            return
        if domain is not None and kind is not QueueFull:
            domain.note_fault(error, self.name)
        if self.on_fault is _REFUSE:
            who = domain.name if domain else "a host handler"
            raise HandlerFailed(f"event {self.name}: {who} failed: {error}") from error

    def _do_without(self, domain: Domain, error: Quarantined) -> None:
        """A handler is quarantined: do what its policy says about that, or what is done about any failure."""
        domain.counters.refused += 1
        meanwhile = domain.policy.supervision.while_quarantined or Meanwhile(self.on_fault.value)
        if meanwhile is Meanwhile.DEFAULT:
            raise DefaultDue(f"event {self.name}: {error}", self.answer)
        if meanwhile is Meanwhile.REFUSE:
            raise HandlerFailed(f"event {self.name}: {domain.name} failed: {error}") from error

    def _wrong_count(self, arguments: tuple[Any, ...]) -> UsageError:
        return UsageError(f"event {self.name}: found {len(arguments)} arguments, expected {self._parameter_count}")
