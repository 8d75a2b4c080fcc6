"""``spinrt:mail/outbound`` and ``spinrt:undo/tags``: what may leave, loops, and what is attached."""

from __future__ import annotations

import email
import email.policy

import pytest

from spinrt._core import Tag
from spinrt.errors import ConfigError
from spinrt.mail.host.effects import Notify, Redirect
from spinrt.mail.host.outbound import OutboundInterface
from spinrt.mail.host.tags import TagsInterface
from spinrt.sandbox.types import Err, Ok
from tests.mail.host_support import bind, delivering

INTERFACE = OutboundInterface("mail.example.org", now_s=lambda: 1_700_000_000.0)


@pytest.mark.parametrize(
    ("address", "answer"),
    [
        ("a@example.com", Ok()),
        ("A@EXAMPLE.com", Ok()),
        ("a@example.net", Err("not-granted")),
        ("a", Err("malformed")),
        ("a@example.com>\r\nRCPT TO:<x@y", Err("malformed")),
        ("a@example.com, b@example.com", Err("malformed")),
    ],
)
def test_redirects_go_only_where_the_grant_allows(address: str, answer: object) -> None:
    """Patterns bound the addresses; what is no address is malformed."""
    redirect = bind(INTERFACE, "redirect", {"addresses": ["*@example.com"]})
    assert redirect(delivering(), address) == answer


def test_a_message_that_came_back_is_not_redirected_again() -> None:
    """The mark of an earlier redirect for the same recipient ends the loop; another's mark does not."""
    redirect = bind(INTERFACE, "redirect")
    call = delivering()
    assert redirect(call, "a@example.com") == Ok()
    [effect] = call.journal.effects
    assert isinstance(effect, Redirect)
    again = effect.trace + b"Subject: x\r\n\r\n"
    assert redirect(delivering(again), "a@example.com") == Err("too-many")
    assert redirect(delivering(again.replace(b"alice", b"bob")), "a@example.com") == Ok()


def test_redirects_are_counted() -> None:
    """``redirect_max`` bounds the redirects of one recipient's delivery."""
    redirect = bind(INTERFACE, "redirect", {"redirect_max": 2})
    call = delivering()
    answers = [redirect(call, f"{name}@example.com") for name in "abc"]
    assert answers == [Ok(), Ok(), Err("too-many")]
    for bad in (-1, True, "3", 1000):
        with pytest.raises(ConfigError, match="redirect_max"):
            bind(INTERFACE, "redirect", {"redirect_max": bad})


def test_a_notice_is_a_message_that_nothing_answers() -> None:
    """Null sender is the queue's; the message says that it is automatic, and its texts are where they belong."""
    call = delivering()
    notify = bind(INTERFACE, "notify")
    assert notify(call, "a@example.com", "M\xe4il for you", "line\n.\nBcc: x@y\n\xe4") == Ok()
    [effect] = call.journal.effects
    assert isinstance(effect, Notify)
    found = email.message_from_bytes(effect.text, policy=email.policy.default)
    assert (found["To"], found["Subject"], found["Auto-Submitted"]) == (
        "a@example.com",
        "M\xe4il for you",
        "auto-generated",
    )
    assert found["Bcc"] is None and "Bcc: x@y" in found.get_content()
    assert b"\n" not in effect.text.replace(b"\r\n", b"")


def test_notices_are_refused_where_they_could_loop_or_forge() -> None:
    """No notice about bounces and automatic messages; no line break in a subject."""
    notify = bind(INTERFACE, "notify")
    automatic = b"Auto-Submitted: auto-replied; x\r\n\r\n"
    assert notify(delivering(sender=""), "a@example.com", "s", "t") == Err("too-many")
    assert notify(delivering(automatic), "a@example.com", "s", "t") == Err("too-many")
    assert notify(delivering(b"Auto-Submitted: no\r\n\r\n"), "a@example.com", "s", "t") == Ok()
    assert notify(delivering(), "a@example.com", "s\r\nBcc: x@y", "t") == Err("malformed")
    assert notify(delivering(), "a@example.com", "s", "t" * 20_000) == Err("malformed")
    assert notify(None, "a@example.com", "s", "t") == Err("no-delivery")


def test_tags_belong_to_a_transaction() -> None:
    """They can be attached whenever a transaction is handled, within their bounds."""
    tag = bind(TagsInterface(), "tag", {"keys": ["undo-*"]})
    call = delivering(deciding=False)
    assert tag(call, "undo-a", b"\0\xff") == Ok()
    assert call.journal.effects == [Tag("guest", "undo-a", b"\0\xff")]
    assert tag(None, "undo-a", b"") == Err("no-transaction")
    assert tag(call, "other", b"") == Err("not-granted")
    assert tag(call, "undo-b", bytes(4097)) == Err("malformed")
    assert tag(call, "", b"") == Err("malformed")
    assert tag(call, "undo-\n", b"") == Err("malformed")
