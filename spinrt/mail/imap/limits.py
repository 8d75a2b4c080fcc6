"""Bounds of the IMAP server: sizes in bytes, times in seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ImapLimits:
    """Every bound that a client can meet. Exceeding one is an answer with a reason, never a crash.

    The line bound follows RFC 7162 4 (8192 octets) with room for clients that send long UID lists.
    """

    line_bytes_max: int = 64 * 1024
    literal_bytes_max: int = 64 * 1024
    """Of one literal that is not a message."""
    command_bytes_max: int = 256 * 1024
    """Of one whole command with its literals, a message not counted."""
    append_bytes_max: int = 50 * 1024 * 1024
    discard_bytes_max: int = 128 * 1024 * 1024
    """Of a refused literal that the client sends without asking; a larger one ends the connection."""
    bad_commands_max: int = 20
    """Commands refused with BAD before the connection is closed."""
    login_failures_max: int = 3
    connections_max: int = 1000
    login_timeout_s: float = 60.0
    idle_timeout_s: float = 30 * 60.0
    """RFC 3501 5.4 asks for at least 30 minutes; a client in IDLE must come back before (RFC 2177)."""
    write_timeout_s: float = 300.0
    """A client that takes nothing for so long, while an answer waits for it, is gone."""
    output_bytes_high: int = 256 * 1024
    """Answers waiting in memory for a slow client before the command that makes them is held up."""
    slice_s: float = 0.005
    """How long one command may keep the event loop before others get their turn."""
