"""fetchmail takes mail by IMAP and hands it on, to a program or by LMTP."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.conftest import PASSWORD, Server
from tests.clients.support import MESSAGE, run

pytestmark = pytest.mark.clients
PROGRAM = "fetchmail"
TLS = 'sslproto "TLS1.2+" sslcertck sslcertfile "{}"'


def fetch(program: str, home: Path, server: Server, service: str, options: str, *, code: int = 0) -> str:
    rules = home / "fetchmailrc"
    rules.write_text(
        f"poll localhost service {server.ports[service]} protocol IMAP\n"
        f'  user "alice" password "{PASSWORD}" {options}\n',
        encoding="utf-8",
    )
    rules.chmod(0o600)
    state = ["--pidfile", str(home / "pid"), "--idfile", str(home / "ids")]
    return run([program, "--nodetach", "-v", "-f", str(rules), *state], home, code=code).decode(errors="replace")


@pytest.mark.parametrize(("service", "tls"), [("imap", "sslproto ''"), ("imap", TLS), ("imaps", f"ssl {TLS}")])
def test_fetch_to_a_program_and_remove(service: str, tls: str, program: str, server: Server, tmp_path: Path) -> None:
    """Plain, STARTTLS and TLS; all messages come, the mailbox is empty afterwards, a second run finds nothing."""
    for number in range(3):
        server.send(MESSAGE.replace(b"hello", b"number %d" % number))
    box = tmp_path / "box"
    options = f'{tls.format(server.certificate)} mda "cat >> {box}"'
    fetch(program, tmp_path, server, service, options)
    text = box.read_bytes()
    assert [text.count(b"Subject: number %d" % number) for number in range(3)] == [1, 1, 1]
    assert text.count(b"First line\n.dot\n..\nlast\n") == 3
    assert server.bodies("alice") == []
    assert "No mail for alice" in fetch(program, tmp_path, server, service, options, code=1)
    assert box.read_bytes() == text


def test_fetch_and_hand_on_by_smtp_and_lmtp(program: str, server: Server, tmp_path: Path) -> None:
    """From alice's INBOX into bob's, through the same server."""
    for service, options in (("smtp", "smtpname bob@example.org"), ("lmtp", "lmtp smtpname bob@example.org")):
        server.send(MESSAGE)
        host = f'sslproto "" smtphost "127.0.0.1/{server.ports[service]}"'
        fetch(program, tmp_path, server, "imap", f"{host} {options}")
        assert server.bodies("alice") == []
    bodies = server.bodies("bob")
    assert len(bodies) == 2
    assert all(body.endswith(b"First line\r\n.dot\r\n..\r\nlast\r\n") for body in bodies)
