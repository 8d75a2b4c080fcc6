"""How code must look: short files, short functions, docstrings, and no words that have no place here."""

from __future__ import annotations

import ast
import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.meta.source import ROOT, Module, modules

FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 60
FUNCTION_LINES_MEDIAN_MAX = 15
FUNCTION_SHORT_LINES = 40
FUNCTION_SHORT_SHARE_MIN = 0.95
CORE_SUFFIXES = {".pyx", ".pxi", ".pxd", ".py"}
# Markers of unfinished work. Written apart so that this file does not find itself.
MARKERS = ("TO" + "DO", "FIX" + "ME", "XX" + "X")
TEXT_SUFFIXES = {".py", ".pyx", ".pxi", ".pxd", ".pyi", ".c", ".h", ".wit", ".md", ".yaml", ".toml", ".service"}


def functions(module: Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end, the docstring not counted: it is long where that helps."""
    end = function.end_lineno or function.lineno
    length = end - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        length -= (first.end_lineno or first.lineno) - first.lineno + 1
    return length


def sources() -> list[Path]:
    core = [path for path in (ROOT / "cython_core").rglob("*") if path.suffix in CORE_SUFFIXES]
    return sorted([module.path for module in modules()] + core)


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_file_is_not_too_long(path: Path) -> None:
    """A file that grows past the bound holds two ideas."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= FILE_LINES_MAX


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.name)
def test_functions_are_not_too_long(module: Module) -> None:
    """No function needs scrolling."""
    found = [f"{module.place}:{f.lineno}: {f.name}: {code_lines(f)} lines" for f in functions(module)]
    long = [line for line, f in zip(found, functions(module), strict=True) if code_lines(f) > FUNCTION_LINES_MAX]

    assert not long, "\n".join(long)


def test_most_functions_are_short() -> None:
    """Over the whole package the median is small, and nearly all functions fit a screen."""
    lengths = [code_lines(function) for module in modules() for function in functions(module)]

    assert statistics.median(lengths) <= FUNCTION_LINES_MEDIAN_MAX
    assert sum(length <= FUNCTION_SHORT_LINES for length in lengths) >= FUNCTION_SHORT_SHARE_MIN * len(lengths)


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.name)
def test_module_says_what_it_is_for(module: Module) -> None:
    """Every module and package has a docstring."""
    assert ast.get_docstring(module.tree)


def tracked_texts() -> list[Path]:
    """Text files that git tracks; all text files of a tree without git (an unpacked sdist)."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    names = [name for name in listed.stdout.split("\0") if name] if listed.returncode == 0 else []
    paths = [ROOT / name for name in names] or [path for path in ROOT.rglob("*") if ".venv" not in path.parts]
    return [path for path in paths if path.suffix in TEXT_SUFFIXES and path.is_file()]


def test_nothing_is_left_for_later_in_a_comment() -> None:
    """Work that is left belongs into an issue."""
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked_texts()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if any(marker in line for marker in MARKERS)
    ]

    assert not found


def test_no_path_of_one_machine() -> None:
    """Nothing names a home directory or the directory that somebody works in."""
    foreign = ("/home/" + "user", "/ro" + "ot/", "/wo" + "rk/", "/tmp/br" + "ief")
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in tracked_texts()
        for word in foreign
        if word in path.read_text(encoding="utf-8")
    ]

    assert not found


def test_errors_have_codes_of_their_own() -> None:
    """Codes are unique: programs and logs match on them."""
    from spinrt.errors import SpinError

    codes: dict[str, str] = {}
    waiting: list[type[SpinError]] = [SpinError]
    while waiting:
        kind = waiting.pop()
        waiting.extend(sub for sub in kind.__subclasses__() if sub.__module__ == "spinrt.errors")
        assert kind.__dict__.get("code"), kind.__name__
        assert codes.setdefault(kind.code, kind.__name__) == kind.__name__
