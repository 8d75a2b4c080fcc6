"""``spinrt/_core.pyi`` is written by hand; it and the compiled module must name the same things."""

from __future__ import annotations

import ast
import importlib
import inspect
from types import ModuleType

import pytest

from tests.meta.source import ROOT

STUB = ROOT / "spinrt" / "_core.pyi"


@pytest.fixture(scope="module")
def core() -> ModuleType:
    return importlib.import_module("spinrt._core")


def stub_names() -> dict[str, ast.stmt]:
    """What the stub declares at its top, without private names and type aliases of its own."""
    found: dict[str, ast.stmt] = {}
    for node in ast.parse(STUB.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and not _is_alias(node):
            found[node.target.id] = node
    return {name: node for name, node in found.items() if not name.startswith("_") and not _only_typing(node)}


def _is_alias(node: ast.AnnAssign) -> bool:
    return "TypeAlias" in ast.unparse(node.annotation)


def _only_typing(node: ast.stmt) -> bool:
    """A Protocol in the stub describes an argument; it does not exist at run time."""
    return isinstance(node, ast.ClassDef) and any("Protocol" in ast.unparse(base) for base in node.bases)


def members(node: ast.ClassDef) -> set[str]:
    found = set()
    for item in node.body:
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(item.name)
        elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            found.add(item.target.id)
        elif isinstance(item, ast.Assign):  # members of an enumeration
            found |= {target.id for target in item.targets if isinstance(target, ast.Name)}
    return found


def test_the_module_has_all_that_the_stub_declares(core: ModuleType) -> None:
    missing = []
    for name, node in stub_names().items():
        if not hasattr(core, name):
            missing.append(name)
        elif isinstance(node, ast.ClassDef):
            missing += [f"{name}.{member}" for member in members(node) if not hasattr(getattr(core, name), member)]

    assert not missing


def test_the_stub_declares_all_that_the_module_has(core: ModuleType) -> None:
    """Functions and classes that are defined in the core, and the public members of its classes."""
    declared = stub_names()
    missing = []
    for name, found in vars(core).items():
        if name.startswith("_") or not _own(found):
            continue
        node = declared.get(name)
        if node is None:
            missing.append(name)
        elif isinstance(node, ast.ClassDef):
            public = {member for member in vars(found) if not member.startswith("_")}
            missing += [f"{name}.{member}" for member in sorted(public - members(node))]

    assert not missing


def _own(found: object) -> bool:
    if not (inspect.isclass(found) or inspect.isroutine(found)):
        return False
    return getattr(found, "__module__", None) == "spinrt._core"
