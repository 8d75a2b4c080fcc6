"""The sample messages of the demo, and the rules that the delivery extension handles them with.

Each sample shows one thing that mail does in practice. All of it is written for the demo; names are reserved ones
(RFC 2606).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from spinrt.cli.demo_client import Outgoing
from spinrt.cli.demo_ledger import ADDED_FIELDS

DOMAIN = "example.org"
USERS = ("alice", "bob")
STRANGER = "someone@example.net"
LARGE_BYTES = 2 * 1024 * 1024

RULES = (
    "header From contains @blocked.example -> reject 550 '5.7.1 the operator does not take mail from there'",
    "header X-Spam-Flag is YES -> file Junk; flag $Junk; stop",
    "header X-Priority matches '1*' -> flag \\Flagged",
    f"header Subject contains '[invoice]' -> header {ADDED_FIELDS[0].decode()} invoice; file INBOX/invoices; stop",
    "list exists -> file 'INBOX/lists/${list}'; stop",
    "detail exists -> file 'INBOX/${detail}'; stop",
    "size over 1M -> file INBOX/large",
)
"""One rule a line, in the language of extensions/delivery."""

EXPECTED = {"refused by rule": 550, "unknown user": 550, "relay attempt": 550}
"""Reply codes of the samples that are not to be accepted."""


def samples() -> list[Outgoing]:
    """The sample messages, in the order in which they are sent."""
    return list(_samples())


def users_of(outgoing: Outgoing) -> tuple[str, ...]:
    """The demo's accounts among the recipients, each once: the local part without its detail."""
    locals_ = (recipient.partition("@")[0].partition("+")[0] for recipient in outgoing.recipients)
    return tuple(dict.fromkeys(user for user in locals_ if user in USERS))


def _sample(name: str, recipients: str, wire: bytes, sender: str = STRANGER) -> Outgoing:
    return Outgoing(name, sender, tuple(recipients.split()), wire)


def _message(subject: str, body: bytes, *fields: str, author: str = STRANGER) -> bytes:
    head = (
        f"From: {author}",
        "To: alice@example.org",
        "Date: Sun, 01 Mar 2026 09:00:00 +0000",
        f"Message-ID: <{zlib.crc32(subject.encode()):08x}@example.net>",
        f"Subject: {subject}",
        *fields,
    )
    return "\r\n".join((*head, "", "")).encode() + body


def _samples() -> Iterator[Outgoing]:
    alice = f"alice@{DOMAIN}"
    yield _sample("plain text", alice, _message("lunch?", b"At noon, the usual place.\r\n"))
    yield _sample("plus-address", f"alice+receipts@{DOMAIN}", _message("your order", b"One book, shipped.\r\n"))
    yield _sample(
        "mailing list", alice, _message("[hackers] patch", b"+1\r\n", "List-Id: Hackers <hackers.lists.example.net>")
    )
    yield _sample("marked as spam", alice, _message("you have won", b"Click here!\r\n", "X-Spam-Flag: YES"))
    yield _sample("urgent", alice, _message("the build is red", b"Since 8:41.\r\n", "X-Priority: 1 (Highest)"))
    yield _sample("invoice", alice, _message("[invoice] March", b"Total: 12.00\r\n"))
    yield _sample("two recipients", f"{alice} bob@{DOMAIN}", _message("minutes", b"See below.\r\n"))
    yield _sample("large, 2 MiB", alice, _message("photographs", _lines(LARGE_BYTES)))
    yield _sample("8-bit", alice, _message("Grüße", "Smørrebrød, Ω, 日本\r\n".encode() + b"and Latin-1: caf\xe9\r\n"))
    yield _sample(
        "broken MIME", alice, _message("half a mail", _BROKEN_MIME, 'Content-Type: multipart/mixed; boundary="cut"')
    )
    yield _sample("dots, long lines", alice, _message("dots", b".\r\n..\r\n.x\r\n" + b"y" * 5000 + b"\r\n.\r\n"))
    yield _sample("bare CR and LF", alice, _message("binary", b"progress 10%\rprogress 99%\nno line end"))
    yield _sample("no header at all", alice, b"Only a line, and it has no colon in it\r\n")
    yield _sample("bounce", alice, _message("Undelivered Mail", b"It did not arrive.\r\n", author="MAILER-DAEMON"), "")
    yield _sample("refused by rule", alice, _message("an offer", b"Buy now.\r\n", author="ads@blocked.example"))
    yield _sample("unknown user", f"nobody@{DOMAIN}", _message("hello", b"Anyone there?\r\n"))
    yield _sample("relay attempt", "victim@example.com", _message("hello", b"Pass this on.\r\n"))


_BROKEN_MIME = (
    b"--cut\r\nContent-Type: text/plain; charset=\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!not base64!!!\r\n"
    b"--cut\r\nContent-Type: multipart/alternative; boundary=cut\r\n\r\n--cut\r\nno end\r\n"
)


def _lines(size_bytes: int) -> bytes:
    """Text of about that size, no two lines the same."""
    line_bytes = 64
    return b"".join(b"%0*d\r\n" % (line_bytes - 2, number) for number in range(size_bytes // line_bytes))
