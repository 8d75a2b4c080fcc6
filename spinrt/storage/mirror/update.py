"""The durable side of one update at the mirror: pages and bodies arrive, then one snapshot makes them visible.

Invariants
    *All or nothing*: until the snapshot's file is durable, whoever opens the mirror finds the snapshot before it.
    *Bodies first*: bodies and pages are synced before the snapshot is committed, so all that it names is there.
    *Nothing is believed*: a page is stored under a digest only if it has that digest; maps are built here from the
    digests that were offered and must have the roots that the snapshot says.
    *Judged*: before a snapshot becomes visible, what it says of itself is checked, all bodies that it needs are looked
    for, and their contents held against what it says of them. Those that do not fit are given up.
    *Kept*: what arrived for an update that was cut off is not asked for again, as pages and bodies are known by name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Final, NamedTuple, Protocol, TypeAlias

from spinrt.errors import CorruptRecord, FormatUnknown, NotFound, PeerProtocolError, StateError
from spinrt.storage.carry import NAME_MAX
from spinrt.storage.files import device_error
from spinrt.storage.log_reads import GENERATION_SHIFT
from spinrt.storage.mirror.book import Book, Standing
from spinrt.storage.mirror.fetch import check_body
from spinrt.storage.mirror.frames import Hello, PageOffer, StoredBody
from spinrt.storage.mirror.patch import Patch
from spinrt.storage.mirror.traffic import Traffic
from spinrt.storage.protocols import HOLE, Object, PageStore, Snapshot
from spinrt.storage.snapshot import decode_snapshot, in_order
from spinrt.storage.tree import shape_of

SYNC_BYTES: Final = 64 * 1024 * 1024
"""What a crash of the mirror's machine may cost of an update under way, and bounds what the last sync has to write."""
AHEAD_S_MAX: Final = 3600
"""How far a snapshot's time may be ahead of the mirror's clock: one of a later year would keep all that follow out."""

PAGES_MAX: Final = 1 << 30
"""Of all objects of a snapshot; an index of 4 TiB has so many."""
GIVEN_UP_MAX: Final = 1 << 18
"""Names of bodies that one refused update gives up, about; the next one finds the rest."""
OFFER_BYTES: Final = 64
"""What an offered page counts as beside its content: it makes nodes grow, also when its content is here already."""

Judge: TypeAlias = Callable[[PageStore, Snapshot | None, Snapshot], Iterator[int]]
"""Yields the names of the bodies that a snapshot needs and its base (none: no base) did not.

Raises CorruptRecord when the snapshot is not what its source should send, FormatUnknown when it cannot be told."""


def no_bodies(pages: PageStore, base: Snapshot | None, target: Snapshot) -> Iterator[int]:
    """A judge of snapshots that need no bodies."""
    return iter(())


class Bodies(Protocol):
    """What an update needs of the mirror's log."""

    def read_body(self, position: int, offset: int, length: int) -> bytes: ...

    def forget(self, names: Iterable[int]) -> None: ...

    @property
    def end(self) -> int: ...

    def holds(self, name: int) -> bool: ...

    def append_carried(self, name: int, kind: int, time_ns: int, stored: bytes) -> int: ...

    def stored_body(self, name: int) -> tuple[int, int, bytes, bytes]: ...

    def sync(self) -> int: ...


class Unfit(NamedTuple):
    """Something in a snapshot whose bodies are not what it says."""

    said: str
    """What it is, what was found and what was expected."""
    names: tuple[int, ...]
    """Of its bodies; at least one of them is wrong."""


Contents: TypeAlias = Callable[[PageStore, Snapshot | None, Snapshot, Bodies], Iterator[Unfit]]
"""Holds the bodies of a snapshot against what it says of them, but for what its base (none: no base) said already.

Raises as `Judge`; StorageError when the log cannot be read."""


def any_contents(pages: PageStore, base: Snapshot | None, target: Snapshot, log: Bodies) -> Iterator[Unfit]:
    """For snapshots that say nothing of their bodies."""
    return iter(())


