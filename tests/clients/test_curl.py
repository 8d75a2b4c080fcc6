"""curl speaks SMTP and IMAP."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.conftest import PASSWORD, Server
from tests.clients.support import MESSAGE, run

pytestmark = pytest.mark.clients
PROGRAM = "curl"
LOGIN = ["--user", f"alice:{PASSWORD}"]


def send(program: str, home: Path, url: str, *options: str) -> None:
    (home / "mail.eml").write_bytes(MESSAGE)
    envelope = ["--mail-from", "alice@example.org", "--mail-rcpt", "bob@example.org", "--upload-file", "mail.eml"]
    run([program, "-sS", "--url", url, *envelope, *options], home)


def test_sends_plain_with_starttls_and_with_tls(program: str, server: Server, tmp_path: Path) -> None:
    """Three ways in, the certificate verified; each message arrives byte for byte."""
    ca = ["--cacert", str(server.certificate)]
    send(program, tmp_path, server.url("smtp"))
    send(program, tmp_path, server.url("smtp").replace("127.0.0.1", "localhost"), "--ssl-reqd", *ca)
    port = server.ports["submission"]
    send(program, tmp_path, f"smtp://localhost:{port}", "--ssl-reqd", *ca, *LOGIN, "--login-options", "AUTH=PLAIN")
    send(program, tmp_path, f"smtps://localhost:{server.ports['smtps']}", *ca, *LOGIN)
    assert server.bodies("bob") == [MESSAGE] * 4


def test_wrong_password_and_unknown_recipient_fail(program: str, server: Server, tmp_path: Path) -> None:
    """curl's own exit codes: 67 login denied, 55 refused while sending."""
    (tmp_path / "mail.eml").write_bytes(MESSAGE)
    upload = [program, "-sS", "--mail-from", "a@example.net", "--upload-file", "mail.eml"]
    wrong = ["--user", "alice:wrong", "--mail-rcpt", "bob@example.org"]
    run([*upload, "--url", server.url("smtp"), *wrong], tmp_path, code=67)
    output = run([*upload, "--url", server.url("smtp"), "--mail-rcpt", "nobody@example.org"], tmp_path, code=55)
    assert b"550" in output


def test_lists_fetches_searches_and_appends(program: str, server: Server, tmp_path: Path) -> None:
    """By URL and by custom request; a message appended by curl is one that curl fetches."""
    server.send(MESSAGE)
    base = [program, "-sS", *LOGIN, "--url"]
    assert b"LIST (\\HasNoChildren" in run([*base, server.url("imap")], tmp_path)
    assert run([*base, server.url("imap", "/INBOX;UID=1")], tmp_path).endswith(b"last\r\n")
    assert run([*base, server.url("imap", "/INBOX;UID=1;SECTION=TEXT")], tmp_path).startswith(b"First line\r\n.dot")
    assert b"* SEARCH 1" in run([*base, server.url("imap", "/INBOX"), "-X", "SEARCH SUBJECT hello"], tmp_path)
    (tmp_path / "draft.eml").write_bytes(MESSAGE)
    run([*base, server.url("imap", "/Drafts"), "--upload-file", "draft.eml"], tmp_path)
    assert server.bodies("alice", "Drafts") == [MESSAGE]
