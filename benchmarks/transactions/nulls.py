"""Handlers that do next to nothing, in modules of their own: what is left is what a raise costs.

Where such a module's few instructions lie decides as much about a call of 20 ns as what is done around it. Each layout
has other functions in front.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from benchmarks.dispatch.fleet import assemble
from benchmarks.timing import Subject
from benchmarks.transactions.guests import HANDLERS, LOG, NOTHING, PLAIN, STORE, Guest, interfaces, raising
from benchmarks.transactions.layouts import params
from spinrt import _core
from spinrt.sandbox.loader import Extension, check_extension
from spinrt.sandbox.manifest import Manifest

ENGINE: Final = "engine_call"
NULL: Final = "null_raise"
FUNCTIONS: Final[Mapping[str, str]] = {"nothing": NOTHING, "store": STORE}
"""What they are called in rows, and their names."""
LAYOUTS: Final = 15


def subjects(layouts: int) -> list[Subject]:
    """The engine's own call; then a raise of each handler in so many layouts, with a log and without."""
    guests = {
        (layout, log): Guest.load(null_extension(layout), log) for layout in range(layouts) for log in (LOG, PLAIN)
    }
    plain = guests[0, PLAIN].export(NOTHING)
    return [
        Subject(ENGINE, {}, lambda calls: _core.time_engine_call(plain, (1,), calls)),
        *(
            Subject(NULL, params(function, layout, log), raising(guest.event(name), (1,)))
            for function, name in FUNCTIONS.items()
            for (layout, log), guest in guests.items()
        ),
    ]


def null_extension(layout: int = 0, pages: int = 1) -> Extension:
    """A module with a memory of so many pages and the two handlers."""
    before = "(func (param i32) (result i32) (i32.popcnt (local.get 0)))\n" * (7 * layout)
    code = f"""
        (module
          (memory (export "memory") {pages})
          {before}
          (func (export "{NOTHING}") (param i32) (result i32) (local.get 0))
          (func (export "{STORE}") (param i32) (result i32)
            (i32.store (i32.const 1024) (local.get 0))
            (local.get 0)))"""
    manifest = f"""
        spinrt: 1
        name: null-{layout}-{pages}
        version: 1.0.0
        module: null.wasm
        handlers: ["{HANDLERS}#nothing", "{HANDLERS}#store"]
    """
    return check_extension(Manifest.parse(manifest), assemble(code), interfaces=interfaces())
