"""Running other people's programs: with a time limit, a home of their own, and their output in the failure."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

TIMEOUT_S = 60
MESSAGE = b"From: a@example.net\r\nTo: alice@example.org\r\nSubject: hello\r\n\r\nFirst line\r\n.dot\r\n..\r\nlast\r\n"


def environment(home: Path) -> dict[str, str]:
    return {"HOME": str(home), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TERM": "xterm", "USER": "tester"}


def run(command: list[str], home: Path, *, stdin: bytes = b"", code: int = 0) -> bytes:
    """Run a client and return what it wrote, both streams; fails on another exit code."""
    done = subprocess.run(
        command,
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=home,
        env=environment(home),
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == code, f"{command}: exit code {done.returncode}\n{done.stdout.decode(errors='replace')}"
    return done.stdout
