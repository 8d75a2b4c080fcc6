"""``spinrt:mail/delivery``: what is promised, what is refused, and that no text gets out of its place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinrt._core import AddHeader, Call
from spinrt.errors import ConfigError
from spinrt.mail.host.delivery import DeliveryInterface, header_line
from spinrt.mail.host.effects import Discard, FileInto, Refusal, Reject, SetFlag, decide
from spinrt.sandbox.types import Err, Ok
from tests.mail.host_support import bind, delivering

INTERFACE = DeliveryInterface()
ARGUMENTS = {
    "file-into": ("Junk",),
    "set-flag": ("$Label",),
    "add-header": ("X-A", "b"),
    "reject": (550, "no"),
    "discard": (),
}


@pytest.mark.parametrize("function", ARGUMENTS)
def test_outside_of_a_delivery_nothing_is_promised(function: str) -> None:
    """Without a recipient under decision every call answers no-delivery and leaves no effect."""
    closure = bind(INTERFACE, function)
    for call in (None, Call("elsewhere", None), delivering(deciding=False)):
        assert closure(call, *ARGUMENTS[function]) == Err("no-delivery")
        assert call is None or len(call.journal) == 0


def test_each_call_promises_its_effect() -> None:
    """Effects carry the extension's name, canonical names, and fold into one decision."""
    call = delivering()
    for function, arguments in ARGUMENTS.items():
        assert bind(INTERFACE, function)(call, *arguments) == Ok()
    bind(INTERFACE, "file-into")(call, "inbox/Lists")
    bind(INTERFACE, "set-flag")(call, "\\flagged")
    assert call.journal.effects == [
        FileInto("guest", "Junk"),
        SetFlag("guest", "$Label"),
        AddHeader("guest", "X-A", b"X-A: b\r\n"),
        Reject("guest", Refusal(550, "5.7.1", "no")),
        Discard("guest"),
        FileInto("guest", "INBOX/Lists"),
        SetFlag("guest", "\\Flagged"),
    ]
    decision = decide(call.journal.effects)
    assert decision.mailboxes == ["Junk", "INBOX/Lists"]
    assert decision.flags == ["$Label", "\\Flagged"]
    assert decision.discarded and decision.refusal == Refusal(550, "5.7.1", "no")


@pytest.mark.parametrize(
    ("mailbox", "answer"),
    [
        ("INBOX/lists/dev", Ok()),
        ("inbox/lists/a/b", Ok()),
        ("INBOX/lists", Err("not-granted")),
        ("INBOX", Err("not-granted")),
        ("INBOX/listsx", Err("not-granted")),
        ("Junk", Ok()),
        ("Junk/x", Err("not-granted")),
        ("INBOX/lists/../x\n", Err("malformed")),
        ("INBOX/lists/", Err("malformed")),
        ("INBOX/lists/*", Err("malformed")),
        ("", Err("malformed")),
        ("INBOX/lists/" + "x" * 300, Err("malformed")),
    ],
)
def test_mailbox_patterns_bound_where_copies_go(mailbox: str, answer: object) -> None:
    """``INBOX/lists/*`` means what is below it, in any way to write INBOX, and nothing beside it."""
    file_into = bind(INTERFACE, "file-into", {"mailboxes": ["inbox/lists/*", "Junk"]})
    call = delivering()
    assert file_into(call, mailbox) == answer
    assert len(call.journal) == (answer == Ok())


@pytest.mark.parametrize(
    ("flag", "answer"),
    [
        ("$Label1", Ok()),
        ("\\FLAGGED", Ok()),
        ("\\Seen", Err("not-granted")),
        ("\\Recent", Err("malformed")),
        ("\\Unknown", Err("malformed")),
        ("two words", Err("malformed")),
        ("x)\r\n* BYE", Err("malformed")),
        ("", Err("malformed")),
        ("$\xe4", Err("malformed")),
    ],
)
def test_flag_patterns_and_malformed_flags(flag: str, answer: object) -> None:
    """Flags are atoms; patterns compare without case."""
    assert bind(INTERFACE, "set-flag", {"flags": ["$*", "\\Flagged"]})(delivering(), flag) == answer


