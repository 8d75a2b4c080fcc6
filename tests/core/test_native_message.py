"""Reads of a message that are served in C are those that their Python closures give."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinrt._core import FunctionPlan, HandlePlan, HeaderFunction, HostFunction, LentMessage, NativeFunction, ScalarPlan
from spinrt.errors import CapabilityRevoked, InternalError, QuotaExceeded
from spinrt.mail.host.message import MessageInterface
from spinrt.mail.message.headers import parse_headers
from spinrt.sandbox.abi import plan_type
from spinrt.sandbox.types import ListType, OptionType, Primitive
from tests.core.native_support import plan_of, same
from tests.mail.host_support import bind, lent

HEADER = "[method]message.header"
PLAN = plan_of(f"spinrt:mail/message@1.0.0#{HEADER}")
# The same core types with bare numbers in the place of text: what a hostile guest can pass.
NUMBERS = FunctionPlan(
    "numbers",
    (HandlePlan("spinrt:mail/message@1.0.0#message", False), *[ScalarPlan("u32")] * 3),
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


@pytest.mark.parametrize("function", [HEADER, "[method]message.size"])
def test_a_message_taken_back_gives_nothing(function: str) -> None:
    """The end of a loan is checked in C too."""
    message = lent(b"A: 1\r\n\r\n")
    message.take_back()
    plan = plan_of(f"spinrt:mail/message@1.0.0#{function}")
    arguments: tuple[Any, ...] = ("a", 0) if function == HEADER else ()
    assert same(plan, native(function), message, *arguments).error is CapabilityRevoked


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
