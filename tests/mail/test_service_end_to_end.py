"""Real mail through the real extensions: SMTP and LMTP in, IMAP out."""

from __future__ import annotations

import smtplib
from pathlib import Path

from tests.mail.service_support import Dialogue, config_of, fetch, message, send, serving, shipped


def test_smtp_to_imap_keeps_every_byte(tmp_path: Path) -> None:
    """What smtplib sends through three extensions, imaplib reads back, byte for byte."""
    body = "".join(f".line {n} \xe4\r\n" for n in range(200))
    sent = message("bytes", "Message-ID: <1@example.net>", "X-Odd:  two  blanks ", body=body)
    with serving(config_of(tmp_path)) as service:
        with smtplib.SMTP(*service.address("smtp"), timeout=20) as client:
            assert client.sendmail("s@example.net", ["alice@example.org"], sent, ["BODY=8BITMIME"]) == {}
        assert [body for body, _ in fetch(service, "alice")] == [sent]
        assert fetch(service, "bob") == []


def test_rules_file_and_flag(tmp_path: Path) -> None:
    """The delivery extension files by list and detail, and flags."""
    rules = "\n".join(
        [
            "header Subject contains urgent -> flag '\\Flagged'",
            "list exists -> file 'INBOX/lists/${list}'; stop",
            "detail exists -> file 'INBOX/${detail}'; stop",
        ]
    )
    with serving(config_of(tmp_path, extensions=shipped(rules))) as service:
        send(service, message("a", "List-Id: The list <dev.example.net>"), "alice@example.org")
        send(service, message("urgent b"), "alice+shop@example.org")
        send(service, message("urgent c"), "alice@example.org")
        by_list = fetch(service, "alice", "INBOX/lists/dev")
        by_detail = fetch(service, "alice", "INBOX/shop")
        rest = fetch(service, "alice")
    assert [b"Subject: a" in body for body, _ in by_list] == [True]
    assert [b"Subject: urgent b" in body and "\\Flagged" in flags for body, flags in by_detail] == [True]
    assert [b"Subject: urgent c" in body and "\\Flagged" in flags for body, flags in rest] == [True]


def test_added_header_stands_on_top_and_bytes_below_are_kept(tmp_path: Path) -> None:
    """An added field is a prefix of the copy; the message below it is as it was sent."""
    rules = "always -> header X-One first; header X-Two 'second field'"
    sent = message("marked")
    with serving(config_of(tmp_path, extensions=shipped(rules))) as service:
        send(service, sent, "alice@example.org")
        [(stored, _)] = fetch(service, "alice")
    assert stored == b"X-Two: second field\r\nX-One: first\r\n" + sent


def test_reports_say_what_each_extension_did(tmp_path: Path) -> None:
    """An observer learns effects by extension, where copies lie, and times that add up."""
    with serving(config_of(tmp_path)) as service:
        [answer] = send(service, message("x", "Message-ID: <m@example.net>"), "alice+shop@example.org")
        [report] = service.reports
    assert report.delivery_id in answer
    assert report.placed == (("alice", "INBOX/shop", 1),)
    assert report.codes == (250,)
    assert set(report.extensions) == {"delivery", "undo-hook", "audit"}
    assert report.extensions["delivery"].effects == ["file into INBOX/shop"]
    assert any(text.startswith("log ") for text in report.extensions["audit"].effects)
    assert any(text.startswith("tag ") for text in report.extensions["undo-hook"].effects)
    assert 0 < report.extensions_ns < report.work_ns < report.message_ns


def test_messages_are_there_after_a_restart(tmp_path: Path) -> None:
    """What was acknowledged before a stop is read after the next start; new mail goes behind it."""
    config = config_of(tmp_path)
    with serving(config) as service:
        send(service, message("before"), "alice@example.org")
    with serving(config) as service:
        send(service, message("after"), "alice@example.org")
        found = fetch(service, "alice")
    assert [b"Subject: before" in body for body, _ in found] == [True, False]
    assert len(found) == 2


def test_lmtp_gives_each_recipient_its_own_answer(tmp_path: Path) -> None:
    """Over LMTP a refusal concerns one recipient; the others get the message."""
    rules = "user is bob -> reject 550 '5.7.1 bob wants nothing'"
    with serving(config_of(tmp_path, extensions=shipped(rules))) as service:
        answers = send(service, message("both"), "alice@example.org", "bob@example.org", protocol="lmtp")
        assert [answer[:9] for answer in answers] == ["250 2.6.0", "550 5.7.1"]
        assert len(fetch(service, "alice")) == 1
        assert fetch(service, "bob") == []


def test_smtp_gives_one_answer_and_stores_all_or_nothing(tmp_path: Path) -> None:
    """Over SMTP a refusal by one recipient refuses the transaction; the session goes on."""
    rules = "user is bob and header Subject contains bad -> reject 550 'no'"
    with serving(config_of(tmp_path, extensions=shipped(rules))) as service:
        with Dialogue(service.address("smtp")) as peer:
            peer.begin("alice@example.org", "bob@example.org")
            assert peer.data(message("bad"))[0] == "550 5.7.1 no"
            peer.begin("alice@example.org", "bob@example.org")
            assert peer.data(message("good"))[0].startswith("250 2.6.0 accepted as ")
        for user in ("alice", "bob"):
            assert [b"Subject: good" in body for body, _ in fetch(service, user)] == [True]
        assert [report.codes for report in service.reports] == [(550,), (250,)]


def test_recipients_of_one_user_share_a_copy(tmp_path: Path) -> None:
    """Two addresses of one account: one copy in each mailbox that either is filed into."""
    with serving(config_of(tmp_path)) as service:
        send(service, message(), "alice@example.org", "ALICE@example.org", "alice+x@example.org")
        assert len(fetch(service, "alice")) == 1
        assert len(fetch(service, "alice", "INBOX/x")) == 1


def test_discarded_message_is_accepted_and_kept_nowhere(tmp_path: Path) -> None:
    """A discard answers 250 and leaves no copy."""
    with serving(config_of(tmp_path, extensions=shipped("always -> discard"))) as service:
        assert send(service, message(), "alice@example.org")[0].startswith("250 ")
        assert fetch(service, "alice") == []
        assert service.reports[0].placed == ()
