"""mbsync keeps a Maildir and the server's mailboxes the same, both ways."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.conftest import PASSWORD, Server
from tests.clients.support import MESSAGE, run

pytestmark = pytest.mark.clients
PROGRAM = "mbsync"
CONFIG = """\
IMAPStore far
Host localhost
Port {port}
User alice
Pass {password}
SSLType {ssl}
CertificateFile {certificate}
AuthMechs LOGIN

MaildirStore near
Path {home}/mail/
Inbox {home}/mail/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns INBOX Archive Sync
Create Both
Remove Both
Expunge Both
SyncState *
"""


def write_config(home: Path, server: Server, ssl: str, service: str) -> None:
    (home / "mail").mkdir(exist_ok=True)
    text = CONFIG.format(
        port=server.ports[service],
        password=PASSWORD,
        ssl=ssl,
        certificate=server.certificate,
        home=home,
    )
    (home / ".mbsyncrc").write_text(text, encoding="utf-8")


def maildir(home: Path, mailbox: str) -> list[Path]:
    return sorted(path for part in ("cur", "new") for path in (home / "mail" / mailbox / part).iterdir())


@pytest.mark.parametrize(
    ("ssl", "service"),
    [("None", "imap"), ("STARTTLS", "imap"), ("IMAPS", "imaps")],
)
def test_sync_both_ways(ssl: str, service: str, program: str, server: Server, tmp_path: Path) -> None:
    """Pull, flag and add here, push, delete there, pull: both sides end the same, no message changed or doubled."""
    write_config(tmp_path, server, ssl, service)
    server.send(MESSAGE)
    server.send(MESSAGE.replace(b"hello", b"second"))
    run([program, "-a"], tmp_path)
    files = maildir(tmp_path, "INBOX")
    assert len(files) == 2
    assert sorted(path.read_bytes().count(b"Subject: hello") for path in files) == [0, 1]

    hello = next(path for path in files if b"hello" in path.read_bytes())
    hello.rename(hello.parent.parent / "cur" / f"{hello.name.partition(':2,')[0]}:2,FS")
    (tmp_path / "mail" / "Archive" / "new" / "1.local").write_bytes(MESSAGE.replace(b"\r\n", b"\n"))
    run([program, "-a"], tmp_path)
    client = server.login("alice")
    client.select("INBOX")
    assert client.search(None, "FLAGGED", "SEEN", "SUBJECT", "hello")[1] == [b"1"]
    [pushed] = server.bodies("alice", "Archive")
    head, _, body = MESSAGE.partition(b"\r\n\r\n")
    assert pushed.startswith(head)  # mbsync adds a field of its own below
    assert pushed.endswith(b"\r\n\r\n" + body)

    client.store("2", "+FLAGS", r"(\Deleted)")
    client.expunge()
    client.logout()
    run([program, "-a"], tmp_path)
    assert len(maildir(tmp_path, "INBOX")) == 1
    before = [server.bodies("alice", mailbox) for mailbox in ("INBOX", "Archive")]
    run([program, "-a"], tmp_path)
    assert [server.bodies("alice", mailbox) for mailbox in ("INBOX", "Archive")] == before
