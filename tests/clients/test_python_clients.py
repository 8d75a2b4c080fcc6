"""Python's own clients, and imapclient, against ``spinrt serve``."""

from __future__ import annotations

import imaplib
import smtplib
import ssl
from email.message import EmailMessage

import imapclient
import pytest

from tests.clients.conftest import PASSWORD, Server

MESSAGE = b"From: a@example.net\r\nTo: alice@example.org\r\nSubject: hello\r\n\r\n.dot\r\nna\xefve\r\n"


def tls(server: Server) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=server.certificate)


def test_smtplib_plain_and_pipelined_recipients(server: Server) -> None:
    """Several recipients, one of them unknown: the others get it byte for byte, dots and 8-bit included."""
    with smtplib.SMTP("127.0.0.1", server.ports["smtp"], timeout=20) as client:
        refused = client.sendmail(
            "a@example.net",
            ["alice@example.org", "nobody@example.org", "bob@example.org"],
            MESSAGE,
            mail_options=["BODY=8BITMIME"],
        )
        assert set(refused) == {"nobody@example.org"}
        assert refused["nobody@example.org"][0] == 550
        assert client.noop()[0] == 250
    assert server.bodies("alice") == server.bodies("bob") == [MESSAGE]


def test_smtplib_starttls_and_login(server: Server) -> None:
    """Certificate verified, AUTH offered behind it, a submission under one's own address, not under another's."""
    with smtplib.SMTP("127.0.0.1", server.ports["submission"], timeout=20) as client:
        client.starttls(context=tls(server))
        client.login("alice", PASSWORD)
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = "alice@example.org", "bob@example.org", "Grüße"
        message.set_content("Ω\n")
        assert client.send_message(message) == {}
        with pytest.raises(smtplib.SMTPSenderRefused) as caught:
            client.sendmail("bob@example.org", ["bob@example.org"], MESSAGE)
        assert caught.value.smtp_code == 553
    assert len(server.bodies("bob")) == 1


@pytest.mark.parametrize("mechanism", ["auth_plain", "auth_login"])
def test_smtplib_authenticates_over_implicit_tls(mechanism: str, server: Server) -> None:
    """Both mechanisms; a wrong password is 535."""
    with smtplib.SMTP_SSL("127.0.0.1", server.ports["smtps"], timeout=20, context=tls(server)) as client:
        client.ehlo()
        client.user, client.password = "alice", PASSWORD
        name = mechanism.removeprefix("auth_").upper()
        assert client.auth(name, getattr(client, mechanism))[0] == 235
    with smtplib.SMTP_SSL("127.0.0.1", server.ports["smtps"], timeout=20, context=tls(server)) as client:
        with pytest.raises(smtplib.SMTPAuthenticationError) as caught:
            client.login("alice", "wrong")
        assert caught.value.smtp_code == 535


def test_smtplib_lmtp_gives_one_reply_for_each_recipient(server: Server) -> None:
    """The standard library reads one; the second is there too."""
    with smtplib.LMTP("127.0.0.1", server.ports["lmtp"], timeout=20) as client:
        client.ehlo_or_helo_if_needed()
        client.mail("a@example.net")
        assert client.rcpt("alice@example.org")[0] == 250
        assert client.rcpt("bob@example.org")[0] == 250
        assert client.data(MESSAGE)[0] == 250
        assert client.getreply()[0] == 250
    assert server.bodies("alice") == server.bodies("bob") == [MESSAGE]


def test_imaplib_starttls_and_implicit_tls(server: Server) -> None:
    """Both ways to TLS; APPEND, FETCH, SEARCH, STORE, COPY, EXPUNGE as the standard library does them."""
    plain = imaplib.IMAP4("127.0.0.1", server.ports["imap"], timeout=20)
    plain.starttls(tls(server))
    implicit = imaplib.IMAP4_SSL("127.0.0.1", server.ports["imaps"], ssl_context=tls(server), timeout=20)
    for client in (plain, implicit):
        client.login("alice", PASSWORD)
        client.select("INBOX")
        assert client.append("INBOX", "", imaplib.Time2Internaldate(1_700_000_000), MESSAGE)[0] == "OK"
        client.noop()
        [numbers] = client.search(None, "SUBJECT", "hello")[1]
        number = numbers.split()[-1].decode()
        [part, _] = client.fetch(number, "(BODY.PEEK[])")[1]
        assert isinstance(part, tuple)
        assert part[1] == MESSAGE
        assert client.copy(number, "Archive")[0] == "OK"
        assert client.store(number, "+FLAGS", r"(\Deleted)")[0] == "OK"
        assert client.expunge()[1] == [number.encode()]
        client.logout()
    assert server.bodies("alice", "Archive") == [MESSAGE, MESSAGE]


def test_imapclient_sees_delivery_while_idle(server: Server) -> None:
    """What SMTP accepts, IDLE announces, and the message is there as sent."""
    with imapclient.IMAPClient("127.0.0.1", server.ports["imap"], ssl=False, timeout=20) as client:
        client.starttls(tls(server))
        client.login("alice", PASSWORD)
        client.select_folder("INBOX")
        client.idle()
        server.send(MESSAGE)
        told = client.idle_check(timeout=20)
        client.idle_done()
        assert (1, b"EXISTS") in told
        [uid] = client.search()
        assert client.fetch([uid], ["BODY.PEEK[]"])[uid][b"BODY[]"] == MESSAGE
        assert client.find_special_folder(b"\\Junk") == "Junk"
        client.move([uid], "Junk")
        assert client.search() == []
    assert server.bodies("alice", "Junk") == [MESSAGE]
