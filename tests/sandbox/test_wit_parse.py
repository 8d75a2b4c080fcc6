"""WIT texts become interfaces: every construct of the subset, across files and packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from spinrt.errors import WitError
from spinrt.sandbox.types import (
    BorrowType,
    EnumType,
    FlagsType,
    ListType,
    OptionType,
    OwnType,
    Primitive,
    RecordType,
    ResourceType,
    ResultType,
    TupleType,
    VariantType,
)
from spinrt.sandbox.wit import Interfaces, Source, difference, shipped, signature, type_text

EVERYTHING = """
package test:all@1.2.3-rc.1;

/// First line.
///
/// Third line.
interface all {
  /* a
     block */
  // a line
  /// A thing.
  record thing { /// hidden: not on a line of its own
    a: bool, b: s8, c: u8, d: s16, e: u16, f: s32, g: u32, h: s64, i: u64, j: f32, k: f64, l: char,
    /// The text.
    m: string, }
  variant shape { none, circle(f64), box(tuple<f64, f64>) }
  enum colour { red, green }
  flags rights { read, write }
  type bytes = list<u8>;
  resource file {
    constructor(name: string);
    /// Read it.
    read: func(length: u32) -> result<bytes, colour>;
    open: static func(name: string) -> option<file>;
  }
  resource token;
  none: func();
  results: func(a: result, b: result<u8>, c: result<_, u8>, d: result<u8, u16>) -> tuple<u8,>;
  handles: func(a: file, b: own<file>, c: borrow<file>, %type: rights);
  shapes: func(a: shape, b: option<list<colour>>) -> thing;
}
"""


def parse(text: str) -> Interfaces:
    return Interfaces.parse([Source("test.wit", text)])


def test_every_construct_is_parsed_into_its_type() -> None:
    """One text with the whole subset gives the types and functions that it says."""
    found = parse(EVERYTHING).get("test:all/all@1.2.3-rc.1")

    thing, shape = found.types["thing"], found.types["shape"]
    file = ResourceType("file", found.id)
    assert isinstance(thing, RecordType) and isinstance(shape, VariantType)
    primitives = [field.type.name for field in thing.fields if isinstance(field.type, Primitive)]
    assert " ".join(primitives) == "bool s8 u8 s16 u16 s32 u32 s64 u64 f32 f64 char string"
    assert [case.type for case in shape.cases] == [None, Primitive("f64"), TupleType((Primitive("f64"),) * 2)]
    assert isinstance(found.types["colour"], EnumType) and isinstance(found.types["rights"], FlagsType)
    assert found.types["bytes"] == ListType(Primitive("u8"))
    assert found.types["file"] == file and found.types["token"] == ResourceType("token", found.id)
    assert found.functions["[constructor]file"].result == OwnType(file)
    assert found.functions["[static]file.open"].result == OptionType(OwnType(file))
    assert [type_.type for type_ in found.functions["handles"].parameters[:3]] == [
        OwnType(file),
        OwnType(file),
        BorrowType(file),
    ]
    assert found.functions["results"].parameters[0].type == ResultType(None, None)
    assert set(found.functions) >= {"[resource-drop]file", "[resource-drop]token", "[method]file.read", "none"}


def test_docs_are_those_directly_above() -> None:
    """`///` comments on lines of their own above a name become its docs; other comments do not."""
    found = parse(EVERYTHING).get("test:all/all@1.2.3-rc.1")
    thing = found.types["thing"]

    assert isinstance(thing, RecordType)
    assert found.docs == "First line.\n\nThird line."
    assert thing.docs == "A thing."
    assert [field.docs for field in thing.fields if field.docs] == ["The text."]
    assert found.functions["[method]file.read"].docs == "Read it."
    assert found.functions["none"].docs == ""


def test_signatures_read_as_wit() -> None:
    """`signature` gives text that the parser would read again."""
    found = parse(EVERYTHING).get("test:all/all@1.2.3-rc.1")

    assert signature(found.functions["none"]) == "none: func()"
    assert signature(found.functions["results"]) == (
        "results: func(a: result, b: result<u8>, c: result<_, u8>, d: result<u8, u16>) -> tuple<u8>"
    )
    assert signature(found.functions["[method]file.read"]) == (
        "[method]file.read: func(self: borrow<file>, length: u32) -> result<list<u8>, colour>"
    )
    assert type_text(found.types["rights"]) == "rights"


def test_types_may_be_used_before_they_are_defined() -> None:
    """Order inside an interface means nothing."""
    body = "f: func(p: one); record one { t: two } type two = list<three>; enum three { a }"
    found = parse(f"package a:b@1.0.0; interface x {{ {body} }}")

    assert signature(found.get("a:b/x@1.0.0").functions["f"]) == "f: func(p: one)"


def test_use_crosses_files_and_packages_and_renames() -> None:
    """A used type is the same object as the defined one, under the local name."""
    found = Interfaces.parse(
        [
            Source("b.wit", "package b:b@2.0.0; interface y { use a:a/x@1.0.0.{item as thing, thing as item,}; }"),
            Source("a.wit", "package a:a@1.0.0; interface z { use x.{item}; f: func(i: item); }"),
            Source("a2.wit", "package a:a@1.0.0; interface x { record item { a: u8 } resource thing; }"),
        ]
    )

    item = found.get("a:a/x@1.0.0").types["item"]
    assert found.get("b:b/y@2.0.0").types["thing"] is item
    assert found.get("a:a/z@1.0.0").functions["f"].parameters[0].type is item
    assert list(found.own_types("b:b/y@2.0.0")) == []
    assert list(found.own_types("a:a/x@1.0.0")) == ["item", "thing"]


def test_known_interfaces_come_along_and_can_be_used() -> None:
    """A package of one's own builds on the shipped ones."""
    text = "package me:mine@0.1.0; interface x { use spinrt:mail/message@1.0.0.{message as m}; f: func(a: borrow<m>); }"
    found = Interfaces.parse([Source("mine.wit", text)], known=shipped())

    message = found.get("spinrt:mail/message@1.0.0").types["message"]
    assert isinstance(message, ResourceType)
    assert found.get("me:mine/x@0.1.0").functions["f"].parameters[0].type == BorrowType(message)
    assert len(found) == len(shipped()) + 1


