"""Mail on disk as a mail client would send it: a directory of files, an mbox, a Maildir or a single message.

What is sent of a message is its *wire form*: a leading mbox ``From `` line is stripped, every line end that is a bare
LF becomes CRLF, and not a byte more is changed. Messages are read one at a time, so that a mailbox may be larger than
the memory.

What a path is, is decided by what is there:

- a directory with ``cur`` and ``new`` is a Maildir (its Maildir++ folders ``.Name`` belong to it);
- any other directory holds one message in each file, at any depth; hidden files and directories are left out;
- a file that begins with ``From `` is an mbox;
- any other file is one message; it must begin with a header field and hold no NUL in its first 4 KiB.

In an mbox a message begins at a line ``From ... <year>`` that is the first line of the file or follows an empty line;
that empty line belongs to the separator (RFC 4155). Lines that were quoted as ``>From `` are sent as they stand.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from spinrt.errors import UsageError

_BARE_LF = re.compile(rb"(?<!\r)\n")
_SEPARATOR = re.compile(rb"From .*\b(19|20)\d\d\b")
_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")
"""The start of a header field: its name and the colon (RFC 5322 2.2)."""
HEAD_BYTES = 4096
_MAILDIR_PARTS = ("cur", "new")


@dataclass(frozen=True, slots=True)
class Message:
    """One message to send.

    Attributes:
        name: Where it comes from, for people.
        wire: Its octets as a client sends them, before dots are stuffed.
        source_bytes: Bytes that it takes up where it comes from, for the progress.
    """

    name: str
    wire: bytes
    source_bytes: int


@dataclass(frozen=True, slots=True)
class Source:
    """Where messages come from.

    Attributes:
        path: What the user gave.
        kind: ``directory``, ``mbox``, ``Maildir`` or ``message``.
        files: All files, in the order in which they are read.
        total_bytes: Of all files together.
    """

    path: Path
    kind: str
    files: tuple[Path, ...]
    total_bytes: int

    def messages(self) -> Iterator[Message]:
        """Read the messages, in order. OSError: a file cannot be read."""
        for file in self.files:
            if self.kind == "mbox":
                yield from _read_mbox(file)
            else:
                data = file.read_bytes()
                yield Message(str(file.relative_to(self._base())), wire_form(data), len(data))

    def _base(self) -> Path:
        return self.path if self.path.is_dir() else self.path.parent


def open_source(path: Path) -> Source:
    """Find out what is at a path.

    Raises:
        UsageError: Nothing is there, no message is in it, or it is a file and no mail.
    """
    if not path.exists():
        raise UsageError(f"{path}: does not exist", hint="--mail takes a directory, an mbox or a Maildir")
    if path.is_file():
        kind, files = ("mbox" if _is_mbox(path) else "message"), [path]
        if kind == "message":
            _check_message(path)
    elif path.is_dir():
        is_maildir = all((path / part).is_dir() for part in _MAILDIR_PARTS)
        kind, files = ("Maildir", list(_maildir_files(path))) if is_maildir else ("directory", list(_files_below(path)))
    else:
        raise UsageError(f"{path}: is neither a file nor a directory", hint="--mail takes mail on disk")
    total_bytes = sum(file.stat().st_size for file in files)
    if not total_bytes:
        raise UsageError(f"{path}: no mail is in this {kind}", hint="expected at least one message")
    return Source(path, kind, tuple(files), total_bytes)


def wire_form(data: bytes) -> bytes:
    """Return a message as a client sends it: without a leading mbox ``From `` line, every line end CRLF."""
    if data.startswith(b"From "):
        data = data.partition(b"\n")[2]
    return _BARE_LF.sub(b"\r\n", data)


def _is_mbox(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(5) == b"From "


def _check_message(path: Path) -> None:
    """Refuse a file that somebody took for mail by mistake; what lies in directories is sent as it is.

    Raises:
        UsageError: It is binary, or does not begin with a header field.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if head and (b"\0" in head or not _FIELD.match(head)):
        found = "a NUL byte" if b"\0" in head else "no header field at its start"
        raise UsageError(
            f"{path}: is not a mail message: found {found}",
            hint="--mail takes a message, an mbox, a Maildir, or a directory of messages",
        )


def _files_below(directory: Path) -> Iterator[Path]:
    for root, directories, names in os.walk(directory):
        directories[:] = sorted(name for name in directories if not name.startswith("."))
        for name in sorted(names):
            path = Path(root, name)
            if not name.startswith(".") and path.is_file():
                yield path


def _maildir_files(directory: Path) -> Iterator[Path]:
    """Files of a Maildir and of its folders; a Maildir++ folder is a directory whose name begins with a dot."""
    folders = sorted(path for path in directory.iterdir() if path.name.startswith(".") and path.is_dir())
    for folder in (directory, *folders):
        for part in _MAILDIR_PARTS:
            if (folder / part).is_dir():
                yield from sorted(path for path in (folder / part).iterdir() if path.is_file())


def _read_mbox(path: Path) -> Iterator[Message]:
    with path.open("rb") as file:
        for number, (lines, source_bytes) in enumerate(_split_mbox(file), start=1):
            yield Message(f"{path.name}#{number}", _BARE_LF.sub(b"\r\n", b"".join(lines)), source_bytes)


def _split_mbox(file: BinaryIO) -> Iterator[tuple[list[bytes], int]]:
    """Give each message as its lines, and the bytes of the file that it takes up."""
    lines: list[bytes] = []
    source_bytes = len(file.readline())  # the first separator
    for line in file:
        if line.startswith(b"From ") and _follows_blank(lines) and _SEPARATOR.match(line):
            yield _without_blank(lines), source_bytes
            lines, source_bytes = [], len(line)
        else:
            lines.append(line)
            source_bytes += len(line)
    yield _without_blank(lines), source_bytes


def _follows_blank(lines: list[bytes]) -> bool:
    return not lines or not lines[-1].strip(b"\r\n")


def _without_blank(lines: list[bytes]) -> list[bytes]:
    """Drop the empty line in front of the next separator, but never the one that ends a header without a body."""
    ends_blank = len(lines) > 1 and not lines[-1].strip(b"\r\n")
    has_body = any(not line.strip(b"\r\n") for line in lines[:-1])
    return lines[:-1] if ends_blank and has_body else lines
