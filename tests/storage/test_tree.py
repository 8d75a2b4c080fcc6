"""Trees of pages against a plain list of pages, and what their operations cost."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinrt.errors import CorruptRecord, NotFound, UsageError
from spinrt.storage.protocols import FAN_OUT, HOLE, Object
from spinrt.storage.snapshot import depth_of
from spinrt.storage.tree import (
    TreeReader,
    build,
    difference,
    encode_node,
    held_pages,
    pages,
    read,
    shape_of,
    update,
    walk,
)
from spinrt.storage.tree_count import changed_count, held_bytes

PAGE = 8


class Memory:
    """Pages in a dict; counts what is read and written."""

    def __init__(self) -> None:
        self.pages: dict[bytes, bytes] = {}
        self.get_count = self.put_count = 0

    def put(self, content: bytes) -> bytes:
        self.put_count += 1
        digest = hashlib.sha256(content).digest()
        self.pages[digest] = content
        return digest

    def get(self, digest: bytes) -> bytes:
        self.get_count += 1
        if digest not in self.pages:
            raise NotFound(digest.hex())
        return self.pages[digest]


def build_from(store: Memory, content: bytes) -> Object:
    parts = (content[at : at + PAGE] for at in range(0, len(content), PAGE))
    return build(store, parts, name="o", kind=1, page_bytes=PAGE)


def content_of(store: Memory, item: Object) -> bytes:
    return b"".join(pages(store, item))


# Sizes around the borders where the depth changes: one page, 128 pages, 128 × 128 pages.
SIZES = st.one_of(
    st.integers(0, 4 * PAGE),
    st.integers(FAN_OUT * PAGE - 2 * PAGE, FAN_OUT * PAGE + 2 * PAGE),
    st.integers(FAN_OUT**2 * PAGE - 2 * PAGE, FAN_OUT**2 * PAGE + 2 * PAGE),
)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), old_size=SIZES, new_size=SIZES, blank=st.booleans())
def test_update_is_what_building_anew_gives(data: st.DataObject, old_size: int, new_size: int, blank: bool) -> None:
    """Whatever changes, also in size and across depths: the same root, so the same content, as of the whole."""
    store = Memory()
    content = bytes(old_size) if blank else bytes(n * 7 % 251 + 1 for n in range(old_size))
    old = build_from(store, content)
    expected = bytearray(content[:new_size].ljust(new_size, b"\0"))
    count = -(-new_size // PAGE)
    numbers = data.draw(st.sets(st.integers(0, max(count - 1, 0)), max_size=5)) if count else set()
    changed = {}
    for number in numbers:
        length = min(PAGE, new_size - number * PAGE)
        changed[number] = data.draw(st.sampled_from([b"\0" * length, b"\xff" * length, b"12345678"[:length]]))
        expected[number * PAGE : number * PAGE + length] = changed[number]

    new = update(store, old, changed, size=new_size)

    assert new == build_from(store, bytes(expected))
    assert content_of(store, old) == content
    assert_difference_is_right(store, old, new)


def assert_difference_is_right(store: Memory, old: Object, new: Object) -> None:
    """What is named makes the new one whole beside the old one; and every page that differs is named."""
    has = {entry.digest for entry in walk(store, old)}
    named = list(difference(store, old, new))
    assert {entry.digest for entry in walk(store, new)} <= has | {entry.digest for entry in named}
    seen = set()
    for entry in named:
        if entry.level < new.depth:
            assert (entry.level + 1, entry.number // FAN_OUT) in seen, "a child before its parent"
        seen.add((entry.level, entry.number))
    before, after = TreeReader(store, old), TreeReader(store, new)
    differing = [n for n in range(after.shape.counts[0]) if before.digest(0, n) != after.digest(0, n)]
    was = before.shape.counts[0]
    assert changed_count(store, old, new) == sum(n < was or after.digest(0, n) != HOLE for n in differing)
    assert held_bytes(store, new) == sum(len(read(store, new, n)) for n in range(after.shape.counts[0])
                                         if after.digest(0, n) != HOLE)  # fmt: skip
    assert {n for n in differing if after.digest(0, n) != HOLE} == {e.number for e in named if e.level == 0}


def test_cost_follows_change() -> None:
    """In an object of a million pages, one page costs its path: to change, to compare, to read."""
    store = Memory()
    old = build(store, (b"%08d" % (n % 9973) for n in range(1_000_000)), name="o", kind=1, page_bytes=PAGE)
    assert old.depth == 3
    store.get_count = store.put_count = 0

    new = update(store, old, {654_321: b"changed!"})
    assert store.get_count <= 3
    assert store.put_count == 4

    store.get_count = 0
    assert [entry.level for entry in difference(store, old, new)] == [3, 2, 1, 0]
    assert store.get_count == 6
    assert list(difference(store, new, new)) == []

    store.get_count = 0
    assert read(store, new, 654_321) == b"changed!"
    assert store.get_count == 4


def test_sparse_object_costs_what_is_in_it() -> None:
    """Zeros are not stored, and a huge object with one page is a path to it."""
    store = Memory()
    empty = build_from(store, b"")
    size = FAN_OUT**3 * PAGE

    sparse = update(store, empty, {FAN_OUT**3 - 1: b"the last"}, size=size)

    assert sparse.depth == 3
    assert len(store.pages) == 4
    assert read(store, sparse, 5) == bytes(PAGE)
    assert read(store, sparse, FAN_OUT**3 - 1) == b"the last"
    assert update(store, sparse, {FAN_OUT**3 - 1: bytes(PAGE)}) == sparse._replace(root=HOLE)


def test_what_does_not_fit_is_refused() -> None:
    """Pages of a wrong length or number; a page in the middle that is short."""
    store = Memory()
    item = build_from(store, b"x" * 20)
    for changed in ({3: b"12345678"}, {-1: b"12345678"}, {2: b"12345678"}, {0: b"123"}, {0: b""}):
        with pytest.raises(UsageError):
            update(store, item, changed)
    with pytest.raises(UsageError):
        build(store, [b"123", b"12345678"], name="o", kind=1, page_bytes=PAGE)
    for number in (-1, 3):
        with pytest.raises(UsageError):
            read(store, item, number)


@pytest.mark.parametrize(
    "node",
    [
        b"",
        b"N",
        encode_node(1, b"x" * 32 * 2),
        encode_node(2, b"x" * 32 * 3),
        encode_node(1, b"x" * 32 * 4),
        encode_node(1, b"x" * 32 * 3)[:-1],
        encode_node(1, b"x" * 32 * 3) + b"y",
        b"M" + encode_node(1, b"x" * 32 * 3)[1:],
    ],
)
def test_node_that_is_none_is_damage(node: bytes) -> None:
    """Whoever made it: another level, another count, another length is told, and nothing is read by it."""
    store = Memory()
    item = Object("o", 1, 3 * PAGE, PAGE, 1, store.put(node or b"?"))
    for action in (
        lambda: read(store, item, 0),
        lambda: list(walk(store, item)),
        lambda: update(store, item, {0: b"12345678"}),
        lambda: changed_count(store, item, item._replace(root=hashlib.sha256(b"").digest())),
        lambda: held_bytes(store, item),
    ):
        with pytest.raises((CorruptRecord, NotFound)):
            action()


def test_page_of_another_length_is_damage() -> None:
    """A page is as long as the object says."""
    store = Memory()
    item = Object("o", 1, PAGE, PAGE, 0, store.put(b"short"))
    with pytest.raises(CorruptRecord, match="5 bytes, expected 8"):
        read(store, item, 0)


@pytest.mark.parametrize("pages_", [0, 1, 2, 127, 128, 129, 128**2, 128**2 + 1, 128**3, 128**3 + 1])
def test_shape_follows_from_size(pages_: int) -> None:
    """As many levels as are needed and no more."""
    shape = shape_of(pages_ * PAGE, PAGE)
    assert shape.depth == depth_of(pages_ * PAGE, PAGE)
    assert shape.counts[0] == pages_
    assert shape.counts[-1] == min(pages_, 1)
    assert all(count > 1 for count in shape.counts[:-1])


def petabytes(store: Memory, page: bytes, page_bytes: int = PAGE) -> Object:
    """An object of 2^48 bytes in a few nodes: every child of each is the same one."""
    size = 2**48
    depth, root = depth_of(size, page_bytes), store.put(page)
    for level in range(1, depth + 1):
        count = shape_of(size, page_bytes).children(level, 0)
        root = store.put(encode_node(level, root * count))
    return Object("o", 1, size, page_bytes, depth, root)


def test_counting_in_petabytes_costs_a_node_of_each_level() -> None:
    """What holds a page in every place, against a hole, another page, and itself with another page at its end."""
    store = Memory()
    size = 4096
    new = petabytes(store, b"x" * size, size)
    hole = new._replace(root=HOLE)
    store.get_count = 0
    assert held_bytes(store, new) == new.size
    assert held_bytes(store, hole) == 0
    assert changed_count(store, hole, new) == new.size // size
    assert changed_count(store, new, hole) == new.size // size
    assert changed_count(store, petabytes(store, b"y" * size, size), new) == new.size // size
    last = new.size // size - 1
    assert changed_count(store, new, update(store, new, {last: b"z" * size})) == 1
    assert list(held_pages(store, update(store, hole, {last: b"z" * size}))) == [(last, b"z" * size)]
    assert store.get_count < 200