def test_worlds_name_interfaces() -> None:
    """A world's imports and exports are ids."""
    found = parse("package a:b@1.0.0; interface x {} interface y {} world w { import x; export a:b/y@1.0.0; }")

    (world,) = found.worlds()
    assert (world.id, world.imports, world.exports) == ("a:b/w@1.0.0", ("a:b/x@1.0.0",), ("a:b/y@1.0.0",))


def test_shipped_interfaces_are_all_there() -> None:
    """What comes with spinrt parses, is documented and has the events that the mail system raises."""
    found = shipped()

    assert "spinrt:mail/delivery-events@1.0.0" in found
    assert signature(found.get("spinrt:mail/delivery@1.0.0").functions["file-into"]) == (
        "file-into: func(mailbox: string) -> result<_, problem>"
    )
    assert all(
        function.docs for interface in found for function in interface.functions.values() if "delivery" in interface.id
    )


def test_load_reads_directories_and_files(tmp_path: Path) -> None:
    """A directory stands for its `.wit` files, a file for itself."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x.wit").write_text("package a:b@1.0.0; interface x { resource r; }")
    (tmp_path / "y.wit").write_text("package a:b@1.0.0; interface y { use x.{r}; }")

    assert Interfaces.load([tmp_path / "d", tmp_path / "y.wit"]).ids() == ("a:b/x@1.0.0", "a:b/y@1.0.0")


@pytest.mark.parametrize(
    ("id", "hint"),
    [
        ("spinrt:mail/delivery@2.0.0", "there is spinrt:mail/delivery@1.0.0"),
        ("spinrt:mail/delivry@1.0.0", "`spinrt:mail/delivery@1.0.0`"),
        ("nothing", "interfaces"),
    ],
)
def test_get_of_an_unknown_id_says_what_there_is(id: str, hint: str) -> None:
    """Other versions come first, then near names."""
    with pytest.raises(WitError) as caught:
        shipped().get(id)

    assert id in str(caught.value) and hint in caught.value.hint


def test_difference_tells_how_functions_differ() -> None:
    """Equal functions differ in nothing, docs aside; a changed type of the same name is seen."""
    text = "package a:b@1.0.0; interface x {{ enum e {{ {} }} f: func(a: {}); }}"
    one, same, other, renamed = (
        parse(text.format(*parts)).get("a:b/x@1.0.0").functions["f"]
        for parts in [("a, b", "e"), ("\n/// doc\na, b", "e"), ("a, b", "u8"), ("a, c", "e")]
    )

    assert difference(one, same) == ""
    assert difference(one, other) == "found f: func(a: e), expected f: func(a: u8)"
    assert "defined differently" in difference(one, renamed)
