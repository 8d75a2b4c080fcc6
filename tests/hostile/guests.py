"""The hostile guests of extensions/hostile: their tables read, their modules built.

A class of attacks is a directory with an ``outcomes.yaml`` and sources: C where C can say it, WebAssembly text where it
cannot. extensions/hostile/README.md has the format of the table.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final

import wasmtime
import yaml

from spinrt.sandbox.build import build_extension
from spinrt.sandbox.loader import Extension, check_extension
from spinrt.sandbox.manifest import Manifest
from spinrt.sandbox.wit import Interfaces, shipped
from tests.meta.source import ROOT

DIRECTORY: Final = ROOT / "extensions" / "hostile"
EVENTS: Final = "hostile:trial/events@1.0.0"
LIFECYCLE: Final = "spinrt:extension/lifecycle@1.0.0"
IMPORTS: Final = {
    "host": "hostile:trial/host@1.0.0",
    "kv": "spinrt:kv/store@1.0.0",
    "logging": "spinrt:logging/logging@1.0.0",
    "clock": "spinrt:clock/clock@1.0.0",
    "random": "spinrt:clock/random@1.0.0",
    "config": "spinrt:extension/config@1.0.0",
    "control": "spinrt:extension/control@1.0.0",
    "delivery": "spinrt:mail/delivery@1.0.0",
    "outbound": "spinrt:mail/outbound@1.0.0",
    "message": "spinrt:mail/message@1.0.0",
}
"""Short names that a table uses."""
LIMITS: Final = {
    "memory_bytes": 1 << 20,
    "table_entries": 100,
    "handles": 8,
    "deadline_ms": 50,
    "effects": 8,
    "host_calls": 100,
    "lift_bytes": 1 << 16,
}
"""What a guest asks for unless its table says otherwise: enough for an honest one."""
STACK_BYTES: Final = 16384
"""The shadow stack of a guest in C, at the bottom of its memory."""
_KEYS: Final = frozenset(
    [
        "does",
        "exports",
        "handles",
        "hex",
        "imports",
        "limits",
        "manifest",
        "policy",
        "raises",
        "refused",
        "says",
        "wat",
        "with",
    ]
)


class TableError(Exception):
    """A table says something that no guest can be made of."""


@dataclass(frozen=True)
class Guest:
    """One guest, and what must become of it.

    Attributes:
        class_: Its class of attacks: the directory.
        name: Its own name, unlike any other guest's.
        number: Who it is in raises.
        entry: What the table says of it.
    """

    class_: str
    name: str
    number: int
    entry: Mapping[str, Any] = field(repr=False)

    @property
    def id(self) -> str:
        return f"{self.class_}/{self.name}"

    @property
    def refused(self) -> str:
        """The code of the error that keeps it from being loaded; empty when it is loaded."""
        return str(self.entry.get("refused", ""))

    @property
    def raises(self) -> tuple[Mapping[str, Any], ...]:
        return tuple(self.entry.get("raises", ()))

    @cached_property
    def is_c(self) -> bool:
        """Whether its source is C."""
        return self._source(".c").exists()

    @property
    def stack_bytes(self) -> int:
        """How much of its memory, from the bottom, holds nothing between two calls."""
        return STACK_BYTES if self.is_c else 0

    @cached_property
    def manifest(self) -> str:
        """The text of its manifest."""
        if "manifest" in self.entry:
            return self._filled(self.entry["manifest"])
        content: dict[str, Any] = {
            "spinrt": 1,
            "name": self.name,
            "version": "1.0.0",
            "module": "guest.wasm",
            "imports": self._imports,
            "exports": self.entry.get("exports", []),
            "handlers": [self._handler(given) for given in self.entry.get("handles", [])],
            "limits": {**LIMITS, **self.entry.get("limits", {})},
        }
        if self.is_c:
            content["build"] = {"sources": [self._source(".c").name]}
        return yaml.safe_dump(content)

    @property
    def policy(self) -> Mapping[str, Any]:
        """What the operator gives it: all that it asks for, and no quarantine, unless the table says."""
        limits = {"deadline_ms": 60_000, "host_calls": 1 << 20}
        given = {"grants": {id_: {} for id_ in self._imports}, "limits": limits, "supervision": {"faults": 0}}
        return {**given, **self.entry.get("policy", {})}

    @cached_property
    def code(self) -> bytes:
        """Its module."""
        if "hex" in self.entry:
            return bytes.fromhex(self.entry["hex"])
        if "wat" in self.entry:
            return _assemble(f"(module {self._filled(self.entry['wat'])})")
        if self.is_c:
            return _compile(self)
        return _assemble(self._filled(self._source(".wat").read_text(encoding="utf-8")))

    def load(self) -> Extension:
        """Check manifest and module, from its bytes; a manifest that is none is read each time.

        Raises:
            SpinError: It is refused.
        """
        return check_extension(self._parsed, self.code, interfaces=interfaces())

    @cached_property
    def _parsed(self) -> Manifest:
        return Manifest.parse(self.manifest)

    @cached_property
    def extension(self) -> Extension:
        """As `load`, done once."""
        return self.load()

    @property
    def _imports(self) -> list[str]:
        return [IMPORTS.get(name, name) for name in self.entry.get("imports", [])]

    def _handler(self, given: str | Mapping[str, Any]) -> dict[str, Any]:
        """An event by its bare name, or a mapping as in a manifest that has such a name; raised for itself only."""
        item: dict[str, Any] = {"event": given} if isinstance(given, str) else dict(given)
        if not self.is_c:
            item.setdefault("export", item["event"])
        if item.pop("guarded", True):
            item["when"] = [{"field": "who", "equals": self.number}]
        item["event"] = item["event"] if "#" in item["event"] else f"{EVENTS}#{item['event']}"
        return item

    @property
    def sources(self) -> tuple[Path, Path]:
        """Where its source may lie, as C or as text."""
        return self._source(".c"), self._source(".wat")

    def _source(self, suffix: str) -> Path:
        name = self.entry.get("with", {}).get("source", self.name)
        return DIRECTORY / self.class_ / f"{name}{suffix}"

    def _filled(self, text: str) -> str:
        """The text, its holes (``{{NAME}}``) filled by what stands under ``with``: a text, or one so many times."""
        values = self.entry.get("with", {})

        def value(found: re.Match[str]) -> str:
            if found[1] not in values:
                raise TableError(f"{self.id}: found the hole {found[1]}, expected it under `with`")
            given = values[found[1]]
            return given["text"] * given["times"] if isinstance(given, dict) else str(given)

        return re.sub(r"\{\{(\w+)\}\}", value, text)


@cache
def interfaces() -> Interfaces:
    """The shipped interfaces and those of the trial."""
    return Interfaces.load([DIRECTORY / "trial.wit"], known=shipped())


@cache
def guests() -> tuple[Guest, ...]:
    """All guests, class by class.

    Raises:
        TableError: A table is malformed, or two guests have one name.
    """
    found: dict[str, Guest] = {}
    for table in sorted(DIRECTORY.glob("*/outcomes.yaml")):
        for name, entry in _entries(table):
            if name in found:
                raise TableError(f"{table}: found {name} again, which is {found[name].id}")
            found[name] = Guest(table.parent.name, name, len(found) + 1, entry)
    return tuple(found.values())


def _entries(table: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    content = yaml.safe_load(table.read_text(encoding="utf-8"))
    for name, entry in content["guests"].items():
        unknown = set(entry) - _KEYS
        if unknown or "does" not in entry or ("refused" in entry) == ("raises" in entry):
            raise TableError(f"{table}: {name}: found {sorted(entry)}, expected `does`, and `refused` or `raises`")
        yield name, entry


@cache
def bystander() -> Extension:
    """The extension that must notice nothing of all this."""
    manifest = yaml.safe_dump(
        {
            "spinrt": 1,
            "name": "bystander",
            "version": "1.0.0",
            "module": "guest.wasm",
            "imports": [IMPORTS["host"]],
            "handlers": [
                {"event": f"{EVENTS}#{name}", "order": 1000, "when": when}
                for name, when in (("steady", []), ("speak", []), ("run", []), ("look", _NOBODY))
            ],
            "build": {"sources": ["bystander.c"]},
        }
    )
    code = _build(manifest, DIRECTORY / "bystander" / "bystander.c")
    return check_extension(Manifest.parse(manifest), code, interfaces=interfaces())


_NOBODY: Final = [{"field": "who", "equals": 0}]


@cache
def _assemble(text: str) -> bytes:
    return bytes(wasmtime.wat2wasm(text))


def _compile(guest: Guest) -> bytes:
    return _build(guest.manifest, guest._source(".c"))


def _build(manifest: str, source: Path) -> bytes:
    """Build one source as ``spinrt build`` does, in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as scratch:
        directory = Path(scratch) / "guest"
        directory.mkdir()
        (directory / "manifest.yaml").write_text(manifest, encoding="utf-8")
        shutil.copy(source, directory / source.name)
        built = build_extension(directory, Path(scratch) / "out", interfaces=interfaces())
        return (built / "guest.wasm").read_bytes()
