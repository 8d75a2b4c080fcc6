"""Real client libraries against the real server over the real store."""

from __future__ import annotations

import imaplib
from datetime import UTC, datetime

import imapclient
import pytest

from tests.mail.imap.conftest import PASSWORD, USER

MESSAGE = b"From: Alice <alice@example.org>\r\nTo: bob@example.org\r\nSubject: hello\r\n\r\nFirst line\r\n.dot\r\n"


def test_imaplib_walks_through_a_session(port: int) -> None:
    """The standard library appends, reads back byte for byte, flags, copies and expunges."""
    client = imaplib.IMAP4("127.0.0.1", port)
    client.login(USER, PASSWORD)
    assert client.append("INBOX", r"(\Flagged)", imaplib.Time2Internaldate(1_700_000_000), MESSAGE)[0] == "OK"
    assert client.select("INBOX") == ("OK", [b"1"])

    answer = client.fetch("1", "(FLAGS RFC822.SIZE BODY.PEEK[])")[1][0]
    assert isinstance(answer, tuple)
    assert answer[1] == MESSAGE
    assert b"RFC822.SIZE %d" % len(MESSAGE) in answer[0]
    assert client.search(None, "UNSEEN", "SUBJECT", "hello") == ("OK", [b"1"])
    assert client.store("1", "+FLAGS", r"(\Deleted)")[0] == "OK"
    assert client.copy("1", "Archive")[0] == "OK"
    assert client.expunge() == ("OK", [b"1"])
    assert client.search(None, "ALL") == ("OK", [b""])
    assert client.status("Archive", "(MESSAGES UIDNEXT)")[1] == [b"Archive (MESSAGES 1 UIDNEXT 2)"]
    assert client.close()[0] == "OK"
    assert client.logout()[0] == "BYE"


def test_imapclient_walks_through_a_session(port: int) -> None:
    """imapclient finds special folders, uses UIDs, moves, idles and parses envelopes and structures."""
    with imapclient.IMAPClient("127.0.0.1", port, ssl=False) as client:
        client.login(USER, PASSWORD)
        assert client.find_special_folder(b"\\Sent") == "Sent"
        client.create_folder("Entwürfe/日本")
        assert "Entwürfe/日本" in [name for _, _, name in client.list_folders()]
        moment = datetime(2024, 2, 29, 12, 0, tzinfo=UTC)
        client.append("INBOX", MESSAGE, [imapclient.SEEN], moment)
        assert client.select_folder("INBOX")[b"EXISTS"] == 1
        [uid] = client.search(["SEEN"])

        data = client.fetch([uid], ["ENVELOPE", "BODYSTRUCTURE", "INTERNALDATE", "BODY[TEXT]"])[uid]

        assert data[b"ENVELOPE"].subject == b"hello"
        assert data[b"ENVELOPE"].from_[0].mailbox == b"alice"
        assert data[b"BODYSTRUCTURE"][:2] == (b"text", b"plain")
        assert data[b"INTERNALDATE"].astimezone(UTC) == moment
        assert data[b"BODY[TEXT]"] == b"First line\r\n.dot\r\n"
        client.add_flags([uid], [imapclient.FLAGGED, "$Label"])
        assert set(client.get_flags([uid])[uid]) >= {b"\\Flagged", b"\\Seen", b"$Label"}
        client.idle()
        assert client.idle_done()
        client.move([uid], "Entwürfe/日本")
        assert client.folder_status("Entwürfe/日本", ["MESSAGES"])[b"MESSAGES"] == 1
        assert client.search(["ALL"]) == []
        client.rename_folder("Entwürfe/日本", "Alt")
        client.delete_folder("Alt")
        assert not client.folder_exists("Alt")


def test_wrong_password_and_unknown_mailbox_are_errors_of_the_client(port: int) -> None:
    """A refused command raises in the client and leaves the session usable."""
    client = imaplib.IMAP4("127.0.0.1", port)
    with pytest.raises(imaplib.IMAP4.error, match="wrong user name or password"):
        client.login(USER, "wrong")
    client.login(USER, PASSWORD)
    assert client.select("Nowhere")[0] == "NO"
    assert client.noop()[0] == "OK"
    client.logout()
