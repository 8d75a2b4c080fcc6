"""The server as a process: it says where it listens, drains when asked to stop, and reads accounts anew."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from tests.mail.service_support import Dialogue, config_text, message


class Process:
    """``spinrt serve``; its lines are collected while it runs."""

    def __init__(self, config: Path) -> None:
        command = [sys.executable, "-m", "spinrt", "serve", "--config", str(config)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.lines.extend(iter(self.process.stderr.readline, ""))

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first line that matches."""
        return _soon(lambda: next((found for line in [*self.lines] if (found := re.search(pattern, line))), None))

    def port(self, service: str) -> tuple[str, int]:
        found = self.wait_for(rf" listening service={service} at=127\.0\.0\.1:(\d+)$")
        return "127.0.0.1", int(found[1])

    def end(self) -> int:
        code = self.process.wait(20)
        self._reader.join(20)
        return code


def _soon(look: Callable[[], re.Match[str] | None]) -> re.Match[str]:
    deadline = time.monotonic() + 20
    while (found := look()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def test_stopping_drains_and_says_so(tmp_path: Path) -> None:
    """SIGTERM: an idle session gets 421, a message under way is still taken, the exit code is 0, no traceback."""
    config = tmp_path / "spinrt.yaml"
    config.write_text(config_text(tmp_path, drain_timeout="10 s"))
    server = Process(config)
    try:
        server.wait_for(r" ready accounts=2")
        idle, busy = Dialogue(server.port("smtp")), Dialogue(server.port("smtp"))
        busy.begin("alice@example.org")
        assert busy.say("DATA").startswith("354")
        server.process.send_signal(signal.SIGTERM)
        assert idle.reply().startswith("421 4.3.2")
        assert busy.end_data(message()).startswith("250 2.6.0")
        assert server.end() == 0
        server.wait_for(r" stopping signal=SIGTERM")
        server.wait_for(r" stopped$")
        assert not any("Traceback" in line for line in server.lines)
    finally:
        server.process.kill()


def test_hangup_reads_the_accounts_anew(tmp_path: Path) -> None:
    """SIGHUP: an account added to the file gets mail; a mistake is logged and changes nothing."""
    config = tmp_path / "spinrt.yaml"
    config.write_text(config_text(tmp_path))
    server = Process(config)
    try:
        server.wait_for(r" ready ")
        with Dialogue(server.port("smtp")) as peer:
            assert peer.begin("carol@example.org")[0].startswith("550 5.1.1")
        content = yaml.safe_load(config.read_text())
        content["accounts"]["carol"] = dict(content["accounts"]["alice"])
        config.write_text(yaml.safe_dump(content))
        server.process.send_signal(signal.SIGHUP)
        server.wait_for(r" reloaded accounts=3")
        config.write_text("nonsense: 1\n")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for(r" not reloaded reason=.*nonsense")
        with Dialogue(server.port("smtp")) as peer:
            assert peer.begin("carol@example.org")[0].startswith("250")
            assert peer.data(message())[0].startswith("250")
        server.process.send_signal(signal.SIGTERM)
        assert server.end() == 0
    finally:
        server.process.kill()


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    """A server that cannot listen says where and why, in one line, without a traceback."""
    config, other = tmp_path / "spinrt.yaml", tmp_path / "other"
    config.write_text(config_text(tmp_path))
    other.mkdir()
    server = Process(config)
    try:
        host, port = server.port("smtp")
        listen = {"smtp": f"{host}:{port}", "lmtp": None, "imap": None}
        (other / "spinrt.yaml").write_text(config_text(other, listen=listen, logging={"level": "error"}))
        second = Process(other / "spinrt.yaml")
        assert second.end() == 4
        assert [line for line in second.lines if str(port) in line] == second.lines
        assert len(second.lines) == 1
    finally:
        server.process.kill()
