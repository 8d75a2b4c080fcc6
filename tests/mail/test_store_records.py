"""Changes as bytes: what is written comes back, and nonsense is refused with a clear error."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spinrt._core import RecordWriter, count_body, encode_body, encode_placed
from spinrt.errors import CorruptRecord, FormatUnknown, UsageError
from spinrt.mail.store.changes import KIND_BODY, decode_change, encode_change
from spinrt.mail.store.codec import Reader as Fields
from spinrt.mail.store.codec import decode_body, decode_placed
from spinrt.mail.store.model import (
    Append,
    Body,
    Change,
    Copy,
    CopyMessages,
    CreateMailbox,
    DeleteMailbox,
    Deliver,
    Expunge,
    Extent,
    FlagsMode,
    KvWrite,
    KvWrites,
    Outbound,
    QueueState,
    QueueUpdate,
    RenameMailbox,
    StoreFlags,
    Subscribe,
)
from tests.mail.reference_records import Writer

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**63 - 1)
I64 = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
TEXTS = st.lists(TEXT, max_size=3).map(tuple)
UIDS = st.lists(U32, max_size=5).map(tuple)
BLOB = st.binary(max_size=30)


def make_body(digest: bytes, extents: list[Extent], prefix: bytes) -> Body:
    return Body(digest, len(prefix) + sum(extent.length for extent in extents), tuple(extents), prefix)


EXTENTS = st.lists(st.builds(Extent, U64, U32, U32), max_size=3)
BODY = st.builds(make_body, st.binary(min_size=32, max_size=32), EXTENTS, BLOB)
KV = st.builds(KvWrite, TEXT, TEXT, st.none() | BLOB)
OUTBOUND = st.builds(Outbound, TEXT, TEXT, TEXT, TEXT, st.none() | BODY, BLOB)


def some(strategy: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(strategy, max_size=3).map(tuple)


DELIVER = st.builds(
    Deliver,
    TEXT,
    TEXT,
    TEXT,
    TEXT,
    TEXTS,
    BODY,
    some(st.builds(Copy, TEXT, TEXT, TEXTS, BLOB)),
    I64,
    some(OUTBOUND),
    some(KV),
    some(st.tuples(TEXT, TEXT, BLOB)),
)
CHANGES: st.SearchStrategy[Change] = st.one_of(
    DELIVER,
    st.builds(Append, U64, BODY, TEXTS, I64, st.integers(-1440, 1440)),
    st.builds(StoreFlags, U64, UIDS, st.sampled_from(FlagsMode), TEXTS, st.none() | U64),
    st.builds(Expunge, U64, st.none() | UIDS, st.booleans()),
    st.builds(CopyMessages, U64, UIDS, U64, st.booleans()),
    st.builds(CreateMailbox, TEXT, TEXT, st.none() | TEXT),
    st.builds(DeleteMailbox, TEXT, TEXT),
    st.builds(RenameMailbox, TEXT, TEXT, TEXT),
    st.builds(Subscribe, TEXT, TEXT, st.booleans()),
    st.builds(QueueUpdate, U64, st.sampled_from(QueueState), U32, I64, TEXT),
    st.builds(KvWrites, some(KV)),
)


@given(CHANGES)
@settings(max_examples=300, deadline=None)
def test_change_comes_back_from_its_record(change: Change) -> None:
    """decode(encode(change)) is the change, for every class."""
    assert decode_change(*encode_change(change)) == change


@given(DELIVER)
@settings(max_examples=200, deadline=None)
def test_delivery_is_written_as_its_twin_writes_it(change: Deliver) -> None:
    """Every field, in the same order and form."""
    writer, twin = RecordWriter(1), Writer(1)
    writer.deliver(change)
    twin.deliver(change)
    assert writer.take() == twin.take()


ANY_INTEGER = st.integers(-(2**64) - 2, 2**64 + 2)
ANY_TEXT = st.text(max_size=600)
FIELDS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["u8", "u32", "u64", "i32", "i64"]), ANY_INTEGER),
        st.tuples(st.just("text"), ANY_TEXT),
        st.tuples(st.just("blob"), st.binary(max_size=3000)),
        st.tuples(st.sampled_from(["texts", "all_texts"]), st.lists(ANY_TEXT, max_size=3).map(tuple)),
        st.tuples(st.just("numbers"), st.lists(ANY_INTEGER | U32, max_size=4).map(tuple)),
        st.tuples(
            st.just("body"),
            st.builds(
                Body,
                st.binary(min_size=31, max_size=33),
                ANY_INTEGER | U64,
                st.lists(st.builds(Extent, ANY_INTEGER | U64, U32, U32 | ANY_INTEGER), max_size=2).map(tuple),
                BLOB,
            ),
        ),
    ),
    max_size=6,
)


@given(FIELDS)
@settings(max_examples=400, deadline=None)
def test_writer_agrees_with_its_twin(fields: list[tuple[str, object]]) -> None:
    """The same bytes, or a refusal of the same field."""
    writer, twin = RecordWriter(1), Writer(1)
    for name, value in fields:
        try:
            getattr(twin, name)(value)
        except UsageError:
            with pytest.raises(UsageError):
                getattr(writer, name)(value)
            return
        getattr(writer, name)(value)
    assert writer.take() == twin.take()


@pytest.mark.parametrize("name", ["u8", "u32", "u64", "i32", "i64", "numbers"])
@pytest.mark.parametrize("value", ["1", None, 1.5])
def test_writer_refuses_what_is_no_number(name: str, value: object) -> None:
    """A value of another type is an error of the caller, with its text in it."""
    with pytest.raises(UsageError, match="cannot be stored"):
        getattr(RecordWriter(1), name)((value,) if name == "numbers" else value)


@given(CHANGES, st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_record_is_refused_or_is_another_change(change: Change, data: st.DataObject) -> None:
    """Flipped, cut and lengthened bytes never give anything but a change or one of two errors."""
    kind, body = encode_change(change)
    at = data.draw(st.integers(0, len(body) - 1))
    damaged = data.draw(
        st.sampled_from(
            [body[:at], body + b"x", body[:at] + bytes([body[at] ^ 0xFF]) + body[at + 1 :], body[:at] + b"\xff" * 40]
        )
    )
    try:
        found = decode_change(kind, damaged)
    except (CorruptRecord, FormatUnknown):
        return
    assert encode_change(found) == (kind, damaged) if found else False


@given(CHANGES)
@settings(max_examples=50, deadline=None)
def test_every_shorter_record_is_refused(change: Change) -> None:
    """No prefix of a record is a record."""
    kind, body = encode_change(change)
    for end in range(len(body)):
        with pytest.raises(CorruptRecord):
            decode_change(kind, body[:end])


def test_other_owners_and_bodies_are_passed_over() -> None:
    """Kinds outside the mail store's range, and runs of message bytes, are no changes."""
    assert decode_change(KIND_BODY, b"any bytes") is None
    assert decode_change(0x0200, b"\xff") is None
    assert decode_change(0x00FF, b"\xff") is None


