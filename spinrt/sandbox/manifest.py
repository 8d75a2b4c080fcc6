"""What an extension says of itself: ``manifest.yaml``.

The manifest is a request, not a right: it names what the extension wants to import, which events it handles and how
much it needs. The operator's policy (``spinrt.runtime.policy``) decides what it gets.

```yaml
spinrt: 1                       # format of this file
name: delivery                  # lower case, digits and hyphens
version: 1.0.0
description: one line
module: delivery.wasm           # beside this file
imports:                        # what it asks; `functions` narrows it, `why` is for the operator
  - interface: spinrt:mail/message@1.0.0
    functions: ["[method]message.header"]
    why: reads the header fields that rules name
exports: [spinrt:extension/lifecycle@1.0.0]
handlers:
  - event: spinrt:mail/delivery-events@1.0.0#deliver
    order: 100                  # lower runs first
limits: {memory_bytes: 1048576, deadline_ms: 20}
build: {sources: [src/delivery.c], language: c}   # only `spinrt build` reads it
```

Source: docs/formats/manifest.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

import yaml

from spinrt.errors import ManifestError
from spinrt.sandbox.manifest_checks import INTERFACE, Checker
from spinrt.sandbox.manifest_handler import Handler, read_handler

FORMAT = 1
MANIFEST_BYTES_MAX = 64 * 1024
NESTING_MAX = 32
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*\Z")
_VERSION = re.compile(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?\Z")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one extension may use; the names end in their units.

    ``lift_bytes`` bounds what one call may pass to the host, 16 bytes counted for each list element besides its size.
    Those that end in ``_per_minute`` are rates over all calls (``spinrt.runtime.quota``).
    """

    memory_bytes: int = 1 << 20
    table_entries: int = 1024
    handles: int = 256
    deadline_ms: int = 100
    effects: int = 64
    host_calls: int = 10_000
    lift_bytes: int = 1 << 20
    undo_bytes: int = 64 << 20
    outside_calls_per_minute: int = 6_000

    def clamped(self, ceiling: Limits) -> Limits:
        """Return these limits, none above that of ``ceiling``."""
        return Limits(**{name: min(getattr(self, name), getattr(ceiling, name)) for name in LIMIT_NAMES})


LIMIT_NAMES = tuple(item.name for item in fields(Limits))
LIMITS_HIGHEST = Limits(
    memory_bytes=1 << 32,
    table_entries=1 << 20,
    handles=(1 << 16) - 2,
    deadline_ms=60_000,
    effects=1 << 20,
    host_calls=(1 << 32) - 1,
    lift_bytes=1 << 32,
    undo_bytes=1 << 30,
    outside_calls_per_minute=1 << 30,
)


@dataclass(frozen=True, slots=True)
class Import:
    """One interface that the extension asks for; ``functions`` empty means all of it."""

    interface: str
    functions: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True, slots=True)
class Build:
    """How ``spinrt build`` makes the module; paths are relative to the manifest."""

    sources: tuple[str, ...]
    language: str = "c"


@dataclass(frozen=True, slots=True)
class Manifest:
    name: str
    version: str
    module: str
    description: str = ""
    imports: tuple[Import, ...] = ()
    exports: tuple[str, ...] = ()
    handlers: tuple[Handler, ...] = ()
    limits: Limits = Limits()
    build: Build | None = None
    text: str = field(default="", compare=False, repr=False)
    """What it was read from."""

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read and check a manifest file.

        Raises:
            ManifestError: The file cannot be read, is not YAML, or says something that a manifest cannot say.
        """
        try:
            text = path.read_bytes()[: MANIFEST_BYTES_MAX + 1]
        except OSError as error:
            raise ManifestError(f"manifest {path}: cannot be read: {error.strerror}") from error
        if len(text) > MANIFEST_BYTES_MAX:
            raise ManifestError(f"manifest {path}: found over {MANIFEST_BYTES_MAX} bytes, expected at most that")
        return cls.parse(text, where=str(path))

    @classmethod
    def parse(cls, text: bytes | str, *, where: str = "manifest") -> Manifest:
        """Parse the text of a manifest; ``where`` names it in errors."""
        try:
            content = yaml.load(text, Loader=StrictLoader)
        except YAML_ERRORS as error:
            raise ManifestError(f"{where}: not YAML: {_yaml_problem(error)}") from error
        made = _Reader(where).manifest(content)
        return replace(made, text=text if isinstance(text, str) else text.decode("utf-8", "replace"))


YAML_ERRORS: Final = (yaml.YAMLError, ValueError, OverflowError, RecursionError)
"""What reading damaged YAML raises."""


class StrictLoader(yaml.SafeLoader):
    """The safe loader without aliases, a few hundred bytes of which stand for gigabytes, and without deep nesting,
    which costs its depth for each character."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        except (ValueError, KeyError, IndexError, AttributeError, OverflowError) as error:  # a date that is none, say
            raise yaml.MarkedYAMLError(
                problem=f"found {str(node.value)[:40]!r}, expected a value of its kind", problem_mark=node.start_mark
            ) from error

    def fetch_flow_collection_start(self, token: Any) -> None:
        if self.flow_level == NESTING_MAX:
            raise yaml.MarkedYAMLError(
                problem=f"found over {NESTING_MAX} brackets within each other, expected at most that",
                problem_mark=self.get_mark(),
            )
        super().fetch_flow_collection_start(token)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(
                problem="found an alias, expected the value itself",
                problem_mark=self.get_mark(),
            )
        return super().compose_node(parent, index)


