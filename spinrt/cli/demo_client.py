"""The mail clients of the demo: Python's smtplib sends, imapclient reads back.

Both speak to the server as any client would, over STARTTLS with its certificate verified. What smtplib sends after
DATA is what it was given, with dots stuffed; DATA cannot carry a message with a bare CR or LF or without a last CRLF,
so such a message goes by BDAT (CHUNKING, RFC 3030), which carries any octets.
"""

from __future__ import annotations

import contextlib
import re
import smtplib
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from spinrt.errors import UsageError

TIMEOUT_S = 60.0
FETCH_MESSAGES_MAX = 200
FETCH_BYTES_MAX = 8 * 1024 * 1024
NO_ANSWER = 0
"""Code of a message whose connection broke before its reply."""

_NOT_FOR_DATA = re.compile(rb"\r(?!\n)|(?<!\r)\n|\x00")


@dataclass(frozen=True, slots=True)
class Target:
    """Where the server is, and the certificate (PEM) that it must show."""

    smtp_port: int
    imap_port: int
    certificate: Path
    host: str = "127.0.0.1"

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.certificate)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One transaction to send.

    Attributes:
        name: For people.
        sender: Reverse path; empty for a bounce.
        recipients: Forward paths, at least one.
        wire: The octets of the message, before dots are stuffed.
        weight: How much of the whole it is, for the progress.
    """

    name: str
    sender: str
    recipients: tuple[str, ...]
    wire: bytes
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said to one transaction.

    Attributes:
        code: SMTP reply code; `NO_ANSWER` when the connection broke.
        text: The reply's text, one line.
        seconds: From MAIL FROM to that reply.
        command: The command that it answered: ``MAIL``, ``RCPT``, ``DATA`` or ``BDAT``.
    """

    code: int
    text: str
    seconds: float
    command: str

    @property
    def accepted(self) -> bool:
        return 200 <= self.code < 300


class Sender:
    """One SMTP connection; opened when needed, and again after it broke."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._client: smtplib.SMTP | None = None

    def send(self, outgoing: Outgoing) -> Answer:
        """Carry out one transaction. A connection that breaks gives an answer too: `NO_ANSWER`."""
        try:
            client = self._connected()
            start = time.perf_counter()
            code, text, command = _transact(client, outgoing)
        except (smtplib.SMTPException, OSError) as error:
            self.close()
            return Answer(NO_ANSWER, f"connection failed: {error}", 0.0, "")
        seconds = time.perf_counter() - start
        if code >= 400:
            self._recover(client)
        return Answer(code, text.decode("ascii", "replace").replace("\n", " "), seconds, command)

    def close(self) -> None:
        """Say QUIT if somebody listens. Closing twice does nothing."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(smtplib.SMTPException, OSError):
                client.quit()
            client.close()

    def _connected(self) -> smtplib.SMTP:
        if self._client is None:
            client = smtplib.SMTP(self._target.host, self._target.smtp_port, "demo.example", timeout=TIMEOUT_S)
            self._client = client
            client.ehlo()
            client.starttls(context=self._target.tls())
            client.ehlo()
        return self._client

    def _recover(self, client: smtplib.SMTP) -> None:
        """After a refusal: a clean state, on this connection or, if the server closes it, on the next."""
        try:
            client.rset()
        except (smtplib.SMTPException, OSError):
            self.close()


def _transact(client: smtplib.SMTP, outgoing: Outgoing) -> tuple[int, bytes, str]:
    """MAIL, RCPT, content; stops at the first refusal, so that nobody gets what another does not."""
    options = [f"SIZE={len(outgoing.wire)}"]
    if not outgoing.wire.isascii():
        options.append("BODY=8BITMIME")
    code, text = client.mail(outgoing.sender, options)
    if code != 250:
        return code, text, "MAIL"
    for recipient in outgoing.recipients:
        code, text = client.rcpt(recipient)
        if code >= 300:
            return code, text, "RCPT"
    if fits_data(outgoing.wire):
        try:
            code, text = client.data(outgoing.wire)
        except smtplib.SMTPDataError as error:
            return error.smtp_code, _as_bytes(error.smtp_error), "DATA"
        return code, text, "DATA"
    client.send(b"BDAT %d LAST\r\n" % len(outgoing.wire) + outgoing.wire)
    code, text = client.getreply()
    return code, text, "BDAT"