def test_newer_kind_and_newer_version_are_unknown_formats() -> None:
    """They are told apart from damage."""
    kind, body = encode_change(DeleteMailbox("bob", "a"))
    with pytest.raises(FormatUnknown, match="version 9"):
        decode_change(kind, b"\x09" + body[1:])
    with pytest.raises(FormatUnknown, match="0x01fe"):
        decode_change(0x01FE, body)


@pytest.mark.parametrize(
    "change",
    [
        DeleteMailbox("bob", "\ud800"),
        Append(1, Body(b"short", 0, ()), (), 0, 0),
        Append(1, Body(b"d" * 32, 5, (Extent(-1, 0, 5),)), (), 0, 0),
        StoreFlags(1, (2**32,), FlagsMode.SET, ()),
        QueueUpdate(-1, QueueState.SENT, 0, 0),
        "no change",
    ],
)
def test_value_out_of_range_is_refused_when_written(change: Change) -> None:
    """What could not be read back is not written."""
    with pytest.raises(UsageError):
        encode_change(change)


def test_deliver_bytes_are_as_documented() -> None:
    """One record written out by hand (docs/formats/mail-records.md)."""
    body = Body(b"d" * 32, 7, (Extent(64, 2, 5),), b"P:")
    change = Deliver("i", "LMTP", "p", "s", ("r",), body, (Copy("u", "m", ("\\Seen",), b"h"),), 3)

    def text(value: bytes) -> bytes:
        return len(value).to_bytes(4, "big") + value

    def number(value: int, size: int = 4) -> bytes:
        return value.to_bytes(size, "big")

    assert encode_change(change) == (
        0x0101,
        b"\x01"
        + text(b"i")
        + text(b"LMTP")
        + text(b"p")
        + text(b"s")
        + number(1)
        + text(b"r")
        + (b"d" * 32 + number(7, 8) + number(1) + number(64, 8) + number(2) + number(5) + text(b"P:"))
        + number(1)
        + (text(b"u") + text(b"m") + number(1) + text(b"\\Seen") + text(b"h"))
        + number(3, 8)
        + number(0) * 3,
    )


