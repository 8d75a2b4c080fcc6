"""What could be done instead of keeping a log: copy the whole memory before each call, or make an instance for it."""

from __future__ import annotations

import time
from typing import Final

from benchmarks.timing import Measure, Subject
from benchmarks.transactions.guests import NOTHING, PLAIN, Guest
from benchmarks.transactions.nulls import null_extension
from spinrt import _core
from spinrt._core import Export
from spinrt.errors import InternalError
from spinrt.sandbox.loader import Extension

COPY: Final = "copy_of_memory"
FRESH: Final = "fresh_instance"
PAGE_BYTES: Final = 65_536
MEMORIES: Final = (1, 3, 16)
"""Pages: 64 KiB, 192 KiB, 1 MiB."""
ARGUMENT: Final = 7
FRESH_MODULES: Final = ("null", "kernels")
"""A module of one handler, and that of the kernels."""


def subjects(kernels: Extension) -> list[Subject]:
    """A call of a handler that does nothing, behind a copy of so large a memory, or in an instance of its own."""
    extensions = {pages: null_extension(pages=pages) for pages in MEMORIES}
    return [
        *(
            Subject(COPY, copy_params(pages), _copying(Guest.load(extension, PLAIN)))
            for pages, extension in extensions.items()
        ),
        *(
            Subject(FRESH, fresh_params(name), _instantiating(Guest.load(extension, PLAIN)))
            for name, extension in zip(FRESH_MODULES, (extensions[MEMORIES[0]], kernels), strict=True)
        ),
    ]


def copy_params(pages: int) -> dict[str, object]:
    """What tells copies apart: bytes of memory."""
    return {"bytes": pages * PAGE_BYTES}


def fresh_params(module: str) -> dict[str, object]:
    """What tells fresh instances apart: whose they are."""
    return {"module": module}


def _copying(guest: Guest) -> Measure:
    export = guest.export(NOTHING)
    return lambda calls: _core.time_engine_call(export, (ARGUMENT,), calls, copied=True)


def _instantiating(guest: Guest) -> Measure:
    """An instance for each call, from a module that is compiled; old ones are let go of as the runtime does it."""
    domain, stores = guest.domain, guest.runtime.stores
    extension, limits = domain.extension, domain.instance.limits if domain.instance else None
    if limits is None:
        raise InternalError(f"domain {domain.name}: found no instance, expected one")
    fitted, plan = extension.fitting.fit(domain.limits), extension.exports[NOTHING].plan

    def run(calls: int) -> int:
        began = time.perf_counter_ns()
        for _ in range(calls):
            instance = stores.instantiate(fitted, lambda store: (), limits, extension.name)
            Export(instance, NOTHING, plan)(None, ARGUMENT)
            instance.close()
        return time.perf_counter_ns() - began

    return run