def fits_data(wire: bytes) -> bool:
    """Whether DATA can carry the message unchanged: every line ends in CRLF, the last one too, and no NUL is in it."""
    return wire.endswith(b"\r\n") and _NOT_FOR_DATA.search(wire) is None


def _as_bytes(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


@dataclass(slots=True)
class _Feed:
    """Messages that several connections take in turn. `stop` ends it early."""

    messages: Iterator[Outgoing]
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopped: bool = False

    def take(self) -> Outgoing | None:
        with self.lock:
            return None if self.stopped else next(self.messages, None)

    def stop(self) -> None:
        self.stopped = True


def send_all(
    target: Target,
    messages: Iterable[Outgoing],
    on_answer: Callable[[Outgoing, Answer], None],
    *,
    connections: int = 1,
) -> None:
    """Send all messages over that many connections, each message once.

    Args:
        target: The server.
        messages: Taken as they are sent; what iterating raises ends the sending and is raised here.
        on_answer: Called for each message, by one thread at a time.
        connections: With one, messages are sent in order.
    """
    feed = _Feed(iter(messages))

    def work() -> None:
        sender = Sender(target)
        try:
            while (outgoing := feed.take()) is not None:
                answer = sender.send(outgoing)
                with feed.lock:
                    on_answer(outgoing, answer)
        finally:
            feed.stop()  # at the end nothing is left to stop; after an error the others end too
            sender.close()

    with ThreadPoolExecutor(connections, thread_name_prefix="smtp-client") as pool:
        workers = [pool.submit(work) for _ in range(connections)]
        try:
            for worker in workers:
                worker.result()
        finally:
            feed.stop()


@dataclass(frozen=True, slots=True)
class Found:
    """One message as IMAP gave it."""

    user: str
    mailbox: str
    uid: int
    flags: tuple[str, ...]
    data: bytes


def read_back(target: Target, user: str, password: str) -> Iterator[Found]:
    """Log in and read every message of every mailbox, mailboxes and UIDs in order, a batch in memory at a time.

    Raises:
        UsageError: imapclient is not installed.
    """
    try:
        from imapclient import IMAPClient  # type: ignore[import-untyped]
    except ImportError:
        raise UsageError("demo: imapclient is not installed", hint="pip install 'spinrt[demo]'") from None
    with IMAPClient(target.host, target.imap_port, ssl=False, timeout=TIMEOUT_S) as client:
        client.starttls(target.tls())
        client.login(user, password)
        for mailbox in sorted(name for _, _, name in client.list_folders()):
            client.select_folder(mailbox, readonly=True)
            uids = client.search()
            sizes = client.fetch(uids, ["RFC822.SIZE"]) if uids else {}
            for batch in batches({uid: int(item[b"RFC822.SIZE"]) for uid, item in sorted(sizes.items())}):
                for uid, item in sorted(client.fetch(batch, ["FLAGS", "BODY.PEEK[]"]).items()):
                    yield Found(user, mailbox, uid, _stored_flags(item[b"FLAGS"]), item[b"BODY[]"])


def _stored_flags(flags: Iterable[bytes]) -> tuple[str, ...]:
    r"""Flags in order of name, without ``\Recent``: that one is the session's (RFC 3501 2.3.2)."""
    return tuple(sorted(flag.decode("ascii", "replace") for flag in flags if flag != rb"\Recent"))


def batches(sizes: dict[int, int]) -> Iterator[list[int]]:
    """Cut UIDs into batches of bounded number and size; a larger message is a batch of its own."""
    batch: list[int] = []
    batch_bytes = 0
    for uid, size in sizes.items():
        if batch and (len(batch) >= FETCH_MESSAGES_MAX or batch_bytes + size > FETCH_BYTES_MAX):
            yield batch
            batch, batch_bytes = [], 0
        batch.append(uid)
        batch_bytes += size
    if batch:
        yield batch
