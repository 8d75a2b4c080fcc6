"""Reads of a message that are served in C are those that their Python closures give."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinrt._core import (
    FunctionPlan,
    HandlePlan,
    HeaderFunction,
    HostFunction,
    LentMessage,
    NativeFunction,
    ReadFunction,
    ScalarPlan,
)
from spinrt.errors import CapabilityRevoked, InternalError, QuotaExceeded
from spinrt.mail.host.message import MessageInterface
from spinrt.mail.message.headers import parse_headers
from spinrt.sandbox.abi import plan_type
from spinrt.sandbox.types import ListType, OptionType, Primitive
from tests.core.native_support import forwarder, plan_of, same, seen
from tests.mail.host_support import bind, lent

HEADER = "[method]message.header"
BODY_OFFSET = "[method]message.body-offset"
READ = "[method]message.read"
MESSAGE = "spinrt:mail/message@1.0.0"
PLAN = plan_of(f"{MESSAGE}#{HEADER}")
# The same core types with bare numbers in the place of text: what a hostile guest can pass.
NUMBERS = FunctionPlan(
    "numbers",
    (HandlePlan(f"{MESSAGE}#message", False), *[ScalarPlan("u32")] * 3),
    plan_type(OptionType(ListType(Primitive("u8")))),
)


def native(function: str = HEADER) -> NativeFunction:
    closure = bind(MessageInterface(), function)
    assert isinstance(closure, NativeFunction)
    return closure


pieces = st.sampled_from([b"A", b"a:", b"Ab:", b" ", b"\t", b"\n", b"\r\n", b"\r", b"x", b"\xff", b"\r\n y", b"\n\r\n"])
names = st.sampled_from(["a", "AB", "A b", "", "a:", "\xe4", "n" * 999]) | st.text(max_size=4)


@settings(deadline=None)
@given(st.lists(pieces, max_size=30).map(b"".join), names, st.integers(0, 3))
def test_header_in_c_is_the_header_of_the_parser(data: bytes, name: str, nth: int) -> None:
    """The bytes that reach the guest are those that parsing the whole section gives; the closure agrees."""
    expected = parse_headers(data).value(name, nth) if len(name) < 999 else None
    assert same(PLAN, native(), lent(data), name, nth).answers == [expected]


@settings(deadline=None)
@given(*[st.integers(0, 2**32 - 1) | st.integers(0, 70_000)] * 2, st.integers(0, 3))
def test_no_pointer_reaches_outside_of_the_guest(pointer: int, length: int, nth: int) -> None:
    """Whatever numbers a guest passes as text, the native function ends as its closure does."""
    message = lent(b"A: 1\r\nB: 2\r\n\r\n")
    same(PLAN, native(), message, pointer, length, nth, as_given=NUMBERS, limits={"lift_bytes": 1000})


def test_the_quota_of_lifted_bytes_counts_names() -> None:
    """Names are bytes passed to the host: one beyond the quota ends the call, whoever serves it."""
    message = lent(b"Subject: x\n")
    assert same(PLAN, native(), message, "subject", 0, limits={"lift_bytes": 8}).answers == [b"x"]
    assert same(PLAN, native(), message, "subject", 0, limits={"lift_bytes": 6}).error is QuotaExceeded


@pytest.mark.parametrize(
    ("function", "arguments"),
    [(HEADER, ("a", 0)), ("[method]message.size", ()), (BODY_OFFSET, ()), (READ, (0, 4))],
)
def test_a_message_taken_back_gives_nothing(function: str, arguments: tuple[Any, ...]) -> None:
    """The end of a loan is checked in C too, also for what was read before."""
    message = lent(b"A: 1\r\n\r\n")
    plan = plan_of(f"{MESSAGE}#{function}")
    assert same(plan, native(function), message, *arguments).error is None
    message.take_back()
    assert same(plan, native(function), message, *arguments).error is CapabilityRevoked


CHUNK = 16 * 1024
WHOLES = {
    "nothing": b"",
    "short": b"A: 1\r\n\r\nbody",
    "as long as what is held": bytes(CHUNK),
    "longer by one": b"a" * (CHUNK + 1),
    "a long section": b"A: 1\n" * 4000 + b"\n" + b"b" * 70_000,
}
offsets = st.integers(0, 40) | st.integers(CHUNK - 2, CHUNK + 2) | st.sampled_from([2**31, 2**32, 2**64 - 1])
lengths = st.integers(0, 40) | st.integers(CHUNK - 2, CHUNK + 2)


@settings(deadline=None)
@given(st.sampled_from([*WHOLES]), offsets, lengths, st.booleans())
def test_read_in_c_gives_the_bytes_of_the_message(name: str, offset: int, length: int, parsed: bool) -> None:
    """Within what is held, across its end and past the message's, with the header section found or not."""
    data = WHOLES[name]
    message = lent(data)
    if parsed:
        message.header_count()
    found = same(plan_of(f"{MESSAGE}#{READ}"), native(READ), message, offset, length)
    assert found.answers == [data[offset : offset + length]]


