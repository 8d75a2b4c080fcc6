"""The generated C: names, docs, conventions, and what is refused."""

from __future__ import annotations

import re

import pytest

from spinrt.errors import UsageError, WitError
from spinrt.sandbox.bindgen import generate_c
from spinrt.sandbox.bindgen_types import c_words, comment
from spinrt.sandbox.wit import Interfaces, Source, shipped

DELIVERY = "spinrt:mail/delivery@1.0.0"
EVENTS = "spinrt:mail/delivery-events@1.0.0"


def parse(text: str) -> Interfaces:
    return Interfaces.parse([Source("t.wit", text)])


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("mail", "delivery", "file-into"), "mail_delivery_file_into"),
        (("clock", "clock", "now"), "clock_now"),
        (("undo", "undo-events", "before-rewind"), "undo_events_before_rewind"),
        (("mail", "message", "message", "size"), "mail_message_size"),
        (("a", "HTTP-get"), "a_http_get"),
    ],
)
def test_names_are_prefixed_and_say_nothing_twice(names: tuple[str, ...], words: str) -> None:
    """Package, interface and name in snake case, equal neighbours once."""
    assert c_words(*names) == words


def test_header_has_types_docs_and_prototypes() -> None:
    """What the guest calls and what it must write, with the docs of the interface."""
    header = generate_c(shipped(), [DELIVERY], [f"{EVENTS}#deliver"])["guest.h"]

    assert "spin_result_void_mail_delivery_problem_t mail_delivery_file_into(spin_string_t mailbox);" in header
    assert (
        "mail_delivery_events_verdict_t export_mail_delivery_events_deliver"
        "(mail_envelope_t envelope, mail_message_borrow_t message);"
    ) in header
    assert "/** Refuse for now (SMTP 451): the sender tries again later. */" in header
    assert "MAIL_DELIVERY_PROBLEM_TOO_MANY = 3," in header
    assert "export_mail_delivery_events_filed" not in header


def test_glue_follows_the_conventions() -> None:
    """Modules are ids, fields are core names; large parameters and results go through memory."""
    glue = generate_c(shipped(), [DELIVERY, "spinrt:mail/message@1.0.0"], [EVENTS, "spinrt:extension/lifecycle@1.0.0"])[
        "guest.c"
    ]

    assert f'__import_module__("{DELIVERY}"), __import_name__("file-into")' in glue
    assert '__import_name__("[method]message.header")' in glue and '__import_name__("[resource-drop]message")' in glue
    assert "extern void core_mail_delivery_file_into(int32_t, int32_t, int32_t);" in glue
    assert "extern int64_t core_mail_message_size(int32_t);" in glue
    assert "int32_t core_export_mail_delivery_events_deliver(int32_t p0_)" in glue
    assert re.findall(r'__export_name__\("([^"]*)"\)', glue) == [
        "cabi_realloc",
        f"{EVENTS}#deliver",
        f"{EVENTS}#filed",
        "spinrt:extension/lifecycle@1.0.0#init",
        "cabi_post_spinrt:extension/lifecycle@1.0.0#init",
    ]


def test_text_of_a_file_is_the_same_every_time() -> None:
    """Nothing depends on memory addresses or hashes."""
    ids = list(shipped().ids())
    imports = [id for id in ids if "events" not in id]

    assert generate_c(shipped(), imports, [EVENTS]) == generate_c(shipped(), imports, [EVENTS])


def test_docs_cannot_end_their_comment() -> None:
    """A doc comment is carried over as text."""
    assert comment("a */ b") == ["/** a * / b */"]
    assert comment("one\n\ntwo") == ["/**", " * one", " *", " * two", " */"]
    assert comment("") == []


def test_words_of_c_are_not_names() -> None:
    """Fields and parameters that C has other uses for get an underscore."""
    found = parse("package a:b@1.0.0; interface x { record r { int: u8, default: u8 } f: func(register: r); }")

    header = generate_c(found, ["a:b/x@1.0.0"], [])["guest.h"]

    assert "uint8_t int_;" in header and "b_x_f(b_x_r_t register_);" in header


@pytest.mark.parametrize(
    ("text", "imports", "exports", "message"),
    [
        (
            "interface x { resource r { size: func(); } r-size: func(); }",
            ["a:b/x@1.0.0"],
            [],
            "would both be `b_x_r_size`",
        ),
        ("interface x { resource r; }", [], ["a:b/x@1.0.0"], "it defines the resource `r`"),
        ("interface x { f: func(); }", [], ["a:b/x@1.0.0#g"], "has no function `g`"),
        ("interface x { enum e { a-b } enum e-a { b } }", ["a:b/x@1.0.0"], [], "would both be `B_X_E_A_B`"),
    ],
)
def test_what_c_cannot_say_is_refused(text: str, imports: list[str], exports: list[str], message: str) -> None:
    """Clashing names and exported resources end in an error that names them."""
    with pytest.raises(UsageError, match=re.escape(message)):
        generate_c(parse(f"package a:b@1.0.0; {text}"), imports, exports)


def test_unknown_interfaces_are_refused_with_near_ones() -> None:
    """The error is that of the set of interfaces."""
    with pytest.raises(WitError) as caught:
        generate_c(shipped(), ["spinrt:mail/delivry@1.0.0"], [])
    assert DELIVERY in caught.value.hint
