"""``spinrt:kv``: a map of an extension's own. Writes are effects; a call sees its own before they are applied.

The maps live in memory; who wants them durable gives `KvSpaces` what was stored and stores each `KvEffect` that a
transaction commits (the mail system puts them into its log).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from spinrt._core import Call
from spinrt.errors import StateError
from spinrt.runtime.capability import Closure, Grant, HostInterface
from spinrt.runtime.domain import Domain
from spinrt.sandbox.types import Err, Ok, Result

KEY_BYTES_MAX = 256
VALUE_BYTES_MAX = 65_536
SPACE_BYTES_DEFAULT = 1 << 20
KEYS_MAX = 256


@dataclass(slots=True)
class Space:
    """One extension's map; ``used_bytes`` counts keys (as UTF-8) and values."""

    name: str
    values: dict[str, bytes] = field(default_factory=dict)
    used_bytes: int = 0

    def put(self, key: str, value: bytes | None) -> None:
        self.used_bytes += cost(key, value) - cost(key, self.values.get(key))
        if value is None:
            self.values.pop(key, None)
        else:
            self.values[key] = value


def cost(key: str, value: bytes | None) -> int:
    """Bytes that an entry takes; none for an entry that is not there."""
    return 0 if value is None else len(key.encode()) + len(value)


@dataclass(slots=True)
class KvEffect:
    """One write; ``value`` none deletes."""

    space: Space
    key: str
    value: bytes | None

    def apply(self) -> None:
        self.space.put(self.key, self.value)

    def describe(self) -> str:
        """The write in a few words."""
        return f"{'delete' if self.value is None else 'set'} {self.key}"


class KvSpaces:
    """All maps of one runtime; ``load(space)`` gives what was stored for an extension that is linked."""

    def __init__(self, load: Callable[[str], Mapping[str, bytes]] = lambda space: {}) -> None:
        self._load = load
        self._spaces: dict[str, Space] = {}

    def space(self, name: str) -> Space:
        """Return the map of that name, loaded once."""
        if name not in self._spaces:
            space = self._spaces[name] = Space(name)
            for key, value in self._load(name).items():
                space.put(key, value)
        return self._spaces[name]


class KvInterface(HostInterface):
    """``spinrt:kv/store``. A grant may carry ``bytes_max``, the room of the name space (1 MiB by default)."""

    interface_id = "spinrt:kv/store@1.0.0"
    pure = ("get", "keys")
    attenuations: ClassVar = {"bytes_max": "room of the extension's name space in bytes"}

    def __init__(self, spaces: KvSpaces | None = None) -> None:
        self.spaces = spaces or KvSpaces()

    def bind(self, function: str, grant: Grant, domain: Domain) -> Closure:
        bytes_max = grant.attenuations.get("bytes_max", SPACE_BYTES_DEFAULT)
        if not isinstance(bytes_max, int) or isinstance(bytes_max, bool) or bytes_max < 0:
            raise grant.refuse("bytes_max", bytes_max, "a number of bytes")
        view = _View(self.spaces.space(domain.name), bytes_max)
        closures: dict[str, Closure] = {"get": view.get, "set": view.set, "delete": view.delete, "keys": view.keys}
        return closures[function]


class _View:
    """One domain's closures over its own map."""

    def __init__(self, space: Space, bytes_max: int) -> None:
        self._space, self._bytes_max = space, bytes_max

    def get(self, call: Call | None, key: str) -> bytes | None:
        for effect in reversed(self._pending(call)):
            if effect.key == key:
                return effect.value
        return self._space.values.get(key)

    def set(self, call: Call | None, key: str, value: bytes) -> Result:
        if not 0 < len(key.encode()) <= KEY_BYTES_MAX or len(value) > VALUE_BYTES_MAX:
            return Err("malformed")
        if self._used_after(call, key, value) > self._bytes_max:
            return Err("full")
        self._write(call, key, value)
        return Ok()

    def delete(self, call: Call | None, key: str) -> bool:
        if self.get(call, key) is None:
            return False
        self._write(call, key, None)
        return True

    def keys(self, call: Call | None, prefix: str, after: str | None) -> list[str]:
        pending = {effect.key: effect.value for effect in self._pending(call)}
        there = {key for key in self._space.values if pending.get(key, b"") is not None}
        there |= {key for key, value in pending.items() if value is not None}
        found = sorted((key for key in there if key.startswith(prefix)), key=str.encode)
        start = 0 if after is None else bisect_right(found, after.encode(), key=str.encode)
        return found[start : start + KEYS_MAX]

    def _pending(self, call: Call | None) -> list[KvEffect]:
        effects: Iterable[object] = call.journal.effects if call else ()
        return [effect for effect in effects if isinstance(effect, KvEffect) and effect.space is self._space]

    def _used_after(self, call: Call | None, key: str, value: bytes) -> int:
        latest = {effect.key: effect.value for effect in self._pending(call)} | {key: value}
        grown = sum(cost(name, new) - cost(name, self._space.values.get(name)) for name, new in latest.items())
        return self._space.used_bytes + grown

    def _write(self, call: Call | None, key: str, value: bytes | None) -> None:
        if call is None:
            raise StateError(
                f"key-value map {self._space.name}: found a write outside of a call, expected it inside one"
            )
        call.journal.append(KvEffect(self._space, key, value))
