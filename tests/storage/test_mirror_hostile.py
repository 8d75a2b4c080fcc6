"""A peer that is no peer: wrong lengths, wrong digests, endless streams, what was not asked for, noise.

Invariant: whatever comes, it ends in a `SpinError`, the snapshots that the mirror has stay as they are, and nothing is
held beyond a frame and two offers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinrt.errors import CorruptRecord, PeerProtocolError, SpinError, StateError
from spinrt.storage.carry import NAME_MAX
from spinrt.storage.mirror import frames
from spinrt.storage.mirror.directory import MirrorDirectory
from spinrt.storage.mirror.frames import Frame, FrameReader, Hello, Kind, PageOffer, Purpose, StoredBody
from spinrt.storage.mirror.receiver import ANSWER_BYTES, Receiver
from spinrt.storage.mirror.update import no_bodies
from spinrt.storage.pages import LocalPages
from spinrt.storage.protocols import HOLE, PAGE_BYTES_MAX, Snapshot
from spinrt.storage.snapshot import encode_snapshot, seal
from spinrt.storage.tree import update
from tests.storage.mirror_support import PAGE_BYTES, MemoryBodies, Primary, Secondary, content, make_object, mirror

HELLO = frames.encode_hello(Hello(Purpose.UPDATE, 0, bytes(16)))
NO_BASE = frames.NO_SNAPSHOT


def taking(primary: Primary, target: Snapshot) -> Receiver:
    """A receiver that has heard of an update."""
    receiver = Secondary().receiver()
    receiver.receive(HELLO)
    receiver.receive(frames.encode(Kind.BEGIN, NO_BASE, encode_snapshot(target)))
    return receiver


@pytest.fixture
def primary() -> Primary:
    return Primary()


@pytest.fixture
def target(primary: Primary) -> Snapshot:
    return primary.snapshot({"a": content([b"%d" % n for n in range(10)]), "b": content([b"x", b"y"])})


@pytest.mark.parametrize("length", [frames.PAYLOAD_BYTES_MAX + 1, 2**31, 2**32 - 1])
def test_a_frame_too_long_is_refused_before_it_comes(length: int) -> None:
    with pytest.raises(PeerProtocolError, match="limit"):
        Secondary().receiver().receive(struct.pack(">BI", Kind.BEGIN, length))


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(PeerProtocolError, match="unknown type 99"):
        Secondary().receiver().receive(struct.pack(">BI", 99, 0))


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in (Kind.HELLO, Kind.REFUSED)])
def test_nothing_goes_before_hello(kind: Kind) -> None:
    with pytest.raises(PeerProtocolError, match="does not fit"):
        Secondary().receiver().receive(frames.encode(kind))


@pytest.mark.parametrize("kind", [Kind.HELLO, Kind.WELCOME, Kind.BEGIN, Kind.WANT, Kind.DONE, Kind.FETCH, Kind.ABSENT])
def test_what_does_not_belong_into_an_update_is_refused(primary: Primary, target: Snapshot, kind: Kind) -> None:
    with pytest.raises(PeerProtocolError, match="does not fit"):
        taking(primary, target).receive(frames.encode(kind))


def test_another_version_is_named() -> None:
    hello = frames.encode(Kind.HELLO, struct.pack(">8sHBH16s", frames.MAGIC, 2, 1, 0, bytes(16)))

    with pytest.raises(PeerProtocolError, match="version 2"):
        Secondary().receiver().receive(hello)


@pytest.mark.parametrize(
    "offer",
    [
        PageOffer(2, [0], [HOLE]),
        PageOffer(0, [10], [HOLE]),
        PageOffer(0, [2**63], [HOLE]),
    ],
)
def test_pages_that_the_snapshot_does_not_have_are_refused(
    primary: Primary, target: Snapshot, offer: PageOffer
) -> None:
    with pytest.raises(PeerProtocolError):
        taking(primary, target).receive(frames.encode_pages(offer))


def test_offers_ascend_so_none_goes_on_for_ever(primary: Primary, target: Snapshot) -> None:
    receiver = taking(primary, target)
    receiver.receive(frames.encode_pages(PageOffer(0, [5], [HOLE])))

    with pytest.raises(PeerProtocolError, match="page 5 after 5"):
        receiver.receive(frames.encode_pages(PageOffer(0, [5], [HOLE])))
    with pytest.raises(PeerProtocolError):
        taking(primary, target).receive(
            frames.encode_bodies([7]) + frames.encode_body(body(b"x")) + frames.encode_bodies([7])
        )


def body(stored: bytes) -> StoredBody:
    bodies = MemoryBodies()
    return StoredBody(*bodies.stored_body(bodies.add(stored)))


def test_no_more_than_two_offers_are_held(primary: Primary, target: Snapshot) -> None:
    receiver = taking(primary, target)
    offers = [PageOffer(0, [number], [bytes([number + 1]) * 32]) for number in range(3)]
    receiver.receive(frames.encode_pages(offers[0]))
    receiver.receive(frames.encode_pages(offers[1]))

    with pytest.raises(PeerProtocolError, match="offers at once"):
        receiver.receive(frames.encode_pages(offers[2]))


def test_contents_that_were_not_asked_for_are_refused(primary: Primary, target: Snapshot) -> None:
    with pytest.raises(PeerProtocolError, match="not asked"):
        taking(primary, target).receive(frames.encode_page(b"page", False))
    with pytest.raises(PeerProtocolError, match="not asked"):
        taking(primary, target).receive(
            frames.encode_pages(PageOffer(0, [0], [b"d" * 32])) + frames.encode_body(body(b"x"))
        )


def test_a_page_that_is_another_is_not_stored(primary: Primary, target: Snapshot) -> None:
    secondary = Secondary()
    receiver = secondary.receiver()
    receiver.receive(HELLO + frames.encode(Kind.BEGIN, NO_BASE, encode_snapshot(target)))
    receiver.receive(frames.encode_pages(PageOffer(0, [0], [b"d" * 32])))

    with pytest.raises(CorruptRecord):
        receiver.receive(frames.encode_page(b"another", False))

    assert not secondary.pages.content


def test_a_body_that_is_another_is_not_stored(primary: Primary, target: Snapshot) -> None:
    secondary = Secondary()
    receiver = secondary.receiver()
    receiver.receive(HELLO + frames.encode(Kind.BEGIN, NO_BASE, encode_snapshot(target)) + frames.encode_bodies([7]))

    with pytest.raises(CorruptRecord, match="body 7"):
        receiver.receive(frames.encode_body(StoredBody(1, 1, b"another", body(b"x").digest)))

    assert not secondary.log.bodies


@pytest.mark.parametrize("ahead", [0, 1, 1 << 40])
def test_a_name_that_the_mirror_will_give_out_is_refused(primary: Primary, target: Snapshot, ahead: int) -> None:
    """Promoted, the mirror would name mail of its own by that position, and read the source's body in its place."""
    secondary = Secondary()
    receiver = secondary.receiver()
    receiver.receive(HELLO + frames.encode(Kind.BEGIN, NO_BASE, encode_snapshot(target)))

    with pytest.raises(StateError, match="has not reached"):
        receiver.receive(frames.encode_bodies([7, secondary.log.end + ahead]))


