"""What the documentation tells people to type, typed.

Blocks tagged ``console`` in README.md and docs/ are run in order, those of one file in one temporary directory: every
line that starts with ``$ spinrt`` or ``$ python -m spinrt`` must end with exit code 0. Lines below it are its output
and are not compared. Blocks tagged ``console no-run`` are only read: their ``spinrt`` commands must exist with those
options. Blocks tagged ``python run`` are run the same way. A line that ends in a backslash goes on.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from spinrt.cli.main import make_parser
from tests.meta.source import ROOT

TIMEOUT_S = 110
_BLOCK = re.compile(r"^```(?P<tag>[^\n`]+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_REDIRECTION = re.compile(r"\s(?:\||<|>|&&|;)\s.*")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block of a document."""

    file: Path
    line: int
    tag: tuple[str, ...]
    body: str

    @property
    def where(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line}"

    def commands(self) -> list[str]:
        """Our commands in a console block, without the prompt."""
        joined = self.body.replace("\\\n", " ")
        lines = [line.removeprefix("$ ") for line in joined.splitlines() if line.startswith("$ ")]
        return [line for line in lines if line.startswith(("spinrt ", "python -m spinrt "))]


def documents() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(path: Path) -> list[Block]:
    text = path.read_text(encoding="utf-8")
    return [
        Block(path, text.count("\n", 0, match.start()) + 1, tuple(match["tag"].split()), match["body"])
        for match in _BLOCK.finditer(text)
    ]


def arguments_of(command: str) -> list[str]:
    """The words behind ``spinrt``, up to what is the shell's (a pipe, a redirection)."""
    words = shlex.split(_REDIRECTION.sub("", command), comments=True)
    return words[1:] if words[0] == "spinrt" else words[3:]


WITH_RUNS = [
    path for path in documents() if any(block.tag in {("console",), ("python", "run")} for block in blocks(path))
]
READ_ONLY = [block for path in documents() for block in blocks(path) if block.tag == ("console", "no-run")]


@pytest.mark.parametrize("path", WITH_RUNS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_of_a_document_work(path: Path, tmp_path: Path) -> None:
    """One after the other, as a reader would type them."""
    for block in blocks(path):
        if block.tag == ("console",):
            for command in block.commands():
                _run(["bash", "-euo", "pipefail", "-c", command], tmp_path, f"{block.where}: {command}")
        elif block.tag == ("python", "run"):
            _run([sys.executable, "-c", block.body], tmp_path, block.where)


def _run(command: list[str], directory: Path, where: str) -> None:
    scripts = directory / ".bin"
    scripts.mkdir(exist_ok=True)
    for name, start in (("spinrt", f'"{sys.executable}" -m spinrt'), ("python", f'"{sys.executable}"')):
        (scripts / name).write_text(f'#!/bin/sh\nexec {start} "$@"\n', encoding="utf-8")
        (scripts / name).chmod(0o755)
    environment = {
        "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(directory),
        "LANG": "C.UTF-8",
    }
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )

    assert done.returncode == 0, f"{where}: exit code {done.returncode}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("block", READ_ONLY, ids=lambda block: block.where)
def test_commands_that_are_not_run_exist(block: Block) -> None:
    """Each subcommand and option that is shown is one that the command line knows."""
    for command in block.commands():
        words = arguments_of(command)
        chosen = next((word for word in words if not word.startswith("-")), None)
        try:
            make_parser(chosen).parse_args(words)
        except SystemExit as end:
            assert not end.code, f"{block.where}: {command}"


def test_every_console_block_is_tagged_as_meant() -> None:
    """A misspelt tag would silently not be run."""
    wrong = [
        f"{block.where}: {' '.join(block.tag)}"
        for path in documents()
        for block in blocks(path)
        if block.tag[0] in {"console", "shell", "sh", "bash"} and block.tag not in {("console",), ("console", "no-run")}
    ]

    assert not wrong
