"""The six kernels: what each produces, how long it takes with an undo log and without, what it leaves in the log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import wasmtime

from benchmarks.timing import Subject
from benchmarks.transactions import twins
from benchmarks.transactions.guests import KERNEL_NAMES, KERNELS, UNDO_BYTES, Guest, raising
from benchmarks.transactions.layouts import params
from spinrt.errors import InternalError
from spinrt.sandbox.rewrite import prepare

KERNEL: Final = "kernel"
_HEAD_AT, _BYTES_HEAD_AT = 0, 16
"""Where the heads of the log lie: docs/design/transactions.md, "The undo log of an instance"."""


def subjects(guests: Mapping[tuple[int, str], Guest]) -> list[Subject]:
    """A raise of each kernel from Cython, in every layout, with a log and without."""
    return [
        Subject(KERNEL, params(name, layout, log), raising(guest.event(f"{KERNELS}#{name}"), ()))
        for name in KERNEL_NAMES
        for (layout, log), guest in guests.items()
    ]


def checked_hashes(guests: Iterable[Guest]) -> dict[str, str]:
    """Run each kernel in each guest, and compare what it produces with its twin; the hashes of that.

    Raises:
        InternalError: One produced something else.
    """
    expected = {name: twins.TWINS[name]() for name in KERNEL_NAMES}
    for guest in guests:
        for name, output in expected.items():
            guest.event(f"{KERNELS}#{name}").raise_()
            found = guest.output()
            if found != output:
                raise InternalError(
                    f"kernel {name}: found an output of {len(found)} bytes with hash {twins.hash_of(found)}, "
                    f"expected {len(output)} bytes with {twins.hash_of(output)}"
                )
    return {name: twins.hash_of(output) for name, output in expected.items()}


def log_bytes(code: bytes) -> dict[str, int]:
    """Bytes of records and of kept content that one call of each kernel leaves in the undo log.

    Read from the prepared module in an engine of its own: there nobody commits.
    """
    made = prepare(code, memory_pages_max=64, table_entries_max=1024, undo_bytes=UNDO_BYTES, name="kernels")
    store = wasmtime.Store()
    exports = wasmtime.Instance(store, wasmtime.Module(store.engine, made.code), []).exports(store)
    undo = exports["spinrt:undo"]
    assert isinstance(undo, wasmtime.Memory)
    found = {}
    for name in KERNEL_NAMES:
        run = exports[f"{KERNELS}#{name}"]
        assert isinstance(run, wasmtime.Func)
        before = _heads(store, undo)
        run(store)
        found[name] = _heads(store, undo) - before
    return found


def _heads(store: wasmtime.Store, undo: wasmtime.Memory) -> int:
    return sum(int.from_bytes(undo.read(store, at, at + 4), "little") for at in (_HEAD_AT, _BYTES_HEAD_AT))
