"""A YAML file as sections that know their line: every complaint says where it is, what was found, what was expected.

Nothing here knows what a mail system is; ``config`` says which keys there are. A section hands out the keys it is asked
for, and ``finish`` refuses whatever was not asked for, with the nearest name as a suggestion.

Stricter than YAML where YAML surprises: a key given twice is an error, aliases are refused (a file of a few hundred
bytes may stand for gigabytes), and keys are always text (``no:`` is an account called *no*).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import yaml

from spinrt import limits
from spinrt.errors import ConfigError
from spinrt.sandbox.manifest import YAML_ERRORS, StrictLoader

T = TypeVar("T")
D = TypeVar("D")

FOUND_CHARACTERS_MAX = 60
DEPTH_MAX = 32
_KINDS = {
    "tag:yaml.org,2002:null": "nothing",
    "tag:yaml.org,2002:bool": "a truth value",
    "tag:yaml.org,2002:int": "an integer",
    "tag:yaml.org,2002:float": "a number",
    "tag:yaml.org,2002:str": "text",
    "tag:yaml.org,2002:timestamp": "a date",
}


class _Loader(yaml.SafeLoader):
    """Builds nodes, never objects; no aliases, bounded depth."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            problem: str | None = "aliases (*name) are not supported"
        else:
            problem = f"nested more than {DEPTH_MAX} levels deep" if self.depth >= DEPTH_MAX else None
        if problem is not None:
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


@dataclass(frozen=True, slots=True)
class Value:
    """One value of the file and where it stands."""

    file: Path
    path: str
    """Keys from the top of the file, joined with dots."""
    line: int
    """Of the key, or of the member of a list; counted from 1."""
    node: yaml.Node

    @property
    def where(self) -> str:
        """``file:line: key path``, what every complaint starts with."""
        return f"{self.file}:{self.line}: {self.path or 'file'}"

    @property
    def is_null(self) -> bool:
        return bool(self.node.tag == "tag:yaml.org,2002:null")

    def error(self, expected: str, *, found: str = "", hint: str = "") -> ConfigError:
        """Return the complaint that this value is not what was expected."""
        return ConfigError(f"{self.where}: found {found or self.found()}, expected {expected}", hint=hint)

    def found(self) -> str:
        """Describe the value for a complaint, clipped."""
        if not isinstance(self.node, yaml.ScalarNode):
            return "a list" if isinstance(self.node, yaml.SequenceNode) else "a mapping"
        text = str(self.node.value)
        clipped = text if len(text) <= FOUND_CHARACTERS_MAX else text[:FOUND_CHARACTERS_MAX] + "…"
        kind = _KINDS.get(self.node.tag, "a value")
        return kind if self.is_null else f"{kind} {clipped!r}"

    def scalar(self, kind: str, expected: str) -> str:
        """Return the text of a scalar of that YAML type (``int``, ``str``, …)."""
        if not isinstance(self.node, yaml.ScalarNode) or self.node.tag != f"tag:yaml.org,2002:{kind}":
            raise self.error(expected)
        return str(self.node.value)

    def values(self, expected: str) -> list[Value]:
        """Return the members of a list."""
        if not isinstance(self.node, yaml.SequenceNode) or self.node.tag != "tag:yaml.org,2002:seq":
            raise self.error(expected)
        return [
            Value(self.file, f"{self.path}[{index}]", node.start_mark.line + 1, node)
            for index, node in enumerate(self.node.value)
        ]

    def section(self) -> Section:
        """Return the value as a section; nothing at all is an empty one.

        Raises:
            ConfigError: It is no mapping, or a key stands twice.
        """
        if self.is_null:
            return Section(self, {})
        if not isinstance(self.node, yaml.MappingNode) or self.node.tag != "tag:yaml.org,2002:map":
            raise self.error("a mapping of keys to values")
        members: dict[str, Value] = {}
        for key_node, value_node in self.node.value:
            key = self._key(key_node)
            path = f"{self.path}.{key}" if self.path else key
            member = Value(self.file, path, key_node.start_mark.line + 1, value_node)
            if key in members:
                raise member.error("each key once", found="the key a second time")
            members[key] = member
        return Section(self, members)

    def plain(self) -> Any:
        """Return the value as plain Python: dict, list, str, int, float, bool or None. For parts that others check."""
        if isinstance(self.node, yaml.MappingNode):
            return self.section().plain()
        if isinstance(self.node, yaml.SequenceNode):
            return [value.plain() for value in self.values("a list")]
        try:
            return StrictLoader("").construct_object(self.node)
        except yaml.YAMLError as error:
            raise self.error("a value that YAML understands") from error

    def deepest(self, path: str) -> Value:
        """Return the value that a key path leads to, as far as it does: ``path`` may go on with other text."""
        if isinstance(self.node, yaml.MappingNode):
            for _, member in self.section().items():
                rest = path.removeprefix(member.path)
                if rest != path and not rest[:1].isalnum():
                    return member.deepest(path)
        return self

    def _key(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode) or node.tag == "tag:yaml.org,2002:merge":
            raise Value(self.file, self.path, node.start_mark.line + 1, node).error("a name as key")
        return str(node.value)


