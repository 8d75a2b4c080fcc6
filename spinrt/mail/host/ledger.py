"""Keeps the maps of extensions in step with the log.

Writes to a map show in memory as soon as their record is appended, before it is durable, so that the next delivery
sees them. Should the record be lost (the device was full), memory goes back to what is stored, with the writes that are
still on their way on top.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from spinrt.host.kv import KvEffect, KvSpaces, Space
from spinrt.mail.store.model import KvWrite


class KvLedger:
    """The writes on their way to the log, in their order.

    Args:
        spaces: The maps in memory.
        load: Gives what is stored of one map.
    """

    def __init__(self, spaces: KvSpaces, load: Callable[[str], dict[str, bytes]]) -> None:
        self._spaces, self._load = spaces, load
        self._pending: dict[int, tuple[KvEffect, ...]] = {}
        self._next = 0

    def begin(self, effects: tuple[KvEffect, ...]) -> int:
        """These were appended to the log and applied in memory; `end` is due with the number that is returned."""
        self._next += 1
        self._pending[self._next] = effects
        return self._next

    def end(self, number: int, *, stored: bool) -> None:
        """Their record is durable and applied, or it is lost."""
        effects = self._pending.pop(number)
        if not stored:
            for space in {effect.space.name: effect.space for effect in effects}.values():
                self._restore(space)

    def _restore(self, space: Space) -> None:
        stored = self._load(space.name)
        for key in {*space.values, *stored}:
            space.put(key, stored.get(key))
        for effects in self._pending.values():
            for effect in effects:
                if effect.space is space:
                    effect.apply()

    def unstored(self, names: Iterable[str]) -> tuple[KvWrite, ...]:
        """Writes that bring the store to what these maps hold: what extensions wrote when they were loaded."""
        writes: list[KvWrite] = []
        for name in names:
            held, stored = self._spaces.space(name).values, self._load(name)
            changed = sorted(key for key in {*held, *stored} if held.get(key) != stored.get(key))
            writes += [KvWrite(name, key, held.get(key)) for key in changed]
        return tuple(writes)


def kv_writes(effects: Iterable[KvEffect]) -> tuple[KvWrite, ...]:
    """The writes as the store takes them; of several to one key the last counts."""
    last = {(effect.space.name, effect.key): effect.value for effect in effects}
    return tuple([KvWrite(space, key, value) for (space, key), value in last.items()])
