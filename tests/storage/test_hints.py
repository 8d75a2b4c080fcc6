"""Hints: what was put is found as long as there is room, and no file can make them more than a wrong guess."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinrt._core import HintTable
from spinrt.errors import UsageError
from spinrt.storage.hints import POSITION_MAX, SLOT_BYTES, SLOTS_MAX, SLOTS_MIN, Hints

LOG = b"identity of log "


def digest(number: int) -> bytes:
    return sha256(b"%d" % number).digest()


def test_what_was_put_is_found_over_all_doublings(tmp_path: Path) -> None:
    """Nearly all of as many as there is room for, and the newest when there are more; never a wrong one."""
    hints = Hints.open(tmp_path / "hints", LOG)
    count = SLOTS_MAX
    for number in range(count):
        hints.put(digest(number), number)
    found = [hints.find(digest(number)) for number in range(count)]
    assert all(one in (None, number) for number, one in enumerate(found))
    assert sum(one is not None for one in found[-SLOTS_MAX // 2 :]) > 0.99 * SLOTS_MAX / 2
    assert sum(one is not None for one in found) > 0.8 * count
    assert len(hints._table.memory) == SLOTS_MAX * SLOT_BYTES
    assert hints.find(digest(count)) is None


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 2**40)), max_size=60))
def test_last_position_counts(puts: list[tuple[int, int]]) -> None:
    """A digest that is put again has its newest position, while the table is nearly empty."""
    table = HintTable(bytearray(SLOTS_MIN * SLOT_BYTES))
    for number, position in puts:
        table.put(digest(number), position)
    wide = table.wider()
    for number, position in dict(puts).items():
        assert table.find(digest(number)) == wide.find(digest(number)) == position
    assert table.count == wide.count == len(dict(puts))


def test_a_crowded_window_forgets_its_oldest() -> None:
    """Digests that fall into the same slots: the lowest position goes."""
    table = HintTable(bytearray(64 * SLOT_BYTES))
    digests = [bytes(6) + bytes([n, 0]) for n in range(17)]
    for position, one in enumerate(digests, 10):
        table.put(one, position)
    assert [table.find(one) for one in digests] == [None, *range(11, 27)]
    assert table.count == 16


def test_file_keeps_them(tmp_path: Path) -> None:
    """For the same log only; the file is its owner's alone."""
    path = tmp_path / "hints"
    hints = Hints.open(path, LOG)
    for number in range(3000):
        hints.put(digest(number), number)
    assert hints.changed
    hints.save()
    assert not hints.changed and path.stat().st_mode & 0o77 == 0
    again = Hints.open(path, LOG)
    kept = [again.find(digest(number)) for number in range(3000)]
    assert kept == [hints.find(digest(number)) for number in range(3000)]
    assert sum(position is not None for position in kept) > 2900
    assert Hints.open(path, b"another log here").find(digest(5)) is None


@pytest.mark.parametrize(
    "size", [0, 7, 32, 32 + SLOTS_MIN * SLOT_BYTES, 32 + 1000 * SLOT_BYTES, 32 + 4 * SLOTS_MAX * SLOT_BYTES]
)
@pytest.mark.parametrize("octet", [b"\0", b"\xff"])
def test_any_file_is_a_guess_at_worst(tmp_path: Path, size: int, octet: bytes) -> None:
    """Empty, short, too long, of any content behind a good front: nothing fails, no position is out of range."""
    path = tmp_path / "hints"
    Hints.open(path, LOG).save()
    front = path.read_bytes()[:32]
    for start in (front, octet * 32):
        path.write_bytes((start + octet * size)[:size])
        hints = Hints.open(path, LOG)
        for number in range(100):
            found = hints.find(octet * 31 + bytes([number]))
            assert found is None or found <= POSITION_MAX
            hints.put(digest(number), number)
            assert hints.find(digest(number)) == number


def test_no_file_can_be_written(tmp_path: Path) -> None:
    """A directory that is gone is of no consequence."""
    hints = Hints.open(tmp_path / "gone" / "hints", LOG)
    hints.put(digest(1), 1)
    hints.save()
    assert hints.find(digest(1)) == 1


def test_misuse_is_refused() -> None:
    """Memory that is no table, and what is no digest."""
    for size in (0, 8 * SLOT_BYTES, 17 * SLOT_BYTES, 16 * SLOT_BYTES + 1):
        with pytest.raises(UsageError, match="hints"):
            HintTable(bytearray(size))
    with pytest.raises(UsageError, match="digest"):
        HintTable(bytearray(16 * SLOT_BYTES)).find(b"1234567")
