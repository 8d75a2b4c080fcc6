"""A rollback in plain Python, by the rules of docs/design/transactions.md: what the host's own must agree with.

Runs prepared modules on the engine's Python binding. An instance is looked at as a whole (`Instance.state`), and put
back from its undo log alone (`Instance.roll_back`).
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, NamedTuple

import wasmtime
from wasmtime import _ffi

from spinrt.sandbox.rewrite import Prepared

STAMP_SHIFT = 36
HEAD, MOVED, STAMP, COUNTDOWN, FLAGS = 0, 4, 8, 32, 64
_SIZES = (4, 8, 4, 8, 16)  # of numbers and vectors, by kind


@cache
def engine() -> wasmtime.Engine:
    config = wasmtime.Config()
    config.wasm_multi_memory = True
    return wasmtime.Engine(config)


@lru_cache(maxsize=2)
def _compiled(code: bytes) -> wasmtime.Module:
    """Instances are made anew far more often than modules."""
    return wasmtime.Module(engine(), code)


class Record(NamedTuple):
    """One record."""

    kind: int
    address: int
    value: int


class State(NamedTuple):
    """All that a rollback must put back; the dead stack is left out."""

    memory: bytes
    globals: dict[str, Any]
    moved: int
    flags: bytes
    tables: dict[int, list[Any]]


@dataclass
class Growth:
    """What a rollback found of growth: pages that there were."""

    pages: int | None = None


class Instance:
    """An instance of a prepared module in a store of its own; ``answer`` is called for every import."""

    def __init__(self, made: Prepared, answer: Callable[..., Any] | None = None, *, start: bool = True) -> None:
        self.made, self.log, self.answer = made, made.log, answer
        self.store = wasmtime.Store(engine())
        self.module = _compiled(made.code)
        imports = [wasmtime.Func(self.store, found.type, self._answer) for found in self.module.imports]
        self.exports = wasmtime.Instance(self.store, self.module, imports).exports(self.store)
        self.types = {found.name: found.type for found in self.module.exports}
        self.functions = {
            self._identity(self.exports[name]): name
            for name, type in self.types.items()
            if isinstance(type, wasmtime.FuncType)
        }
        if made.start and start:
            self.call("spinrt:start")
        self.commit()

    def _answer(self, *arguments: Any) -> Any:
        return self.answer(self, *arguments) if self.answer else None

    def call(self, name: str, *arguments: Any) -> Any:
        """The result, or the kind of the trap."""
        try:
            return _plain(self.exports[name](self.store, *arguments))
        except wasmtime.Trap as trap:
            return f"trap {trap.trap_code}"

    # What there is.

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        memory = self.exports[name]
        return bytes(memory.read(self.store, start, memory.data_len(self.store) if end is None else end))

    def memory(self) -> bytes:
        return self.read("memory") if "memory" in self.types else b""

    def globals(self) -> dict[str, Any]:
        """Mutable globals but for the moved one: numbers as their bits, functions by name."""
        return {name: self._global(name) for name in self.types if name.startswith("spinrt:global/")}

    def moved(self) -> int:
        """What the log's memory has in place of the moved global."""
        return self._number(MOVED) if self.log else 0

    def flags(self) -> bytes:
        return self.read("spinrt:undo", FLAGS, self.log.base) if self.log else b""

    def table(self, number: int) -> list[Any]:
        table = self.exports[f"spinrt:table/{number}"]
        return [self._reference(table.get(self.store, index)) for index in range(table.size(self.store))]

    def state(self) -> State:
        tables = self.log.tables if self.log else ()
        dead = self.log.dead_below if self.log else 0
        numbers = {number: self.table(number) for number, _ in tables}
        return State(self.memory()[dead:], self.globals(), self.moved(), self.flags(), numbers)

    def records(self) -> list[Record]:
        """All records of the transaction: up to the head, and further as long as tags carry the present stamp."""
        assert self.log is not None
        raw, stamp = self.read("spinrt:undo"), self._number(STAMP, "<Q") >> STAMP_SHIFT
        end = self._number(HEAD)
        assert end % 16 == 0 and self.log.base <= end <= len(raw) == self.log.size
        while end < len(raw) and struct.unpack_from("<Q", raw, end)[0] >> STAMP_SHIFT == stamp:
            end += 16
        found = [struct.unpack_from("<QQ", raw, place) for place in range(self.log.base, end, 16)]
        assert all(tag >> STAMP_SHIFT == stamp for tag, _ in found)
        return [Record(tag >> 32 & 15, tag & 0xFFFF_FFFF, value) for tag, value in found]

    # What is done to it.

    def commit(self) -> None:
        """Forget the records: the log is empty and has the next stamp."""
        if self.log is not None:
            stamp = self._number(STAMP, "<Q") + (1 << STAMP_SHIFT)
            self.write("spinrt:undo", HEAD, struct.pack("<I", self.log.base))
            self.write("spinrt:undo", STAMP, struct.pack("<QIIII", stamp, 0, 0, 0, 0))
            self.rest = self.moved()

    def roll_back(self) -> Growth:
        """Put back what was there at the last commit."""
        growth = Growth()
        for record in reversed(self.records()):
            self._apply(record, growth)
        self.write("spinrt:undo", MOVED, struct.pack("<I", self.rest))
        self.commit()
        return growth

    def remade(self, pages: int) -> Instance:
        """A fresh instance, with this one's state and so many pages of memory; for a module that writes no tables."""
        fresh = Instance(self.made, self.answer, start=False)
        memory = fresh.exports["memory"]
        memory.grow(fresh.store, pages - memory.size(fresh.store))
        fresh.write("memory", 0, self.memory()[: pages << 16])
        for name, value in self.globals().items():
            if isinstance(value, bytes):
                fresh._put_bits(name, value)
        fresh.write("spinrt:undo", MOVED, struct.pack("<I", self.moved()))
        fresh.write("spinrt:undo", FLAGS, self.flags())
        fresh.commit()
        return fresh

    def count_down(self, count: int) -> None:
        self.write("spinrt:undo", COUNTDOWN, struct.pack("<Q", count))

    def counted(self) -> int:
        """What the countdown is at."""
        return self._number(COUNTDOWN, "<Q")

    def _apply(self, record: Record, growth: Growth) -> None:
        kind, address, value = record
        bits = struct.pack("<Q", value)
        if kind <= 3:
            self.write("memory", address, bits[: 1 << kind])
        elif kind == 4:
            length, place = value & 0xFFFF_FFFF, value >> 32
            self.write("memory", address, self.read("spinrt:undo-bytes", place, place + length))
        elif kind in (5, 6):
            self._put_half(f"spinrt:global/{address}", bits, high=kind == 6)
        elif kind == 7:
            growth.pages = value
        elif kind == 8:
            self.write("spinrt:undo", address, bits[:1])
        elif kind == 9:
            table = self.exports[f"spinrt:table/{value >> 32}"]
            table.set(self.store, address, self._kept(table.type(self.store).element, value & 0xFFFF_FFFF))
        elif kind == 10:
            found = self.exports[f"spinrt:global/{address}"]
            found.set_value(self.store, self._kept(found.type(self.store).content, value))
        else:
            raise AssertionError(f"a record of kind {kind}")

    def _put_half(self, name: str, bits: bytes, *, high: bool) -> None:
        old = self._global(name)
        self._put_bits(name, old[:8] + bits if high else (bits + old[8:])[: len(old)])

    def _kept(self, type: Any, slot: int) -> Any:
        table = "spinrt:undo-functions" if str(type) == "funcref" else "spinrt:undo-externs"
        found = self.exports[table].get(self.store, slot)
        return found.value if isinstance(found, wasmtime.Val) else found

    def _number(self, place: int, form: str = "<I") -> int:
        return int(struct.unpack(form, self.read("spinrt:undo", place, place + struct.calcsize(form)))[0])

    def write(self, name: str, place: int, data: bytes) -> None:
        memory = self.exports[name]
        assert place + len(data) <= memory.data_len(self.store)
        if data:  # the binding refuses to write nothing at the end
            memory.write(self.store, data, place)

    # What the binding does not do: vectors, exact bits of floats, identity of functions.

    def _global(self, name: str) -> Any:
        value = self._value(name)
        if value.kind >= len(_SIZES):
            return self._reference(self.exports[name].value(self.store))
        return bytes(value.of)[: _SIZES[value.kind]]

    def _value(self, name: str) -> Any:
        found = _ffi.wasmtime_val_t()
        _ffi.wasmtime_global_get(self.store._context(), ctypes.byref(self.exports[name]._global), ctypes.byref(found))
        return found

    def _put_bits(self, name: str, bits: bytes) -> None:
        value = self._value(name)
        ctypes.memmove(ctypes.addressof(value.of), bits, len(bits))
        target = ctypes.byref(self.exports[name]._global)
        error = _ffi.wasmtime_global_set(self.store._context(), target, ctypes.byref(value))
        assert not error

    def _identity(self, function: Any) -> bytes:
        return bytes(function._func)

    def _reference(self, found: Any) -> Any:
        if isinstance(found, wasmtime.Func):
            return self.functions.get(self._identity(found), "a function")
        return _plain(found)


def _plain(found: Any) -> Any:
    """What can be compared: floats by their bits, references by what they stand for."""
    if isinstance(found, float):
        return struct.pack("<d", found)
    if isinstance(found, list | tuple):
        return [_plain(one) for one in found]
    if isinstance(found, wasmtime.Val):
        return found.value
    return found
