"""Whatever is wrong with a WIT text, the error says where, what was found and what was expected."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spinrt.errors import WitError
from spinrt.sandbox.wit import Interfaces, Source, shipped


def fail(text: str) -> WitError:
    with pytest.raises(WitError) as caught:
        Interfaces.parse([Source("t.wit", text)], known=shipped())
    return caught.value


def inside(body: str) -> WitError:
    return fail("package a:b@1.0.0;\ninterface x {\n" + body + "\n}\n")


@pytest.mark.parametrize(
    ("body", "place", "message"),
    [
        ("f: func(a: strng);", "3:12", "unknown type `strng`"),
        ("f: func(a: b: u8);", "3:13", "found `:`, expected `)`, `,` or `<`"),
        ("f: fun();", "3:4", "found `fun`, expected `func`"),
        ("f: func(a: stream<u8>);", "3:12", "outside the supported subset"),
        ("f: func(a: future);", "3:12", "outside the supported subset"),
        ("f: func() -> u8; f: func();", "3:18", "duplicate name `f`"),
        ("enum f { a } f: func();", "3:14", "duplicate name `f`: already a type"),
        ("record r { a: u8, A: u8 }", "3:19", "duplicate name `A`: already a field"),
        ("enum e { a, a }", "3:13", "duplicate name `a`: already a case"),
        ("f: func(a: u8, a: u8);", "3:16", "duplicate name `a`"),
        ("resource r { m: func(self: u8); }", "3:22", "duplicate name `self`"),
        ("resource r { constructor(); constructor(); }", "3:29", "duplicate constructor"),
        ("record r { a: list<r> }", "3:20", "contains itself"),
        ("type a = b; type b = a;", "3:22", "contains itself"),
        ("f: func(a: option<option<u8>>);", "3:19", "option directly inside an option"),
        ("type o = option<u8>; f: func(a: option<o>);", "3:40", "option directly inside an option"),
        ("resource r; f: func() -> borrow<r>;", "3:26", "contains a borrow"),
        ("resource r; record k { a: borrow<r> } f: func() -> list<k>;", "3:52", "contains a borrow"),
        ("f: func(a: own<u8>);", "3:16", "expected the name of a resource"),
        ("enum e { a } f: func(a: borrow<e>);", "3:32", "is no resource"),
        ("use spinrt:mail/mesage@1.0.0.{message};", "3:17", "unknown interface `spinrt:mail/mesage@1.0.0`"),
        ("use spinrt:mail/message.{message};", "3:17", "has no version"),
        ("use spinrt:mail/message@1.0.0.{massage};", "3:32", "has no type `massage`"),
        ("use nowhere.{a};", "3:5", "unknown interface `a:b/nowhere@1.0.0`"),
        ("use x.{a};", "3:5", "in a circle"),
        ("record r {}", "3:8", "record `r` is empty"),
        ("enum r {}", "3:6", "enum `r` is empty"),
        ("variant r {}", "3:9", "variant `r` is empty"),
        ("flags r {}", "3:7", "flags `r` is empty"),
        ("flags r { " + ", ".join(f"f{n}" for n in range(33)) + " }", "3:161", "33 members; expected at most 32"),
        ("snake_case: func();", "3:1", "bad name `snake_case`"),
        ("f: func(camelCase: u8);", "3:9", "bad name `camelCase`"),
        ("f: func(a--b: u8);", "3:9", "bad name `a--b`"),
        ("record type { a: u8 }", "3:8", "found the keyword `type`"),
        ("f: func(a: result<u8, u8, u8>);", "3:12", "expected 0 to 2 types"),
        ("f: func(a: list);", "3:12", "expected one type"),
        ("f: func(a: tuple);", "3:12", "expected 1 to 16 types"),
        ("f: func(a: u8<u8>);", "3:12", "takes no types"),
        ("f: func(a: list<_>);", "3:17", "unknown type `_`"),
        ("é: func();", "3:1", "found `é`"),
        ("/* open", "3:1", "never closed"),
        ("@since(version = 1.0.0) f: func();", "3:1", "found `@`"),
    ],
)
def test_mistakes_are_shown_where_they_are(body: str, place: str, message: str) -> None:
    """File, line and column are exact; the line and a caret under the column follow."""
    error = inside(body)
    first, source, caret = str(error).split("\n")

    assert first.startswith(f"t.wit:{place}: ") and message in first
    column = int(place.split(":")[1])
    if column < 50:
        assert source == f" 3 | {body}"[: len(source)]
        assert caret.index("^") == column + len(" 3 | ") - 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "t.wit:1:1: found the end of the text, expected `package`"),
        ("package a:b;", "package `a:b` has no version"),
        ("package a:b@1.0;", "found `1`, expected a version such as 1.0.0"),
        ("package a:b@1.0.0; interface x {} interface x {}", "duplicate interface `a:b/x@1.0.0`"),
        ("package spinrt:mail@1.0.0; interface message {}", "duplicate interface `spinrt:mail/message@1.0.0`"),
        ("package a:b@1.0.0; interface x {", "found the end of the text"),
        ("package a:b@1.0.0; world w { import y; }", "unknown interface `a:b/y@1.0.0`"),
        ("package a:b@1.0.0; interface x {} world w { import x; import x; }", "duplicate `a:b/x@1.0.0` in world"),
        ("package a:b@1.0.0; interface x { use y.{a}; } interface y { use x.{b}; }", "in a circle"),
    ],
)
def test_mistakes_of_whole_files_are_shown(text: str, message: str) -> None:
    """Packages, interfaces and worlds have errors of their own."""
    assert message in str(fail(text))


def test_hints_name_what_was_meant() -> None:
    """Near names are offered for types, used types and interfaces."""
    assert inside("f: func(a: strng);").hint == "did you mean `string`?"
    assert "`message`" in inside("use spinrt:mail/message@1.0.0.{massage};").hint
    assert "spinrt:mail/message@1.0.0" in inside("use spinrt:mail/mesage@1.0.0.{message};").hint


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("f: func(a: " + "list<" * 50_000 + "u8" + ">" * 50_000 + ");", "nested 50001 levels deep"),
        ("".join(f"record r{n} {{ a: r{n + 1} }}\n" for n in range(5000)) + "enum r5000 { a }", "levels deep"),
        ("".join(f"record r{n + 1} {{ a: r{n} }}\n" for n in range(5000)) + "enum r0 { a }", "levels deep"),
        ("".join(f"record r{n + 1} {{ a: r{n}, b: r{n} }}\n" for n in range(30)) + "enum r0 { a }", "written out"),
        ("x" * (1 << 20), "bytes of WIT; expected at most 1048576"),
    ],
)
def test_hostile_sizes_end_in_an_error(body: str, message: str) -> None:
    """Nesting, doubling and length are bounded."""
    assert message in str(inside(body))


def test_long_lines_and_control_characters_are_not_printed() -> None:
    """A message stays short and safe for a terminal whatever the text holds."""
    error = inside("\x1b[31m " + "é" * 10_000)

    assert "\x1b" not in str(error) and len(str(error)) < 500


def test_unreadable_files_say_so(tmp_path: Path) -> None:
    """Missing, empty and undecodable inputs are errors of WIT, not of Python."""
    (tmp_path / "bad.wit").write_bytes(b"\xff\xfe")
    (tmp_path / "big.wit").write_bytes(b" " * ((1 << 20) + 1))
    for path, message in [
        (tmp_path / "none.wit", "cannot read"),
        (tmp_path / "bad.wit", "not UTF-8"),
        (tmp_path / "big.wit", "more than 1048576 bytes"),
    ]:
        with pytest.raises(WitError, match=message):
            Interfaces.load([path])
    (tmp_path / "empty").mkdir()
    with pytest.raises(WitError, match=r"no \.wit file"):
        Interfaces.load([tmp_path / "empty"])


_PUNCTUATION = [";", "{", "}", ":", ",", "(", ")", "->", "<", ">", ".", "=", "///", "//", "\n", "%", "@", "_"]
_WORDS = [
    "package",
    "a:b@1.0.0",
    "interface",
    "x",
    "record",
    "r",
    "u8",
    "func",
    "list",
    "option",
    "resource",
    "use",
    "type",
]
TOKENS = _PUNCTUATION + _WORDS


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.lists(st.sampled_from(TOKENS)).map(" ".join)))
def test_any_text_parses_or_is_an_error_of_wit(text: str) -> None:
    """Invariant: no text gives anything but interfaces or a WitError."""
    for full in (text, "package a:b@1.0.0; interface x { " + text + " }"):
        try:
            Interfaces.parse([Source("t.wit", full)])
        except WitError as error:
            assert str(error).startswith("t.wit:")
