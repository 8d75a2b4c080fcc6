"""The most memory that a server holds: with one very large message, and with a very large store."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from benchmarks.mail.smtp import LOAD, event_loops
from benchmarks.peers.imap_client import ImapClient
from benchmarks.peers.process import HOST, PeerFailed
from benchmarks.peers.spinrt_server import PASSWORD, USER, SpinrtServer
from benchmarks.storage.filling import Filler, small_bodies

_PEAK: Final = re.compile(r"VmHWM:\s+(\d+) kB")
WINDOW_BYTES: Final = 16 * 1024 * 1024
"""Of the large message, what one FETCH asks for."""


@dataclass(frozen=True, slots=True)
class MemoryFound:
    """Bytes of resident memory at their highest."""

    start: int
    """A server with an empty store, when it greets."""
    large_message: int
    """After one message was received by SMTP and given back by IMAP."""
    large_store: int
    """With many messages, after all flags of a mailbox were fetched and mail came in."""


def measure(directory: Path, *, message_bytes: int, messages: int, users: int) -> MemoryFound:
    """Run a server for each, in an empty directory."""
    start, large_message = _with_large_message(directory / "message", message_bytes)
    return MemoryFound(start, large_message, _with_large_store(directory / "store", messages, users))


def _with_large_message(directory: Path, message_bytes: int) -> tuple[int, int]:
    server = _server(directory, message_bytes)
    with server.process:
        start = peak(server.process.pid)
        send(server, message_bytes)
        with ImapClient(server.imap_port, USER, PASSWORD) as client:
            mailbox, *_ = [name for name in client.mailboxes() if client.message_count(name)]
            client.select(mailbox)
            size = 0
            for offset in range(0, message_bytes, WINDOW_BYTES):
                size += len(client.command(f"FETCH 1 BODY.PEEK[]<{offset}.{WINDOW_BYTES}>".encode()))
            if size < message_bytes:
                raise PeerFailed(f"FETCH gave {size} bytes of a message of {message_bytes}")
        return start, peak(server.process.pid)


def _with_large_store(directory: Path, messages: int, users: int) -> int:
    server = _server(directory, 1 << 20)
    filler = Filler(server.data, users)
    filler.fill(small_bodies(messages))
    filler.close()
    with server.process:
        with ImapClient(server.imap_port, USER, PASSWORD) as client:
            client.select("INBOX")
            client.command(b"FETCH 1:* (FLAGS)")
            client.command(b"SEARCH UNSEEN")
        send(server, 4096, count=200)
        return peak(server.process.pid)


def _server(directory: Path, message_bytes: int) -> SpinrtServer:
    directory.mkdir()
    server = SpinrtServer(directory, loop=event_loops()[0])
    content = yaml.safe_load(server.configuration.read_text())
    content["smtp"] = {"message_bytes_max": message_bytes + (1 << 20)}
    server.configuration.write_text(yaml.safe_dump(content, sort_keys=False))
    return server


def send(server: SpinrtServer, message_bytes: int, *, count: int = 1) -> None:
    """Have messages accepted. Raises PeerFailed."""
    command = [sys.executable, str(LOAD), HOST, str(server.smtp_port), "--messages", str(count)]
    command += ["--message-bytes", str(message_bytes), "--recipient", f"{USER}@example.com"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PeerFailed(f"SMTP load: {(done.stdout + done.stderr).strip()}")


def peak(pid: int) -> int:
    """The most resident memory that a process ever had, in bytes."""
    found = _PEAK.search(Path(f"/proc/{pid}/status").read_text())
    if found is None:
        raise PeerFailed(f"process {pid}: says nothing of its memory")
    return int(found[1]) * 1024
