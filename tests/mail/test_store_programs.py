"""Random programs of changes: the index that grew with them equals the one built from the log."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spinrt.errors import SpinError
from spinrt.mail.store.codec import decode_body
from spinrt.mail.store.model import (
    Append,
    Body,
    Change,
    Copy,
    CopyMessages,
    CreateMailbox,
    DeleteMailbox,
    Deliver,
    Expunge,
    Extent,
    FlagsMode,
    KvWrite,
    KvWrites,
    Outbound,
    QueueState,
    QueueUpdate,
    RenameMailbox,
    StoreFlags,
    Subscribe,
)
from spinrt.mail.store.store import Store
from tests.mail.store_support import USER, delivery, dump_store, fake_body, open_store, run

NAMES = st.sampled_from(["INBOX", "a", "a/b", "a/b/c", "b", "Sent"])
IDS = st.integers(1, 9)
UIDS = st.lists(st.integers(1, 8), max_size=4).map(tuple)
FLAGS = st.lists(st.sampled_from(["\\Seen", "\\Deleted", "\\Flagged", "$x", "$y"]), max_size=3).map(tuple)
OUTBOUND = Outbound("notify", "x", "a@b", "c@d", None, b"text")


def named_body(names: list[int]) -> Body:
    """A body of records that are not in the log, as long as their names say; one may stand in it twice."""
    extents = tuple(Extent(name, 0, name) for name in names)
    return fake_body()._replace(size=sum(names), extents=extents)


BODIES = st.lists(st.integers(1, 5), max_size=3).map(named_body)


def make_delivery(
    number: int, copies: list[Copy], kv: list[KvWrite], outbound: list[Body | None], body: Body
) -> Deliver:
    change = delivery(body, id_=f"id-{number}", kv=tuple(kv), tags=(("x", "n", b"%d" % number),))
    leaving = tuple(replace(OUTBOUND, body=one) for one in outbound)
    return change._replace(copies=tuple(copies), outbound=leaving)


KV = st.builds(KvWrite, st.just("x"), st.sampled_from("kl"), st.none() | st.binary(max_size=3))
CHANGES: st.SearchStrategy[Change] = st.one_of(
    st.builds(
        make_delivery,
        st.integers(1, 12),
        st.lists(st.builds(Copy, st.just(USER), NAMES, FLAGS, st.sampled_from([b"", b"H: v\r\n"])), max_size=3),
        st.lists(KV, max_size=2),
        st.lists(st.none() | BODIES, max_size=2),
        BODIES,
    ),
    st.builds(lambda box, flags, body: Append(box, body, flags, 1, 2), IDS, FLAGS, BODIES),
    st.builds(StoreFlags, IDS, UIDS, st.sampled_from(FlagsMode), FLAGS, st.none() | st.integers(0, 10)),
    st.builds(Expunge, IDS, st.none() | UIDS, st.booleans()),
    st.builds(CopyMessages, IDS, UIDS, IDS, st.booleans()),
    st.builds(CreateMailbox, st.just(USER), NAMES),
    st.builds(DeleteMailbox, st.just(USER), NAMES),
    st.builds(RenameMailbox, st.just(USER), NAMES, NAMES),
    st.builds(Subscribe, st.just(USER), NAMES, st.booleans()),
    st.builds(QueueUpdate, st.integers(1, 3), st.sampled_from(QueueState), st.integers(0, 3), st.just(5)),
    st.builds(KvWrites, st.lists(KV, max_size=2).map(tuple)),
)
BATCHES = st.lists(st.lists(CHANGES, max_size=6), max_size=8)


@given(BATCHES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_rebuilt_index_equals_the_one_that_grew(batches: list[list[Change]]) -> None:
    """Also after rebuild while open, after reopening, and from nothing; counters equal what is counted."""
    with tempfile.TemporaryDirectory() as directory:
        run(lambda: check_program(Path(directory), batches))


async def check_program(path: Path, batches: list[list[Change]]) -> None:
    store = open_store(path)
    await store.ensure_account(USER)
    highest: dict[int, tuple[int, int]] = {}
    for batch in batches:
        for result in await asyncio.gather(*[store.submit(change) for change in batch], return_exceptions=True):
            assert not isinstance(result, BaseException) or isinstance(result, SpinError), result
        check_counters(store, highest)
        check_bodies(store)
    grown = dump_store(store)
    store.rebuild()
    assert dump_store(store) == grown
    await store.close()

    store = open_store(path)
    assert dump_store(store) == grown
    store.release()
    (path / "data" / "index" / "mail.sqlite").unlink()
    store = open_store(path)
    assert dump_store(store) == grown
    store.release()


def check_counters(store: Store, highest: dict[int, tuple[int, int]]) -> None:
    """Counters are what a count gives; UIDNEXT and MODSEQ of a mailbox never go back."""
    query = store._index.connection.execute
    for mailbox in store.mailboxes(USER):
        status = store.status(mailbox.id)
        messages = store.messages(mailbox.id, list(store.uids(mailbox.id)))
        assert status.messages == len(messages)
        assert status.unseen == sum("\\Seen" not in message.flags for message in messages)
        assert status.deleted == sum("\\Deleted" in message.flags for message in messages)
        assert status.size == sum(message.body.size for message in messages)
        assert all(message.uid < status.uidnext and message.modseq <= status.highest_modseq for message in messages)
        assert (status.uidnext, status.highest_modseq) >= highest.get(mailbox.id, (0, 0))
        highest[mailbox.id] = (status.uidnext, status.highest_modseq)
        for flag in ("\\Seen", "\\Deleted", "\\Flagged", "$x", "$y"):
            assert store.with_flag(mailbox.id, flag) == [m.uid for m in messages if flag in m.flags]
        assert store.unseen(mailbox.id) == [m.uid for m in messages if "\\Seen" not in m.flags]
    orphans = "SELECT count(*) FROM {} WHERE mailbox_id NOT IN (SELECT id FROM mailboxes)"
    for table in ("messages", "keywords"):
        assert query(orphans.format(table)).fetchone() == (0,)


def check_bodies(store: Store) -> None:
    """Which bodies are live, and by how many, is what a count of all that names them gives."""
    rows = store._index.connection.execute(
        "SELECT body FROM messages UNION ALL"
        " SELECT body FROM queue WHERE body IS NOT NULL AND state NOT IN ('sent', 'dropped')"
    ).fetchall()
    counted = Counter(extent.position for (body,) in rows for extent in decode_body(body).extents)
    found = store._index.connection.execute("SELECT * FROM bodies").fetchall()
    assert found == [(name, name, refs) for name, refs in sorted(counted.items())]
