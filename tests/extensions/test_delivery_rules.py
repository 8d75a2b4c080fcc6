"""The delivery extension does what its rules say, and no more host calls than they need."""

from __future__ import annotations

from typing import Any

import pytest

from spinrt.errors import LinkError
from spinrt.sandbox.types import Err, Ok
from tests.extensions.support import EVENTS, Bench, FakeMessage, envelope

DELIVER = f"{EVENTS}#deliver"
FIELDS = [
    ("Subject", "Rechnung März".encode()),
    ("List-Id", b"Hackers of things <Hackers.Lists.example.net>"),
    ("X-Spam-Flag", b"NO"),
    ("Received", b"from a by b"),
    ("Received", b"from c by d"),
]


def deliver(rules: str | None, message: FakeMessage | None = None, **changes: Any) -> tuple[str, Bench]:
    bench = Bench()
    bench.load("delivery", None if rules is None else {"rules": rules})
    return bench.raise_(DELIVER, envelope(**changes), message or FakeMessage(FIELDS, 5000)), bench


def test_header_conditions_and_actions() -> None:
    """Every action becomes the host call that its interface has for it, in the order written."""
    verdict, bench = deliver(
        "# comment\n\n"
        "header subject contains RECHNUNG -> flag \\Flagged; header X-Kind 'an invoice'; file \"INBOX/in voices\"\r\n"
        "always -> reject 550 '5.7.1 no'; file never"
    )

    assert verdict == "handled"
    assert bench.effects() == [
        ("set-flag", "\\Flagged"),
        ("add-header", "X-Kind", "an invoice"),
        ("file-into", "INBOX/in voices"),
        ("reject", 550, "5.7.1 no"),
    ]


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("always", True),
        ("not always", False),
        ("header X-Spam-Flag is no", True),
        ("header X-Spam-Flag is n", False),
        ("header X-Spam-Flag exists", True),
        ("header X-Other exists", False),
        ("not header X-Other exists", True),
        ("header received contains 'from c'", True),
        ("header received is 'from a by b' and header received is 'from c by d'", True),
        ("header received is 'from a by b' and not header received is 'from c by d'", False),
        ("header subject matches 'rech*m?*rz'", True),
        ("header subject matches 'rech*m'", False),
        ("header subject matches '*'", True),
        ("list exists", True),
        ("list is hackers.lists.example.net", True),
        ("list matches *.example.net", True),
        ("list contains things", False),
        ("detail exists", True),
        ("detail is News", True),
        ("sender is JOE@example.net", True),
        ("sender matches '*@example.org'", False),
        ("recipient contains bob+news", True),
        ("user is bob", True),
        ("size over 4K", True),
        ("size over 5000", False),
        ("size under 5001", True),
        ("size under 1K", False),
        ("size over 1G", False),
    ],
)
def test_conditions(condition: str, holds: bool) -> None:
    """Each kind of condition holds when it should, the case of letters aside, and `not` turns it round."""
    verdict, bench = deliver(f"{condition} -> discard", recipient="bob+news@example.org", detail="news")

    assert (verdict, bench.effects()) == (("handled", [("discard",)]) if holds else ("pass", []))


def test_bounce_has_no_sender() -> None:
    """`sender exists` tells a bounce from other mail."""
    assert deliver("not sender exists -> discard", sender="")[0] == "handled"
    assert deliver("sender exists -> discard", sender="")[0] == "pass"


@pytest.mark.parametrize(
    ("detail", "mailbox"),
    [
        ("News", "INBOX/news"),
        ("a/b%*\\..c", "INBOX/a-b---..c"),
        ("../../x", "INBOX/-.-..-x"),
        ("größe", "INBOX/gr----e"),
        ("x" * 200, "INBOX/" + "x" * 64),
    ],
)
def test_substitutions_are_harmless(detail: str, mailbox: str) -> None:
    """What a stranger wrote becomes one part of a mailbox name, whatever it was."""
    _, bench = deliver("always -> file 'INBOX/${detail}'", detail=detail)

    assert bench.effects() == [("file-into", mailbox)]


def test_list_substitutions() -> None:
    """`${list}` is the list's own name, `${list-id}` all of it; without a list the action is left out."""
    _, bench = deliver("always -> file lists/${list}; file '${list-id}/x'")
    assert bench.effects() == [("file-into", "lists/hackers"), ("file-into", "hackers.lists.example.net/x")]

    verdict, bench = deliver("always -> file lists/${list}", FakeMessage([("List-Id", b"<>")]))
    assert (verdict, bench.effects()) == ("pass", [])


