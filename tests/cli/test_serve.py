"""`spinrt serve` as a process: what an operator sees when it starts, steers and stops it."""

from __future__ import annotations

import imaplib
import os
import signal
import smtplib
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
TIMEOUT_S = 60


def command(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "spinrt", *arguments],
        input=given,
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=TIMEOUT_S,
        check=False,
    )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration on ports that the system chooses, with the account alice."""
    path = tmp_path / "spinrt.yaml"
    path.write_text("domains: [example.org]\nlisten: {smtp: 127.0.0.1:0, lmtp: null, imap: 127.0.0.1:0}\n")
    assert command("user", "add", "alice", "--password-stdin", "--config", str(path), given="secret").returncode == 0
    return path


class Server:
    """A server that said it is ready; ``ports`` by service."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.ports: dict[str, int] = {}
        assert process.stderr is not None
        for line in process.stderr:
            if " listening " in line:
                fields = dict(pair.split("=", 1) for pair in line.split() if "=" in pair)
                self.ports[fields["service"]] = int(fields["at"].rpartition(":")[2])
            if " ready " in line:
                return
        raise AssertionError(f"the server ended with {process.wait()}")


@contextmanager
def serving(config: Path) -> Iterator[Server]:
    arguments = [sys.executable, "-m", "spinrt", "serve", "--config", str(config)]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        try:
            yield Server(process)
        finally:
            if process.poll() is None:
                process.kill()


def log_in(server: Server, user: str, password: str) -> bool:
    with imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=TIMEOUT_S) as client:
        try:
            client.login(user, password)
        except imaplib.IMAP4.error:
            return False
        return True


def test_serves_is_steered_and_drains(config: Path, tmp_path: Path) -> None:
    """Mail goes in and out; accounts, queue and backup work meanwhile; SIGTERM ends it with 0 and no leftovers."""
    with serving(config) as server:
        with smtplib.SMTP("127.0.0.1", server.ports["smtp"], timeout=TIMEOUT_S) as client:
            client.sendmail("bob@far.test", ["alice@example.org"], b"Subject: x\r\n\r\nbody\r\n")
        with imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=TIMEOUT_S) as reader:
            reader.login("alice", "secret")
            assert reader.select()[1] == [b"1"]

        assert not log_in(server, "carol", "pw")
        added = command("user", "add", "carol", "--password-stdin", "--config", str(config), given="pw")
        assert added.returncode == 0
        assert log_in(server, "carol", "pw")
        assert command("queue", "list", "--config", str(config)).stdout == "the queue is empty\n"
        backup = command("backup", str(tmp_path / "copy"), "--config", str(config))
        assert backup.returncode == 0, backup.stderr
        assert (tmp_path / "data" / "control").exists()

        second = command("serve", "--config", str(config))
        assert second.returncode == 4
        assert f"in use by process {server.process.pid}" in second.stderr.splitlines()[-1]

        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(TIMEOUT_S) == 0
        assert not (tmp_path / "data" / "control").exists()


def test_port_in_use_is_one_line_and_code_4(config: Path) -> None:
    """The line names the port; there is no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config.write_text(config.read_text().replace("smtp: 127.0.0.1:0", f"smtp: 127.0.0.1:{port}"))
        done = command("serve", "--config", str(config))

    assert done.returncode == 4, done.stderr
    complaint = [line for line in done.stderr.splitlines() if line.startswith("spinrt: ")]
    assert len(complaint) == 1
    assert str(port) in complaint[0]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "code", "expected"),
    [
        ("extensions: {nothing: {}}", 2, "found no extension at"),
        ("tls: {certificate: c.pem, key: k.pem}", 2, "tls.certificate: "),
        ("extensions: {audit: {}}", 2, "spinrt:logging/logging@1.0.0"),
    ],
)
def test_what_cannot_start_says_why(config: Path, text: str, code: int, expected: str) -> None:
    """A wrong extension, policy or certificate: the right code, and the reason without a traceback."""
    with config.open("a") as file:
        file.write(text + "\n")

    done = command("serve", "--config", str(config))

    assert done.returncode == code, done.stderr
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
