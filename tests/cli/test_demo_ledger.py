"""The demo's books: every way in which mail can go wrong must show."""

from __future__ import annotations

import pytest

from spinrt.cli.demo_client import NO_ANSWER, Answer, Found, Outgoing, batches, fits_data
from spinrt.cli.demo_ledger import ADDED_FIELDS, Ledger, strip_added

ACCEPTED = Answer(250, "2.6.0 accepted", 0.001, "DATA")
REFUSED = Answer(550, "5.7.1 no", 0.001, "DATA")
MAIL = b"Subject: x\r\n\r\nbody\r\n"
ADDED = ADDED_FIELDS[0] + b": invoice\r\n"


def outgoing(wire: bytes = MAIL, name: str = "m") -> Outgoing:
    return Outgoing(name, "a@example.net", ("alice@example.org",), wire)


def found(data: bytes = MAIL, *, user: str = "alice", uid: int = 1, mailbox: str = "INBOX") -> Found:
    return Found(user, mailbox, uid, (), data)


def test_each_copy_found_once_is_no_mismatch() -> None:
    """Two recipients, a message sent twice, one refused: all is as it should be."""
    ledger = Ledger()
    ledger.enter(outgoing(), ("alice", "bob"), ACCEPTED)
    ledger.enter(outgoing(), ("alice",), ACCEPTED)
    ledger.enter(outgoing(b"other\r\n", "refused"), ("alice",), REFUSED)
    for copy in (found(), found(uid=2), found(user="bob")):
        ledger.find(copy)

    verdict = ledger.verdict()

    assert verdict.mismatches == 0
    assert verdict.delivered == 3
    assert [sent.name for sent in verdict.refused] == ["refused"]


@pytest.mark.parametrize("data", [MAIL[:-1], MAIL + b"\n", MAIL.replace(b"x", b"y"), b"", b"X-Other: 1\r\n" + MAIL])
def test_any_changed_byte_is_found(data: bytes) -> None:
    """An altered message is both lost and found as something that nobody sent."""
    ledger = Ledger()
    ledger.enter(outgoing(), ("alice",), ACCEPTED)
    place = ledger.find(found(data))

    verdict = ledger.verdict()

    assert verdict.altered == (place,)
    assert [sent.name for sent in verdict.lost] == ["m"]
    assert verdict.delivered == 0


def test_missing_copy_is_lost() -> None:
    """One of two recipients did not get it."""
    ledger = Ledger()
    ledger.enter(outgoing(), ("alice", "bob"), ACCEPTED)
    ledger.find(found())
    verdict = ledger.verdict()
    assert [sent.name for sent in verdict.lost] == ["m"]
    assert verdict.mismatches == 1


def test_second_copy_and_copy_at_another_account_are_repeated() -> None:
    """Found more often than accepted, wherever."""
    ledger = Ledger()
    ledger.enter(outgoing(), ("alice",), ACCEPTED)
    ledger.find(found())
    second, elsewhere = ledger.find(found(uid=2, mailbox="Junk")), ledger.find(found(user="bob"))
    verdict = ledger.verdict()
    assert verdict.repeated == (second, elsewhere)
    assert not verdict.lost


@pytest.mark.parametrize("answer", [REFUSED, Answer(NO_ANSWER, "connection failed", 0.0, "")])
def test_message_that_was_not_accepted_must_not_be_found(answer: Answer) -> None:
    """Refused means not stored."""
    ledger = Ledger()
    ledger.enter(outgoing(), ("alice",), answer)
    place = ledger.find(found())
    assert ledger.verdict().repeated == (place,)


def test_fields_that_rules_add_are_taken_off_and_counted() -> None:
    """Only those, only at the top, folded lines with them; a message sent with such a field is compared whole."""
    ledger = Ledger()
    own = ADDED + MAIL
    ledger.enter(outgoing(), ("alice",), ACCEPTED)
    ledger.enter(outgoing(own, "own"), ("bob",), ACCEPTED)
    place = ledger.find(found(ADDED_FIELDS[0] + b": a\r\n\tb\r\n" + ADDED + MAIL))
    kept = ledger.find(found(own, user="bob"))

    assert ledger.verdict().mismatches == 0
    assert (place.added_fields, kept.added_fields) == (2, 0)
    assert strip_added(b"Subject: x\r\n" + ADDED) == (b"Subject: x\r\n" + ADDED, 0)


@pytest.mark.parametrize(
    ("wire", "fits"),
    [
        (b"a\r\n", True),
        (b".\r\n..\r\n", True),
        (b"\xff\r\n", True),
        (b"a", False),
        (b"", False),
        (b"a\n", False),
        (b"a\rb\r\n", False),
        (b"a\r\r\n", False),
        (b"\0\r\n", False),
    ],
)
def test_only_what_data_carries_unchanged_goes_by_data(wire: bytes, fits: bool) -> None:
    """Everything else goes by BDAT."""
    assert fits_data(wire) is fits


def test_batches_are_bounded_in_number_and_size() -> None:
    """Every UID once, in order; a huge message alone."""
    sizes = dict.fromkeys(range(1, 451), 10) | {451: 1 << 30, 452: 10}
    cut = list(batches(sizes))
    assert [uid for batch in cut for uid in batch] == list(sizes)
    assert [len(batch) for batch in cut] == [200, 200, 50, 1, 1]
    assert list(batches({})) == []
