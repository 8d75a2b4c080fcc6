"""Promises, tags and log records that are served in C: the same effects, answers and errors as from their closures."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinrt._core import AddHeader, Call, FunctionPlan, LogRecord, NativeFunction, ScalarPlan, Tag
from spinrt.errors import AbiError, QuotaExceeded, StateError
from spinrt.host.logging import LEVELS, LoggingInterface
from spinrt.mail.host.delivery import DeliveryInterface
from spinrt.mail.host.effects import FileInto, SetFlag
from spinrt.mail.host.tags import TagsInterface
from spinrt.runtime.capability import Grant, HostInterface
from spinrt.sandbox.abi import plan_type
from spinrt.sandbox.types import Err, Ok, Primitive, ResultType
from tests.core.native_support import forwarder, plan_of, same, seen
from tests.mail.host_support import bind, delivering

FILE = plan_of("spinrt:mail/delivery@1.0.0#file-into")
TAG = plan_of("spinrt:undo/tags@1.0.0#tag")
WRITE = plan_of("spinrt:logging/logging@1.0.0#write")
NUMBER = ScalarPlan("u32")
RESULT = plan_type(ResultType(None, Primitive("u8")))
ANY_NUMBER = st.integers(0, 2**32 - 1) | st.integers(0, 70_000)
CONTEXTS: list[Callable[[], Call | None]] = [
    delivering,
    lambda: delivering(deciding=False),
    lambda: Call("", None),
    lambda: None,
]


def native(interface: HostInterface, function: str, attenuations: dict[str, Any] | None = None) -> NativeFunction:
    closure = bind(interface, function, attenuations)
    assert isinstance(closure, NativeFunction)
    return closure


def writer(**attenuations: Any) -> NativeFunction:
    interface, domain = LoggingInterface(lambda record: None, lambda: 5), SimpleNamespace(name="guest")
    closure: Any = interface.bind("write", Grant(interface.interface_id, (), attenuations), domain)  # type: ignore[arg-type]
    assert isinstance(closure, NativeFunction)
    return closure


mailboxes = st.sampled_from(["INBOX/a", "inbox/a", "Junk", "", "a//b", "x" * 300, "INBOX/\xe4", "a\nb"]) | st.text()


@settings(deadline=None)
@given(mailboxes, st.sampled_from(CONTEXTS), st.integers(0, 3))
def test_filing_is_promised_as_by_the_closure(mailbox: str, call: Callable[[], Call | None], room: int) -> None:
    """Any text, inside and outside of a delivery, with and without room: asked twice, when it is kept too."""
    served = native(DeliveryInterface(), "file-into", {"mailboxes": ["INBOX/*"]})
    same(FILE, served, mailbox, call=call, effects_max=room, calls=2)


def test_what_is_promised_carries_the_canonical_name() -> None:
    """The everyday case, by value; the last one finds no room."""
    served = native(DeliveryInterface(), "file-into")
    found = same(FILE, served, "inbox/A", call=delivering, effects_max=2, calls=3)
    assert found.answers == [Ok(), Ok(), Err("too-many")]
    assert found.effects == [FileInto("guest", "INBOX/A")] * 2
    flags = native(DeliveryInterface(), "set-flag")
    assert same(FILE, flags, "\\flagged", call=delivering).effects == [SetFlag("guest", "\\Flagged")]


def test_many_texts_do_not_pile_up() -> None:
    """What is kept is bounded, and what was forgotten is worked out again."""
    guest = forwarder(FILE, native(DeliveryInterface(), "set-flag"))
    for number in [*range(600), 0]:
        assert seen(guest, FILE, delivering(), f"$L{number}").effects == [SetFlag("guest", f"$L{number}")]


@settings(deadline=None)
@given(ANY_NUMBER, ANY_NUMBER)
def test_no_promise_reads_outside_of_the_guest(pointer: int, length: int) -> None:
    """Whatever numbers a guest passes as text."""
    numbers = FunctionPlan("numbers", (NUMBER, NUMBER), RESULT)
    served = native(DeliveryInterface(), "file-into")
    same(FILE, served, pointer, length, as_given=numbers, call=delivering, limits={"lift_bytes": 1000})


ADD = plan_of("spinrt:mail/delivery@1.0.0#add-header")
field_names = st.sampled_from(
    ["X-A", "x-a", "X-B", "", "X A", "X-A:", "X-" + "a" * 74, "X-" + "a" * 75, "X-\xe4"]
) | st.text(max_size=4)
field_values = (
    st.text(max_size=8)
    | st.text("ab\t \n\r\x00\x1f\x7f", max_size=6)
    | st.sampled_from(["v" * 900, "v" * 901, "\xe4" * 450])
)


@settings(deadline=None)
@given(field_names, field_values, st.sampled_from(CONTEXTS), st.integers(0, 3))
def test_fields_are_added_as_by_the_closure(name: str, value: str, call: Callable[[], Call | None], room: int) -> None:
    """Any name and value, inside and outside of a delivery, with and without room; the second time the name is kept."""
    served = native(DeliveryInterface(), "add-header", {"headers": ["X-A*"]})
    same(ADD, served, name, value, call=call, effects_max=room, calls=2)


def test_a_field_by_value() -> None:
    """The everyday case; the quota of bytes counts name and value."""
    served = native(DeliveryInterface(), "add-header")
    added = AddHeader("guest", "X-A", b"X-A: one\ttwo\r\n")
    found = same(ADD, served, "X-A", "one\ttwo", call=delivering, effects_max=2, calls=3)
    assert (found.answers, found.effects) == ([Ok(), Ok(), Err("too-many")], [added, added])
    assert same(ADD, served, "X-A", "value", call=delivering, limits={"lift_bytes": 8}).effects
    assert same(ADD, served, "X-A", "value", call=delivering, limits={"lift_bytes": 7}).error is QuotaExceeded


@pytest.mark.parametrize("octet", [*range(0x20), 0x7F])
def test_no_control_gets_into_a_field(octet: int) -> None:
    """No octet of a value ends its line or is unseen but the tab, wherever it stands."""
    served = native(DeliveryInterface(), "add-header")
    for value in (chr(octet), f"a{chr(octet)}b", f"ab{chr(octet)}", f"{chr(octet)}ab"):
        found = same(ADD, served, "X-A", value, call=delivering)
        assert found.answers == [Ok() if octet == 0x09 else Err("malformed")]
        assert len(found.effects) == (octet == 0x09)


@settings(deadline=None)
@given(ANY_NUMBER, ANY_NUMBER, ANY_NUMBER, ANY_NUMBER)
def test_no_field_reads_outside_of_the_guest(name: int, name_bytes: int, value: int, value_bytes: int) -> None:
    """Whatever numbers a guest passes as name and value."""
    numbers = FunctionPlan("numbers", (NUMBER,) * 4, RESULT)
    served = native(DeliveryInterface(), "add-header")
    arguments = (name, name_bytes, value, value_bytes)
    same(ADD, served, *arguments, as_given=numbers, call=delivering, limits={"lift_bytes": 1000})


keys = st.sampled_from(["undo-a", "other", "", "undo-\n", "undo-" + "k" * 252, "undo-\xe4"]) | st.text(max_size=5)
tagged = st.binary(max_size=20) | st.sampled_from([bytes(4096), bytes(4097)])


@settings(deadline=None)
@given(keys, tagged, st.sampled_from(CONTEXTS), st.integers(0, 3))
def test_tags_are_attached_as_by_the_closure(
    key: str, value: bytes, call: Callable[[], Call | None], room: int
) -> None:
    """Any key and value, inside and outside of a transaction, with and without room."""
    same(TAG, native(TagsInterface(), "tag", {"keys": ["undo-*"]}), key, value, call=call, effects_max=room, calls=2)


def test_a_tag_by_value() -> None:
    """What reaches the journal; the quota of bytes counts key and value."""
    served = native(TagsInterface(), "tag")
    assert same(TAG, served, "k", b"\0\xff", call=delivering).effects == [Tag("guest", "k", b"\0\xff")]
    assert same(TAG, served, "k", b"value", call=delivering, limits={"lift_bytes": 5}).error is QuotaExceeded


@settings(deadline=None)
@given(ANY_NUMBER, ANY_NUMBER, ANY_NUMBER, ANY_NUMBER)
def test_no_tag_reads_outside_of_the_guest(key: int, key_bytes: int, value: int, value_bytes: int) -> None:
    """Whatever numbers a guest passes as key and value."""
    numbers = FunctionPlan("numbers", (NUMBER,) * 4, RESULT)
    served = native(TagsInterface(), "tag")
    arguments = (key, key_bytes, value, value_bytes)
    same(TAG, served, *arguments, as_given=numbers, call=delivering, limits={"lift_bytes": 1000})


texts = st.text(max_size=8) | st.sampled_from(["x" * 4096, "x" * 4097, "\xe4" * 4096, "plain"])


@settings(deadline=None)
@given(st.sampled_from(LEVELS), texts, st.lists(st.tuples(texts, texts), max_size=5), st.integers(0, 2))
def test_records_are_those_of_the_closure(level: str, event: str, fields: list[tuple[str, str]], room: int) -> None:
    """Any texts, ASCII or not, at and beyond the bounds, with a level that drops, with and without room."""
    limits = {"lift_bytes": 1 << 20}
    for attenuations in ({}, {"level": "warning"}):
        same(WRITE, writer(**attenuations), level, event, fields, call=Call, effects_max=room, limits=limits, calls=2)


@pytest.mark.parametrize("count", [0, 13, 64, 65])
def test_a_record_by_value(count: int) -> None:
    """What reaches the journal reads as it was written, whenever it is looked at; 65 fields are too many."""
    fields = [(f"name{number}", "v" * number) for number in range(count)]
    found = same(WRITE, writer(), "info", "filed", fields, call=Call)
    expected = [LogRecord("guest", 5, "info", "filed", tuple(fields))]
    assert (found.effects, found.error) == ((expected, None) if count < 65 else ([], QuotaExceeded))
    for record in found.effects:
        assert (record.fields, record.event, record.fields) == (tuple(fields), "filed", tuple(fields))


def test_what_a_record_may_not_be() -> None:
    """Outside of a call, beyond the quota of bytes (16 bytes for each field beside its own 16), no level."""
    assert same(WRITE, writer(), "info", "filed", [], call=lambda: None).error is StateError
    assert same(WRITE, writer(), "info", "e", [("a", "b")], call=Call, limits={"lift_bytes": 35}).error is None
    assert same(WRITE, writer(), "info", "e", [("a", "b")], call=Call, limits={"lift_bytes": 34}).error is QuotaExceeded
    numbers = FunctionPlan("numbers", (NUMBER,) * 5, None)
    assert same(WRITE, writer(), 4, 0, 0, 0, 0, as_given=numbers, call=Call).error is AbiError


@settings(deadline=None)
@given(st.integers(0, 3), ANY_NUMBER, ANY_NUMBER, ANY_NUMBER, ANY_NUMBER | st.integers(0, 64))
def test_no_record_reads_outside_of_the_guest(level: int, event: int, length: int, fields: int, count: int) -> None:
    """Whatever numbers a guest passes as text and list."""
    numbers = FunctionPlan("numbers", (NUMBER,) * 5, None)
    arguments = (level, event, length, fields, count)
    same(WRITE, writer(), *arguments, as_given=numbers, call=Call, limits={"lift_bytes": 1000})
