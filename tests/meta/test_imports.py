"""Who may import whom (docs/architecture.md, "Arrows"). Every import counts, also those inside functions."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

from tests.meta.source import Module, modules

# Longest prefix wins.
PARTS = {
    "spinrt": "root",
    "spinrt.__main__": "main",
    "spinrt.errors": "base",
    "spinrt.limits": "base",
    "spinrt.clock": "base",
    "spinrt.trace": "base",
    "spinrt._core": "core",
    "spinrt.sandbox": "sandbox",
    "spinrt.runtime": "runtime",
    "spinrt.host": "host",
    "spinrt.storage": "storage",
    "spinrt.undo": "undo",
    "spinrt.mail": "mail",
    "spinrt.mail.address": "message",
    "spinrt.mail.message": "message",
    "spinrt.mail.store": "store",
    "spinrt.mail.store.model": "vocabulary",  # plain values; the engines speak of mailboxes and flags in them
    "spinrt.mail.smtp": "smtp",
    "spinrt.mail.imap": "imap",
    "spinrt.mail.smtp.parser": "smtp engine",
    "spinrt.mail.smtp.state": "smtp engine",
    "spinrt.mail.imap.parser": "imap engine",
    "spinrt.mail.imap.state": "imap engine",
    "spinrt.check": "check",
    "spinrt.cli": "cli",
    "spinrt.testing": "testing",
    "spinrt.interfaces": "data",
    "spinrt.extensions": "data",
}

EVERYTHING_BELOW_CLI = {
    "root", "base", "core", "sandbox", "runtime", "host", "storage", "undo",
    "mail", "message", "vocabulary", "store", "smtp", "imap", "smtp engine", "imap engine",
}  # fmt: skip
MAY_IMPORT: dict[str, set[str]] = {
    "base": set(),
    "core": {"base"},
    "sandbox": {"core", "base"},
    "runtime": {"sandbox", "core", "base"},
    "host": {"runtime", "sandbox", "core", "base"},
    "storage": {"core", "base"},
    "undo": {"storage", "base"},
    "message": {"base"},
    "vocabulary": {"base"},
    "store": {"storage", "vocabulary", "message", "core", "base"},
    "smtp engine": {"smtp", "vocabulary", "message", "core", "base"},
    "imap engine": {"imap", "vocabulary", "message", "base"},
    "smtp": EVERYTHING_BELOW_CLI - {"imap", "imap engine"},
    "imap": EVERYTHING_BELOW_CLI - {"smtp", "smtp engine"},
    "mail": EVERYTHING_BELOW_CLI,
    "root": {"sandbox", "runtime", "host", "base", "core"},
    "check": EVERYTHING_BELOW_CLI,
    "testing": EVERYTHING_BELOW_CLI | {"check"},
    "cli": EVERYTHING_BELOW_CLI | {"check"},
    "main": {"cli"},
    "data": set(),
}
# Bytes in, events and bytes out: whoever reads the wire does no I/O and knows no clock.
ENGINE_NEVER = {"asyncio", "socket", "ssl", "select", "threading", "time", "subprocess", "sqlite3"}


def part_of(name: str) -> str:
    """The part that a module, or a name in it, belongs to."""
    pieces = name.split(".")
    for length in range(len(pieces), 0, -1):
        found = PARTS.get(".".join(pieces[:length]))
        if found is not None:
            return found
    raise LookupError(name)


def part_of_module(name: str) -> str:
    """As `part_of`; ``parser_fetch`` and the like belong to ``parser``."""
    return part_of(re.sub(r"\.(parser|state)_\w+", r".\1", name))


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.name)
def test_imports_follow_the_arrows(module: Module) -> None:
    """A module imports its own part, and the parts that its part may know."""
    own = part_of_module(module.name)

    wrong = [
        f"{module.place}:{line}: {own} imports {name} ({part_of_module(name)})"
        for line, name in module.imports()
        if name.partition(".")[0] == "spinrt"
        and part_of_module(name) != own
        and part_of_module(name) not in MAY_IMPORT[own]
    ]

    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "module", [module for module in modules() if part_of_module(module.name) == "base"], ids=lambda module: module.name
)
def test_base_needs_the_standard_library_alone(module: Module) -> None:
    """Errors, limits, clock and trace can be imported where nothing is installed."""
    foreign = {name.partition(".")[0] for _, name in module.imports()} - set(sys.stdlib_module_names) - {"spinrt"}

    assert not foreign


@pytest.mark.parametrize(
    "module",
    [module for module in modules() if part_of_module(module.name).endswith("engine")],
    ids=lambda module: module.name,
)
def test_engines_do_no_io(module: Module) -> None:
    """The modules that read the wire import nothing that reaches outside the process or tells the time."""
    found = {name.partition(".")[0] for _, name in module.imports()} & ENGINE_NEVER

    assert not found


def test_runtime_and_storage_never_meet() -> None:
    """Neither knows the other, not even through a module between them in the same part."""
    reached = {part: _reach(part) for part in ("runtime", "storage")}

    assert "storage" not in reached["runtime"]
    assert "runtime" not in reached["storage"]


def _reach(part: str) -> set[str]:
    """Every part that one of its modules imports, directly or through others."""
    edges: dict[str, set[str]] = {}
    for module in modules():
        targets = {part_of_module(name) for _, name in module.imports() if name.startswith("spinrt.")}
        edges.setdefault(part_of_module(module.name), set()).update(targets)
    found, waiting = set[str](), [part]
    while waiting:
        for target in edges.get(waiting.pop(), set()) - found:
            found.add(target)
            waiting.append(target)
    return found


def test_the_rules_would_notice() -> None:
    """The walk sees plain, relative, nested and aliased imports."""
    text = "import spinrt.cli.main\ndef f():\n    from ..storage import log as l\n    from . import x\n"
    module = Module("spinrt.runtime.y", Path("spinrt/runtime/y.py"), text, ast.parse(text))

    assert [name for _, name in module.imports()] == ["spinrt.cli.main", "spinrt.storage.log", "spinrt.runtime.x"]
    assert part_of_module("spinrt.storage.log") not in MAY_IMPORT["runtime"]
    assert part_of_module("spinrt.mail.imap.parser_fetch.thing") == "imap engine"
