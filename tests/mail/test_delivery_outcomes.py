"""From decisions to copies, answers and what leaves: all combinations that matter, without a server."""

from __future__ import annotations

from itertools import permutations

from spinrt.mail.host.context import RecipientContext
from spinrt.mail.host.effects import Decision, Notify, Redirect, Refusal
from spinrt.mail.outcomes import copies_of, fold_refusals, mailboxes_of, outbound_of
from spinrt.mail.store.model import Body, Copy, Extent

LATER, NEVER, ALSO_NEVER = (Refusal(code, "x", str(code)) for code in (451, 550, 554))
ALICE = RecipientContext("alice@example.org", "alice", None)


def test_one_permanent_refusal_decides() -> None:
    """Whatever the order: permanent before temporary before none; the first among equals."""
    for order in permutations([None, LATER, NEVER]):
        assert fold_refusals(order) is NEVER
    assert fold_refusals([None, LATER]) is LATER
    assert fold_refusals([None, None]) is None
    assert fold_refusals([ALSO_NEVER, NEVER]) is ALSO_NEVER


def test_where_copies_go() -> None:
    """INBOX when nobody filed; nowhere when refused or discarded, whatever else was asked for."""
    assert mailboxes_of(Decision()) == ["INBOX"]
    assert mailboxes_of(Decision(mailboxes=["a", "b"])) == ["a", "b"]
    assert mailboxes_of(Decision(mailboxes=["a"], discarded=True)) == []
    assert mailboxes_of(Decision(mailboxes=["a"], refusal=NEVER)) == []


def test_recipients_of_one_user_share_copies() -> None:
    """One copy for each user and mailbox; flags and added fields add up, each once, the last field on top."""
    first = Decision(mailboxes=["a", "b"], flags=["$x"], headers=[b"A: 1\r\n", b"B: 2\r\n"])
    second = Decision(mailboxes=["a"], flags=["$y", "$x"], headers=[b"A: 1\r\n"])
    bob = RecipientContext("bob@example.org", "bob", None)
    assert copies_of([(ALICE, second)]) == (Copy("alice", "a", ("$y", "$x"), b"A: 1\r\n"),)
    assert copies_of([(ALICE, first), (ALICE, second), (bob, second)]) == (
        Copy("alice", "a", ("$x", "$y"), b"B: 2\r\nA: 1\r\n"),
        Copy("alice", "b", ("$x",), b"B: 2\r\nA: 1\r\n"),
        Copy("bob", "a", ("$y", "$x"), b"A: 1\r\n"),
    )


def test_what_leaves_leaves_once() -> None:
    """A redirect goes once to each address, below its mark and with the sender; notices go with the null sender."""
    body = Body(b"d" * 32, 10, (Extent(0, 0, 10),))
    redirect = Redirect("ext", "x@example.com", ALICE, b"Mark: 1\r\n")
    notice = Notify("ext", "y@example.com", b"text")
    first, second = outbound_of(
        [(ALICE, Decision(outbound=[redirect, notice])), (ALICE, Decision(outbound=[redirect]))], "s@example.net", body
    )
    assert outbound_of([(ALICE, Decision())], "s@example.net", body) == ()
    assert (first.kind, first.sender, first.recipient) == ("redirect", "s@example.net", "x@example.com")
    assert first.body == Body(body.digest, 19, body.extents, b"Mark: 1\r\n")
    assert (second.kind, second.sender, second.recipient, second.body, second.text) == (
        "notify",
        "",
        "y@example.com",
        None,
        b"text",
    )