@pytest.mark.parametrize(
    ("name", "value", "answer"),
    [
        ("X-Spam-Score", "5", Ok()),
        ("x-spam-y", "", Ok()),
        ("Subject", "forged", Err("not-granted")),
        ("X-Spam-A", "one\r\nBcc: all@example.net", Err("malformed")),
        ("X-Spam-A", "one\nBcc: x", Err("malformed")),
        ("X-Spam-A", "nul\0", Err("malformed")),
        ("X-Spam-A", "next\x85line", Err("malformed")),
        ("X-Spam-A", "v" * 901, Err("malformed")),
        ("X-Spam-A:\r\nBcc", "x", Err("malformed")),
        ("X-Spam A", "x", Err("malformed")),
        ("X-Sp\xe4m-A", "x", Err("malformed")),
        ("", "x", Err("malformed")),
        ("X-Spam-" + "n" * 90, "x", Err("malformed")),
    ],
)
def test_headers_cannot_be_injected(name: str, value: str, answer: object) -> None:
    """No name or value gets a line break into a header section."""
    assert bind(INTERFACE, "add-header", {"headers": ["X-Spam-*"]})(delivering(), name, value) == answer


@given(st.text(max_size=30), st.text(max_size=400))
def test_a_header_line_is_one_field_of_bounded_ascii_lines(name: str, value: str) -> None:
    """Whatever the texts: one field, folded lines only, no control characters, lines below 998 octets."""
    line = header_line(name, value)
    if line is None:
        return
    lines = line.split(b"\r\n")
    assert lines.pop() == b"" and lines[0].startswith(name.encode() + b":")
    assert all(continued.startswith((b" ", b"\t")) and continued.strip() for continued in lines[1:])
    assert all(len(part) <= 998 and part.isascii() for part in lines)
    assert not any(octet < 32 and octet != 9 for part in lines for octet in part)


@pytest.mark.parametrize(
    ("code", "text", "answer"),
    [
        (449, "x", Err("malformed")),
        (600, "x", Err("malformed")),
        (250, "x", Err("malformed")),
        (550, "", Err("malformed")),
        (550, "a\r\n250 OK", Err("malformed")),
        (550, "x" * 401, Err("malformed")),
    ],
)
def test_refusals_outside_of_their_bounds_are_malformed(code: int, text: str, answer: object) -> None:
    """Codes are 450 to 599, texts one bounded line."""
    assert bind(INTERFACE, "reject")(delivering(), code, text) == answer


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (451, "later", Refusal(451, "4.7.1", "later")),
        (550, "5.1.1 who?", Refusal(550, "5.1.1", "who?")),
        (550, "4.1.1 who?", Refusal(550, "5.7.1", "4.1.1 who?")),
    ],
)
def test_a_status_at_the_start_of_a_refusal_is_used_when_it_fits(code: int, text: str, expected: Refusal) -> None:
    """An enhanced status of the code's class is taken from the text, another is text."""
    call = delivering()
    bind(INTERFACE, "reject")(call, code, text)
    assert call.journal.effects == [Reject("guest", expected)]


@pytest.mark.parametrize("function", ["reject", "discard"])
def test_switches_forbid(function: str) -> None:
    """``reject: false`` and ``discard: false`` take the call away."""
    assert bind(INTERFACE, function, {function: False})(delivering(), *ARGUMENTS[function]) == Err("not-granted")


@pytest.mark.parametrize(
    "attenuations",
    [
        {"mailboxes": "INBOX/*"},
        {"mailboxes": [""]},
        {"mailboxes": ["a//b"]},
        {"mailboxes": [7]},
        {"flags": {"a": 1}},
        {"reject": "no"},
        {"mailbox": ["INBOX"]},
    ],
)
def test_attenuations_that_make_no_sense_do_not_link(attenuations: dict[str, object]) -> None:
    """A mistake in a policy is refused when linking, with its place."""
    with pytest.raises(ConfigError, match=r"policy\.guest"):
        bind(INTERFACE, "file-into", attenuations)


def test_an_empty_list_of_patterns_grants_nothing() -> None:
    """No pattern, no mailbox; this is not the same as leaving the key out."""
    assert bind(INTERFACE, "file-into", {"mailboxes": []})(delivering(), "INBOX") == Err("not-granted")