class Update:
    """What one connection does to a mirror. Implements ``receiver.Intake``.

    Args:
        pages: The mirror's page store.
        open_log: Returns the mirror's log; makes it, in a generation of its own, when the source's is given the first
            time.
        book: Where the mirror's standing is kept.
        judge: Looks at a snapshot before it becomes visible, and says which bodies it needs.
        contents: Looks whether they are those that it speaks of.
        claim: Called before an update, and not before a repair; returns how many bytes of contents it may bring, raises
            Busy when another is under way.
    """

    def __init__(
        self,
        pages: PageStore,
        open_log: Callable[[int | None], Bodies | None],
        book: Book,
        *,
        judge: Judge = no_bodies,
        contents: Contents = any_contents,
        claim: Callable[[], int] = lambda: 1 << 50,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._pages = pages
        self._open_log = open_log
        self._book = book
        self._judge = judge
        self._contents = contents
        self._claim = claim
        self._clock_ns = clock_ns
        self._bytes_max = 0
        self.taken_bytes = 0
        """Contents that came."""
        self._unsynced_bytes = 0
        self._snapshots: dict[bytes, Snapshot] = {}
        self._standing = Standing()
        self._whole = True
        self._target: Snapshot | None = None
        self._base: Snapshot | None = None
        self._aside: tuple[bytes, ...] = ()
        self._patch: Patch | None = None
        self._patch_index = 0
        self._last_name = -1
        self._expected: set[bytes] = set()
        self._traffic = Traffic()

    # -------------------------------------------------------------------------------------------------- the engine's

    def hello(self, hello: Hello) -> None:
        self._bytes_max = self._claim()
        self._snapshots = {one.identity: one for one in self._pages.snapshots()}
        self._standing = self._book.read().settled(set(self._snapshots))
        log = self._open_log(hello.generation)
        assert log is not None
        own = log.end >> GENERATION_SHIFT
        if own == hello.generation:
            raise StateError(
                f"mirror: its own log has generation {own}, as the source's: names would have two meanings",
                hint="begin a new mirror in an empty directory",
            )
        current = self._current()
        known = self._standing.complete and log.end >= self._standing.log_end  # an end that could not be read was cut
        self._whole = known or current is None or self._is_whole(current)

    def _current(self) -> Snapshot | None:
        return self._snapshots.get(self._standing.current or b"")

    def _is_whole(self, snapshot: Snapshot) -> bool:
        """Whether all bodies that a snapshot needs are here; it is told from all of its names."""
        try:
            return not self._missing(None, snapshot)
        except (CorruptRecord, FormatUnknown, NotFound):
            return False

    def _missing(self, base: Snapshot | None, snapshot: Snapshot) -> int:
        log = self._log()
        return sum(not log.holds(name) for name in self._judge(self._pages, base, snapshot))

    def known(self) -> Sequence[bytes]:
        """Those that an update may build on: none when bodies of the current one are missing, so all are offered."""
        if not self._whole:
            return []
        current = self._standing.current
        others = [one.identity for one in reversed(in_order(self._snapshots.values())) if one.identity != current]
        return others if current is None else [current, *others]

    def begin(self, base: bytes | None, encoded: bytes) -> None:
        target = decode_snapshot(encoded, "that the source sends")
        _check_page_count(target)
        if base is not None and base not in self.known():
            raise PeerProtocolError("mirror: the update builds on a snapshot that is not here")
        self._aside = self._left_behind(base, target)
        self._target = target
        self._base = None if base is None else self._snapshots[base]

    def _left_behind(self, base: bytes | None, target: Snapshot) -> tuple[bytes, ...]:
        """Return the snapshots that are not of the source's past; refuse unless the operator let the mirror go back."""
        current = self._current()
        if target.time_ns > self._clock_ns() + AHEAD_S_MAX * 1_000_000_000:
            raise StateError(
                f"mirror: the snapshot's time is {target.time_ns / 1e9:.0f}, more than an hour ahead of the clock here",
                hint="set the clocks of both machines",
            )
        if current is not None and target.identity == current.identity and not self._whole:
            return ()  # again, with the bodies that are missing
        if target.identity in self._snapshots:
            raise StateError("mirror: has that snapshot, and a newer one after it", hint="is an old copy the source?")
        if current is None or _follows(target, current):
            return ()
        if current.identity == base and target.log_identity != current.log_identity:
            return ()
        if not self._standing.resync:
            raise StateError(
                f"mirror: its snapshot {current.identity.hex()[:12]} is not of the source's past",
                hint="if the source is the right one: `spinrt mirror resync` on the mirror; nothing is lost by it",
            )
        ordered = in_order(self._snapshots.values())
        shared = self._snapshots.get(base or b"")
        past = ordered[: ordered.index(shared)] if shared is not None else []
        return tuple(one.identity for one in ordered if shared is None or not _of_past(one, shared, past))

    def want_pages(self, offer: PageOffer) -> list[bool]:
        self._count(OFFER_BYTES * len(offer.digests))
        patch = self._patch_for(offer.object_index)
        known = self._pages.has(offer.digests)
        wanted: list[bool] = []
        for number, digest, has in zip(offer.numbers, offer.digests, known, strict=True):
            patch.set(number, digest)
            want = not has and digest != HOLE and digest not in self._expected
            if want:
                self._expected.add(digest)
            wanted.append(want)
        return wanted

    def take_page(self, digest: bytes, stored: bytes, compressed: bool) -> None:
        self._count(len(stored))
        self._pages.put_stored(digest, stored, compressed)
        self._expected.discard(digest)
        self._traffic.add_page(stored)

    def want_bodies(self, names: Sequence[int]) -> list[bool]:
        if names[0] <= self._last_name or names[-1] > NAME_MAX:
            raise PeerProtocolError(f"mirror: names of bodies do not ascend, or are above {NAME_MAX}")
        self._last_name = names[-1]
        log = self._log()
        _refuse_future_names(names, log.end)
        return [not log.holds(name) for name in names]

    def take_body(self, name: int, body: StoredBody) -> None:
        self._count(len(body.stored))
        check_body(name, body)
        self._log().append_carried(name, body.kind, body.time_ns, body.stored)
        self._traffic.add_body(body.stored)

    def _count(self, size: int) -> None:
        self.taken_bytes += size
        if self.taken_bytes > self._bytes_max:
            raise StateError(
                "mirror: the update, with what came of it before, is larger than this mirror takes",
                hint="raise update_bytes_max at the mirror if the source is sound",
            )
        self._unsynced_bytes += size
        if self._unsynced_bytes >= SYNC_BYTES:
            self._unsynced_bytes = 0
            self._log().sync()
            self._pages.sync()

    def finish(self) -> bytes:
        target = self._target
        assert target is not None
        while self._patch_index < len(target.objects):
            self._close_patch()
        self._check_bodies(target)
        log_end = self._log().sync()
        now_ns = self._clock_ns()
        standing = replace(
            self._standing,
            aside=(*self._standing.aside, *(one for one in self._aside if one not in self._standing.aside)),
            left=dict.fromkeys(self._aside, now_ns) | self._standing.left,
            incoming=target.identity,
            arrived={target.identity: now_ns} | self._standing.arrived,
        )
        self._write(standing)
        self._pages.commit(target)
        self._write(
            replace(
                standing.advanced(target.identity),
                complete=True,
                log_end=log_end,
                resync=False,
                updated_ns=now_ns,
                last=asdict(self._traffic),
            )
        )
        return target.identity

    def _check_bodies(self, target: Snapshot) -> None:
        """Refuse a snapshot of which not all bodies are here; of the current one they are known to be."""
        base = self._base if self._base is not None and self._base.identity == self._standing.current else None
        missing = self._missing(base, target)
        if missing:
            self._write(replace(self._standing, complete=False))
            raise StateError(
                f"mirror: {missing} bodies that snapshot {target.identity.hex()[:12]} needs did not come",
                hint="the next update offers all; run `spinrt fsck` at the source if that is refused, too",
            )
        self._check_contents(base, target)

    def _check_contents(self, base: Snapshot | None, target: Snapshot) -> None:
        """Refuse a snapshot that speaks of other bodies than those that are here, and give up what is here of them."""
        first, count, names = None, 0, set[int]()
        for unfit in self._contents(self._pages, base, target, self._log()):
            first, count = first or unfit.said, count + 1
            if len(names) < GIVEN_UP_MAX:
                names.update(unfit.names)
        if first is not None:
            self._give_up(names, target)
            raise CorruptRecord(
                f"mirror: snapshot {target.identity.hex()[:12]}: {count} messages are not what it says; {first}",
                hint="the next update asks for their bodies again; if that is refused: `spinrt fsck` on both sides",
            )

    def _give_up(self, names: set[int], target: Snapshot) -> None:
        """Forget bodies, but for those of the other snapshots that are here: what a source says takes nothing away."""
        for one in self._pages.snapshots():
            if one.identity != target.identity:
                with suppress(CorruptRecord, FormatUnknown, NotFound):
                    names.difference_update(self._judge(self._pages, None, one))
        log = self._log()
        log.sync()
        log.forget(names)
        self._write(replace(self._standing, complete=False))

    def page(self, digest: bytes) -> tuple[bytes, bool] | None:
        try:
            return self._pages.get_stored(digest)
        except (NotFound, CorruptRecord):
            return None

    def body(self, name: int) -> StoredBody | None:
        log = self._open_log(None)
        try:
            return None if log is None else StoredBody(*log.stored_body(name))
        except CorruptRecord:
            return None

    # ---------------------------------------------------------------------------------------------------------- maps

    def _patch_for(self, object_index: int) -> Patch:
        """Return the map under way of that object; those before it are complete with what came for them."""
        assert self._target is not None
        if not self._patch_index <= object_index < len(self._target.objects):
            raise PeerProtocolError(f"mirror: pages of object {object_index} after those of {self._patch_index}")
        while self._patch_index < object_index:
            self._close_patch()
        return self._open_patch()

    def _open_patch(self) -> Patch:
        assert self._target is not None
        if self._patch is None:
            target = self._target.objects[self._patch_index]
            self._patch = Patch(self._pages, _object_named(self._base, target), target)
        return self._patch

    def _close_patch(self) -> None:
        """Check that the object's map came out as the snapshot says."""
        assert self._target is not None
        target = self._target.objects[self._patch_index]
        found = self._open_patch().finish()
        if found != target.root:
            raise CorruptRecord(
                f"mirror: object {target.name!r}: the pages that came give root {found.hex()[:12]},"
                f" the snapshot says {target.root.hex()[:12]}",
                hint="run `spinrt fsck` at the source",
            )
        self._patch, self._patch_index = None, self._patch_index + 1

    def _log(self) -> Bodies:
        log = self._open_log(None)
        assert log is not None
        return log

    def _write(self, standing: Standing) -> None:
        try:
            self._book.write(standing)
        except OSError as error:
            raise device_error(error, "write of the mirror's book") from error


def _check_page_count(target: Snapshot) -> None:
    """Holes cost nothing to send, so a snapshot may say that it is of any size; offers are bounded by it."""
    count = sum(shape_of(item.size, item.page_bytes).counts[0] for item in target.objects)
    if count > PAGES_MAX:
        raise CorruptRecord(
            f"mirror: snapshot {target.identity.hex()[:12]} says that it has {count} pages, limit {PAGES_MAX}",
            hint="run `spinrt fsck` at the source",
        )


def _refuse_future_names(names: Sequence[int], end: int) -> None:
    """Refuse names that the mirror's own log will give out: after a promotion they would have two meanings."""
    for name in names:
        if name >= end and name >> GENERATION_SHIFT == end >> GENERATION_SHIFT:
            raise StateError(
                f"mirror: body {name}: that name is of the mirror's own log, which has not reached it: {end}",
                hint="begin a new mirror in an empty directory",
            )


def _follows(target: Snapshot, current: Snapshot) -> bool:
    """Whether the target is of the same log and later, so that its history is one with that of the current snapshot.

    Of the same position and a later time is one that differs in its other objects: the configuration was changed.
    """
    later = (target.position, target.time_ns) > (current.position, current.time_ns)
    return target.log_identity == current.log_identity and later


def _of_past(one: Snapshot, shared: Snapshot, before: Sequence[Snapshot]) -> bool:
    """Whether a snapshot is of the history that led to the shared one; ``before`` are those that come first in order.

    A promoted store's snapshots are later than the one that it was promoted from, whatever its clock says, so what
    another log has before the shared one led to it, or was set aside before.
    """
    if one.log_identity == shared.log_identity:
        return one.position <= shared.position
    return one in before


def _object_named(base: Snapshot | None, target: Object) -> Object | None:
    """Return the base's object of that name, if its pages can stand in for those of the target."""
    for item in base.objects if base is not None else ():
        if item.name == target.name and item.page_bytes == target.page_bytes:
            return item
    return None