@pytest.mark.parametrize("length", [65_535, 65_536, 65_537, 2**32 - 1])
def test_a_read_is_bounded_in_c_too(length: int) -> None:
    """No call gives more than its bound, and what does not fit into the guest ends its call."""
    plan = plan_of(f"{MESSAGE}#{READ}")
    assert same(plan, native(READ), lent(b"A: 1\n\nbody"), 2, length).answers == [b" 1\n\nbody"]
    assert same(plan, native(READ), lent(WHOLES["a long section"]), 0, length).error is not None
    few = ReadFunction(f"{MESSAGE}#message", 5, lambda call, message, offset, length: b"closure")
    guest = forwarder(plan, few)
    assert seen(guest, plan, None, lent(b"A: 1\n\nbody"), 2, length).answers == [b" 1\n\nb"]


@pytest.mark.parametrize("name", WHOLES)
def test_the_body_begins_behind_the_section(name: str) -> None:
    """Also where the section does not end in the first piece that is read, and where it does not end at all."""
    plan, expected = plan_of(f"{MESSAGE}#{BODY_OFFSET}"), len(parse_headers(WHOLES[name]).data)
    assert same(plan, native(BODY_OFFSET), lent(WHOLES[name])).answers == [expected]


def test_a_short_message_is_read_once() -> None:
    """Whoever asks for whatever of it, in whatever order: the source gives it one time."""
    data, reads = b"A: 1\r\n\r\n" + b"b" * 1000, []

    def read(offset: int, length: int) -> bytes:
        reads.append((offset, length))
        return data[offset : offset + length]

    message = LentMessage(read, len(data))
    for function, arguments, expected in (
        (READ, (8, 4), b"bbbb"),
        (HEADER, ("a", 0), b"1"),
        (BODY_OFFSET, (), 8),
        (READ, (1000, 65_536), data[1000:]),
    ):
        guest = forwarder(plan_of(f"{MESSAGE}#{function}"), native(function))
        assert seen(guest, plan_of(f"{MESSAGE}#{function}"), None, message, *arguments).answers == [expected]
    assert (message.read(2, 3), message.section) == (data[2:5], data[:8])
    assert reads == [(0, len(data))]


def test_a_source_that_gives_less_than_it_has() -> None:
    """A read that what came does not cover goes to the source again."""
    data = b"A: 1\r\n\r\nbody"

    def read(offset: int, length: int) -> bytes:
        return data[offset : offset + min(length, 10)]

    assert same(plan_of(f"{MESSAGE}#{READ}"), native(READ), LentMessage(read, len(data)), 6, 6).answers == [data[6:12]]


def test_the_size_is_given() -> None:
    """Eight bytes of number, no object in between."""
    plan = plan_of("spinrt:mail/message@1.0.0#[method]message.size")
    message = LentMessage(lambda offset, length: b"", 2**40)
    assert same(plan, native("[method]message.size"), message).answers == [2**40]


def test_an_error_of_the_source_is_the_call_s() -> None:
    """A message that cannot be read ends the call with the host's error, not with a crash."""

    def read(offset: int, length: int) -> bytes:
        raise OSError("gone")

    assert same(PLAN, native(), LentMessage(read, 10), "a", 0).error is InternalError


def test_a_native_function_is_linked_to_its_own_type_only() -> None:
    """What it reads by position must be there."""
    with pytest.raises(InternalError, match="expected iiiii:"):
        HostFunction(plan_of("spinrt:clock/clock@1.0.0#now"), HeaderFunction("a#b", print))
