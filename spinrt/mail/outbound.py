"""The outbound queue's runner: sends what is due through the smarthost, with back-off, until it is sent or too old.

The queue itself is in the store; this module only reads it and submits a `QueueUpdate` for each outcome.

Delivery is *at least once*: between the smarthost's 250 and the record that says so lies a moment in which a crash
makes the message go out again after the restart (RFC 1047 describes why no protocol can avoid it). In one process an
entry that was sent is never sent again, even when the record cannot be written.

What the smarthost says of the message decides: a 5xx to MAIL, RCPT or DATA ends it. Everything else (no connection, no
TLS, a refused login, 4xx) may be somebody's repair away, and waits.

A redirected message gets one ``Received:`` field on top and is otherwise unchanged. It counts as a hop at every server
on the way, this one included, and that breaks a loop.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from email.utils import formatdate
from enum import Enum
from functools import partial
from typing import Any, Protocol

import aiosmtplib

from spinrt.errors import AddressMalformed, ConfigError, SpinError
from spinrt.mail.address import parse_address
from spinrt.mail.store.model import Body, QueueEntry, QueueState, QueueUpdate

logger = logging.getLogger(__name__)

NOTE_CHARACTERS_MAX = 200
SCAN_S_MAX = 60.0
"""The queue is looked at this often, whatever happens: the operator may have changed it."""


class SmarthostTls(Enum):
    """How the connection to the smarthost is protected. STARTTLS is never given up for plain text."""

    NONE = "none"
    STARTTLS = "starttls"
    IMPLICIT = "implicit"


@dataclass(frozen=True, slots=True)
class Smarthost:
    """Where outbound mail goes.

    Attributes:
        hostname: Name of the smarthost; its certificate must say so.
        tls_context: None for the system's certificate authorities.
        user: With a password: log in, which is refused without TLS.
    """

    hostname: str
    port: int = 587
    tls: SmarthostTls = SmarthostTls.STARTTLS
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls_context: ssl.SSLContext | None = None
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        if (self.user is None) != (self.password is None):
            raise ConfigError(f"smarthost {self.hostname} has a user or a password, expected both or none")
        if self.user is not None and self.tls is SmarthostTls.NONE:
            raise ConfigError(
                f"smarthost {self.hostname} has a login but no TLS", hint="set tls to starttls or implicit"
            )


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a message that could not be sent is tried again.

    Attributes:
        first_s: Delay after the first try; it doubles with each, up to ``delay_s_max``.
        age_s_max: A message that waited so long has failed.
        parallel_max: Messages on their way at once.
    """

    first_s: float = 60.0
    delay_s_max: float = 4 * 3600.0
    age_s_max: float = 5 * 86_400.0
    parallel_max: int = 4

    def delay_s(self, attempts: int, jitter: float) -> float:
        """Delay after that many tries; ``jitter`` from 0 to 1 spreads it between one half and all of it."""
        whole = min(self.first_s * 2.0 ** min(attempts - 1, 32), self.delay_s_max)
        return whole * (0.5 + jitter / 2)


class QueueStore(Protocol):
    """What the runner needs of the store."""

    def queue(self, states: Iterable[QueueState] | None = None) -> list[QueueEntry]: ...
    def submit(self, change: QueueUpdate, /) -> Awaitable[Any]: ...
    def read(self, body: Body, offset: int = 0, length: int | None = None) -> bytes: ...


