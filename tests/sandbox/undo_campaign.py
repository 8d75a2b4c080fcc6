"""Random modules: rewritten they do what the originals did, and what they did can be taken back.

``python -m tests.sandbox.undo_campaign --seeds 10000 --first 0`` runs many; the tests run a few. A failure names its
seed.
"""

from __future__ import annotations

import argparse
import struct
import sys
import time
from random import Random
from typing import Any

import wasmtime

from spinrt.sandbox.rewrite import Prepared, prepare
from tests.sandbox.random_modules import BOTTOM, MEMORY_PAGES, Generator
from tests.sandbox.undo_reference import Instance, State

UNDO_BYTES = 1 << 20
CALLS = 8
FAULTS_MAX = 25
MANY = 1 << 40


def made(code: bytes, *, undo_bytes: int = UNDO_BYTES, countdown: bool = False, pages: int = MEMORY_PAGES) -> Prepared:
    return prepare(code, memory_pages_max=pages, table_entries_max=100, undo_bytes=undo_bytes, countdown=countdown)


def calls_of(instance: Instance, random: Random) -> list[tuple[Any, ...]]:
    """Names of functions with arguments."""
    found = []
    for _ in range(CALLS):
        name = f"f{random.randrange(len([name for name in instance.types if name[0] == 'f']))}"
        found.append((name, *(_argument(str(type), random) for type in instance.types[name].params)))
    return found


def _argument(type: str, random: Random) -> Any:
    if type[0] == "f":
        return random.choice([0.0, 1.5, -3e7])
    return random.choice([0, 1, 3, 7, 8, 100, BOTTOM, 4096, 65530, -1])


def answer(instance: Instance, number: int) -> int:
    """The import: what it returns depends on its argument alone."""
    return (number * 31 + 7) & 0x3FFF


def comparable(instance: Instance, moved: int | None) -> tuple[Any, ...]:
    """What an original and its rewritten form have in common."""
    globals_ = dict(instance.globals())
    if moved is not None:
        found = globals_.pop(f"spinrt:global/{moved}", None)
        globals_["moved"] = found or struct.pack("<I", instance.moved())
    return instance.memory(), globals_


def check_agreement(code: bytes, seed: int, **fitted: int) -> None:
    """The same results, kinds of traps, memory and globals, call after call."""
    rewritten = made(code, **fitted)
    one, other = Instance(made(code, **fitted | {"undo_bytes": 0}), answer), Instance(rewritten, answer)
    moved = rewritten.log.moved if rewritten.log else None
    for call in calls_of(other, Random(seed)):
        expected, found = one.call(*call), other.call(*call)
        assert found == expected, (seed, call, expected, found)
        assert comparable(other, moved) == comparable(one, moved), (seed, call)
        other.commit()


def check_host_calls(code: bytes, seed: int) -> None:
    """Whenever an import is called the log is complete: the records in it lead back."""
    rewritten = made(code)
    before: list[bytes] = []

    def look(instance: Instance, number: int) -> int:
        assert instance.log is not None
        head = struct.unpack("<I", instance.read("spinrt:undo", 0, 4))[0]
        records = instance.records()
        assert len(records) == (head - instance.log.base) // 16, (seed, "the head is behind")
        assert _replayed(instance, records)[instance.log.dead_below :] == before[0], seed
        return answer(instance, number)

    instance = Instance(rewritten, answer)
    if instance.log is None:
        return
    for call in calls_of(instance, Random(seed)):
        before[:] = [instance.state().memory]
        instance.answer = look
        instance.call(*call)
        instance.answer = answer
        instance.commit()


def _replayed(instance: Instance, records: list[Any]) -> bytes:
    """The memory as the records of it lead back to, without changing anything."""
    memory = bytearray(instance.memory())
    for kind, address, value in reversed(records):
        if kind <= 3:
            memory[address : address + (1 << kind)] = struct.pack("<Q", value)[: 1 << kind]
        elif kind == 4:
            length, place = value & 0xFFFF_FFFF, value >> 32
            memory[address : address + length] = instance.read("spinrt:undo-bytes", place, place + length)
        elif kind == 7:
            del memory[value << 16 :]
    return bytes(memory)


def rolled_back(instance: Instance, before: State, dead: bytes, why: Any) -> Instance:
    """Roll back and check; an instance whose memory grew is made anew.

    The dead stack is put back by hand: a random module reads there what it has not written.
    """
    growth = instance.roll_back()
    if growth.pages is not None and len(before.memory) != len(instance.state().memory):
        instance = instance.remade(growth.pages)
    assert instance.state() == before, why
    instance.write("memory", 0, dead)
    return instance


def check_rollback(code: bytes, seed: int, **fitted: int) -> int:
    """After each call, and after a fault before each change in it, all is as it was; then the call runs again."""
    plain = Instance(made(code, **fitted | {"undo_bytes": 0}), answer)
    instance = Instance(made(code, countdown=True, **fitted), answer)
    faults = 0
    if instance.log is None:
        return 0
    for call in calls_of(instance, Random(seed)):
        before, dead = instance.state(), instance.memory()[: instance.log.dead_below]
        instance.count_down(MANY)
        instance.call(*call)
        changes = MANY - instance.counted()
        instance = rolled_back(instance, before, dead, (seed, call))
        for left in _sample(changes, Random(seed)):
            instance.count_down(left)
            assert instance.call(*call) == f"trap {wasmtime.TrapCode.UNREACHABLE}", (seed, call, left)
            instance = rolled_back(instance, before, dead, (seed, call, left))
            faults += 1
        instance.count_down(0)
        assert instance.call(*call) == plain.call(*call), (seed, call)
        instance.commit()
    return faults


def _sample(changes: int, random: Random) -> list[int]:
    every = range(1, changes + 1)
    return list(every) if changes <= FAULTS_MAX else sorted(random.sample(every, FAULTS_MAX))


def check(seed: int) -> int:
    """All of it for one seed; the number of faults that were injected."""
    code = bytes(wasmtime.wat2wasm(Generator(seed).module()))
    check_agreement(code, seed)
    check_host_calls(code, seed)
    return check_rollback(code, seed)


def main() -> int:
    parser = argparse.ArgumentParser(description="Random modules against their rewritten forms.")
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    chosen = parser.parse_args()
    began, faults = time.monotonic(), 0
    for seed in range(chosen.first, chosen.first + chosen.seeds):
        faults += check(seed)
        if seed % 100 == 99:
            print(f"{seed + 1 - chosen.first} modules, {faults} faults, {time.monotonic() - began:.0f} s", flush=True)
    print(f"seeds {chosen.first} to {chosen.first + chosen.seeds - 1}: {faults} faults, all taken back")
    return 0 if faults else 1


if __name__ == "__main__":
    sys.exit(main())
