"""The tutorial and the embedding page, done as a reader would do them.

``Save this as `FILE`:`` writes the block below it, ``Add this to the end of `FILE`:`` appends it, ``Replace the line
`LINE` by:`` replaces that line of the configuration; ``$`` lines are typed. Only the ports are others, so that tests
can run beside a server.
"""

from __future__ import annotations

import json
import os
import re
import signal
import smtplib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIG = "spinrt.yaml"
PORTS = ("2525", "2424", "2143")
TIMEOUT_S = 100
_STEP = re.compile(
    r"(?:(?P<verb>Save this as|Add this to the end of|Replace the line)\s`(?P<what>[^`]+)`(?: by)?:\n\n)?"
    r"```(?P<tag>[^\n]+)\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


class Reader:
    """Follows a page in a directory of its own."""

    def __init__(self, page: str, directory: Path) -> None:
        self.directory = directory
        self._steps = _STEP.finditer((ROOT / "docs" / page).read_text(encoding="utf-8"))
        self._ports = dict(zip(PORTS, _free_ports(len(PORTS)), strict=True))
        scripts = directory / ".bin"
        scripts.mkdir()
        for name, start in (("spinrt", f'"{sys.executable}" -m spinrt'), ("python", f'"{sys.executable}"')):
            (scripts / name).write_text(f'#!/bin/sh\nexec {start} "$@"\n', encoding="utf-8")
            (scripts / name).chmod(0o755)
        path = f"{scripts}{os.pathsep}{os.environ['PATH']}"
        self.environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"}

    def port(self, usual: str) -> int:
        return int(self._ports[usual])

    def until(self, command: str) -> str:
        """Follow the page up to a command; returns the text that the page shows as its output."""
        for step in self._steps:
            if step["verb"] is not None:
                self._edit(step["verb"], step["what"], step["body"])
            elif step["tag"].startswith("console"):
                lines = step["body"].splitlines(keepends=True)
                for line in lines:
                    if line.startswith("$ ") and line[2:].strip() == command:
                        return "".join(lines[1:])
                    if line.startswith("$ "):
                        self.type(line[2:].strip())
        raise AssertionError(f"the page never says `{command}`")

    def type(self, command: str, *, code: int = 0) -> str:
        """Run a command; returns both its streams."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.directory,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == code, f"{command}: exit code {done.returncode}\n{done.stdout}"
        if command.startswith("spinrt config init"):
            self._rewrite(self.directory / CONFIG)
        return done.stdout

    @contextmanager
    def serving(self) -> Iterator[None]:
        """``spinrt serve`` in another terminal."""
        server = subprocess.Popen(
            [sys.executable, "-m", "spinrt", "serve"],
            cwd=self.directory,
            env=self.environment,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_for(self.port("2143"), server)
            yield
            server.send_signal(signal.SIGTERM)
            assert server.wait(30) == 0
        finally:
            server.kill()
            server.wait()

    def _edit(self, verb: str, what: str, body: str) -> None:
        path = self.directory / (CONFIG if verb == "Replace the line" else what)
        path.parent.mkdir(parents=True, exist_ok=True)
        if verb == "Save this as":
            path.write_text(body, encoding="utf-8")
        elif verb == "Add this to the end of":
            path.write_text(path.read_text(encoding="utf-8") + body, encoding="utf-8")
        else:
            text = path.read_text(encoding="utf-8")
            assert text.count(f"{what}\n") == 1, f"the line {what!r} is there {text.count(what)} times"
            path.write_text(text.replace(f"{what}\n", body), encoding="utf-8")
        self._rewrite(path)

    def _rewrite(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        for usual, free in self._ports.items():
            text = re.sub(rf"\b{usual}\b", free, text)
        path.write_text(text, encoding="utf-8")


def _free_ports(count: int) -> list[str]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [str(listener.getsockname()[1]) for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.02)
    raise AssertionError(f"the server does not listen; exit code {server.poll()}")


@pytest.mark.timeout(300)
def test_tutorial(tmp_path: Path) -> None:
    """Refused without grants, as the page shows; with them the message is where the page says.

    With a condition it runs for nobody else; broken, it is 451 until the version before is back.
    """
    reader = Reader("tutorial.md", tmp_path)
    shown = reader.until("spinrt build hello")
    assert reader.type("spinrt build hello") == shown

    reader.until("spinrt serve")
    refusal = reader.type("spinrt serve", code=2)
    assert "extensions.hello: extension hello: not granted: spinrt:mail/message@1.0.0" in refusal
    assert "(file-into, set-flag); to grant it, put under extensions.hello.grants:" in refusal

    reader.until("spinrt serve")
    reader.until("python greet.py")
    with reader.serving():
        printed = reader.type("python greet.py")
        _check_condition(reader)
    assert r"\\Flagged" in printed
    assert r"Subject: Hello, world\r\n\r\nIt works.\r\n" in printed

    source = tmp_path / "hello" / "src" / "hello.c"
    text = source.read_text(encoding="utf-8")
    start, end = text.index("  const char *word"), text.index("}\n\nmail_delivery")
    source.write_text(f"{text[:start]}  for (;;) {{}}\n{text[end:]}", encoding="utf-8")
    with reader.serving():  # the sources are broken, what was built is not
        reader.type("spinrt build hello")
        assert reader.type("spinrt reload") == "replaced: hello\n"
        _check_broken(reader)


def _check_broken(reader: Reader) -> None:
    """Three tries are 451; then the version before is back, and the message is taken."""
    with smtplib.SMTP("127.0.0.1", reader.port("2525"), timeout=30) as client:
        for _ in range(3):
            with pytest.raises(smtplib.SMTPDataError) as caught:
                client.sendmail("me@example.net", ["demo@example.org"], b"Subject: Hello\r\n\r\n")
            assert caught.value.smtp_code == 451
        assert client.sendmail("me@example.net", ["demo@example.org"], b"Subject: Hello\r\n\r\n") == {}


def _check_condition(reader: Reader) -> None:
    """The new version runs for the one sender that its manifest names, and is not entered for another."""
    shown = reader.until("spinrt reload")
    assert reader.type("spinrt reload") == shown
    reader.until("spinrt inspect hello")
    greet = reader.directory / "greet.py"
    greet.with_name("other.py").write_text(greet.read_text().replace("me@example.net", "you@example.net"))
    assert reader.type("python greet.py").count("Hello, world") == 2
    assert reader.type("python other.py").count("Hello, world") == 2  # not filed: what lay there before
    assert "envelope.sender equals 'me@example.net'" in reader.type("spinrt inspect hello")
    (event,) = json.loads(reader.type("spinrt inspect hello --json"))["events"]
    assert event["bindings"][0]["counts"]["raises"] == 1


def test_embedding(tmp_path: Path) -> None:
    """The programs print what the page says."""
    reader = Reader("embedding.md", tmp_path)
    for program in ("shop.py", "effects.py", "guards.py", "several.py", "capabilities.py", "swap.py", "by_hand.py"):
        shown = reader.until(f"python {program}")
        assert reader.type(f"python {program}") == shown
