"""Events, handlers and guests for tests of the dispatcher."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spinrt._core import Call
from spinrt.clock import Clock, SystemClock
from spinrt.runtime.capability import Closure, Functions
from spinrt.runtime.domain import Domain
from spinrt.runtime.event import Event
from spinrt.runtime.policy import DEFAULT_SUPERVISION, Policy
from spinrt.runtime.runtime import Runtime
from spinrt.runtime.supervisor import Supervision
from spinrt.sandbox.loader import Extension, check_extension
from spinrt.sandbox.manifest import Manifest
from spinrt.sandbox.wit import Interfaces, Source
from tests.guests import BUMP, wat

WIT = """
package test:dispatch@1.0.0;

interface host {
  resource thing { name: func() -> string; }
  note: func(number: u32);
  cancel: func();
  again: func(number: u32);
  leave: func();
  hour: func() -> u32;
}

interface events {
  use host.{thing};
  enum mood { low, middle, high }
  record inner { user: string, age: u8 }
  record person { name: string, inner: inner, nick: option<string>, mood: mood, tags: list<string> }
  ping: func();
  one: func(value: u32) -> u32;
  add: func(left: u32, right: u32) -> u32;
  wide: func(a: u64, b: s8, c: f64, d: bool, e: char) -> u64;
  say: func(text: string) -> string;
  judge: func(text: string) -> mood;
  ask: func(text: string) -> bool;
  check: func(text: string) -> result<_, string>;
  meet: func(person: person);
  look: func(thing: borrow<thing>) -> u32;
}

interface folds {
  fold: func(results: list<u32>) -> u32;
}
"""

HOST = "test:dispatch/host@1.0.0"
EVENTS = "test:dispatch/events@1.0.0"
INTERFACES = Interfaces.parse([Source("dispatch.wit", WIT)])
IMPORTS = f"""
(import "{HOST}" "note" (func $note (param i32)))
(import "{HOST}" "cancel" (func $cancel))
(import "{HOST}" "again" (func $again (param i32)))
(import "{HOST}" "leave" (func $leave))
(import "{HOST}" "hour" (func $hour (result i32)))
"""


def named(event: str) -> str:
    return f"{EVENTS}#{event}"


def make_event(tier: int, event: str, **options: Any) -> Event:
    """An event by itself, without a runtime."""
    return Event(named(event), INTERFACES.get(EVENTS).functions[event], tier=tier, **options)


def ping(tier: int, **options: Any) -> Event:
    return make_event(tier, "ping", **options)


def note(seen: list[Any], what: Any, answer: Any = None) -> Callable[..., Any]:
    """A handler in Python that writes down that it ran."""

    def handler(call: Call, *arguments: Any) -> Any:
        seen.append(what)
        return answer

    return handler


@dataclass(frozen=True)
class Noted:
    """An effect that a test can see being applied."""

    applied: list[Any]
    what: Any

    def apply(self) -> None:
        self.applied.append(self.what)


class World:
    """A runtime of the test interfaces on one tier, with what its host functions did.

    ``note(n)`` promises to append n to ``applied``; ``cancel`` cancels; ``again(n)`` and ``leave`` do what a test says;
    ``hour`` answers what it says, and is pure.
    """

    def __init__(self, tier: int, clock: Clock = SystemClock()) -> None:  # noqa: B008
        self.tier = tier
        self.applied: list[Any] = []
        self.again: Callable[[Call, int], None] = lambda call, number: None
        self.hour = 0
        self.leave: Callable[[Call], None] = lambda call: None
        self.runtime = Runtime(interfaces=INTERFACES, clock=clock)
        functions: Mapping[str, Closure] = {
            "note": lambda call, number: call.journal.append(Noted(self.applied, number)),
            "cancel": lambda call: call.cancel(),
            "hour": lambda call: self.hour,
            "again": lambda call, number: self.again(call, number),  # noqa: PLW0108 - a test replaces it later
            "leave": lambda call: self.leave(call),  # noqa: PLW0108
        }
        self.runtime.export(Functions(HOST, functions, pure=("hour",)))

    def define(self, event: str, **options: Any) -> Event:
        return self.runtime.define(named(event), tier=self.tier, **options)

    def load(
        self,
        body: str,
        *handlers: str | Mapping[str, Any],
        name: str = "guest",
        supervision: Supervision = DEFAULT_SUPERVISION,
        **manifest: Any,
    ) -> Domain:
        """Load a guest written in WebAssembly text; see `extension`."""
        policy = Policy.granting(HOST, supervision=supervision)
        return self.runtime.load(extension(body, *handlers, name=name, **manifest), policy)


def extension(
    body: str, *handlers: str | Mapping[str, Any], name: str = "guest", exports: Sequence[str] = (), **manifest: Any
) -> Extension:
    """A guest with the host functions, a memory and an allocator; handlers are event names or manifest entries."""
    listed = [{"event": one} if isinstance(one, str) else dict(one) for one in handlers]
    for one in listed:
        one["event"] = named(one["event"])
    import yaml

    text = yaml.safe_dump(
        {
            "spinrt": 1,
            "name": name,
            "version": "1.0.0",
            "module": "guest.wasm",
            "imports": [HOST],
            "exports": list(exports),
            "handlers": listed,
            **manifest,
        }
    )
    return check_extension(Manifest.parse(text), wat(f"(module {IMPORTS} {BUMP} {body})"), interfaces=INTERFACES)


def function(export: str, signature: str, body: str) -> str:
    """An exported function of a guest; an event's bare name stands for its export."""
    full = named(export) if export in INTERFACES.get(EVENTS).functions else export
    return f'(func (export "{full}") {signature} {body})'


def adder(plus: int, before: str = "", export: str = "add") -> str:
    """A guest's ``add``: does something, and answers the left argument plus a number."""
    return function(
        export,
        "(param $left i32) (param $right i32) (result i32)",
        f"{before} (i32.add (local.get $left) (i32.const {plus}))",
    )
