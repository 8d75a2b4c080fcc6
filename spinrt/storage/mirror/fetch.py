"""Repair from a second copy: what is damaged is fetched by its name and put in its place, checked.

A page comes by its digest and must have it. A body comes by its name and must have the digest that it comes with; who
takes it compares it with the record that it is for (``mend``), or appends it under its name (``Log.append_carried``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from typing import Any, Final, Protocol, TypeAlias

from spinrt.errors import CorruptRecord, PeerProtocolError
from spinrt.storage.mirror import frames
from spinrt.storage.mirror.client import Client, Script
from spinrt.storage.mirror.frames import BODY_DIGEST_BYTES, Hello, Kind, Purpose, StoredBody

ASKED_MAX: Final = 16
"""Asked for and not answered yet: bounds what waits in memory."""


class Damaged(Protocol):
    """The page store that is repaired."""

    def replace(self, digest: bytes, stored: bytes, compressed: bool) -> None:
        """Store a page although there is one, which is damaged. Raises CorruptRecord: it is another."""
        ...


TakeBody: TypeAlias = Callable[[int, StoredBody], None]
"""Takes a body under its name. Raises CorruptRecord: it is not what was there, and counts as absent."""


@dataclass(slots=True)
class Repaired:
    """What became of what was damaged."""

    pages: list[bytes] = field(default_factory=list)
    bodies: list[int] = field(default_factory=list)
    absent: list[bytes | int] = field(default_factory=list)
    """What the other side has not, or has damaged itself."""


class Fetcher(Client):
    """Asks a mirror for pages and bodies, and repairs with what comes.

    Args:
        digests: Of damaged or missing pages.
        names: Of damaged or missing bodies.
        pages: Where pages go.
        take_body: Where bodies go.
    """

    def __init__(self, digests: Iterable[bytes], names: Iterable[int], pages: Damaged, take_body: TakeBody) -> None:
        self.repaired = Repaired()
        self._digests, self._names = digests, names
        self._pages, self._take = pages, take_body
        super().__init__(ASKED_MAX)

    def _run(self) -> Script:
        yield frames.encode_hello(Hello(Purpose.FETCH, 0, bytes(frames.LOG_IDENTITY_BYTES)))
        yield from self._await(Kind.WELCOME)
        yield from self._fetch(self._digests, self._take_page)
        yield from self._fetch(self._names, self._take_body)

    def _fetch(self, wanted: Iterable[bytes | int], take: Callable[[Kind, bytes, Any], None]) -> Script:
        waiting = iter(wanted)
        while batch := list(islice(waiting, ASKED_MAX)):
            yield b"".join([frames.encode_fetch(one) for one in batch])
            for one in batch:
                frame = yield from self._next()
                if frame.kind is Kind.ABSENT:
                    self.repaired.absent.append(one)
                else:
                    take(frame.kind, frame.payload, one)

    def _take_page(self, kind: Kind, payload: bytes, digest: bytes) -> None:
        _check_kind(kind, Kind.PAGE)
        stored, compressed = frames.decode_page(payload)
        self._pages.replace(digest, stored, compressed)
        self.repaired.pages.append(digest)
        self.traffic.add_page(stored)

    def _take_body(self, kind: Kind, payload: bytes, name: int) -> None:
        _check_kind(kind, Kind.BODY)
        body = frames.decode_body(payload)
        check_body(name, body)
        try:
            self._take(name, body)
        except CorruptRecord:
            self.repaired.absent.append(name)
            return
        self.repaired.bodies.append(name)
        self.traffic.add_body(body.stored)


def check_body(name: int, body: StoredBody) -> None:
    """Raise CorruptRecord unless the body has the digest that it comes with."""
    if sha256(body.stored).digest()[:BODY_DIGEST_BYTES] != body.digest:
        raise CorruptRecord(
            f"mirror: body {name}: does not match its digest", hint="run `spinrt fsck` where it is from"
        )


def _check_kind(found: Kind, expected: Kind) -> None:
    if found is not expected:
        raise PeerProtocolError(f"mirror: found {found.name}, expected {expected.name}")
