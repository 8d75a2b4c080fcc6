"""The map of an object: a Merkle tree over its pages, so that what is equal has equal names, however much it is.

Nodes are pages of the page store (bytes: ``snapshot``). Every shape follows from the object's size and page size, so a
node that does not fit is damage, whoever made it. Only nodes on the way to what changed are read or written.

Nothing here holds more than one node of each level, and what it was given to change.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple, Protocol

from spinrt.errors import CorruptRecord, UsageError
from spinrt.storage.protocols import DIGEST_BYTES, FAN_OUT, HOLE, PAGE_BYTES_MAX, Object
from spinrt.storage.snapshot import depth_of

_NODE: Final = struct.Struct(">1sBH")
_NODE_MAGIC: Final = b"N"
_ZEROS: Final = bytes(PAGE_BYTES_MAX)


class Pages(Protocol):
    """The part of a page store that trees need."""

    def put(self, content: bytes) -> bytes: ...
    def get(self, digest: bytes) -> bytes: ...


class Entry(NamedTuple):
    """A node (level 1 and up) or page (level 0) of an object; ``number`` counts those of its level from 0."""

    level: int
    number: int
    digest: bytes


class Shape(NamedTuple):
    """How many pages and nodes an object has: ``counts[level]``; the last one is 1, or 0 for an empty object."""

    size: int
    page_bytes: int
    counts: tuple[int, ...]

    @property
    def depth(self) -> int:
        return len(self.counts) - 1

    def children(self, level: int, number: int) -> int:
        """Return how many digests that node holds."""
        return min(FAN_OUT, self.counts[level - 1] - number * FAN_OUT)

    def page_size(self, number: int) -> int:
        return self.bytes_below(0, number)

    def bytes_below(self, level: int, number: int) -> int:
        """Return how many bytes of the object lie below a node: with digest and level that says all that it means."""
        span: int = self.page_bytes * FAN_OUT**level
        return min(span, self.size - number * span)


def shape_of(size: int, page_bytes: int) -> Shape:
    counts = [-(-size // page_bytes)]
    for _ in range(depth_of(size, page_bytes)):
        counts.append(-(-counts[-1] // FAN_OUT))
    return Shape(size, page_bytes, tuple(counts))


def encode_node(level: int, digests: bytes) -> bytes:
    """Return the page of a node whose digests are joined in ``digests``."""
    return _NODE.pack(_NODE_MAGIC, level, len(digests) // DIGEST_BYTES) + digests


def is_node(content: bytes) -> bool:
    """Tell whether a page looks like a node; a page of an object may, too."""
    return content.startswith(_NODE_MAGIC)


def decode_node(content: bytes, level: int, count: int, digest: bytes) -> bytes:
    """Return the joined digests of a node.

    Raises:
        CorruptRecord: It is not a node of that level with so many digests.
    """
    expected = _NODE.pack(_NODE_MAGIC, level, count)
    if content[: _NODE.size] != expected or len(content) != _NODE.size + count * DIGEST_BYTES:
        raise CorruptRecord(f"page {digest.hex()}: found no node of level {level} with {count} digests")
    return content[_NODE.size :]


def split(digests: bytes) -> list[bytes]:
    """Return joined digests one by one."""
    return [digests[at : at + DIGEST_BYTES] for at in range(0, len(digests), DIGEST_BYTES)]


def split_node(content: bytes, level: int, digest: bytes) -> list[bytes]:
    """Return the digests of a node of which nothing but its level is known. Raises CorruptRecord: it is none."""
    count = (len(content) - _NODE.size) // DIGEST_BYTES
    if not 0 < count <= FAN_OUT:
        raise CorruptRecord(f"page {digest.hex()}: found no node of level {level}")
    return split(decode_node(content, level, count, digest))


def read_node(store: Pages, shape: Shape, level: int, number: int, digest: bytes) -> bytes:
    """Return the joined digests of a node of an object; those of a hole are holes. Raises as ``PageStore.get``."""
    count = shape.children(level, number)
    if digest == HOLE:
        return HOLE * count
    return decode_node(store.get(digest), level, count, digest)


def put_page(store: Pages, content: bytes) -> bytes:
    """Store a page, unless it is all zeros; return what stands for it in a node."""
    return HOLE if content == _ZEROS[: len(content)] else store.put(content)


def _put_node(store: Pages, level: int, digests: bytes) -> bytes:
    return HOLE if digests == HOLE * (len(digests) // DIGEST_BYTES) else store.put(encode_node(level, digests))


# --------------------------------------------------------------------------------------------------------------- build


def build(store: Pages, pages: Iterable[bytes], *, name: str, kind: int, page_bytes: int) -> Object:
    """Store an object from its pages, in order; all but the last have ``page_bytes`` bytes.

    Raises:
        UsageError: A page of another length.
        DeviceFull, DeviceFailed: Not stored.

    Cost: each page once, and a node for every `FAN_OUT`.
    """
    levels: list[bytearray] = [bytearray()]
    size = 0
    for content in pages:
        if not 0 < len(content) <= page_bytes or size % page_bytes:
            raise UsageError(f"object {name!r}: page of {len(content)} bytes at {size}, expected {page_bytes}")
        size += len(content)
        _push(store, levels, 0, put_page(store, content))
    return Object(name, kind, size, page_bytes, depth_of(size, page_bytes), _close(store, levels))


def _push(store: Pages, levels: list[bytearray], level: int, digest: bytes) -> None:
    """Add a digest of that level; ``levels[n]`` gathers digests of level n that no node has yet."""
    gathered = levels[level]
    if len(gathered) == FAN_OUT * DIGEST_BYTES:  # only now: a full one alone at the end may be the root's
        if level + 1 == len(levels):
            levels.append(bytearray())
        _push(store, levels, level + 1, _put_node(store, level + 1, bytes(gathered)))
        gathered.clear()
    gathered += digest


def _close(store: Pages, levels: list[bytearray]) -> bytes:
    level = 0
    while level + 1 < len(levels) or len(levels[level]) > DIGEST_BYTES:
        if level + 1 == len(levels):
            levels.append(bytearray())
        _push(store, levels, level + 1, _put_node(store, level + 1, bytes(levels[level])))
        level += 1
    return bytes(levels[level]) or HOLE


def build_bytes(store: Pages, content: bytes, *, name: str, kind: int, page_bytes: int = PAGE_BYTES_MAX) -> Object:
    """Store a small object that is in memory."""
    pages = (content[at : at + page_bytes] for at in range(0, len(content), page_bytes))
    return build(store, pages, name=name, kind=kind, page_bytes=page_bytes)


# -------------------------------------------------------------------------------------------------------------- update


def update(store: Pages, old: Object, changed: Mapping[int, bytes], size: int | None = None) -> Object:
    """Store an object that differs from another in some pages and perhaps in size; return it.

    Args:
        changed: Number → content of pages; those beyond ``size`` must not be there.
        size: Of the new object in bytes; by default the old one's. What is new and not in ``changed`` is a hole.

    Raises:
        UsageError: A page that does not fit.
        NotFound, CorruptRecord: A node of the old one cannot be read.

    Cost: the changed pages and the nodes above them.
    """
    digests = ((number, put_page(store, content), len(content)) for number, content in changed.items())
    return update_digests(store, old, digests, size)


def update_digests(
    store: Pages, old: Object, changed: Iterable[tuple[int, bytes, int]], size: int | None = None
) -> Object:
    """As `update`, of pages that are stored already: number, digest (see `put_page`), bytes."""
    shape = shape_of(old.size if size is None else size, old.page_bytes)
    digests: dict[int, bytes] = {}
    for number, digest, length in changed:
        if not 0 <= number < shape.counts[0] or length != shape.page_size(number):
            raise UsageError(f"object {old.name!r}: page {number} of {length} bytes does not fit its size")
        digests[number] = digest
    change = _Change(store, old, shape, digests)
    return old._replace(size=shape.size, depth=shape.depth, root=change.root())


class _Change:
    """One update under way."""

    def __init__(self, store: Pages, old: Object, shape: Shape, digests: dict[int, bytes]) -> None:
        self.store = store
        self.old = old
        self.old_shape = shape_of(old.size, old.page_bytes)
        self.shape = shape
        self.digests = digests
        if shape.size != self.old_shape.size:
            self._fit_edge()
        self.touched = self._touched()

    def _fit_edge(self) -> None:
        """Bring the last page that both have to its new length: cut, or filled with zeros."""
        number = min(self.old_shape.counts[0], self.shape.counts[0]) - 1
        if number < 0 or number in self.digests:
            return
        length = self.shape.page_size(number)
        if length != self.old_shape.page_size(number):
            content = read(self.store, self.old, number)
            self.digests[number] = put_page(self.store, content[:length].ljust(length, b"\0"))

    def _touched(self) -> list[set[int]]:
        """For each level, the numbers of what must be made anew."""
        touched = [set(self.digests)]
        resized = self.shape.size != self.old_shape.size
        for level in range(1, self.shape.depth + 1):
            above = {number // FAN_OUT for number in touched[-1]}
            if resized:
                old_count = self.old_shape.counts[level] if level <= self.old_shape.depth else 1
                edges = (self.shape.counts[level] - 1, old_count - 1)
                above |= {number for number in edges if 0 <= number < self.shape.counts[level]}
            touched.append(above)
        return touched

    def root(self) -> bytes:
        old = self.old.root
        for level in range(self.old_shape.depth, self.shape.depth, -1):  # it shrank: the first child is the root
            old = read_node(self.store, self.old_shape, level, 0, old)[:DIGEST_BYTES]
        return self._make(self.shape.depth, 0, old)

    def _make(self, level: int, number: int, old: bytes) -> bytes:
        """Return the digest of what is there now; ``old`` is that of what was there, a hole when nothing was."""
        if number not in self.touched[level]:
            return old if self.shape.counts[0] else HOLE
        if level == 0:
            return self.digests[number]
        count = self.shape.children(level, number)
        first = number * FAN_OUT
        below = self._old_children(level, number, old)[:count]
        below += [HOLE] * (count - len(below))
        for index in range(count):
            if first + index in self.touched[level - 1]:
                below[index] = self._make(level - 1, first + index, below[index])
        return _put_node(self.store, level, b"".join(below))

    def _old_children(self, level: int, number: int, old: bytes) -> list[bytes]:
        depth = self.old_shape.depth
        if level > depth:  # it grew: all that was is below the first child
            return [old] if number == 0 else []
        if old == HOLE or number >= self.old_shape.counts[level]:
            return []
        return split(read_node(self.store, self.old_shape, level, number, old))


# ---------------------------------------------------------------------------------------------------------------- read


def read(store: Pages, item: Object, number: int) -> bytes:
    """Return a page of an object. Raises UsageError when it has no such page, and as ``PageStore.get``."""
    return TreeReader(store, item).page(number)


class TreeReader:
    """Reads pages of one object; remembers the nodes that it came through last, up to ``nodes_max``."""

    def __init__(self, store: Pages, item: Object, *, nodes_max: int = 256) -> None:
        self.item = item
        self.shape = shape_of(item.size, item.page_bytes)
        self._store = store
        self._nodes: dict[tuple[int, int], bytes] = {}
        self._nodes_max = nodes_max

    def digest(self, level: int, number: int) -> bytes | None:
        """Return the digest of a node, or (level 0) of a page; none when the object has none there."""
        if level > self.shape.depth or not 0 <= number < self.shape.counts[level]:
            return None
        digest = self.item.root
        for above in range(self.shape.depth, level, -1):
            if digest == HOLE:
                return HOLE
            below = number // FAN_OUT ** (above - 1 - level)
            at = below % FAN_OUT * DIGEST_BYTES
            digest = self._node(above, below // FAN_OUT, digest)[at : at + DIGEST_BYTES]
        return digest

    def page(self, number: int) -> bytes:
        """Return a page. Raises as `read`."""
        digest = self.digest(0, number)
        if digest is None:
            raise UsageError(f"object {self.item.name!r}: page {number}, it has {self.shape.counts[0]}")
        length = self.shape.page_size(number)
        if digest == HOLE:
            return _ZEROS[:length]
        return read_page(self._store, self.item, number, digest, length)

    def _node(self, level: int, number: int, digest: bytes) -> bytes:
        key = (level, number)
        found = self._nodes.pop(key, None)
        if found is None:
            found = read_node(self._store, self.shape, level, number, digest)
            if len(self._nodes) >= self._nodes_max:
                self._nodes.pop(next(iter(self._nodes)), None)
        self._nodes[key] = found
        return found


def read_page(store: Pages, item: Object, number: int, digest: bytes, length: int) -> bytes:
    """Return the page of an object by its digest. Raises as ``PageStore.get``; CorruptRecord: it has another length."""
    content = store.get(digest)
    if len(content) != length:
        raise CorruptRecord(
            f"object {item.name!r}, page {number}, digest {digest.hex()}: {len(content)} bytes, expected {length}"
        )
    return content


def pages(store: Pages, item: Object) -> Iterator[bytes]:
    """Yield the content of all pages in order."""
    reader = TreeReader(store, item)
    for number in range(reader.shape.counts[0]):
        yield reader.page(number)


def held_pages(store: Pages, item: Object) -> Iterator[tuple[int, bytes]]:
    """Yield number and content of the pages that are no holes, in order. A hole costs nothing, however large it is."""
    shape = shape_of(item.size, item.page_bytes)
    for level, number, digest in walk(store, item):
        if level == 0:
            yield number, read_page(store, item, number, digest, shape.page_size(number))


# ---------------------------------------------------------------------------------------------------------- difference


def difference(store: Pages, old: Object | None, new: Object) -> Iterator[Entry]:
    """Yield the nodes and pages of ``new`` that ``old`` has not in the same place; parents before their children.

    A digest comes again when it stands in several places. The entry of a node is yielded before the node is read, so
    that a store which lacks it can fetch it first.

    Raises:
        As ``PageStore.get``: a node cannot be read.

    Cost: what differs.
    """
    if old is None or old.page_bytes != new.page_bytes:
        old = new._replace(size=0, depth=0, root=HOLE)
    old_shape, shape = shape_of(old.size, old.page_bytes), shape_of(new.size, new.page_bytes)
    root = fitted_root(store, old, shape.depth)
    yield from _differing(store, old_shape, shape, Entry(shape.depth, 0, new.root), root)


def _differing(store: Pages, old_shape: Shape, shape: Shape, entry: Entry, old: bytes) -> Iterator[Entry]:
    level, number, digest = entry
    if digest == HOLE or (digest == old and level <= old_shape.depth):
        return
    yield entry
    if level == 0:
        return
    below = split(read_node(store, shape, level, number, digest))
    before = children_before(store, old_shape, level, number, old)
    first = number * FAN_OUT
    for index, child in enumerate(below):
        was = before[index] if index < len(before) else HOLE
        if child != was or level > old_shape.depth:
            yield from _differing(store, old_shape, shape, Entry(level - 1, first + index, child), was)


def walk(store: Pages, item: Object) -> Iterator[Entry]:
    """Yield all nodes and pages of an object, parents before their children; holes are left out."""
    return difference(store, None, item)


def fitted_root(store: Pages, old: Object, depth: int) -> bytes:
    """The root of an object, or the first of its nodes that is no higher than ``depth``."""
    shape, root = shape_of(old.size, old.page_bytes), old.root
    for level in range(shape.depth, depth, -1):
        root = read_node(store, shape, level, 0, root)[:DIGEST_BYTES]
    return root


def children_before(store: Pages, shape: Shape, level: int, number: int, digest: bytes) -> list[bytes]:
    """The digests below a node of the old object; of one above its root the root, as the first of them."""
    if level > shape.depth:
        return [digest] if number == 0 else []
    if digest == HOLE or number >= shape.counts[level]:
        return []
    return split(read_node(store, shape, level, number, digest))
