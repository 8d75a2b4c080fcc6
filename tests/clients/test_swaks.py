"""swaks walks through SMTP and LMTP transactions."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.conftest import PASSWORD, Server
from tests.clients.support import MESSAGE, run

pytestmark = pytest.mark.clients
PROGRAM = "swaks"


def swaks(program: str, home: Path, server: Server, service: str, *options: str, code: int = 0) -> str:
    (home / "mail.eml").write_bytes(MESSAGE)
    base = [program, "--server", "127.0.0.1", "--port", str(server.ports[service]), "--data", f"@{home / 'mail.eml'}"]
    envelope = [] if "--to" in options else ["--to", "alice@example.org"]
    sender = [] if "--from" in options else ["--from", "a@example.net"]
    return run([*base, *sender, *envelope, *options], home, code=code).decode()


def test_smtp_with_and_without_pipelining(program: str, server: Server, tmp_path: Path) -> None:
    """250 at the end, and the message is there."""
    assert "<-  250 2.6.0" in swaks(program, tmp_path, server, "smtp")
    assert "<-  250 2.6.0" in swaks(program, tmp_path, server, "smtp", "--pipeline")
    assert len(server.bodies("alice")) == 2


def test_lmtp_two_recipients(program: str, server: Server, tmp_path: Path) -> None:
    """LHLO, and a delivery to each."""
    text = swaks(program, tmp_path, server, "lmtp", "--protocol", "LMTP", "--to", "alice@example.org,bob@example.org")
    assert "LHLO" in text
    assert len(server.bodies("alice")) == len(server.bodies("bob")) == 1


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_login_and_refused_login(mechanism: str, program: str, server: Server, tmp_path: Path) -> None:
    """AUTH on loopback; a wrong password is exit code 28."""
    auth = ["--auth", mechanism, "--auth-user", "alice", "--auth-password"]
    own = ["--from", "alice@example.org", "--to", "bob@example.org"]
    assert "<-  235" in swaks(program, tmp_path, server, "submission", *auth, PASSWORD, *own)
    swaks(program, tmp_path, server, "submission", *auth, "wrong", *own, code=28)
    assert len(server.bodies("bob")) == 1


def test_starttls_and_tls(program: str, server: Server, tmp_path: Path) -> None:
    """Encrypted by STARTTLS and from the first byte; the certificate is checked."""
    verified = ["--tls-verify", "--tls-ca-path", str(server.certificate)]
    if "TLS supported" not in run([program, "--support"], tmp_path).decode():
        pytest.skip("swaks has no TLS here: apt-get install libnet-ssleay-perl")
    assert "TLS started" in swaks(program, tmp_path, server, "smtp", "--tls", *verified)
    own = ["--from", "alice@example.org", "--auth", "PLAIN", "--auth-user", "alice", "--auth-password", PASSWORD]
    assert "TLS started" in swaks(program, tmp_path, server, "smtps", "--tls-on-connect", *verified, *own)
    assert len(server.bodies("alice")) == 2


def test_refusals_are_shown(program: str, server: Server, tmp_path: Path) -> None:
    """An unknown user and a relay attempt: exit code 24, no recipient accepted."""
    assert "<** 550 5.1.1" in swaks(program, tmp_path, server, "smtp", "--to", "nobody@example.org", code=24)
    assert "<** 550 5.7.1" in swaks(program, tmp_path, server, "smtp", "--to", "victim@example.com", code=24)
