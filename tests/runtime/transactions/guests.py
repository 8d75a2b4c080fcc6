"""Guests that change what they have and then fail, and a world to raise events in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spinrt._core import peek
from spinrt.runtime.capability import Closure, Functions
from spinrt.runtime.domain import Domain
from spinrt.runtime.event import Event
from spinrt.runtime.policy import Policy
from spinrt.runtime.runtime import Runtime
from spinrt.sandbox.loader import Extension
from tests.guests import BUMP, EVENTS, HOST
from tests.runtime.linked_guests import guest, interfaces

IMPORTS = f"""
(import "{HOST}" "note" (func $note (param i32 i32)))
(import "{HOST}" "shout" (func $shout (param i32 i32 i32)))
(import "{HOST}" "again" (func $again))
(import "{HOST}" "lend" (func $lend (result i32)))
(import "{HOST}" "take" (func $take (param i32)))
(import "{HOST}" "[resource-drop]thing" (func $drop (param i32)))
"""
ADD = "(param $a i32) (param $b i32) (result i32)"

# Counts at 128 how often it ran; fails when both arguments are equal, after everything else.
COUNT = "(i32.store (i32.const 128) (i32.add (i32.load (i32.const 128)) (i32.const 1)))"
FAIL = "(if (i32.eq (local.get $a) (local.get $b)) (then unreachable))"
ANSWER = "(i32.load (i32.const 128))"


def counter(change: str = "", *, extra: str = "", name: str = "counter", fail: str = FAIL, **options: Any) -> Extension:
    """A handler of ``add`` that counts, makes a change, may fail, and answers the count."""
    body = f'{IMPORTS} {BUMP} {extra} (func (export "{EVENTS}#add") {ADD} {COUNT} {change} {fail} {ANSWER})'
    return guest(name, body, imports=(HOST,), handlers=("add",), **options)


class World:
    """A runtime with two events, and extensions that handle them."""

    def __init__(self, *extensions: Extension, functions: Mapping[str, Closure] | None = None, **event: Any) -> None:
        self.runtime = Runtime(interfaces=interfaces())
        served: dict[str, Closure] = {
            "note": _nothing,
            "again": _nothing,
            "shout": _shout,
            "take": _nothing,
            "lend": _nothing,
        }
        self.runtime.export(Functions(HOST, served | dict(functions or {})))
        self.add: Event = self.runtime.define(f"{EVENTS}#add", **({"default": None} | event))
        self.judge: Event = self.runtime.define(f"{EVENTS}#judge", default="low")
        self.domains: list[Domain] = [self.runtime.load(one, Policy.granting(HOST)) for one in extensions]

    def memory(self, number: int = 0) -> bytes:
        """All of an extension's memory."""
        instance = self.domains[number].instance
        assert instance is not None
        return peek(instance, 0, instance.memory_size)


def _nothing(*_arguments: object) -> None:
    """Serve a call that is asked for nothing."""


def _shout(_call: object, text: str) -> str:
    return text.upper()
