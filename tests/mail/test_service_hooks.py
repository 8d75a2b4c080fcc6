"""Events of mailboxes: extensions see what IMAP clients append and flag."""

from __future__ import annotations

import asyncio
import imaplib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from spinrt._core import LentMessage
from spinrt.host.kv import KvEffect
from spinrt.sandbox.types import Err, Ok
from tests.mail.service_support import PASSWORD, Running, config_of, message, serving


def install(service: Running, event: str, handler: Callable[..., Any]) -> None:
    """Install a Python handler on one of the mailbox events, on the service's own thread."""

    async def on_loop() -> None:
        getattr(service.service.mail.events, event).install(handler)

    _wait(service, on_loop())


def _wait(service: Running, awaitable: Awaitable[Any]) -> Any:
    return asyncio.run_coroutine_threadsafe(awaitable, service._loop).result(20)  # type: ignore[arg-type]


def login(service: Running) -> imaplib.IMAP4:
    client = imaplib.IMAP4(*service.address("imap"), timeout=20)
    client.login("alice", PASSWORD)
    return client


def test_an_append_can_be_read_and_refused(tmp_path: Path) -> None:
    """The handler reads the message that is being appended; its text refuses it; the loan ends with the event."""
    kept: list[LentMessage] = []

    def guard(call: object, user: str, mailbox: str, found: LentMessage) -> object:
        kept.append(found)
        return Err("no adverts") if found.header("subject", 0) == b"advert" else Ok()

    with serving(config_of(tmp_path, extensions={})) as service:
        install(service, "append", guard)
        client = login(service)
        assert client.append("INBOX", "", "", message("advert"))[0] == "NO"
        assert client.append("INBOX", "", "", message("news"))[0] == "OK"
        assert client.select("INBOX") == ("OK", [b"1"])
        client.logout()
    assert [one.lent for one in kept] == [False, False]


def test_flags_that_change_are_told_and_map_writes_stored(tmp_path: Path) -> None:
    """A handler hears of the message and its flags now; what it writes to a map is durable."""
    heard: list[tuple[object, ...]] = []
    with serving(config_of(tmp_path, extensions={})) as service:
        space = service.service.mail.spaces.space("counter")

        def count(call: Any, user: str, mailbox: str, uid: int, flags: list[str]) -> None:
            heard.append((user, mailbox, uid, flags))
            call.journal.append(KvEffect(space, "count", b"1"))

        install(service, "flags_changed", count)
        client = login(service)
        client.append("INBOX", "", "", message())
        client.select("INBOX")
        client.store("1", "+FLAGS", "(\\Flagged $Label)")
        client.logout()
    assert heard == [("alice", "INBOX", 1, ["$Label", "\\Flagged"])]
    with serving(config_of(tmp_path, extensions={})) as service:
        assert service.service.store.kv_load("counter") == {"count": b"1"}


def test_a_handler_that_fails_refuses_the_append_and_not_the_flags(tmp_path: Path) -> None:
    """What decides fails closed; what is only told is skipped."""
    from spinrt.errors import Trapped

    def fail(*arguments: object) -> None:
        raise Trapped("on purpose")

    with serving(config_of(tmp_path, extensions={})) as service:
        client = login(service)
        client.append("INBOX", "", "", message())
        client.select("INBOX")
        install(service, "append", fail)
        install(service, "flags_changed", fail)
        assert client.append("INBOX", "", "", message())[0] == "NO"
        assert client.store("1", "+FLAGS", "(\\Seen)")[0] == "OK"
        client.logout()
