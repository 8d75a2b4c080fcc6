"""The undo-hook extension tags deliveries and answers an undo's questions."""

from __future__ import annotations

from typing import Any

import pytest

from spinrt.sandbox.types import Err, Ok
from tests.extensions.support import EVENTS, UNDO, Bench, FakeMessage, outcome, receipt, record

FILED = f"{EVENTS}#filed"


@pytest.fixture
def bench() -> Bench:
    made = Bench()
    made.load("undo-hook")
    return made


def cycle(**changes: Any) -> Any:
    values: dict[str, Any] = {
        "id": 1,
        "sphere": "system",
        "subject": "",
        "from_position": 100,
        "to_position": 200,
        "reason": "a bad rule lost mail",
    }
    return record(UNDO, "cycle", **(values | changes))


def difference(shown: str, now: str, position: int = 150, **tags: bytes) -> Any:
    tagged = [record(UNDO, "tagged", key=key.replace("_", "-"), value=value) for key, value in tags.items()]
    verb = record(UNDO, "verb", position=position, name="deliver", user="bob", tags=tagged)
    return record(UNDO, "difference", verb=verb, shown=shown, now=now)


def fnv1a(data: bytes) -> bytes:
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}".encode()


def test_a_delivery_is_tagged_with_what_an_undo_needs(bench: Bench) -> None:
    """Message-ID, a hash of the subject, the envelope, and each recipient's outcome."""
    message = FakeMessage([("Message-ID", b"<1@example.net>"), ("Subject", b"secret plans")])

    bench.raise_(
        FILED,
        receipt(outcome(mailboxes=["INBOX", "A\tb"], flags=["\\Seen"]), outcome(mailboxes=[], refused=550)),
        message,
    )

    tags = {key: value for _, key, value in bench.effects()}
    assert tags["message-id"] == b"<1@example.net>"
    assert tags["subject-hash"] == fnv1a(b"secret plans")
    assert tags["envelope"] == (
        b"format=1\ndelivery=d1\nprotocol=lmtp\npeer=192.0.2.1\nsender=joe@example.net\nsize=1000\nrecipients=2\n"
    )
    assert tags["outcome.0"] == b"recipient=bob@example.org\nuser=bob\nmailbox=INBOX\nmailbox=A?b\nflag=\\Seen\n"
    assert tags["outcome.1"] == b"recipient=bob@example.org\nuser=bob\nrefused=550\n"
    assert len(tags) == 5


def test_tags_stay_inside_their_bounds(bench: Bench) -> None:
    """Huge fields, names and numbers of recipients are cut; nothing faults."""
    message = FakeMessage([("Message-ID", b"\xff" * 3_000_000), ("Subject", b"s" * 3_000_000)])
    many = [outcome(recipient="ü" * 2000, mailboxes=["m" * 1000] * 9)] * 60

    bench.raise_(FILED, receipt(*many, sender="s" * 5000), message)

    tags = {key: value for _, key, value in bench.effects()}
    assert len(tags["message-id"]) == 998 and tags["subject-hash"] == fnv1a(b"s" * 3_000_000)
    assert sum(key.startswith("outcome.") for key in tags) == 48
    assert all(len(value) <= 4096 for value in tags.values())
    assert tags["outcome.47"].decode().count("mailbox=") == 3


def test_without_fields_there_are_no_tags_of_them(bench: Bench) -> None:
    """No Message-ID, no tag that pretends one."""
    bench.raise_(FILED, receipt(outcome()), FakeMessage([]))

    assert [key for _, key, _ in bench.effects()] == ["envelope", "outcome.0"]


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({}, ""),
        ({"sphere": "user", "subject": "bob"}, ""),
        ({"from_position": 200}, ""),
        ({"reason": " \t\n"}, "no reason"),
        ({"from_position": 201}, "backwards"),
        ({"sphere": "mailbox"}, "does not name it"),
    ],
)
def test_a_cycle_must_make_sense_before_anything_is_rewound(bench: Bench, changes: Any, answer: str) -> None:
    """A reason, a range and a subject; anything else is vetoed with the reason why."""
    result = bench.raise_(f"{UNDO}#before-rewind", cycle(**changes))

    if answer:
        assert isinstance(result, Err) and answer in str(result.value)
    else:
        assert result == Ok()


@pytest.mark.parametrize(
    ("found", "resolution"),
    [
        (difference("", "INBOX: 3"), "ignore"),
        (difference("INBOX: 3", "INBOX: 3"), "ignore"),
        (difference("INBOX: 3", "Junk: 1"), "explain"),
        (difference("INBOX: 3", ""), "compensate"),
        (difference("INBOX: 3", "Junk: 1", position=99), "stop"),
        (difference("INBOX: 3", "Junk: 1", position=201), "stop"),
    ],
)
def test_inconsistencies_are_resolved_by_what_the_user_saw(bench: Bench, found: Any, resolution: str) -> None:
    """Unseen or equal: ignore. Moved: explain. Vanished: compensate. Outside of the cycle: stop."""
    assert bench.raise_(f"{UNDO}#inconsistency", cycle(), found) == resolution


def test_a_cycle_that_compensates_without_end_is_stopped(bench: Bench) -> None:
    """After ten thousand compensations the operator decides; the next cycle starts from nothing."""
    vanished = difference("INBOX: 3", "")
    answers = [bench.raise_(f"{UNDO}#inconsistency", cycle(), vanished) for _ in range(10_001)]

    assert answers[-2:] == ["compensate", "stop"]
    assert bench.raise_(f"{UNDO}#inconsistency", cycle(id=2), vanished) == "compensate"


def test_compensation_is_a_notice_in_the_users_words(bench: Bench) -> None:
    """What was seen, why it went, and how the message is called, made safe to print."""
    found = difference("lunch? in INBOX", "", message_id=b"<1@example.net>\r\n\xff")

    result = bench.raise_(f"{UNDO}#compensate", cycle(), found)

    assert result == Ok(
        'What you saw as "lunch? in INBOX" is no longer there. The operator undid a change: '
        "a bad rule lost mail. The message is <1@example.net>???."
    )
    assert bench.raise_(f"{UNDO}#compensate", cycle(), difference("x" * 9000, "")).value.count("x") == 512
    assert isinstance(bench.raise_(f"{UNDO}#compensate", cycle(), difference("", "")), Err)


def test_the_end_of_a_cycle_is_recorded(bench: Bench) -> None:
    """A warning when users were affected."""
    for inconsistencies in (0, 3):
        counts = {"replayed": 10, "inconsistencies": inconsistencies, "compensated": 1}
        bench.raise_(f"{UNDO}#after-replay", record(UNDO, "summary", cycle=cycle(), **counts))

    assert [(entry.level, entry.event) for entry in bench.records] == [("info", "undo"), ("warning", "undo")]
    assert dict(bench.records[1].fields)["inconsistencies"] == "3"
