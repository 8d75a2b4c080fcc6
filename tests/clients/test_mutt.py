"""mutt, on a terminal of its own, as a person would use it."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from pathlib import Path

import pytest

from tests.clients.conftest import PASSWORD, Server
from tests.clients.support import MESSAGE, TIMEOUT_S, environment

pytestmark = pytest.mark.clients
PROGRAM = "mutt"
CONFIG = """\
set folder="imap://alice@localhost:{port}/"
set spoolfile="imap://alice@localhost:{port}/INBOX"
set imap_pass="{password}"
set ssl_starttls={starttls} ssl_force_tls={starttls} certificate_file="{certificate}"
set smtp_url="smtp://alice@localhost:{smtp}/" smtp_pass="{password}"
set from="alice@example.org" realname="Alice" use_from=yes envelope_from=yes
set record="imap://alice@localhost:{port}/Sent"
set delete=yes confirmappend=no confirmcreate=no wait_key=no quit=yes move=no beep=no sleep_time=0
set editor="true" abort_unmodified=no abort_nosubject=no
"""


def type_into(command: list[str], home: Path, keys: str) -> None:
    """Run a program on a pseudo-terminal with 24 lines, push keys, and wait for its end."""
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        [*command, "-e", f'push "{keys}"'],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        cwd=home,
        env=environment(home) | {"LINES": "24", "COLUMNS": "80"},
        start_new_session=True,
    )
    os.close(terminal)
    try:
        _wait(main, process)
    finally:
        process.kill()
        process.wait()
        os.close(main)


def _wait(main: int, process: subprocess.Popen[bytes]) -> None:
    """Take what the program draws until it ends; shown only when it ends badly."""
    drawn = b""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        if select.select([main], [], [], 0.1)[0]:
            try:
                drawn += os.read(main, 65536)
            except OSError:  # the other side is closed: the program has ended
                break
    assert process.wait(5) == 0, drawn.decode(errors="replace")


def write_config(home: Path, server: Server, *, starttls: bool) -> None:
    text = CONFIG.format(
        port=server.ports["imap"],
        smtp=server.ports["smtp"],
        password=PASSWORD,
        certificate=server.certificate,
        starttls="yes" if starttls else "no",
    )
    (home / ".muttrc").write_text(text, encoding="utf-8")


@pytest.mark.parametrize("starttls", [False, True])
def test_read_flag_save_and_delete(starttls: bool, program: str, server: Server, tmp_path: Path) -> None:
    """Open INBOX, read the first message, flag it, file the second into Archive, quit: the server has it all."""
    write_config(tmp_path, server, starttls=starttls)
    server.send(MESSAGE)
    server.send(MESSAGE.replace(b"hello", b"second"))
    keys = "<first-entry><display-message><exit><flag-message><next-entry><save-message>=Archive<enter><quit>"

    type_into([program], tmp_path, keys)

    client = server.login("alice")
    client.select("INBOX")
    assert client.search(None, "FLAGGED", "SEEN", "SUBJECT", "hello")[1] == [b"1"]
    assert client.search(None, "ALL")[1] == [b"1"]
    client.logout()
    assert server.bodies("alice", "Archive") == [MESSAGE.replace(b"hello", b"second")]


def test_send_and_record(program: str, server: Server, tmp_path: Path) -> None:
    """A mail to bob by SMTP with a login; a copy in Sent by APPEND."""
    write_config(tmp_path, server, starttls=True)

    type_into([program], tmp_path, "<mail>bob@example.org<enter>from mutt<enter><send-message><quit>")

    [received], [recorded] = server.bodies("bob"), server.bodies("alice", "Sent")
    assert b"Subject: from mutt\r\n" in received
    assert b"Subject: from mutt\r\n" in recorded
