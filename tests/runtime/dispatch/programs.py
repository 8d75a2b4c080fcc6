"""Random programs for the dispatcher: the same program runs on every tier, and everything that shows must be the same.

A program is a list of numbers, from which each step chooses: hypothesis draws and shrinks them, a seeded generator
makes them for as long as it is let. `run` executes it and returns the trace: results and errors, effects in order, what
Python handlers saw, faults of domains, the counts and the order of bindings.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from spinrt._core import Call
from spinrt.errors import AbiError, SpinError
from spinrt.runtime.binding import ASYNC, SYNC, Binding, DomainExport
from spinrt.runtime.call import Transaction
from spinrt.runtime.domain import Domain
from spinrt.runtime.event import Event, OnFault
from spinrt.runtime.guard import Guard
from spinrt.runtime.order import FIRST, LAST, After, Before
from spinrt.runtime.policy import Policy
from spinrt.runtime.supervisor import Meanwhile, Supervision
from spinrt.runtime.swap import Swap
from spinrt.sandbox.condition import Equal, Prefix, Range
from spinrt.sandbox.loader import Extension
from tests.runtime.clocks import HandClock
from tests.runtime.dispatch.support import HOST, Noted, World, extension, function

Chooser = Callable[[int], int]
"""Returns a number from 0 to below its argument."""

DEPTH_MAX: Final = 2
HANDLERS_MAX: Final = 24
DOMAINS: Final = ("red", "green", "blue")
EVENTS: Final = ("add", "say", "ping", "one")
VALUES: Final = (0, 1, 2, 3, 7, 2**32 - 1)
TEXTS: Final = ("", "a", "ab", "list-x", "grüße")

_ADD = "(param $a i32) (param $b i32) (result i32)"
_ONE = "(param $a i32) (result i32)"
_COUNT = "(i32.store (i32.const 128) (i32.add (i32.load (i32.const 128)) (i32.const 1)))"
_EQUAL = "(i32.eq (local.get $a) (local.get $b))"
_ECHO = "(i32.store (i32.const 64) (local.get $a)) (i32.store (i32.const 68) (local.get $b)) (i32.const 64)"
_BODIES: Final = {
    "add": {
        "add-plain": "(i32.add (local.get $a) (i32.const 10))",
        "add-count": f"{_COUNT} (i32.load (i32.const 128))",
        "add-note": "(call $note (local.get $a)) (local.get $b)",
        "add-trap": f"(call $note (i32.const 1)) {_COUNT} (if {_EQUAL} (then unreachable)) (i32.load (i32.const 128))",
        "add-cancel": f"(if {_EQUAL} (then (call $cancel))) (i32.const 4)",
        "add-again": "(call $again (local.get $a)) (local.get $a)",
        "add-leave": "(call $note (i32.const 2)) (call $leave) (i32.const 6)",
        "add-divide": "(i32.div_u (local.get $a) (local.get $b))",
    },
    "one": {
        "one-plain": "(i32.add (local.get $a) (i32.const 10))",
        "one-note": "(call $note (local.get $a)) (local.get $a)",
        "one-again": "(call $again (local.get $a)) (i32.const 5)",
        "one-trap": "(if (i32.and (local.get $a) (i32.const 1)) (then unreachable)) (local.get $a)",
    },
    "ping": {"ping-note": "(call $note (i32.const 3))", "ping-leave": "(call $leave)", "ping-trap": "unreachable"},
    "say": {
        "say-echo": _ECHO,
        "say-trap": f"(if (i32.eqz (local.get $b)) (then unreachable)) {_ECHO}",
        "say-note": f"(call $note (local.get $b)) {_ECHO}",
        "say-lie": "(i32.store (i32.const 64) (i32.const -8)) (i32.store (i32.const 68) (i32.const 99)) (i32.const 64)",
    },
}
_FILTERS: Final = {"add": "add-filter", "one": "one-filter", "say": "say-filter"}
_GUARDS: Final = {"add": "add-guard", "one": "one-guard", "say": "say-guard"}
_SIGNATURES: Final = {"add": _ADD, "one": _ONE, "say": _ADD, "ping": ""}
_OTHERS: Final = {
    "add-filter": (
        _ADD,
        "(i32.store (i32.const 64) (local.get $b)) (i32.store (i32.const 68) (i32.const 7)) (i32.const 64)",
    ),
    "one-filter": (_ONE, "(i32.add (local.get $a) (i32.const 1))"),
    "say-filter": (_ADD, _ECHO),
    "add-guard": (_ADD, f"(if {_EQUAL} (then unreachable)) (i32.and (local.get $a) (i32.const 1))"),
    "one-guard": (_ONE, "(i32.lt_u (local.get $a) (i32.const 3))"),
    "say-guard": (_ADD, "(i32.ne (local.get $b) (i32.const 2))"),
}


def _extension(name: str) -> Extension:
    body = "".join(
        function(export, _SIGNATURES[event], code) for event, codes in _BODIES.items() for export, code in codes.items()
    ) + "".join(function(export, signature, code) for export, (signature, code) in _OTHERS.items())
    handlers: list[dict[str, Any]] = [
        {"event": event, "export": export} for event, codes in _BODIES.items() for export in codes
    ]
    handlers += [{"event": event, "export": export, "filter": True} for event, export in _FILTERS.items()]
    handlers += [
        {"event": event, "export": next(iter(_BODIES[event])), "guard": guard} for event, guard in _GUARDS.items()
    ]
    return extension(body, *handlers, name=name)


EXTENSIONS: Final = {name: _extension(name) for name in DOMAINS}
SUPERVISIONS: Final = {
    "red": Supervision(),
    "green": Supervision(faults=2, back_off_s=0.5, probation_raises=2),
    "blue": Supervision(faults=3, window_s=1, probation_raises=3, while_quarantined=Meanwhile.DEFAULT),
}
PAUSES_S: Final = (0.0, 0.3, 0.6, 10.0, 61.0)


class Machine:
    """One world on one tier that executes steps and writes down what shows."""

    def __init__(self, tier: int) -> None:
        self.clock = HandClock()
        self.world = World(tier, self.clock)
        self.world.again, self.world.leave = self._again, self._leave
        self.trace: list[Any] = []
        self.depth = 0
        self.bindings: list[tuple[int, Binding]] = []
        self.installed = 0
        self.events: dict[str, Event] = {
            "add": self.world.define("add", fold="every", default=[]),
            "one": self.world.define("one", on_fault=OnFault.REFUSE, default=99),
            "say": self.world.define("say", fold="every", default="nobody"),
            "ping": self.world.define("ping", queue_max=3),
        }
        self.domains: dict[str, Domain] = {}
        for name in DOMAINS:
            self._load(name)

    # ---------------------------------------------------------------------------------------------------------- steps

    def step(self, choose: Chooser) -> None:
        """Draw one step and do it."""
        kinds: Sequence[Callable[[Chooser], Any]] = (
            *[self._install] * 6,
            *[self._raise] * 6,
            self._uninstall,
            self._impose,
            self._lift,
            self._swap,
            self._reorder,
            self._transaction,
            self._pending,
            self._reload,
        )
        self._try(kinds[choose(len(kinds))], choose)

    def finish(self) -> list[Any]:
        """Run what waits, and return the trace with the state that is left."""
        self._try(self.world.runtime.run_pending, 20)
        numbers = {id(binding): number for number, binding in self.bindings}
        for name, event in self.events.items():
            self.trace.append((name, [numbers.get(id(binding)) for binding in event.bindings]))
        for number, binding in self.bindings:
            counts = binding.counts
            self.trace.append(("counts", number, counts.raises, counts.faults, counts.ended, binding.installed))
        return self.trace

    def _try(self, action: Callable[..., Any], *arguments: Any) -> None:
        try:
            shown = action(*arguments)
        except (SpinError, ZeroDivisionError, RecursionError) as error:
            shown = type(error).__name__
        domains = [(name, _standing(domain)) for name, domain in sorted(self.domains.items())]
        self.trace.append((getattr(action, "__name__", ""), shown, list(self.world.applied), domains))

    def _install(self, choose: Chooser) -> Any:
        if len(self.bindings) >= HANDLERS_MAX:
            return None
        event = EVENTS[choose(len(EVENTS))]
        handler, filters = self._handler(event, choose)
        binding = self.events[event].install(
            handler,
            order=choose(3),
            place=self._place(choose),
            guards=[self._guard(event, choose) for _ in range(max(0, choose(4) - 1))],
            filters=filters,
            cancels=not filters and choose(8) == 7,
            mode=ASYNC if not filters and choose(8) == 7 else SYNC,
            by=str(choose(3)),
        )
        return self._remember(binding)

    def _handler(self, event: str, choose: Chooser) -> tuple[Any, bool]:
        """A guest's export, or a Python callable; and whether it is a filter."""
        filters = event in _FILTERS and choose(6) == 5
        if choose(2):
            domain = self.domains[DOMAINS[choose(len(DOMAINS))]]
            exports = [_FILTERS[event]] if filters else list(_BODIES[event])
            return DomainExport(domain, exports[choose(len(exports))]), filters
        self.installed += 1
        return self._python(event, self.installed, choose(7), filters), filters

    def _python(self, event: str, number: int, kind: int, filters: bool) -> Callable[..., Any]:
        def handler(call: Call, *arguments: Any) -> Any:
            self.trace.append(("ran", number, arguments, call.event.partition("#")[2], call.domain is None))
            if kind == 1:
                call.journal.append(Noted(self.world.applied, ("python", number)))
                raise AbiError("on purpose")
            if kind == 2:
                call.cancel()
            elif kind == 3:
                self._again(call, number)
            elif kind == 4:
                self._leave(call)
            elif kind == 5:
                call.journal.append(Noted(self.world.applied, ("python", number)))
            elif kind == 6 and number % 3 == 0:
                raise ZeroDivisionError
            if filters:
                return arguments[0] if len(arguments) == 1 else tuple(reversed(arguments))
            return arguments[0] if arguments else None

        return handler

    def _guard(self, event: str, choose: Chooser) -> Guard:
        kind = choose(5)
        if event == "ping" or kind == 0:
            answer, number = choose(3), choose(100)
            return self._python_guard(answer, number)
        if kind == 1:
            return DomainExport(self.domains[DOMAINS[choose(len(DOMAINS))]], _GUARDS[event])
        if event == "say":
            text = TEXTS[choose(len(TEXTS))]
            return Prefix("text", text) if kind == 2 else Equal("text", text)
        field = ("left", "right")[choose(2)] if event == "add" else "value"
        low = VALUES[choose(len(VALUES))]
        if kind == 2:
            return Range(field, low, None) if choose(2) else Range(field, None, low)
        return Range(field, low, low + 2) if kind == 3 and low < 100 else Equal(field, low)

    def _python_guard(self, answer: int, number: int) -> Callable[..., Any]:
        def guard(call: Call, *arguments: Any) -> Any:
            self.trace.append(("asked", number, arguments))
            call.journal.append(Noted(self.world.applied, ("guard", number)))
            call.cancel()
            if answer == 2 and number % 4 == 0:
                raise AbiError("a guard that fails")
            return answer

        return guard

    def _place(self, choose: Chooser) -> Any:
        kind = choose(10)
        if kind < 2:
            return (FIRST, LAST)[kind]
        return (Before, After)[kind - 2](str(choose(3))) if kind < 4 else None

    def _remember(self, binding: Binding) -> int:
        number = len(self.bindings)
        self.bindings.append((number, binding))
        return number

    def _pick(self, choose: Chooser) -> Binding | None:
        return self.bindings[choose(len(self.bindings))][1] if self.bindings else None

    def _uninstall(self, choose: Chooser) -> Any:
        binding = self._pick(choose)
        return binding and binding.event.uninstall(binding)

    def _impose(self, choose: Chooser) -> Any:
        binding = self._pick(choose)
        return binding and binding.event.impose(binding, self._guard(_bare(binding), choose))

    def _lift(self, choose: Chooser) -> Any:
        binding = self._pick(choose)
        return binding and binding.imposed and binding.event.lift(binding, binding.imposed[0].guard) and None

    def _swap(self, choose: Chooser) -> Any:
        swaps = []
        for _ in range(1 + choose(2)):
            binding = self._pick(choose)
            if binding is not None:
                handler, filters = self._handler(_bare(binding), choose)
                swaps.append(Swap(binding.event, binding, handler if filters == binding.options.filters else None))
        return [self._remember(made) for made in self.world.runtime.swap(swaps) if made is not None]

    def _reorder(self, choose: Chooser) -> Any:
        binding = self._pick(choose)
        return binding and binding.event.reorder(binding, order=choose(3), place=self._place(choose))

    def _arguments(self, event: str, choose: Chooser) -> tuple[Any, ...]:
        if event == "say":
            return (TEXTS[choose(len(TEXTS))],)
        count = {"add": 2, "one": 1, "ping": 0}[event]
        return tuple(VALUES[choose(len(VALUES))] for _ in range(count))

    def _raise(self, choose: Chooser) -> Any:
        event = EVENTS[choose(len(EVENTS))]
        return self.events[event].raise_(*self._arguments(event, choose))

    def _transaction(self, choose: Chooser) -> Any:
        answers: list[Any] = []
        with Transaction() as transaction:
            for _ in range(2):
                event = EVENTS[choose(len(EVENTS))]
                arguments = self._arguments(event, choose)
                self._try(partial(transaction.raise_, self.events[event], *arguments))
            if choose(2):
                answers = [len(transaction.commit())]
        return answers

    def _pending(self, choose: Chooser) -> int:
        """Let time pass, and run some of what waits."""
        count = choose(len(PAUSES_S))
        self.clock.now_s += PAUSES_S[count]
        return self.world.runtime.run_pending(count)

    def _reload(self, choose: Chooser) -> None:
        name = DOMAINS[choose(len(DOMAINS))]
        self.world.runtime.unload(self.domains[name])
        self._load(name)

    def _load(self, name: str) -> None:
        """Load an extension, and uninstall what its manifest says: the steps install."""
        policy = Policy.granting(HOST, supervision=SUPERVISIONS[name])
        domain = self.domains[name] = self.world.runtime.load(EXTENSIONS[name], policy)
        for event in self.events.values():
            event.uninstall(domain)

    # ------------------------------------------------------------------------------------------ from inside a raise

    def _again(self, call: Call, number: int) -> None:
        """Raise another event: in this call, or in a transaction of its own."""
        if self.depth >= DEPTH_MAX:
            return
        self.depth += 1
        try:
            event = ("one", "add", "ping", "say")[number % 4]
            arguments = {"one": (number % 5,), "add": (number % 3, 2), "ping": (), "say": ("ab",)}[event]
            made = self.events[event]
            answer = made.raise_(*arguments) if number % 2 else made.walk(call, arguments)
            self.trace.append(("again", event, answer))
        finally:
            self.depth -= 1

    def _leave(self, call: Call) -> None:
        """Uninstall a binding of the event that is running, itself perhaps; now and then install one."""
        event = self.events[call.event.partition("#")[2]]
        if len(self.trace) % 5 == 4:
            event.install(lambda call, *arguments: arguments[0] if arguments else None, by="late")
        elif event.bindings:
            event.uninstall(event.bindings[len(self.trace) % len(event.bindings)])


