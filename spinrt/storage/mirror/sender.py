"""The source's side of one update, without I/O: frames in, frames out.

The order of things is one generator, `Sender._run`: it yields frames, and nothing when it needs one of the peer. While
the contents of an offer are sent the next offer is out already, so that its answer is there in time. What a damaged
source cannot read is an error of `produce`: the update ends, and the mirror keeps what it has.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple, Protocol

from spinrt.errors import PeerProtocolError
from spinrt.storage.mirror import frames
from spinrt.storage.mirror.client import Client, Script
from spinrt.storage.mirror.frames import Hello, Kind, PageOffer, Purpose, StoredBody
from spinrt.storage.protocols import HOLE, Snapshot

INBOX_FRAMES_MAX: Final = frames.OFFERS_MAX + 1


class PagePlace(NamedTuple):
    """A page of the target that its base does not have in that place."""

    object_index: int
    number: int
    digest: bytes


class Source(Protocol):
    """What one update is read from."""

    generation: int
    log_identity: bytes
    target: Snapshot

    def encoded(self) -> bytes:
        """The target as it is stored."""
        ...

    def choose_base(self, known: Sequence[bytes]) -> Snapshot | None:
        """The first of the mirror's snapshots that is here, too."""
        ...

    def pages(self, base: Snapshot | None) -> Iterator[PagePlace]:
        """Pages of the target that the base does not have, by object, ascending."""
        ...

    def bodies(self, base: Snapshot | None) -> Iterator[int]:
        """Names of the bodies that the target needs and the base did not, ascending."""
        ...

    def page(self, digest: bytes) -> tuple[bytes, bool]:
        """A page as stored, and whether compressed. Raises StorageError."""
        ...

    def body(self, name: int) -> StoredBody:
        """A body as stored. Raises StorageError."""
        ...


class Sender(Client):
    """Sends one update."""

    def __init__(self, source: Source) -> None:
        self.moved = False
        """Whether there was anything to send: not so when the mirror had the target already."""
        self._source = source
        super().__init__(INBOX_FRAMES_MAX)

    def _run(self) -> Script:
        source = self._source
        yield frames.encode_hello(Hello(Purpose.UPDATE, source.generation, source.log_identity))
        known = frames.decode_welcome((yield from self._await(Kind.WELCOME)))
        identity = source.target.identity
        if known and known[0] == identity:
            return
        self.moved = True
        base = source.choose_base(known)
        yield frames.encode(Kind.BEGIN, frames.NO_SNAPSHOT if base is None else base.identity, source.encoded())
        yield from self._send_pages(_page_offers(source.pages(base)))
        yield from self._send_bodies(source.bodies(base))
        yield frames.encode_end(self.traffic.pages_moved, self.traffic.bodies_moved)
        if (yield from self._await(Kind.DONE)) != identity:
            raise PeerProtocolError("mirror: DONE for another snapshot than was sent")

    def _send_pages(self, offers: Iterable[PageOffer]) -> Script:
        waiting: deque[Sequence[bytes]] = deque()
        for offer in offers:
            yield frames.encode_pages(offer)
            self.traffic.pages_offered += len(offer.digests)
            waiting.append(offer.digests)
            if len(waiting) == frames.OFFERS_MAX:
                yield from self._send_wanted_pages(waiting.popleft())
        while waiting:
            yield from self._send_wanted_pages(waiting.popleft())

    def _send_wanted_pages(self, digests: Sequence[bytes]) -> Script:
        wanted = frames.decode_want((yield from self._await(Kind.WANT)), len(digests))
        for digest, want in zip(digests, wanted, strict=True):
            if want and digest == HOLE:
                raise PeerProtocolError("mirror: WANT for a hole")
            if want:
                stored, compressed = self._source.page(digest)
                self.traffic.add_page(stored)
                yield frames.encode_page(stored, compressed)

    def _send_bodies(self, names: Iterator[int]) -> Script:
        waiting: deque[Sequence[int]] = deque()
        while batch := list(islice(names, frames.OFFER_BODIES_MAX)):
            yield frames.encode_bodies(batch)
            self.traffic.bodies_offered += len(batch)
            waiting.append(batch)
            if len(waiting) == frames.OFFERS_MAX:
                yield from self._send_wanted_bodies(waiting.popleft())
        while waiting:
            yield from self._send_wanted_bodies(waiting.popleft())

    def _send_wanted_bodies(self, names: Sequence[int]) -> Script:
        wanted = frames.decode_want((yield from self._await(Kind.WANT)), len(names))
        for name, want in zip(names, wanted, strict=True):
            if want:
                body = self._source.body(name)
                self.traffic.add_body(body.stored)
                yield frames.encode_body(body)


def _page_offers(places: Iterator[PagePlace]) -> Iterator[PageOffer]:
    """Group places: each offer has pages of one object."""
    numbers: list[int] = []
    digests: list[bytes] = []
    object_index = -1
    for place in places:
        if numbers and (place.object_index != object_index or len(numbers) == frames.OFFER_PAGES_MAX):
            yield PageOffer(object_index, numbers, digests)
            numbers, digests = [], []
        object_index = place.object_index
        numbers.append(place.number)
        digests.append(place.digest)
    if numbers:
        yield PageOffer(object_index, numbers, digests)
