"""What the demo takes for mail on disk, and what it would send of it."""

from __future__ import annotations

import mailbox
from pathlib import Path

import pytest

from spinrt.cli.demo_source import open_source, wire_form
from spinrt.errors import UsageError

FIRST = b"Subject: first\n\nOne line\n"
SECOND = b"Subject: second\n\nFrom here on\n>From quoted\n\nlast\n"


@pytest.mark.parametrize(
    ("data", "wire"),
    [
        (b"a\nb\n", b"a\r\nb\r\n"),
        (b"a\r\nb\n", b"a\r\nb\r\n"),
        (b"From x@y Mon Jan  1 00:00:00 2001\na\n", b"a\r\n"),
        (b"From x@y Mon Jan  1 00:00:00 2001\r\na\r\n", b"a\r\n"),
        (b"a\nFrom b\n", b"a\r\nFrom b\r\n"),
        (b"a\rb\n", b"a\rb\r\n"),
        (b"a\r\r\n", b"a\r\r\n"),
        (b"no end", b"no end"),
        (b"\xff\x00\n", b"\xff\x00\r\n"),
        (b"", b""),
    ],
)
def test_wire_form_changes_line_ends_and_the_mbox_line_only(data: bytes, wire: bytes) -> None:
    """LF becomes CRLF, a leading ``From `` line goes, every other byte stays."""
    assert wire_form(data) == wire


def test_directory_gives_each_file_in_order_at_any_depth(tmp_path: Path) -> None:
    """One message a file; hidden files and directories are left out."""
    for name in ("b.eml", "a/2", "a/1", ".hidden", ".git/config"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode() + b"\n")

    source = open_source(tmp_path)

    assert source.kind == "directory"
    assert [(message.name, message.wire) for message in source.messages()] == [
        ("b.eml", b"b.eml\r\n"),
        ("a/1", b"a/1\r\n"),
        ("a/2", b"a/2\r\n"),
    ]
    assert source.total_bytes == sum(message.source_bytes for message in source.messages())


def test_maildir_gives_cur_new_and_folders_but_not_tmp(tmp_path: Path) -> None:
    """As Python's own mailbox module writes it, a Maildir++ folder included."""
    box = mailbox.Maildir(tmp_path / "box")
    box.add(FIRST)
    read = mailbox.MaildirMessage(SECOND)
    read.set_subdir("cur")
    box.add(read)
    box.add_folder("lists").add(b"Subject: third\n\n")
    (tmp_path / "box" / "tmp" / "unfinished").write_bytes(b"Subject: half")

    source = open_source(tmp_path / "box")

    assert source.kind == "Maildir"
    wires = [message.wire for message in source.messages()]
    assert wires == [wire_form(SECOND), wire_form(FIRST), b"Subject: third\r\n\r\n"]


def test_mbox_gives_what_python_wrote_into_it(tmp_path: Path) -> None:
    """Messages come out as they went in; ``>From `` lines stay quoted, a ``From `` in the text is no separator."""
    path = tmp_path / "box.mbox"
    path.write_bytes(
        b"From a@example.net Thu Jan  1 00:00:00 2026\n" + FIRST + b"\n"
        b"From b@example.net Thu Jan  1 00:00:00 2026\n" + SECOND + b"\n"
        b"From c@example.net Thu Jan  1 00:00:00 2026\nSubject: header only\n\n"
    )

    source = open_source(path)

    messages = list(source.messages())
    assert source.kind == "mbox"
    assert [message.wire for message in messages] == [
        wire_form(FIRST),
        wire_form(SECOND),
        b"Subject: header only\r\n\r\n",
    ]
    assert [message.name for message in messages] == ["box.mbox#1", "box.mbox#2", "box.mbox#3"]
    assert sum(message.source_bytes for message in messages) == path.stat().st_size


def test_mbox_agrees_with_python_on_many_messages(tmp_path: Path) -> None:
    """What the standard library writes, and reads back, is what is sent."""
    box = mailbox.mbox(tmp_path / "box")
    for number in range(50):
        box.add(b"Subject: %d\n\n%s\n" % (number, b"text\n" * number))
    box.flush()

    sent = [message.wire for message in open_source(tmp_path / "box").messages()]

    assert sent == [wire_form(box.get_bytes(key)) for key in box.keys()]  # noqa: SIM118 - a mailbox is no dict


def test_single_file_is_one_message(tmp_path: Path) -> None:
    """A file that does not begin with ``From `` is not an mbox."""
    (tmp_path / "mail.eml").write_bytes(FIRST)
    source = open_source(tmp_path / "mail.eml")
    assert source.kind == "message"
    assert [(message.name, message.wire) for message in source.messages()] == [("mail.eml", wire_form(FIRST))]


def test_missing_and_empty_paths_are_refused(tmp_path: Path) -> None:
    """Before anything is started."""
    with pytest.raises(UsageError, match="does not exist"):
        open_source(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="no mail is in this directory"):
        open_source(tmp_path)
    for part in ("cur", "new", "tmp"):
        (tmp_path / "box" / part).mkdir(parents=True)
    with pytest.raises(UsageError, match="no mail is in this Maildir"):
        open_source(tmp_path / "box")
    with pytest.raises(UsageError, match="neither a file nor a directory"):
        open_source(Path("/dev/null"))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"\x7fELF\x02\x01\x00\x00", "a NUL byte"),
        (b"Subject: x\n\n\0", "a NUL byte"),
        (b"#!/bin/sh\n", "no header field"),
        (b"just words\n", "no header field"),
    ],
)
def test_a_file_that_is_no_mail_is_refused(tmp_path: Path, content: bytes, found: str) -> None:
    """In one line; in a directory of mail it is sent as it is."""
    path = tmp_path / "file"
    path.write_bytes(content)

    with pytest.raises(UsageError, match=f"is not a mail message: found {found}"):
        open_source(path)
    assert [message.source_bytes for message in open_source(tmp_path).messages()] == [len(content)]
