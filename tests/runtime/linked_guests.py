"""Guests that import from each other, and a runtime for them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import yaml

from spinrt.runtime.capability import Closure, Functions
from spinrt.runtime.runtime import Runtime
from spinrt.sandbox.loader import Extension, check_extension
from spinrt.sandbox.manifest import Manifest
from spinrt.sandbox.wit import Interfaces, Source, shipped
from tests.guests import BUMP, EVENTS, HOST, TEST_WIT, wat

WORDS = "test:words/words@1.0.0"
MORE = "test:words/more@1.0.0"
LIFECYCLE = "spinrt:extension/lifecycle@1.0.0"
WORDS_WIT = """
package test:words@1.0.0;

interface words {
  record pair { text: string, count: u32 }
  variant answer { none, some(list<pair>) }
  double: func(number: u32) -> u32;
  shout: func(text: string) -> string;
  repeat: func(pair: pair) -> answer;
}

interface more {
  triple: func(number: u32) -> u32;
}
"""

DOUBLE = f'(func (export "{WORDS}#double") (param i32) (result i32) (i32.mul (local.get 0) (i32.const 2)))'
SHOUT = f"""
(func (export "{WORDS}#shout") (param i32 i32) (result i32)
  (i32.store8 (local.get 0) (i32.and (i32.load8_u (local.get 0)) (i32.const 223)))
  (i32.store (i32.const 16) (local.get 0)) (i32.store (i32.const 20) (local.get 1)) (i32.const 16))
"""
# A variant with one list of one pair, the one that was passed: case at 32, list at 36 and 40, pair at 48.
REPEAT = f"""
(func (export "{WORDS}#repeat") (param i32 i32 i32) (result i32)
  (i32.store (i32.const 32) (i32.const 1)) (i32.store (i32.const 36) (i32.const 48))
  (i32.store (i32.const 40) (i32.const 1)) (i32.store (i32.const 48) (local.get 0))
  (i32.store (i32.const 52) (local.get 1)) (i32.store (i32.const 56) (local.get 2)) (i32.const 32))
"""
ALL_WORDS = f"{BUMP} {DOUBLE} {SHOUT} {REPEAT}"


def words(double: str, extra: str = "") -> str:
    """A body that exports ``words`` with another ``double``: ``double`` is its code, `extra` what it needs."""
    body = f'(func (export "{WORDS}#double") (param i32) (result i32) {double})'
    return f"{extra} {BUMP} {body} {SHOUT} {REPEAT}"


# `add` answers twice its left argument, by the help of `words`.
DOUBLER = f"""
(import "{WORDS}" "double" (func $double (param i32) (result i32)))
(func (export "{EVENTS}#add") (param i32 i32) (result i32) (call $double (local.get 0)))
"""


@cache
def interfaces() -> Interfaces:
    return Interfaces.parse([Source("test.wit", TEST_WIT), Source("words.wit", WORDS_WIT)], known=shipped())


def guest(
    name: str,
    body: str,
    *,
    imports: tuple[str, ...] = (),
    exports: tuple[str, ...] = (),
    handlers: tuple[str, ...] = (),
    version: str = "1.0.0",
    limits: Mapping[str, int] | None = None,
) -> Extension:
    """A checked extension; ``handlers`` are bare function names of the test events."""
    manifest: dict[str, Any] = {
        "spinrt": 1,
        "name": name,
        "version": version,
        "module": "guest.wasm",
        "imports": list(imports),
        "exports": list(exports),
        "handlers": [f"{EVENTS}#{handler}" for handler in handlers],
        "limits": dict(limits or {}),
    }
    return check_extension(Manifest.parse(yaml.safe_dump(manifest)), wat(f"(module {body})"), interfaces=interfaces())


def runtime(functions: Mapping[str, Closure] | None = None, *, events: tuple[str, ...] = ("add",)) -> Runtime:
    """A runtime with those interfaces, ``functions`` as the host interface and ``events`` with a default of None."""
    made = Runtime(interfaces=interfaces())
    made.export(Functions(HOST, functions or {}))
    for event in events:
        made.define(f"{EVENTS}#{event}", default=None)
    return made


def exporter(name: str = "words", body: str = ALL_WORDS, **options: Any) -> Extension:
    return guest(name, body, exports=(WORDS,), **options)


def importer(name: str = "doubler", body: str = DOUBLER, **options: Any) -> Extension:
    return guest(name, body, imports=(WORDS,), handlers=("add",), **options)
