"""The outbound queue's runner against a real SMTP server of our own and a store in memory."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import trustme

from spinrt.errors import ConfigError, DeviceFailed
from spinrt.mail.outbound import OutboundQueue, RetryPolicy, Smarthost, SmarthostTls
from spinrt.mail.smtp.reply import Reply
from spinrt.mail.smtp.server import SmtpServer
from spinrt.mail.store.model import Body, Outbound, QueueEntry, QueueState, QueueUpdate
from tests.mail.smtp.doubles import FakeReceiver

CONTENT = b"Subject: x\r\n\r\n.dot\r\nb\xc3\xa4\r\n"
BODY = Body(b"digest", len(CONTENT), ())


class FakeStore:
    """A queue in memory; submitting can be made to fail."""

    def __init__(self, *outbounds: Outbound, state: QueueState = QueueState.WAITING) -> None:
        self.entries = {
            number: QueueEntry(number, outbound, state, attempts=0, next_s=0, created_s=1000)
            for number, outbound in enumerate(outbounds, 1)
        }
        self.history: list[QueueUpdate] = []
        self.failing = False

    def queue(self, states: Iterable[QueueState] | None = None) -> list[QueueEntry]:
        wanted = set(QueueState) if states is None else set(states)
        return [entry for entry in self.entries.values() if entry.state in wanted]

    async def submit(self, change: QueueUpdate, /) -> None:
        if self.failing:
            raise DeviceFailed("log cannot be written")
        self.history.append(change)
        old = self.entries[change.queue_id]
        self.entries[change.queue_id] = replace(
            old, state=change.state, attempts=change.attempts, next_s=change.next_s, note=change.note
        )

    def read(self, body: Body, offset: int = 0, length: int | None = None) -> bytes:
        assert body is BODY
        return CONTENT


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def redirect(recipient: str = "b@y.test", sender: str = "a@x.test") -> Outbound:
    return Outbound("redirect", "delivery", sender, recipient, BODY)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await scenario()

    asyncio.run(bounded())


@contextlib.asynccontextmanager
async def sending(
    store: FakeStore,
    receiver: FakeReceiver,
    *,
    clock: Clock | None = None,
    server: dict[str, Any] | None = None,
    **host: Any,
) -> AsyncIterator[OutboundQueue]:
    """A smarthost of our own, and a runner that sends to it."""
    smarthost = await SmtpServer.start("127.0.0.1", 0, receiver=receiver, hostname="smart.test", **(server or {}))
    port = smarthost.sockets[0].getsockname()[1]
    host = {"hostname": "127.0.0.1", "port": port, "tls": SmarthostTls.NONE, "timeout_s": 5.0} | host
    queue = OutboundQueue(
        store,
        Smarthost(**host),
        hostname="mx.test",
        clock=clock or Clock(),
        jitter=lambda: 1.0,
        policy=RetryPolicy(first_s=60.0, delay_s_max=200.0, age_s_max=1000.0, parallel_max=2),
    )
    task = asyncio.ensure_future(queue.run())
    try:
        yield queue
    finally:
        await queue.close(grace_s=1.0)
        await task
        await smarthost.close()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0.005)


def test_messages_are_sent_and_recorded() -> None:
    """A redirect goes out unchanged under one trace field, a notice as it is; more than run at once."""
    receiver = FakeReceiver()
    notice = Outbound("notify", "delivery", "", "c@y.test", None, b"Subject: notice\r\n\r\ntext\r\n")
    store = FakeStore(redirect(), notice, *[redirect(f"r{index}@y.test") for index in range(5)])

    async def scenario() -> None:
        async with sending(store, receiver):
            await until(lambda: not store.queue([QueueState.WAITING]))

    run(scenario)
    assert {entry.state for entry in store.entries.values()} == {QueueState.SENT}
    assert store.entries[1].note == "2.6.0 message accepted" and store.entries[1].attempts == 1
    by_recipient = {recipients[0]: (sender, content) for sender, recipients, content in receiver.delivered}
    sender, content = by_recipient["b@y.test"]
    assert sender == "a@x.test" and content.startswith(b"Received: by mx.test (spinrt) id 1;\r\n\t")
    assert content.endswith(b"\r\n" + CONTENT) and content.count(b"Received:") == 1
    assert by_recipient["c@y.test"] == ("", b"Subject: notice\r\n\r\ntext\r\n")
    assert len(receiver.delivered) == 7


def test_new_entry_wakes_the_runner() -> None:
    """Nobody waits for the next scan."""
    receiver, store = FakeReceiver(), FakeStore()

    async def scenario() -> None:
        async with sending(store, receiver) as queue:
            await asyncio.sleep(0.01)
            store.entries[1] = QueueEntry(1, redirect(), QueueState.WAITING, 0, 0, 1000)
            queue.wake()
            await until(lambda: store.entries[1].state is QueueState.SENT)

    run(scenario)


def test_refusal_for_good_fails_the_message() -> None:
    """5xx to RCPT or to the content, and an address that is none."""
    receiver = FakeReceiver(refused=["no@y.test"])
    receiver.replies = [Reply(554, "5.7.1", "content refused")]
    store = FakeStore(redirect("no@y.test"), redirect(), redirect("not an address"))

    async def scenario() -> None:
        async with sending(store, receiver):
            await until(lambda: not store.queue([QueueState.WAITING]))

    run(scenario)
    assert [entry.state for entry in store.entries.values()] == [QueueState.FAILED] * 3
    notes = [entry.note for entry in store.entries.values()]
    assert notes[:2] == ["550 5.1.1 no such user", "554 5.7.1 content refused"] and "malformed" in notes[2]


def test_refusal_for_now_backs_off_until_too_old() -> None:
    """Delays double up to their bound; then the message has failed, with the last reason."""
    receiver, clock, store = FakeReceiver(), Clock(), FakeStore(redirect())
    receiver.replies = [Reply(451, "4.3.0", "later")]

    async def scenario() -> None:
        async with sending(store, receiver, clock=clock) as queue:
            while store.entries[1].state is QueueState.WAITING:
                seen = len(store.history)
                await until(lambda seen=seen: len(store.history) > seen)  # type: ignore[misc]
                clock.now = max(clock.now, store.entries[1].next_s)
                queue.wake()

    run(scenario)
    times = [1000, *[update.next_s for update in store.history[:-1]]]
    assert [later - earlier for earlier, later in pairwise(times)] == [
        61,
        121,
        201,
        201,
        201,
        201,
        201,
    ]
    assert store.entries[1].state is QueueState.FAILED and store.entries[1].note == "too old: 451 4.3.0 later"


def test_smarthost_that_is_away_is_waited_for() -> None:
    """No connection is nobody's refusal."""
    store = FakeStore(redirect())
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))

        async def scenario() -> None:
            async with sending(store, FakeReceiver(), port=unused.getsockname()[1]):
                await until(lambda: bool(store.history))

        run(scenario)
    assert store.entries[1].state is QueueState.WAITING and store.entries[1].attempts == 1 and store.entries[1].note