@pytest.mark.parametrize(
    ("fields", "detail", "effects"),
    [
        ([("X-Spam-Flag", b"yes"), ("List-Id", b"<a.b>")], "x", [("file-into", "Junk")]),
        ([("List-Id", b"<a.b>")], "x", [("file-into", "INBOX/lists/a")]),
        ([], "x", [("file-into", "INBOX/x")]),
        ([], None, []),
    ],
)
def test_default_rules(fields: list[tuple[str, bytes]], detail: str | None, effects: list[Any]) -> None:
    """Without configuration: spam, then lists, then details; anything else passes."""
    verdict, bench = deliver(None, FakeMessage(fields), detail=detail)

    assert bench.effects() == effects
    assert verdict == ("handled" if effects else "pass")


def test_only_what_rules_name_is_read_and_only_once() -> None:
    """A field is read when a condition comes to need it, up to the first that is not there."""
    _, bench = deliver(
        "user is nobody and header X-Never exists -> discard\n"
        "header Subject is x -> discard\nheader SUBJECT is y -> discard\n"
    )

    assert bench.calls == [("header", "Subject", 0), ("header", "Subject", 1)]


def test_nothing_is_kept_from_one_message_to_the_next() -> None:
    """A second event reads its own message."""
    bench = Bench()
    bench.load("delivery", {"rules": "header Subject is one and size over 10 -> discard"})

    first = bench.raise_(DELIVER, envelope(), FakeMessage([("Subject", b"one")], 11))
    second = bench.raise_(DELIVER, envelope(), FakeMessage([("Subject", b"two")], 9))

    assert (first, second) == ("handled", "pass")


def test_refused_actions_have_not_happened() -> None:
    """When the host grants nothing, rules go on and the verdict is pass; `stop` stops all the same."""
    bench = Bench(answer=lambda function, *arguments: Err("not-granted") if function != "set-flag" else Ok())
    bench.load("delivery", {"rules": "always -> reject 550 no; file a; flag b; stop\nalways -> file c"})

    assert bench.raise_(DELIVER, envelope(), FakeMessage([])) == "pass"
    assert [call[0] for call in bench.effects()] == ["reject", "file-into", "set-flag"]


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (
            "\n\nfoo -> stop",
            "line 3: expected always, header, list, detail, sender, recipient, user or size, found `foo`",
        ),
        ("always", "line 1: expected `and` or `->`, found the end of the line"),
        ("always -> ", "expected file, flag, header, reject, discard or stop, found the end"),
        ("always -> file", "expected a string, found the end of the line"),
        ("always -> file ''", "a string that is not empty"),
        ("always -> file 'a", "a string that is not closed"),
        ("always -> file a b", "expected `;` or the end of the line, found `b`"),
        ("always -> file " + "x" * 257, "over 256 bytes"),
        ("always -> file a/${lists}", "expected ${detail}, ${list} or ${list-id}"),
        ("always -> file a${", "expected ${detail}"),
        ("always -> flag 'a b'", "an IMAP flag"),
        ("always -> reject 250 ok", "from 450 to 599, found `250`"),
        ("always -> reject 99999 ok", "too large"),
        ("always -> reject x y", "expected a number, found `x`"),
        ("always -> header a:b c", "without a colon"),
        ("size over 10X -> stop", "expected a size"),
        ("size over 99999999999 -> stop", "too large"),
        ("size exists -> stop", "expected over or under"),
        ("header Subject has x -> stop", "expected is, contains, matches or exists, found `has`"),
        ("header Sübject is x -> stop", "the name of a header field"),
        ("detail is \x01 -> stop", "control character"),
        ("always -> stop\n" * 257, "line 257: more than 256 rules"),
        (" and ".join(["always"] * 1025) + " -> stop", "more than 1024 conditions"),
        ("always -> " + ";".join(["stop"] * 1025), "more than 1024 actions"),
        ("".join(f"header h{n} exists -> stop\n" for n in range(64)), "line 64: more than 64 different"),
        ("#" * 32769, "longer than 32768 bytes"),
        ("ü" * 100 + " -> stop", "found `" + "ü" * 20 + "`"),
    ],
)
def test_bad_rules_keep_the_extension_out(rules: str, message: str) -> None:
    """The error names the line and what was expected there."""
    with pytest.raises(LinkError) as caught:
        Bench().load("delivery", {"rules": rules})

    assert message in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xff" * 3000,
        b"<" * 5000,
        b"a" * 3_000_000,
        b"<" + b"a." * 1_500_000 + b">",
        bytes(range(256)) * 10,
    ],
)
def test_hostile_fields_break_nothing(value: bytes) -> None:
    """Long, undecodable and repeated fields are looked at up to a bound; `raise_` sees that nothing faulted."""
    fields = [("List-Id", value), ("Subject", value)] * 30

    verdict, bench = deliver(
        "header Subject matches '*a*a*a*b' -> discard\nlist contains zz -> discard\nalways -> file 'x/${list-id}'",
        FakeMessage(fields),
    )

    assert verdict in ("pass", "handled")
    assert all(len(call[1]) <= 66 and call[1].isascii() for call in bench.effects())
    assert sum(call[0] == "header" for call in bench.calls) <= 16
