"""The ``handlers`` of a manifest: what they can say, what is refused, and how it fits the events and the module."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from spinrt.errors import ManifestError, ModuleError, SignatureMismatch
from spinrt.sandbox.condition import Equal, Prefix, Range
from spinrt.sandbox.manifest import Manifest
from spinrt.sandbox.manifest_handler import Handler
from tests.runtime.dispatch.support import EVENTS, adder, extension, function

ADD = f"{EVENTS}#add"


def parse(*handlers: Any) -> tuple[Handler, ...]:
    content = {"spinrt": 1, "name": "x", "version": "1.0.0", "module": "x.wasm", "handlers": list(handlers)}
    return Manifest.parse(yaml.safe_dump(content)).handlers


def test_every_key_is_read() -> None:
    """What the page lists comes through; what is left out has its default."""
    full = {
        "event": ADD,
        "order": 7,
        "place": "first",
        "before": "other",
        "after": "third-one",
        "export": "add-lists",
        "closure": 2**64 - 1,
        "when": [
            {"field": "left", "equals": 3},
            {"field": "person.inner.user", "prefix": "al"},
            {"field": "right", "at_least": 1},
            {"field": "right", "at_most": 9, "at_least": 2},
        ],
        "guard": "wants",
        "filter": True,
        "cancels": True,
        "mode": "ephemeral",
        "quantum_ms": 5,
    }
    assert parse(full, ADD) == (
        Handler(
            ADD,
            7,
            "first",
            "other",
            "third-one",
            "add-lists",
            2**64 - 1,
            (Equal("left", 3), Prefix("person.inner.user", "al"), Range("right", 1), Range("right", 2, 9)),
            "wants",
            True,
            True,
            "ephemeral",
            5,
        ),
        Handler(ADD),
    )


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("order", -1, "handlers[0].order: found -1"),
        ("order", True, "integer"),
        ("place", "middle", "first or last"),
        ("before", "Other", "name of an extension"),
        ("export", "two words", "name of an export"),
        ("closure", 2**64, "handlers[0].closure"),
        ("closure", -1, "handlers[0].closure"),
        ("guard", 7, "handlers[0].guard"),
        ("filter", 1, "true or false"),
        ("cancels", "yes", "true or false"),
        ("mode", "later", "sync or async or ephemeral"),
        ("mode", "ephemeral", "handlers[0].quantum_ms: found nothing"),
        ("quantum_ms", 3, "not ephemeral"),
        ("colour", 3, "expected only event, order"),
        ("when", {"field": "left"}, "handlers[0].when"),
        ("when", [{"field": "left"}], "handlers[0].when[0]: found nothing"),
        ("when", [{"field": "left", "equals": 1, "prefix": "a"}], "equals and prefix"),
        ("when", [{"field": "left", "at_least": 1, "equals": 1}], "one of"),
        ("when", [{"field": "left right", "equals": 1}], "when[0].field"),
        ("when", [{"equals": 1}], "when[0].field"),
        ("when", [{"field": "left", "is": 1}], "expected only field"),
    ],
)
def test_what_a_handler_cannot_say_is_refused_by_its_key(key: str, value: Any, said: str) -> None:
    """The error names the key, what was found and what was expected."""
    with pytest.raises(ManifestError) as caught:
        parse({"event": ADD, key: value})
    assert said in str(caught.value)


def test_asynchronous_handlers_neither_filter_nor_cancel() -> None:
    """They run when those behind them have run."""
    for key in ("filter", "cancels"):
        with pytest.raises(ManifestError, match="sync"):
            parse({"event": ADD, "mode": "async", key: True})


@pytest.mark.parametrize(
    ("event", "condition", "said"),
    [
        ("add", {"field": "middle", "equals": 1}, "no parameter 'middle', expected one of left, right"),
        ("add", {"field": "left.user", "equals": 1}, "in a u32, expected it in a record"),
        ("add", {"field": "left", "equals": "one"}, "an integer from 0 to 4294967295"),
        ("add", {"field": "left", "equals": -1}, "an integer from 0 to 4294967295"),
        ("add", {"field": "left", "equals": True}, "found True"),
        ("add", {"field": "left", "equals": None}, "found None"),
        ("add", {"field": "left", "at_least": 5, "at_most": 4}, "the lower bound first"),
        ("add", {"field": "left", "at_least": None}, "without bounds"),
        ("add", {"field": "left", "prefix": "4"}, "expected string for a prefix"),
        ("wide", {"field": "c", "equals": 1.5}, "found the type f64"),
        ("wide", {"field": "c", "at_least": float("nan")}, "expected a number"),
        ("wide", {"field": "e", "equals": "ab"}, "one character"),
        ("wide", {"field": "d", "at_least": False}, "expected an integer or f64"),
        ("meet", {"field": "person.mood", "equals": "angry"}, "one of low, middle, high"),
        ("meet", {"field": "person.tags", "equals": "a"}, "list<string>"),
        (
            "meet",
            {"field": "person.inner.users", "equals": "a"},
            "record inner: found no field 'users', expected one of",
        ),
        ("say", {"field": "text", "prefix": 4}, "expected text"),
        ("look", {"field": "thing", "equals": 4}, "borrow<thing>"),
    ],
)
def test_conditions_that_do_not_fit_the_event_are_refused_when_loading(
    event: str, condition: dict[str, Any], said: str
) -> None:
    """Before anything is compiled, with the place in the manifest."""
    with pytest.raises(ManifestError) as caught:
        extension("", {"event": event, "when": [condition]})
    assert said in str(caught.value)
    assert "handlers[0].when[0]" in str(caught.value)


def test_conditions_that_fit_are_taken() -> None:
    """Options may be compared with none; fields may be spelt as in WIT or in Python."""
    extension(
        function("meet", "(param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)", ""),
        {
            "event": "meet",
            "when": [
                {"field": "person.nick", "equals": None},
                {"field": "person.nick", "equals": "bob"},
                {"field": "person.inner.age", "at_most": 99},
                {"field": "person.mood", "equals": "low"},
            ],
        },
    )


def test_exports_have_the_type_that_their_use_asks() -> None:
    """A closure in front, the arguments as the result of a filter, a bool for a guard."""
    good = "".join(
        (
            function("c", "(param i64 i32 i32) (result i32)", "(i32.const 0)"),
            function("f", "(param i32 i32) (result i32)", "(i32.const 64)"),
            function("g", "(param i32 i32) (result i32)", "(i32.const 1)"),
            adder(1),
        )
    )
    loaded = extension(
        good,
        {"event": "add", "export": "c", "closure": 7},
        {"event": "add", "export": "f", "filter": True},
        {"event": "add", "guard": "g"},
    )
    assert sorted(loaded.exports) == ["c", "f", "g", ADD]
    with pytest.raises(SignatureMismatch, match="closure: u64"):
        extension(good, {"event": "add", "export": "g", "closure": 7})
    with pytest.raises(ModuleError, match="found none"):
        extension(good, {"event": "add", "guard": "h"})
    with pytest.raises(SignatureMismatch):
        extension(function("g", "(param i32) (result i32)", "(i32.const 1)") + adder(1), {"event": "add", "guard": "g"})


def test_an_export_has_one_type() -> None:
    """What is a handler of one event cannot be the guard of another, unless the types are the same."""
    body = function("both", "(param i32 i32) (result i32)", "(i32.const 1)")
    with pytest.raises(ManifestError, match=r"two types: found .* -> \*bool\*, expected .* -> \*mood\*"):
        extension(body, {"event": "judge", "export": "both"}, {"event": "ask", "export": "both"})
    extension(body, {"event": "ask", "export": "both", "guard": "both"})
