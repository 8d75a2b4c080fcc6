"""Doubles for the mirror's tests: a page store, bodies and a book in memory, and a source whose history is scripted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from spinrt.errors import CorruptRecord, NotFound, UsageError
from spinrt.storage.log_reads import GENERATION_SHIFT
from spinrt.storage.mirror import pipe
from spinrt.storage.mirror.book import Standing
from spinrt.storage.mirror.receiver import Receiver
from spinrt.storage.mirror.sender import Sender
from spinrt.storage.mirror.source import StoreSource
from spinrt.storage.mirror.update import Update
from spinrt.storage.protocols import HOLE, Object, Snapshot
from spinrt.storage.snapshot import encode_snapshot, seal
from spinrt.storage.tree import build, walk
from spinrt.storage.tree import pages as pages_of

PAGE_BYTES = 64
BODY_KIND = 0x0010


class MemoryPages:
    """A page store without a device; commits check as a real one does."""

    def __init__(self) -> None:
        self.content: dict[bytes, bytes] = {}
        self.committed: dict[bytes, Snapshot] = {}
        self.broken: set[bytes] = set()

    def put(self, content: bytes) -> bytes:
        digest = sha256(content).digest()
        self.content[digest] = content
        return digest

    def put_stored(self, digest: bytes, stored: bytes, compressed: bool) -> None:
        if compressed or sha256(stored).digest() != digest:
            raise CorruptRecord(f"page {digest.hex()}: is another")
        self.content[digest] = stored

    def get(self, digest: bytes) -> bytes:
        if digest in self.broken:
            raise CorruptRecord(f"page {digest.hex()}: damaged")
        if digest not in self.content:
            raise NotFound(f"page {digest.hex()}: not there")
        return self.content[digest]

    def get_stored(self, digest: bytes) -> tuple[bytes, bool]:
        return self.get(digest), False

    def has(self, digests: Sequence[bytes]) -> list[bool]:
        return [digest in self.content for digest in digests]

    def sync(self) -> None:
        pass

    def commit(self, snapshot: Snapshot) -> None:
        encode_snapshot(snapshot)
        for item in snapshot.objects:
            if any(entry.digest not in self.content for entry in walk(self, item)):
                raise UsageError("snapshot: a page is not there")
        self.committed[snapshot.identity] = snapshot

    def snapshots(self) -> list[Snapshot]:
        return sorted(self.committed.values(), key=lambda one: (one.position, one.time_ns))

    def delete(self, identity: bytes) -> None:
        del self.committed[identity]

    def close(self) -> None:
        pass


class MemoryBodies:
    """Bodies by name, as a log has them."""

    def __init__(self, generation: int = 0) -> None:
        self.identity = sha256(b"%d" % generation).digest()[:16]
        self.start = generation << GENERATION_SHIFT
        self.bodies: dict[int, tuple[int, int, bytes, bytes]] = {}
        self.next_name = self.start + 64

    @property
    def end(self) -> int:
        return self.next_name

    def add(self, stored: bytes) -> int:
        name = self.next_name
        self.next_name += 64 + len(stored)
        self.append_carried(name, BODY_KIND, name, stored)
        return name

    def holds(self, name: int) -> bool:
        return name in self.bodies

    def read_body(self, position: int, offset: int, length: int) -> bytes:
        return self.stored_body(position)[2][offset : offset + length]

    def forget(self, names: Iterable[int]) -> None:
        for name in names:
            self.bodies.pop(name, None)

    def append_carried(self, name: int, kind: int, time_ns: int, stored: bytes) -> int:
        self.bodies[name] = (kind, time_ns, stored, sha256(stored).digest()[:16])
        return self.end

    def stored_body(self, name: int) -> tuple[int, int, bytes, bytes]:
        if name not in self.bodies:
            raise CorruptRecord(f"body {name}: not there")
        return self.bodies[name]

    def sync(self) -> int:
        return self.end


class MemoryBook:
    def __init__(self) -> None:
        self.standing = Standing()

    def read(self) -> Standing:
        return self.standing

    def write(self, standing: Standing) -> None:
        self.standing = standing


@dataclass
class Primary:
    """A source whose snapshots are made from plain contents."""

    pages: MemoryPages = field(default_factory=MemoryPages)
    log: MemoryBodies = field(default_factory=MemoryBodies)
    live: dict[bytes, frozenset[int]] = field(default_factory=dict)
    """Names of the bodies that each snapshot needs."""

    def snapshot(
        self, contents: Mapping[str, bytes], names: Iterable[int] = (), position: int | None = None
    ) -> Snapshot:
        made = seal(
            parent=None,
            log_identity=self.log.identity,
            position=self.log.end if position is None else position,
            time_ns=len(self.live) + 1,
            objects=tuple(make_object(self.pages, name, content) for name, content in contents.items()),
            label="",
        )
        self.pages.commit(made)
        self.live[made.identity] = frozenset(names)
        return made

    def names(self, store: object, base: Snapshot | None, target: Snapshot) -> Iterator[int]:
        before = self.live[base.identity] if base is not None else frozenset()
        return iter(sorted(self.live[target.identity] - before))

    def sender(self, target: Snapshot) -> Sender:
        return Sender(StoreSource(self.pages, self.log, target, self.names))


@dataclass
class Secondary:
    """A mirror in memory."""

    pages: MemoryPages = field(default_factory=MemoryPages)
    log: MemoryBodies = field(default_factory=lambda: MemoryBodies(9))
    book: MemoryBook = field(default_factory=MemoryBook)

    def receiver(self, **settings: int) -> Receiver:
        return Receiver(Update(self.pages, lambda generation: self.log, self.book, clock_ns=lambda: 1, **settings))

    def standing(self) -> Standing:
        return self.book.read().settled(set(self.pages.committed))

    def contents(self, identity: bytes) -> dict[str, bytes]:
        return contents_of(self.pages, self.pages.committed[identity])


def content(pages: Sequence[bytes], cut: int = 0) -> bytes:
    """Pages of one repeated text each; ``cut`` bytes less, if there are so many."""
    whole = b"".join((page * PAGE_BYTES)[:PAGE_BYTES] for page in pages)
    return whole[: len(whole) - cut] if cut < len(whole) else whole


def make_object(store: MemoryPages, name: str, content: bytes) -> Object:
    parts = [content[at : at + PAGE_BYTES] for at in range(0, len(content), PAGE_BYTES)]
    return build(store, parts, name=name, kind=1, page_bytes=PAGE_BYTES)


def contents_of(store: MemoryPages, snapshot: Snapshot) -> dict[str, bytes]:
    return {item.name: b"".join(pages_of(store, item)) for item in snapshot.objects}


def digests_of(store: MemoryPages, snapshot: Snapshot) -> set[bytes]:
    """Of the pages themselves, without nodes."""
    found = {entry.digest for item in snapshot.objects for entry in walk(store, item) if entry.level == 0}
    return found - {HOLE}


def mirror(primary: Primary, secondary: Secondary, target: Snapshot) -> Sender:
    """Carry one update through; return the sender, for its counts."""
    sender = primary.sender(target)
    pipe.run(sender, secondary.receiver())
    return sender
