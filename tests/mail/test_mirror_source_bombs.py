"""A known source that wants the mirror's memory, or its good snapshots: each is refused, or costs what was sent."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from spinrt.errors import CorruptRecord
from spinrt.mail.store.fsck import DirectoryCheck
from spinrt.mail.store.snapshots import INDEX_OBJECT
from spinrt.storage.schedule import Keep
from spinrt.storage.snapshot import KIND_EXTENSION, KIND_INDEX
from spinrt.storage.tree import build_bytes, update
from tests.mail.test_mirror_source_hostile import HOUR_NS, Site, applied, snapshots
from tests.storage.mirror_support import MemoryPages

INDEX_PAGE_BYTES = 4096


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def grown(site: Site, size: int, stated: int | None = None) -> object:
    """An index, or what its first pages say is one, and then nothing but holes."""
    content = bytearray(site.index(applied(site.good.position + 1)))
    if stated is not None:
        struct.pack_into(">I", content, 28, stated)
    store = MemoryPages()
    item = build_bytes(store, bytes(content), name=INDEX_OBJECT, kind=KIND_INDEX, page_bytes=INDEX_PAGE_BYTES)
    return site.send(store, (update(store, item, {}, size),))


def beside(site: Site) -> object:
    store = MemoryPages()
    index = site.index(applied(site.good.position + 1))
    item = build_bytes(store, index, name=INDEX_OBJECT, kind=KIND_INDEX, page_bytes=INDEX_PAGE_BYTES)
    other = build_bytes(store, b"x", name="extension/a", kind=KIND_EXTENSION)
    return site.send(store, (update(store, other, {}, 1 << 36), item))


def with_sql(change: str) -> Callable[[Site], object]:
    return lambda site: site.send_index(site.index(f"{applied(site.good.position + 1)}; {change}"))


@pytest.mark.parametrize(
    ("send", "says"),
    [
        (lambda site: grown(site, 1 << 47), "limit"),
        (lambda site: grown(site, INDEX_PAGE_BYTES << 31, 1 << 31), "limit"),
        (lambda site: grown(site, INDEX_PAGE_BYTES << 27), "as its database says"),
        (beside, "beside it 68719476736, limit"),
        (with_sql(f"CREATE TABLE more (a /* {'x' * 2_000_000} */)"), "table of tables has"),
        (with_sql("ALTER TABLE state ADD COLUMN more AS (zeroblob(1000000000))"), "other tables"),
        (with_sql("UPDATE state SET log_identity = zeroblob(30000000)"), "another log or position"),
        (with_sql("INSERT INTO bodies VALUES (-5, 1, 1)"), "row 18446744073709551611"),
    ],
    ids=["petabytes", "stated", "holes", "beside", "schema", "computed", "blob", "negative"],
)
def test_what_unfolds_without_bound_is_refused(site: Site, send: Callable[[Site], object], says: str) -> None:
    with pytest.raises(CorruptRecord, match=says) as caught:
        send(site)

    assert caught.value.line().isprintable()
    assert site._current() == site.good
    assert site.genuine().moved
    assert [one.line() for one in DirectoryCheck(site.mirror).findings()] == []


@pytest.mark.parametrize("keep", [Keep(), Keep(hourly=0, daily=0, weekly=0, monthly=0)], ids=["usual", "nothing"])
def test_no_number_of_updates_thins_out_what_came_before(site: Site, keep: Keep) -> None:
    """Forged ones whose times lie in each of the last hours, days and months, with labels: the good one stays."""
    ages_h = [
        *range(30, 0, -1),
        *(24 * day for day in range(9, 0, -1)),
        *(24 * 30 * month for month in range(4, 0, -1)),
    ]
    for number, age_h in enumerate(ages_h, 1):
        position = site.good.position + number
        site.send_index(
            site.index(applied(position)),
            keep=keep,
            position=position,
            time_ns=site.good.time_ns - age_h * HOUR_NS if number % 3 else site.good.time_ns + number,
            label=f"label {number}" if number % 2 else "",
        )

    stayed = snapshots(site.mirror)
    assert site.good.identity in {one.identity for one in stayed}
    assert len([one for one in stayed if not one.label]) <= 4