def test_held_messages_stay() -> None:
    """The operator's word counts."""
    receiver = FakeReceiver()
    store = FakeStore(redirect(), state=QueueState.HELD)
    store.entries[2] = QueueEntry(2, redirect("c@y.test"), QueueState.WAITING, 0, 0, 1000)

    async def scenario() -> None:
        async with sending(store, receiver):
            await until(lambda: store.entries[2].state is QueueState.SENT)

    run(scenario)
    assert store.entries[1].state is QueueState.HELD and len(receiver.delivered) == 1


def test_sent_message_is_not_sent_again_when_recording_fails(caplog: pytest.LogCaptureFixture) -> None:
    """Only the record is tried again."""
    receiver, store = FakeReceiver(), FakeStore(redirect())
    store.failing = True

    async def scenario() -> None:
        async with sending(store, receiver) as queue:
            await until(lambda: "cannot record" in caplog.text)
            store.failing = False
            queue.wake()
            await until(lambda: store.entries[1].state is QueueState.SENT)

    run(scenario)
    assert len(receiver.delivered) == 1


@pytest.mark.parametrize("tls", [SmarthostTls.STARTTLS, SmarthostTls.IMPLICIT])
def test_tls_and_login(tls: SmarthostTls) -> None:
    """The certificate is checked against the name; then the login goes."""
    authority, receiver, store = trustme.CA(), FakeReceiver(), FakeStore(redirect())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    server = {"tls_context": context, "implicit_tls": tls is SmarthostTls.IMPLICIT}

    async def scenario(client: ssl.SSLContext | None, state: QueueState) -> None:
        async with sending(store, receiver, server=server, tls=tls, tls_context=client, user="user", password="secret"):
            await until(lambda: bool(store.history) and store.history[-1].state is state)

    run(lambda: scenario(None, QueueState.WAITING))
    assert receiver.delivered == [] and receiver.logins == []
    store.entries[1] = replace(store.entries[1], next_s=0)
    run(lambda: scenario(trusting, QueueState.SENT))
    assert receiver.logins == [("user", "secret")] and receiver.envelopes[0].session.tls


