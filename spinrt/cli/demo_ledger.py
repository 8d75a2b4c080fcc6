"""The books of the demo: what was sent, what was accepted, and what was found again, by SHA-256 of all bytes.

Every accepted message must be found once for each recipient, byte for byte, and nothing else may be found. The one
thing that may stand in front of the bytes that were sent is a header field that the rules of the demo add
(`ADDED_FIELDS`); it is taken off before comparing, and counted.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from spinrt.cli.demo_client import Answer, Found, Outgoing

ADDED_FIELDS = (b"X-Demo-Rule",)
"""Header fields that the demo's rules add."""

_ADDED = re.compile(rb"(?:" + b"|".join(ADDED_FIELDS) + rb"):[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*")


@dataclass(frozen=True, slots=True)
class Sent:
    """One transaction: who it was for, what was sent, what was answered."""

    name: str
    users: tuple[str, ...]
    digest: bytes
    size: int
    answer: Answer


@dataclass(frozen=True, slots=True)
class Place:
    """One stored message.

    Attributes:
        digest: SHA-256 of the bytes behind fields that rules added.
        size: Of all bytes.
        added_fields: How many fields were taken off.
    """

    user: str
    mailbox: str
    uid: int
    flags: tuple[str, ...]
    digest: bytes
    size: int
    added_fields: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the books say; all is well when the last three are empty.

    Attributes:
        delivered: Copies that were due and found, byte for byte.
        refused: Transactions that the server refused.
        lost: Accepted messages that were not found as they were sent.
        altered: What was found and never sent.
        repeated: What was found more often than it was sent, or though it was refused.
    """

    delivered: int
    refused: tuple[Sent, ...]
    lost: tuple[Sent, ...]
    altered: tuple[Place, ...]
    repeated: tuple[Place, ...]

    @property
    def mismatches(self) -> int:
        return len(self.lost) + len(self.altered) + len(self.repeated)


@dataclass(slots=True)
class Ledger:
    """Collects both sides; `verdict` compares them."""

    sent: list[Sent] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    _known: set[bytes] = field(default_factory=set)

    def enter(self, outgoing: Outgoing, users: tuple[str, ...], answer: Answer) -> Sent:
        """Enter one transaction and its answer; ``users`` are the accounts of its recipients, each once."""
        entry = Sent(outgoing.name, users, _digest(outgoing.wire), len(outgoing.wire), answer)
        self.sent.append(entry)
        self._known.add(entry.digest)
        return entry

    def find(self, found: Found) -> Place:
        """Enter one stored message, after everything that was sent."""
        digest, added_fields = _digest(found.data), 0
        if digest not in self._known:
            rest, added_fields = strip_added(found.data)
            digest = _digest(rest) if added_fields else digest
        place = Place(found.user, found.mailbox, found.uid, found.flags, digest, len(found.data), added_fields)
        self.places.append(place)
        return place

    def places_of(self, sent: Sent) -> list[Place]:
        """Where the bytes of a transaction lie."""
        return [place for place in self.places if place.digest == sent.digest and place.user in sent.users]

    def verdict(self) -> Verdict:
        """Compare both sides."""
        due: defaultdict[tuple[str, bytes], list[Sent]] = defaultdict(list)
        for entry in self.sent:
            if entry.answer.accepted:
                for user in entry.users:
                    due[user, entry.digest].append(entry)
        found: Counter[tuple[str, bytes]] = Counter()
        altered, repeated = [], []
        for place in self.places:
            key = (place.user, place.digest)
            found[key] += 1
            if place.digest not in self._known:
                altered.append(place)
            elif found[key] > len(due.get(key, ())):
                repeated.append(place)
        lost = [entry for key, entries in due.items() for entry in entries[found[key] :]]
        return Verdict(
            delivered=len(self.places) - len(altered) - len(repeated),
            refused=tuple(entry for entry in self.sent if not entry.answer.accepted),
            lost=tuple(lost),
            altered=tuple(altered),
            repeated=tuple(repeated),
        )


def strip_added(data: bytes) -> tuple[bytes, int]:
    """Take the fields that the demo's rules add off the top of a message; return the rest and their number."""
    position = count = 0
    while (match := _ADDED.match(data, position)) is not None:
        position = match.end()
        count += 1
    return data[position:], count


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
