"""What a crash tore is not taken for stored."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from spinrt.errors import CorruptRecord
from spinrt.storage.page_table import remove_table
from spinrt.storage.pages import LocalPages
from spinrt.storage.tree import build_bytes, pages
from spinrt.testing.page_store import snapshot_of

CONTENT = random.Random(1).randbytes(1000)


def tear(directory: Path) -> None:
    """Damage the first page of the first pack, its entry's header left whole, and lose the table."""
    pack = sorted(directory.glob("*.pack"))[0]
    data = bytearray(pack.read_bytes())
    data[64 + 52 + 500] ^= 0xFF
    pack.write_bytes(data)
    remove_table(directory)


def test_page_whose_entry_was_torn_is_stored_again(tmp_path: Path) -> None:
    """A snapshot that is committed later needs it."""
    store = LocalPages.open(tmp_path)
    store.put(CONTENT)
    store.sync()
    store.close()
    tear(tmp_path)

    for _ in range(2):
        store = LocalPages.open(tmp_path)
        item = build_bytes(store, CONTENT, name="thing", kind=9)
        store.commit(snapshot_of(item))
        assert b"".join(pages(store, item)) == CONTENT
        store.close()


def test_page_that_a_snapshot_needs_stays_known_as_damaged(tmp_path: Path) -> None:
    """It is not torn but damaged, and says so."""
    store = LocalPages.open(tmp_path)
    item = build_bytes(store, CONTENT, name="thing", kind=9)
    store.commit(snapshot_of(item))
    store.close()
    tear(tmp_path)

    store = LocalPages.open(tmp_path)
    with pytest.raises(CorruptRecord, match="offset 64"):
        store.get(item.root)
    store.close()