@given(BODY, st.lists(st.tuples(TEXT, TEXT, U64, U32), max_size=3), st.lists(U64, max_size=3))
@settings(deadline=None)
def test_index_columns_come_back(body: Body, placed: list[tuple[str, str, int, int]], queued: list[int]) -> None:
    """Bodies and placements as the index keeps them."""
    assert decode_body(encode_body(body)) == body
    assert decode_placed(encode_placed(placed, queued)) == (tuple(placed), tuple(queued))
    with pytest.raises(CorruptRecord):
        decode_body(encode_body(body) + b"x")


@given(BODY, st.integers(0, 200), st.integers(0, 255), st.integers(0, 100))
@example(Body(bytes(32), 0, (Extent(0, 0, 0),), b""), 44, 128, 0)  # a position that no log has
@settings(deadline=None)
def test_a_body_of_one_extent_is_read_as_any_other(body: Body, at: int, octet: int, cut: int) -> None:
    """Whole, with another octet somewhere, or cut short: the short way gives what the general one gives or refuses."""
    data = bytearray(encode_body(body))
    data[at % len(data)] = octet
    for damaged in (bytes(data), bytes(data[: len(data) - cut]), bytes(data) + bytes(cut)):
        try:
            expected = Fields(damaged, "body in the index")
            found = expected.body()
            expected.end()
        except CorruptRecord as problem:
            with pytest.raises(CorruptRecord) as caught:
                decode_body(damaged)
            assert str(caught.value) == str(problem)
        else:
            assert decode_body(damaged) == found


@given(st.lists(st.tuples(st.integers(0, 2**62), st.integers(0, 99), st.integers(0, 99)), max_size=4), st.binary())
def test_bodies_are_counted_record_by_record(extents: list[tuple[int, int, int]], prefix: bytes) -> None:
    """Each extent counts once, also two of one record; bytes behind the extents are the prefix."""
    body = Body(bytes(32), 0, tuple(Extent(*extent) for extent in extents), prefix)
    refs: dict[int, int] = {5: 1}
    sizes: dict[int, int] = {}
    count_body(encode_body(body), refs, sizes, -1)
    count_body(bytes(encode_body(body)), refs, sizes, 3)
    assert refs.keys() == {5} | {position for position, _, _ in extents}
    for position, _, _ in extents:
        assert refs[position] == 2 * sum(other[0] == position for other in extents) + (position == 5)
        assert sizes[position] in {start + size for where, start, size in extents if where == position}


@pytest.mark.parametrize("damaged", [b"", bytes(43), bytes(43) + b"\x01", bytes(40) + b"\xff" * 4 + bytes(64)])
def test_damaged_body_is_not_counted(damaged: bytes) -> None:
    """One that is cut short, or names more extents than it has."""
    refs: dict[int, int] = {}
    with pytest.raises(CorruptRecord, match="body in the index"):
        count_body(damaged, refs, {}, 1)
    assert not refs