Read: TypeAlias = Callable[[Value], T]
"""Turns one value of the file into what the program uses, or raises ConfigError."""


class Section:
    """A mapping of the file; remembers which keys were asked for."""

    def __init__(self, value: Value, members: dict[str, Value]) -> None:
        self.value = value
        self._members = members
        self._asked: dict[str, None] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._members

    def get(self, key: str, read: Read[T], default: D) -> T | D:
        """Read the value of that key, or return ``default`` when the key is not there."""
        self._asked[key] = None
        member = self._members.get(key)
        return default if member is None else read(member)

    def require(self, key: str, read: Read[T]) -> T:
        """Read the value of that key.

        Raises:
            ConfigError: The key is missing.
        """
        self._asked[key] = None
        if key not in self._members:
            raise ConfigError(f"{self.value.where}: the key {key!r} is missing")
        return read(self._members[key])

    def section(self, key: str) -> Section:
        """Return the section below that key; an empty one when it is not there."""
        self._asked[key] = None
        member = self._members.get(key)
        if member is None:
            path = f"{self.value.path}.{key}" if self.value.path else key
            return Section(replace(self.value, path=path), {})
        return member.section()

    def items(self) -> Iterator[tuple[str, Value]]:
        """All keys of a section whose keys are names that the operator chooses."""
        self._asked.update(dict.fromkeys(self._members))
        yield from self._members.items()

    def plain(self) -> dict[str, Any]:
        """All of it as plain Python, for parts that others check."""
        return {key: member.plain() for key, member in self.items()}

    def finish(self) -> None:
        """Refuse the first key that nobody asked for."""
        for key, value in self._members.items():
            if key not in self._asked:
                near = difflib.get_close_matches(key, self._asked, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"keys here: {', '.join(self._asked)}"
                raise ConfigError(f"{value.where}: unknown key {key!r}", hint=hint)


def load(path: Path, shown: Path | None = None) -> Section:
    """Read a YAML file whose top is a mapping; an empty file is an empty mapping.

    Messages call it by its path, unless ``shown`` is another one.

    Raises:
        ConfigError: Not there, not readable, too large, no YAML, or no mapping.
    """
    named = path if shown is None else shown
    return parse(_read(path, named), named)


def parse(text: str, file: Path) -> Section:
    """As ``load``, from text that is already here; ``file`` only names it."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except YAML_ERRORS as error:
        raise _syntax_error(file, error) from None
    if node is None:
        node = yaml.MappingNode("tag:yaml.org,2002:map", [])
    return Value(file, "", 1, node).section()


def _read(path: Path, shown: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(limits.CONFIG_BYTES_MAX + 1)
    except FileNotFoundError:
        raise ConfigError(f"{shown}: no such file", hint="`spinrt config init` writes a first one") from None
    except OSError as error:
        raise ConfigError(f"{shown}: cannot be read: {error.strerror}") from None
    if len(data) > limits.CONFIG_BYTES_MAX:
        raise ConfigError(f"{shown}: found more than {limits.CONFIG_BYTES_MAX} bytes, expected a file of configuration")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{shown}:{line}: found a byte that is not UTF-8, expected UTF-8 text") from None


def _syntax_error(file: Path, error: Exception) -> ConfigError:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "not valid"
    line = f":{mark.line + 1}" if mark is not None else ""
    return ConfigError(f"{file}{line}: not YAML: {' '.join(str(problem).split())}")
