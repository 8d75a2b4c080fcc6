"""The mail store itself, on files, behind each fault in a delivery: its index row by row, its log byte by byte."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from spinrt._core import COUNTDOWN_NEVER, countdown, set_countdown
from spinrt.check.rehearsal import Rig
from spinrt.check.rigs import Rigs
from spinrt.check.samples import DELIVER, FILED, TEXTS
from spinrt.check.stage import Stage
from spinrt.check.subject import read_subject
from spinrt.mail.accounts_file import Account
from spinrt.mail.address import Address
from spinrt.mail.delivery import Deliverer
from spinrt.mail.extensions import SHIPPED, MailRuntime
from spinrt.mail.smtp.receiver import Envelope, Session
from spinrt.mail.smtp.reply import Reply
from spinrt.mail.store.store import Store
from tests.mail.store_support import USER, dump_store, open_store, run, with_store

MESSAGE = TEXTS[0]
RULES = "always -> flag $Label; header X-Seen 'by ${detail}'; file Archive; stop"


def rig(extension: str, event: str) -> Rig:
    found = read_subject(SHIPPED / extension)
    config = {"rules": RULES} if event == DELIVER else {}
    subject = replace(found, policy=replace(found.policy, config=config))
    (handler,) = [one for one in found.manifest.handlers if one.event == event]
    return Rigs(subject, 0).make("counting", handler)


STEP = 7
"""From one change of the handler of ``filed`` at which it fails to the next that is tried."""


class Delivering:
    """Deliveries of one message into one store; the same in each run."""

    def __init__(self, store: Store, mail: MailRuntime) -> None:
        self.store = store
        account = cast(Account, SimpleNamespace(name=USER))
        self._deliverer = Deliverer(store, mail, lambda address: (account, None), clock_ns=lambda: 1)
        self._deliverer._mark = "same"

    async def once(self) -> list[int]:
        """Deliver it, and return the codes that the peer is answered."""
        replies: list[Reply] = []
        answered = asyncio.Event()

        def answer(found: list[Reply]) -> None:
            replies.extend(found)
            answered.set()

        writer = self.store.body_writer()
        writer.write(MESSAGE)
        envelope = Envelope(Session(peer="192.0.2.1"), None, (Address(USER, "example.org"),), len(MESSAGE))
        self._deliverer.deliver(envelope, writer, answer)
        await answered.wait()
        return [reply.code for reply in replies]

    async def failing(self, made: Rig, change: int) -> tuple[list[int], int]:
        """Deliver it with a trap before that change of the handler; the codes, and what is left of the countdown."""
        set_countdown(made.instance, change)
        made.stage.reset()
        codes = await self.once()
        left = countdown(made.instance)
        set_countdown(made.instance, 0)
        return codes, left

    def rows(self) -> dict[str, list[tuple[object, ...]]]:
        """Every row of the index but the one that says which log it is of."""
        self.store.mailbox(USER, "INBOX")  # reading applies what waits
        found = dump_store(self.store)
        del found["state"]
        return found

    def content(self) -> tuple[Any, ...]:
        """Every row of the index, and the log: where it ends, and its bytes."""
        log = self.store._durable_log
        files = sorted(self.store._directory.log_path.iterdir())
        return self.rows(), log.end, [path.read_bytes() for path in files]


def test_a_deliver_handler_that_fails_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    """At each of its changes: no row, no byte of the log, 451. Without a fault the message is filed."""
    made = rig("delivery", DELIVER)

    async def test(store: Store) -> None:
        delivering = Delivering(store, made.stage.mail)
        codes, left = await delivering.failing(made, COUNTDOWN_NEVER)
        assert codes == [250]
        before = delivering.content()
        changes = COUNTDOWN_NEVER - left
        assert changes > 10
        for change in range(1, changes + 1):
            assert await delivering.failing(made, change) == ([451], 0)
            assert delivering.content() == before, change
        assert await delivering.once() == [250]
        assert delivering.content() != before
        archive = store.mailbox(USER, "Archive")
        assert archive is not None
        assert len(store.uids(archive.id)) == 2

    with_store(tmp_path, test)


def test_a_filed_handler_that_fails_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    """Rows, and where the log ends, are those of a store into which the same messages came without any extension."""
    made = rig("undo-hook", FILED)
    without = Stage(read_subject(SHIPPED / "undo-hook"))

    async def test() -> None:
        stores = [open_store(tmp_path / name) for name in ("with", "without")]
        one, other = Delivering(stores[0], made.stage.mail), Delivering(stores[1], without.mail)
        try:
            for store in stores:
                await store.ensure_account(USER)
            for change in count(1, STEP):
                codes, left = await one.failing(made, change)
                assert (codes, await other.once()) == ([250], [250])
                if left:
                    break
                assert one.content()[:2] == other.content()[:2], change
            assert change > 20 * STEP
            assert one.content()[1] > other.content()[1], "without a fault its tags are in the log"
        finally:
            for store in stores:
                await store.close()

    run(test)