@pytest.mark.parametrize("text", ["\x1b[2J", "a\nb", "\u202eevil", "\u2028", "\x00", "\ud800"])
@pytest.mark.parametrize("what", ["label", "name"])
def test_labels_and_names_that_steer_a_terminal_are_refused(primary: Primary, text: str, what: str) -> None:
    """As bytes that no honest source makes: the text takes the place of one as long."""
    raw = text.encode("utf-8", "surrogatepass")
    held = "q" * len(raw)
    target = primary.snapshot({held if what == "name" else "a": content([b"x"])})
    if what == "label":
        target = seal(
            parent=None,
            log_identity=target.log_identity,
            position=target.position,
            time_ns=target.time_ns,
            objects=target.objects,
            label=held,
        )
    covered = encode_snapshot(target)[:-32].replace(held.encode(), raw)
    receiver = Secondary().receiver()
    receiver.receive(HELLO)

    with pytest.raises(CorruptRecord) as caught:
        receiver.receive(frames.encode(Kind.BEGIN, NO_BASE, covered + sha256(covered).digest()))

    assert caught.value.line().isprintable()


def test_names_above_all_names_are_refused(primary: Primary, target: Snapshot) -> None:
    with pytest.raises(PeerProtocolError, match="above"):
        taking(primary, target).receive(frames.encode_bodies([7, NAME_MAX + 1]))