def _standing(domain: Domain) -> tuple[Any, ...]:
    """How a domain fares, as its supervisor sees it."""
    supervisor, counters = domain.supervisor, domain.counters
    return supervisor.is_quarantined, supervisor.quarantines, supervisor.left_s, counters.faults, counters.refused


def _bare(binding: Binding) -> str:
    return binding.event.name.partition("#")[2]


def choices_of(seed: int, count: int = 500) -> list[int]:
    """Return the program of a seed."""
    generator = random.Random(seed)
    return [generator.randrange(1 << 16) for _ in range(count)]


def run(tier: int, choices: Sequence[int]) -> list[Any]:
    """Run the program that a list of numbers stands for, and return its trace."""
    machine = Machine(tier)
    numbers = iter(choices)
    used_up = False

    def choose(count: int) -> int:
        nonlocal used_up
        number = next(numbers, None)
        used_up = number is None
        return 0 if number is None else number % count

    while not used_up:
        machine.step(choose)
    return machine.finish()


def disagreement(choices: Sequence[int], tiers: Sequence[int]) -> str:
    """Return how the tiers differ on a program, or an empty text."""
    traces = {tier: run(tier, choices) for tier in tiers}
    expected = traces[min(tiers)]
    for tier, trace in traces.items():
        for position, pair in enumerate(zip(expected, trace, strict=False)):
            if pair[0] != pair[1]:
                return f"tier {tier}, line {position}: found {pair[1]}, expected {pair[0]}"
        if len(trace) != len(expected):
            return f"tier {tier}: found {len(trace)} lines, expected {len(expected)}"
    return ""