def _yaml_problem(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else problem


class _Reader(Checker):
    """Checks one manifest's content."""

    def manifest(self, content: object) -> Manifest:
        known = (
            "spinrt",
            "name",
            "version",
            "description",
            "module",
            "imports",
            "exports",
            "handlers",
            "limits",
            "build",
        )
        root = self.mapping("manifest", content, known)
        if root.get("spinrt") != FORMAT:
            raise self.refuse("spinrt", root.get("spinrt"), f"{FORMAT}, the format of this file")
        return Manifest(
            name=self.text(root, "name", _NAME, "a name of lower-case letters, digits and hyphens"),
            version=self.text(root, "version", _VERSION, "a version such as 1.0.0"),
            description=self.text(root, "description", None, "text", default=""),
            module=self._file(root, "module"),
            imports=tuple(self._import(f"imports[{n}]", item) for n, item in enumerate(self.items(root, "imports"))),
            exports=tuple(
                self.name(f"exports[{n}]", item, INTERFACE) for n, item in enumerate(self.items(root, "exports"))
            ),
            handlers=tuple(
                read_handler(self, f"handlers[{n}]", item) for n, item in enumerate(self.items(root, "handlers"))
            ),
            limits=read_limits(
                root.get("limits"), Limits(), lambda key, found, want: self.refuse(f"limits{key}", found, want)
            ),
            build=self._build(root.get("build")),
        )

    def _file(self, root: Mapping[str, Any], key: str) -> str:
        found = self.text(root, key, None, "a file name")
        if not found or "/" in found or "\0" in found or found in (".", ".."):
            raise self.refuse(key, found, "the name of a file beside the manifest")
        return found

    def _import(self, key: str, found: object) -> Import:
        item = self.mapping(
            key, {"interface": found} if isinstance(found, str) else found, ("interface", "functions", "why")
        )
        functions = self.items(item, "functions")
        if not all(isinstance(name, str) for name in functions):
            raise self.refuse(f"{key}.functions", functions, "a list of function names")
        why = self.text(item, "why", None, "text", default="")
        return Import(self.name(f"{key}.interface", item.get("interface"), INTERFACE), tuple(functions), why)

    def _build(self, found: object) -> Build | None:
        if found is None:
            return None
        item = self.mapping("build", found, ("sources", "language"))
        sources = self.items(item, "sources")
        if not sources or not all(isinstance(name, str) and not Path(name).is_absolute() for name in sources):
            raise self.refuse("build.sources", sources, "a list of paths relative to the manifest")
        language = self.text(item, "language", None, "c", default="c")
        if language != "c":
            raise self.refuse("build.language", language, "c")
        return Build(tuple(sources), language)


def read_limits(found: object, base: Limits, refuse: Any) -> Limits:
    """Read a ``limits`` mapping over ``base``; ``refuse(key, found, expected)`` makes the error for a bad entry."""
    if found is None:
        return base
    if not isinstance(found, dict):
        raise refuse("", found, "a mapping")
    values = {name: getattr(base, name) for name in LIMIT_NAMES}
    for name, value in found.items():
        if name not in values:
            raise refuse("", name, f"only {', '.join(LIMIT_NAMES)}")
        lowest, highest = int(name != "undo_bytes"), getattr(LIMITS_HIGHEST, name)
        if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
            raise refuse(f".{name}", value, f"an integer from {lowest} to {highest}")
        values[name] = value
    return Limits(**values)