def test_a_page_in_a_frame_longer_than_any_page_is_refused(tmp_path: Path) -> None:
    """A frame of empty blocks: what comes out is right, but no walk would find the entry again."""
    pages = LocalPages.open(tmp_path)
    plain = b"x" * 100
    last = (len(plain) << 3 | 1).to_bytes(3, "little")
    frame = b"\x28\xb5\x2f\xfd\x20" + bytes([len(plain)]) + bytes(3) * (PAGE_BYTES_MAX // 3) + last + plain
    digest = sha256(plain).digest()

    with pytest.raises(CorruptRecord, match="limit"):
        pages.put_stored(digest, frame, True)

    assert pages.has([digest]) == [False]
    short = frame[:6] + bytes(300) + last + plain
    pages.put_stored(digest, short, True)
    assert pages.get(digest) == plain
    pages.close()


def test_a_snapshot_of_any_size_is_refused_before_a_page_is_offered(primary: Primary) -> None:
    huge = primary.snapshot({"a": b"x"}).objects[0]
    grown = update(primary.pages, huge, {}, 1 << 47)
    target = seal(parent=None, log_identity=bytes(16), position=1, time_ns=1, objects=(grown,))

    with pytest.raises(CorruptRecord, match="pages, limit"):
        taking(primary, target)


def test_offers_of_what_is_here_are_not_for_nothing(primary: Primary) -> None:
    """A page that is known, in a million places: nothing of it is sent, but nodes are made for each."""
    secondary = Secondary()
    page = content([b"x"])
    mirror(primary, secondary, primary.snapshot({"a": page}))
    digest = sha256(page).digest()
    grown = update(primary.pages, make_object(primary.pages, "a", page), {}, PAGE_BYTES << 20)
    target = seal(parent=None, log_identity=primary.log.identity, position=1 << 40, time_ns=1, objects=(grown,))
    receiver = secondary.receiver(claim=lambda: 1_000_000)
    receiver.receive(HELLO + frames.encode(Kind.BEGIN, NO_BASE, encode_snapshot(target)))

    with pytest.raises(StateError, match="larger than this mirror takes"):
        for first in range(0, 1 << 20, 1024):
            receiver.receive(frames.encode_pages(PageOffer(0, range(first, first + 1024), [digest] * 1024)))

    assert first < 1 << 15


def test_what_is_never_finished_is_bounded(tmp_path: Path) -> None:
    """Broken off and begun again, an update may bring no more than one that is not; a finished one begins anew."""
    primary = Primary()
    targets = [
        primary.snapshot({"a": content([b"%d-%d" % (turn, n) for n in range(20)])}, (), turn) for turn in (1, 2, 3)
    ]
    mirror = MirrorDirectory.open(tmp_path)

    def bring(target: Snapshot, upto: int) -> None:
        sender, receiver = primary.sender(target), mirror.receiver(no_bodies, bytes_max=100 * PAGE_BYTES)
        try:
            while not sender.done and receiver.traffic.pages_moved < upto:
                sender.receive(receiver.receive(sender.produce(1)))
        finally:
            mirror.end(receiver)

    bring(targets[0], 15)
    bring(targets[1], 15)
    with pytest.raises(StateError, match="larger than this mirror takes"):
        bring(primary.snapshot({"a": content([b"more %d" % n for n in range(30)])}, (), 4), 30)
    assert mirror.pages.snapshots() == []

    other = MirrorDirectory.open(tmp_path / "other")
    mirror.close()
    mirror = other
    for target in targets:
        bring(target, 1000)
    assert len(mirror.pages.snapshots()) == 3
    mirror.close()


def test_an_end_that_comes_too_early_makes_nothing_visible(primary: Primary, target: Snapshot) -> None:
    receiver = taking(primary, target)

    with pytest.raises(CorruptRecord, match="root"):
        receiver.receive(frames.encode_end(0, 0))


def test_pages_that_do_not_add_up_make_nothing_visible(primary: Primary, target: Snapshot) -> None:
    """Digests of pages that are there, but not in those places."""
    secondary = Secondary()
    mirror(primary, secondary, target)
    other = primary.snapshot({"a": content([b"q"] * 10), "b": b""})
    digest = next(iter(primary.pages.content))
    receiver = secondary.receiver()
    receiver.receive(HELLO + frames.encode(Kind.BEGIN, target.identity, encode_snapshot(other)))
    receiver.receive(frames.encode_pages(PageOffer(0, [3], [digest])))

    with pytest.raises(CorruptRecord, match="root"):
        receiver.receive(frames.encode_end(0, 0))

    assert list(secondary.pages.committed) == [target.identity]


def test_a_base_that_is_not_there_is_refused(target: Snapshot) -> None:
    receiver = Secondary().receiver()
    receiver.receive(HELLO)

    with pytest.raises(PeerProtocolError, match="not here"):
        receiver.receive(frames.encode(Kind.BEGIN, b"b" * 32, encode_snapshot(target)))


def test_many_fetches_are_answered_a_part_at_a_time() -> None:
    """A few bytes cannot make the mirror gather gigabytes."""
    secondary = Secondary()
    name = secondary.log.add(bytes(100_000))
    receiver = secondary.receiver()
    receiver.receive(frames.encode_hello(Hello(Purpose.FETCH, 0, bytes(16))))

    answer = receiver.receive(frames.encode_fetch(name) * 1000)
    sizes = [len(answer)]
    while answer := receiver.receive(b""):
        sizes.append(len(answer))

    assert max(sizes) < ANSWER_BYTES + 200_000
    assert sum(sizes) > 1000 * 100_000


def test_what_is_fetched_and_not_there_is_said_to_be_absent() -> None:
    receiver = Secondary().receiver()
    receiver.receive(frames.encode_hello(Hello(Purpose.FETCH, 0, bytes(16))))

    answer = receiver.receive(frames.encode_fetch(7) + frames.encode_fetch(b"d" * 32))

    assert [frame.kind for frame in all_frames(answer)] == [Kind.ABSENT, Kind.ABSENT]


def all_frames(data: bytes) -> list[Frame]:
    reader = FrameReader()
    reader.feed(data)
    return list(reader.frames())


def conversation(primary: Primary, target: Snapshot) -> Iterator[bytes]:
    """What an honest source sends to an empty mirror."""
    sender, receiver = primary.sender(target), Secondary().receiver()
    while not sender.done:
        sent = sender.produce()
        yield sent
        sender.receive(receiver.receive(sent))


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_flipped_byte_never_passes_for_another_update(data: st.DataObject) -> None:
    """Any byte of an update changed: it is refused, or the result is what was meant (the byte did not matter)."""
    primary = Primary()
    names = [primary.log.add(b"body %d" % number) for number in range(3)]
    target = primary.snapshot({"a": content([b"1", b"2", b"3"]), "b": b"b"}, names)
    secondary = Secondary()
    before = secondary.pages.committed.copy()
    chunks = list(conversation(primary, target))
    place = data.draw(st.integers(0, sum(map(len, chunks)) - 1))
    changed = bytearray(b"".join(chunks))
    changed[place] ^= data.draw(st.integers(1, 255))
    receiver = secondary.receiver()
    try:
        receiver.receive(bytes(changed))
    except SpinError:
        assert secondary.pages.committed == before
        return
    if receiver.done:
        assert secondary.contents(target.identity) == {"a": content([b"1", b"2", b"3"]), "b": b"b"}
    else:
        assert secondary.pages.committed == before


@given(st.lists(st.tuples(st.sampled_from(list(Kind)), st.binary(max_size=200)), max_size=12), st.booleans())
@settings(max_examples=300, deadline=None)
def test_noise_in_frames_is_refused(noise: list[tuple[Kind, bytes]], greeted: bool) -> None:
    secondary = Secondary()
    receiver = secondary.receiver()
    if greeted:
        receiver.receive(HELLO)
    try:
        for kind, payload in noise:
            receiver.receive(frames.encode(kind, payload))
    except SpinError as error:
        assert error.line()
    assert not secondary.pages.committed


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_noise_from_the_mirror_does_not_hurt_the_source(noise: bytes) -> None:
    primary = Primary()
    sender = primary.sender(primary.snapshot({"a": content([b"1", b"2", b"3"])}))
    sender.produce()
    try:
        sender.receive(noise)
        sender.produce()
    except SpinError as error:
        assert error.line()


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=50, unique=True).map(sorted))
def test_ascending_numbers_come_back(numbers: list[int]) -> None:
    assert frames.decode_ascending(frames.encode_ascending(numbers), 0, len(numbers)) == numbers


@pytest.mark.parametrize("data", [b"", b"\xff" * 11, b"\x80", b"\xff" * 9 + b"\x7f", b"\x01\x00", b"\x01\x01\x01"])
def test_numbers_that_are_none_are_refused(data: bytes) -> None:
    with pytest.raises(PeerProtocolError):
        frames.decode_ascending(data, 0, 2)


@given(st.text(max_size=3000), st.text(max_size=3000))
def test_a_refusal_arrives_as_the_error_that_it_was(message: str, hint: str) -> None:
    """Cut to a length, and without what a terminal would obey."""
    (frame,) = all_frames(frames.encode_refused(CorruptRecord(message, hint=hint)))

    found = frames.decode_refused(frame.payload)

    assert type(found) is CorruptRecord
    assert str(found).isprintable()
    assert len(str(found).encode()) < 3 * frames.TEXT_BYTES_MAX + 100