class OutboundQueue:
    """Sends what is due. `run` is one task for the life of the service; `wake` tells it of new entries.

    Args:
        store: The queue.
        smarthost: Where to.
        hostname: Our name, for EHLO and the trace.
        clock: Seconds since 1970-01-01 UTC.
        jitter: A number from 0 to 1, another each time.
        policy: When to try again.
    """

    def __init__(
        self,
        store: QueueStore,
        smarthost: Smarthost,
        *,
        hostname: str,
        clock: Callable[[], float],
        jitter: Callable[[], float],
        policy: RetryPolicy | None = None,
    ) -> None:
        self._store = store
        self._smarthost = smarthost
        self._hostname = hostname
        self._clock = clock
        self._jitter = jitter
        self._policy = policy or RetryPolicy()
        self._wake = asyncio.Event()
        self._closing = False
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._unrecorded: dict[int, QueueUpdate] = {}

    def wake(self) -> None:
        """There may be something new in the queue."""
        self._wake.set()

    async def run(self) -> None:
        """Send what is due, until `close`. A failing store is logged and tried again."""
        while not self._closing:
            self._wake.clear()
            try:
                pause_s = self._start_due()
            except SpinError as error:
                logger.error("cannot read the outbound queue: %s", error.line())
                pause_s = SCAN_S_MAX
            await self._pause(pause_s)

    async def close(self, grace_s: float = 0.0) -> None:
        """Start nothing more, give what is on its way that long, then cut it; it stays in the queue."""
        self._closing = True
        self._wake.set()
        tasks = set(self._tasks.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _start_due(self) -> float:
        """Start what is due, as far as there is room, and return the seconds until the next look."""
        now = self._clock()
        pause_s = SCAN_S_MAX
        for entry in sorted(self._store.queue((QueueState.WAITING,)), key=lambda entry: entry.next_s):
            if entry.queue_id in self._tasks:
                continue
            if entry.next_s > now:
                return min(pause_s, entry.next_s - now)
            if len(self._tasks) >= self._policy.parallel_max:
                break
            task = asyncio.get_running_loop().create_task(self._process(entry))
            self._tasks[entry.queue_id] = task
            task.add_done_callback(partial(self._done, entry.queue_id))
        return pause_s

    def _done(self, queue_id: int, task: asyncio.Task[None]) -> None:
        del self._tasks[queue_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("outbound message %d: cannot record its state: %s", queue_id, error)
        elif not self._closing:
            self._wake.set()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _process(self, entry: QueueEntry) -> None:
        """Try once and record what came of it; what was sent but not recorded is only recorded."""
        update = self._unrecorded.get(entry.queue_id) or await self._try(entry)
        self._unrecorded[entry.queue_id] = update
        await self._store.submit(update)
        del self._unrecorded[entry.queue_id]

    async def _try(self, entry: QueueEntry) -> QueueUpdate:
        attempts = entry.attempts + 1
        try:
            answer = await self._send(entry)
        except (aiosmtplib.SMTPException, OSError, SpinError, ValueError) as error:
            note = _describe(error)
            if _is_final(error):
                return self._update(entry, QueueState.FAILED, attempts, note)
            return self._defer(entry, attempts, note)
        return self._update(entry, QueueState.SENT, attempts, answer)

    def _defer(self, entry: QueueEntry, attempts: int, note: str) -> QueueUpdate:
        now = self._clock()
        if now - entry.created_s >= self._policy.age_s_max:
            return self._update(entry, QueueState.FAILED, attempts, f"too old: {note}")
        delay_s = self._policy.delay_s(attempts, self._jitter())
        return self._update(entry, QueueState.WAITING, attempts, note, next_s=int(now + delay_s) + 1)

    def _update(
        self, entry: QueueEntry, state: QueueState, attempts: int, note: str, *, next_s: int = 0
    ) -> QueueUpdate:
        text = " ".join(note.split())[:NOTE_CHARACTERS_MAX]
        logger.info("outbound message %d to %s: %s (%s)", entry.queue_id, entry.outbound.recipient, state.value, text)
        return QueueUpdate(entry.queue_id, state, attempts, next_s, text)

    async def _send(self, entry: QueueEntry) -> str:
        """Send one message over a connection of its own; return the smarthost's answer."""
        message = self._message(entry)
        client = self._client()
        try:
            await client.connect()
            return await self._transact(client, entry, message)
        finally:
            client.close()

    async def _transact(self, client: aiosmtplib.SMTP, entry: QueueEntry, message: bytes) -> str:
        outbound = entry.outbound
        parse_address(outbound.recipient)
        await client.ehlo()
        options = []
        if not (outbound.sender + outbound.recipient).isascii():
            options.append("SMTPUTF8")
        if not message.isascii() and client.supports_extension("8bitmime"):
            options.append("BODY=8BITMIME")
        _, answer = await client.sendmail(outbound.sender, [outbound.recipient], message, mail_options=options)
        return answer

    def _client(self) -> aiosmtplib.SMTP:
        smarthost = self._smarthost
        return aiosmtplib.SMTP(
            hostname=smarthost.hostname,
            port=smarthost.port,
            username=smarthost.user,
            password=smarthost.password,
            local_hostname=self._hostname,
            timeout=smarthost.timeout_s,
            use_tls=smarthost.tls is SmarthostTls.IMPLICIT,
            start_tls=smarthost.tls is SmarthostTls.STARTTLS,
            tls_context=smarthost.tls_context,
        )

    def _message(self, entry: QueueEntry) -> bytes:
        outbound = entry.outbound
        if outbound.body is None:
            return outbound.text
        trace = f"Received: by {self._hostname} (spinrt) id {entry.queue_id};\r\n\t{formatdate(self._clock())}\r\n"
        return trace.encode() + self._store.read(outbound.body)


def _is_final(error: Exception) -> bool:
    """The smarthost refuses this message, and will again."""
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        return all(one.code >= 500 for one in error.recipients)
    if isinstance(error, aiosmtplib.SMTPSenderRefused | aiosmtplib.SMTPDataError):
        return error.code >= 500
    # Not an address, or one that the smarthost has no extension for.
    return isinstance(error, AddressMalformed | aiosmtplib.SMTPNotSupported)


def _describe(error: Exception) -> str:
    """What went wrong, for ``spinrt queue``."""
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        return _describe(error.recipients[0])
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return f"{error.code} {error.message}"
    return str(error) or type(error).__name__
