"""Repair from a second copy."""

from __future__ import annotations

import pytest

from spinrt.errors import CorruptRecord, PeerProtocolError
from spinrt.storage.mirror import frames, pipe
from spinrt.storage.mirror.fetch import Fetcher, TakeBody
from spinrt.storage.mirror.frames import Kind, StoredBody
from tests.storage.mirror_support import MemoryBodies, MemoryPages, Primary, Secondary, content, digests_of, mirror


class RepairedPages(MemoryPages):
    def replace(self, digest: bytes, stored: bytes, compressed: bool) -> None:
        self.put_stored(digest, stored, compressed)
        self.broken.discard(digest)


def appending(log: MemoryBodies) -> TakeBody:
    return lambda name, body: log.append_carried(name, body.kind, body.time_ns, body.stored) and None


def test_what_is_damaged_is_put_right() -> None:
    primary, secondary = Primary(pages=RepairedPages()), Secondary()
    names = [primary.log.add(b"body %d" % number) for number in range(50)]
    target = primary.snapshot({"index": content([b"%d" % n for n in range(100)])}, names)
    mirror(primary, secondary, target)
    digests = sorted(digests_of(primary.pages, target))
    primary.pages.broken |= set(digests[:40])
    whole = dict(primary.log.bodies)
    for name in names[:30]:
        del primary.log.bodies[name]
    stranger = b"s" * 32
    fetcher = Fetcher([*digests[:40], stranger], [*names[:30], 7], primary.pages, appending(primary.log))

    pipe.run(fetcher, secondary.receiver())

    assert fetcher.repaired.pages == digests[:40]
    assert fetcher.repaired.bodies == names[:30]
    assert fetcher.repaired.absent == [stranger, 7]
    assert not primary.pages.broken
    assert primary.log.bodies == whole


def test_what_is_damaged_on_both_sides_is_said_to_be_absent() -> None:
    primary, secondary = Primary(pages=RepairedPages()), Secondary()
    target = primary.snapshot({"index": content([b"a", b"b"])})
    mirror(primary, secondary, target)
    digests = sorted(digests_of(primary.pages, target))
    secondary.pages.broken = {digests[0]}
    fetcher = Fetcher(digests, [], primary.pages, appending(primary.log))

    pipe.run(fetcher, secondary.receiver())

    assert fetcher.repaired.absent == [digests[0]]
    assert fetcher.repaired.pages == [digests[1]]


@pytest.mark.parametrize(
    "answer",
    [
        frames.encode_page(b"another", False),
        frames.encode_body(StoredBody(1, 1, b"another", b"d" * 16)),
        frames.encode(Kind.DONE, b"d" * 32),
    ],
)
def test_a_mirror_that_lies_repairs_nothing(answer: bytes) -> None:
    for digests, names in (([b"d" * 32], []), ([], [7])):
        pages, log = RepairedPages(), MemoryBodies()
        fetcher = Fetcher(digests, names, pages, appending(log))
        fetcher.produce()
        fetcher.receive(frames.encode_welcome([]))
        fetcher.produce()
        fetcher.receive(answer)
        with pytest.raises((CorruptRecord, PeerProtocolError)):
            fetcher.produce()
        assert not pages.content
        assert not log.bodies