def test_starttls_is_never_given_up() -> None:
    """A smarthost that does not offer it gets nothing."""
    receiver, store = FakeReceiver(), FakeStore(redirect())

    async def scenario() -> None:
        async with sending(store, receiver, tls=SmarthostTls.STARTTLS):
            await until(lambda: bool(store.history))

    run(scenario)
    assert store.entries[1].state is QueueState.WAITING and receiver.begun == 0


def test_wrong_password_waits() -> None:
    """It is the configuration's fault, not the message's."""
    receiver, store = FakeReceiver(), FakeStore(redirect())
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    async def scenario() -> None:
        options: dict[str, Any] = {
            "tls": SmarthostTls.STARTTLS,
            "tls_context": trusting,
            "user": "user",
            "password": "wrong",
        }
        async with sending(store, receiver, server={"tls_context": context}, **options):
            await until(lambda: bool(store.history))

    run(scenario)
    assert store.entries[1].state is QueueState.WAITING and store.entries[1].note.startswith("535")


def test_utf8_addresses_are_sent_with_smtputf8() -> None:
    """Both ends of the envelope."""
    receiver, store = FakeReceiver(), FakeStore(redirect("ö@y.test", "ä@x.test"))

    async def scenario() -> None:
        async with sending(store, receiver):
            await until(lambda: store.entries[1].state is QueueState.SENT)

    run(scenario)
    assert receiver.delivered[0][:2] == ("ä@x.test", ("ö@y.test",))
    assert receiver.envelopes[0].smtputf8 and receiver.envelopes[0].body == "8BITMIME"


def test_close_cuts_what_takes_too_long() -> None:
    """A message whose answer does not come stays in the queue."""
    receiver, store = FakeReceiver(late=True), FakeStore(redirect())

    async def scenario() -> None:
        async with sending(store, receiver) as queue:
            await until(lambda: bool(receiver.waiting))
            await queue.close(grace_s=0.01)

    run(scenario)
    assert store.history == [] and store.entries[1].state is QueueState.WAITING


def test_smarthost_is_checked() -> None:
    """A password in plain text, and half a login."""
    with pytest.raises(ConfigError, match="no TLS"):
        Smarthost("smart.test", tls=SmarthostTls.NONE, user="u", password="p")
    with pytest.raises(ConfigError, match="expected both or none"):
        Smarthost("smart.test", user="u")
    assert "secret" not in repr(Smarthost("smart.test", user="u", password="secret"))
