"""A real ``spinrt serve`` in a process of its own, for clients that know nothing of spinrt.

Clients from Debian are driven only with ``--run-clients`` (`make test-clients`); those that come with Python always.
"""

from __future__ import annotations

import imaplib
import json
import shutil
import signal
import smtplib
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import argon2
import pytest
import yaml

from spinrt.cli.demo_config import EXTENSIONS
from spinrt.cli.starter import SHIPPED
from spinrt.sandbox.manifest import Manifest

PASSWORD = "open-sesame"
"""Of every account."""
READY_TIMEOUT_S = 30.0
SERVICES = ("smtp", "submission", "smtps", "lmtp", "imap", "imaps")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-clients", action="store_true", help="drive the mail clients that Debian packages")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what is opt-in. The option is unknown unless this directory was named on the command line."""
    if config.getoption("--run-clients", default=False):
        return
    for item in items:
        if item.get_closest_marker("clients") is not None:
            item.add_marker(pytest.mark.skip(reason="opt-in: make test-clients"))


@dataclass(frozen=True, slots=True)
class Server:
    """A running server; ``ports`` by service, ``certificate`` to verify it with."""

    ports: dict[str, int]
    certificate: Path
    log: Path

    def url(self, service: str, path: str = "") -> str:
        return f"{service}://127.0.0.1:{self.ports[service]}{path}"

    def send(self, message: bytes, recipient: str = "alice@example.org") -> None:
        """Deliver by SMTP, for tests about reading."""
        with smtplib.SMTP("127.0.0.1", self.ports["smtp"], timeout=20) as client:
            client.sendmail("someone@example.net", [recipient], message)

    def login(self, user: str) -> imaplib.IMAP4:
        """An IMAP session of ours, for tests about writing."""
        client = imaplib.IMAP4("127.0.0.1", self.ports["imap"], timeout=20)
        client.login(user, PASSWORD)
        return client

    def bodies(self, user: str, mailbox: str = "INBOX") -> list[bytes]:
        """All messages of a mailbox, in order of UID."""
        client = self.login(user)
        try:
            client.select(mailbox, readonly=True)
            found = client.uid("FETCH", "1:*", "(BODY.PEEK[])")[1]
        finally:
            client.logout()
        return [part[1] for part in found if isinstance(part, tuple)]


@pytest.fixture(scope="session")
def running_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One ``spinrt serve`` for all tests; it must drain and end with 0 on SIGTERM."""
    directory = tmp_path_factory.mktemp("server")
    (directory / "spinrt.yaml").write_text(_config(), encoding="utf-8")
    log = directory / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "spinrt", "serve", "--config", str(directory / "spinrt.yaml")], stderr=stream
        )
    try:
        yield Server(_ports(process, log), directory / "data" / "tls" / "certificate.pem", log)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def server(running_server: Server) -> Server:
    """The server, with every mailbox of every account emptied."""
    for user in ("alice", "bob"):
        client = running_server.login(user)
        for line in client.list()[1]:
            assert isinstance(line, bytes)
            name = line.rpartition(b' "/" ')[2].decode().strip('"')
            client.select(name)
            client.store("1:*", "+FLAGS.SILENT", r"(\Deleted)")
            client.close()
        client.logout()
    return running_server


def _config() -> str:
    hash_ = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    content = {
        "domains": ["example.org"],
        "listen": dict.fromkeys(SERVICES, "127.0.0.1:0"),
        "accounts": {user: {"password_hash": hash_} for user in ("alice", "bob")},
        "extensions": {name: {"grants": _all_asked(name)} for name in EXTENSIONS},
        "logging": {"format": "json"},
    }
    return yaml.safe_dump(content)


def _all_asked(extension: str) -> dict[str, dict[str, str]]:
    manifest = Manifest.read(SHIPPED / extension / "manifest.yaml")
    return {wanted.interface: {} for wanted in manifest.imports}


def _ports(process: subprocess.Popen[bytes], log: Path) -> dict[str, int]:
    """Wait until the log says that all services listen, and read where."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        lines = [
            json.loads(line) for line in log.read_text(encoding="utf-8").splitlines(keepends=True) if line[-1:] == "\n"
        ]
        if any(line["event"] == "ready" for line in lines):
            return {
                line["service"]: int(line["at"].rpartition(":")[2]) for line in lines if line["event"] == "listening"
            }
        time.sleep(0.02)
    raise AssertionError(f"the server did not start:\n{log.read_text(encoding='utf-8')}")


@pytest.fixture
def program(request: pytest.FixtureRequest) -> str:
    """The path of the program that the test's module drives (its ``PROGRAM``); without it the opt-in run fails."""
    name = request.module.PROGRAM
    path = shutil.which(name)
    assert path is not None, f"{name} is not installed: .ci/install-debian-clients"
    return path
