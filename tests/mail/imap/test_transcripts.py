"""Conversations line by line: what the server answers, in which order."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Callable
from typing import Any

import pytest

from spinrt.mail.imap.limits import ImapLimits
from spinrt.mail.imap.server import ImapServer
from spinrt.mail.store.model import Append, Expunge, FlagsMode, StoreFlags
from spinrt.mail.store.store import Store
from tests.mail.imap.conftest import PASSWORD, USER, Client

Serve = Callable[..., Any]

MAIL = (
    b"Date: Thu, 29 Feb 2024 12:00:00 +0100\r\nFrom: A <a@example.org>\r\nTo: b@example.org\r\nSubject: one\r\n\r\n"
    b"body\r\n"
)


async def fill(client: Client, count: int, mailbox: str = "INBOX") -> None:
    for index in range(count):
        answer = await client.append(mailbox, MAIL.replace(b"one", b"number %d" % (index + 1)))
        assert answer.startswith(b"OK [APPENDUID"), answer


def flags_of(line: bytes) -> set[bytes]:
    match = re.search(rb"FLAGS \(([^)]*)\)", line)
    assert match is not None, line
    return set(match[1].split())


def test_greeting_and_login_from_loopback(serve: Serve) -> None:
    """The greeting tells the capabilities; a login from loopback needs no TLS and tells the rest of them."""

    async def scenario(server: ImapServer, _: Store) -> None:
        client = await Client.connect(server)
        assert client.greeting.startswith(b"* OK [CAPABILITY IMAP4rev1")
        assert b"AUTH=PLAIN" in client.greeting and b"LOGINDISABLED" not in client.greeting
        assert await client.run("SELECT INBOX") == [b"BAD SELECT has no meaning in the state: not authenticated"]
        assert (await client.run("LOGIN alice wrong"))[-1].startswith(b"NO [AUTHENTICATIONFAILED]")
        answer = await client.run(f"LOGIN {USER} {PASSWORD}")
        assert answer[-1].startswith(b"OK [CAPABILITY IMAP4rev1")
        for word in (
            b"IDLE",
            b"UIDPLUS",
            b"MOVE",
            b"CONDSTORE",
            b"SPECIAL-USE",
            b"NAMESPACE",
            b"UNSELECT",
            b"LITERAL+",
        ):
            assert word in answer[-1]
        assert await client.run("LOGOUT") == [b"* BYE logging out", b"OK LOGOUT completed"]
        assert await client.line() == b""

    serve(scenario)


@pytest.mark.parametrize("initial", [True, False])
def test_authenticate_plain(serve: Serve, initial: bool) -> None:
    """AUTHENTICATE PLAIN works with an initial response and with a continuation."""

    async def scenario(server: ImapServer, _: Store) -> None:
        client = await Client.connect(server)
        response = base64.b64encode(f"\0{USER}\0{PASSWORD}".encode())
        if initial:
            client.send(b"a AUTHENTICATE PLAIN " + response + b"\r\n")
        else:
            client.send(b"a AUTHENTICATE PLAIN\r\n")
            assert await client.line() == b"+ "
            client.send(response + b"\r\n")
        assert (await client.until(b"a"))[-1].startswith(b"OK [CAPABILITY")

    serve(scenario)


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (b"*", b"BAD authentication was cancelled"),
        (b"!!!", b"BAD the response is not base64"),
        (base64.b64encode(b"no separators"), b"BAD the response of PLAIN is identity NUL user NUL password"),
        (base64.b64encode(b"bob\0alice\0sesame"), b"NO [AUTHORIZATIONFAILED] acting for another user is not possible"),
        (base64.b64encode(b"\0\xff\0x"), b"NO [AUTHENTICATIONFAILED] wrong user name or password"),
    ],
)
def test_authenticate_refuses_bad_responses(serve: Serve, response: bytes, answer: bytes) -> None:
    """Whatever the client sends in place of a SASL response, the answer is one line and the session lives."""

    async def scenario(server: ImapServer, _: Store) -> None:
        client = await Client.connect(server)
        client.send(b"a AUTHENTICATE PLAIN\r\n")
        await client.line()
        client.send(response + b"\r\n")
        assert await client.until(b"a") == [answer]
        assert await client.run("NOOP") == [b"OK NOOP completed"]

    serve(scenario)


def test_three_wrong_passwords_end_the_connection(serve: Serve) -> None:
    """Guessing passwords costs connections."""

    async def scenario(server: ImapServer, _: Store) -> None:
        client = await Client.connect(server)
        for _ in range(3):
            assert (await client.run("LOGIN alice no"))[-1].startswith(b"NO [AUTHENTICATIONFAILED]")
        assert await client.line() == b"* BYE too many failed logins"
        assert await client.line() == b""

    serve(scenario)


def test_select_describes_the_mailbox(serve: Serve) -> None:
    """SELECT tells flags, counts, UIDs and HIGHESTMODSEQ; EXAMINE is read-only and takes no recent messages."""

    async def scenario(server: ImapServer, _: Store) -> None:
        client = await Client.logged_in(server)
        await fill(client, 3)
        examined = await client.run("EXAMINE INBOX")
        assert examined[-1] == b"OK [READ-ONLY] EXAMINE completed"
        assert b"* OK [PERMANENTFLAGS ()] flags that are kept" in examined
        assert (await client.run("STORE 1 +FLAGS (\\Seen)"))[-1] == b"NO the mailbox was selected read-only"
        selected = await client.run("SELECT inbox")
        assert selected[:4] == [
            b"* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)",
            b"* OK [PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft \\*)] flags that are kept",
            b"* 3 EXISTS",
            b"* 3 RECENT",
        ]
        text = b"\n".join(selected)
        assert b"[UIDNEXT 4]" in text and b"[UNSEEN 1]" in text
        assert re.search(rb"\[UIDVALIDITY [1-9]\d*\]", text) and re.search(rb"\[HIGHESTMODSEQ [1-9]\d*\]", text)
        assert selected[-1] == b"OK [READ-WRITE] SELECT completed"
        again = await Client.logged_in(server)
        assert b"* 0 RECENT" in await again.run("SELECT INBOX")
        assert await client.run("SELECT nowhere") == [b"NO [NONEXISTENT] no such mailbox"]
        assert (await client.run("FETCH 1 FLAGS"))[-1].startswith(b"BAD FETCH has no meaning")

    serve(scenario)


def test_fetch_numbers_beyond_the_mailbox(serve: Serve) -> None:
    """A sequence number past the last is BAD, a UID that is not there is ignored, ``*`` is the last."""

    async def scenario(server: ImapServer, _: Store) -> None:
        client = await Client.logged_in(server)
        await client.run("SELECT INBOX")
        assert await client.run("FETCH 1:* FLAGS") == [b"OK FETCH completed"]
        assert await client.run("UID FETCH 1:* FLAGS") == [b"OK FETCH completed"]
        assert await client.run("FETCH 1 FLAGS") == [b"BAD there is no message 1; the mailbox has 0"]
        assert await client.run("SEARCH ALL") == [b"* SEARCH", b"OK SEARCH completed"]
        await fill(client, 3)
        await client.run("NOOP")
        assert await client.run("FETCH 4 UID") == [b"BAD there is no message 4; the mailbox has 3"]
        assert await client.run("FETCH 2,*:3,3 (UID)") == [
            b"* 2 FETCH (UID 2)",
            b"* 3 FETCH (UID 3)",
            b"OK FETCH completed",
        ]
        assert await client.run("UID FETCH 559:* UID") == [b"* 3 FETCH (UID 3)", b"OK FETCH completed"]
        assert await client.run("UID FETCH 77 UID") == [b"OK FETCH completed"]
        assert (await client.run("FETCH 0 UID"))[-1].startswith(b"BAD message number 0")

    serve(scenario)


def test_fetch_items(serve: Serve) -> None:
    """Every plain data item, and the macros, as RFC 3501 writes them."""

    async def scenario(server: ImapServer, _: Store) -> None:
        client = await Client.logged_in(server)
        await client.append("INBOX", MAIL, '(\\Seen) "29-Feb-2024 12:00:00 +0130" ')
        await client.run("EXAMINE INBOX")
        [line, _] = await client.run("FETCH 1 FULL")
        assert line == (
            b'* 1 FETCH (FLAGS (\\Seen \\Recent) INTERNALDATE "29-Feb-2024 12:00:00 +0130" RFC822.SIZE %d '
            b'ENVELOPE ("Thu, 29 Feb 2024 12:00:00 +0100" "one" (("A" NIL "a" "example.org")) '
            b'(("A" NIL "a" "example.org")) (("A" NIL "a" "example.org")) '
            b'((NIL NIL "b" "example.org")) NIL NIL NIL NIL) '
            b'BODY ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 6 1))' % len(MAIL)
        )
        header, body = MAIL[:-6], MAIL[-6:]
        for item, expected in (
            (b"RFC822", MAIL),
            (b"RFC822.HEADER", header),
            (b"RFC822.TEXT", body),
            (b"BODY[]", MAIL),
            (b"BODY[HEADER]", header),
            (b"BODY[TEXT]", body),
            (b"BODY[1]", body),
            (b"BODY[1.MIME]", header),
            (b"BODY[HEADER.FIELDS (Subject X)]", b"Subject: one\r\n\r\n"),
            (b"BODY[HEADER.FIELDS.NOT (DATE from to)]", b"Subject: one\r\n\r\n"),
        ):
            [line, _] = await client.run(b"FETCH 1 " + item)
            assert line == b"* 1 FETCH (" + item + b" {%d}\r\n" % len(expected) + expected + b")"
        assert (await client.run("FETCH 1 BODY.PEEK[]<5.4>"))[0] == b"* 1 FETCH (BODY[]<5> {4}\r\n Thu)"
        assert (await client.run("FETCH 1 BODY.PEEK[]<9999.4>"))[0] == b"* 1 FETCH (BODY[]<9999> {0}\r\n)"
        assert (await client.run("FETCH 1 BODY[2]"))[0] == b"* 1 FETCH (BODY[2] NIL)"
        assert (await client.run("FETCH 1 BODY[1.HEADER]"))[0] == b"* 1 FETCH (BODY[1.HEADER] NIL)"

    serve(scenario)


def test_fetch_of_a_body_sets_seen(serve: Serve) -> None:
    r"""BODY[] sets \Seen and says so in the same answer; PEEK, RFC822.HEADER and EXAMINE do not."""

    async def scenario(server: ImapServer, _: Store) -> None:
        client = await Client.logged_in(server)
        await fill(client, 2)
        await client.run("EXAMINE INBOX")
        assert b"FLAGS" not in (await client.run("FETCH 1 BODY[]"))[0]
        await client.run("SELECT INBOX")
        await client.run("FETCH 1 (BODY.PEEK[TEXT] RFC822.HEADER)")
        assert b"\\Seen" not in flags_of((await client.run("FETCH 1 FLAGS"))[0])
        answer = await client.run("FETCH 1 BODY[TEXT]")
        assert len(answer) == 2 and b"\\Seen" in flags_of(answer[0])
        assert len(await client.run("FETCH 1 BODY[TEXT]")) == 2
        assert b"* OK [UNSEEN 2] first unseen" in await client.run("SELECT INBOX")

    serve(scenario)


def test_store_and_silence(serve: Serve) -> None:
    """STORE tells the new flags unless silent; another session hears of them; keywords are kept."""

    async def scenario(server: ImapServer, _: Store) -> None:
        one, two = await Client.logged_in(server), await Client.logged_in(server)
        await fill(one, 2)
        await one.run("SELECT INBOX")
        await two.run("SELECT INBOX")
        answer = await one.run("STORE 1 +FLAGS (\\flagged $Work)")
        assert flags_of(answer[0]) == {b"\\Flagged", b"$Work", b"\\Recent"} and len(answer) == 2
        assert await one.run("UID STORE 2 FLAGS.SILENT (\\Draft)") == [b"OK STORE completed"]
        heard = await two.run("NOOP")
        assert heard == [
            b"* 1 FETCH (UID 1 FLAGS (\\Flagged $Work))",
            b"* 2 FETCH (UID 2 FLAGS (\\Draft))",
            b"OK NOOP completed",
        ]
        assert (await one.run("UID STORE 2 -FLAGS (\\Draft)"))[0] == b"* 2 FETCH (UID 2 FLAGS (\\Recent))"
        assert (await one.run("STORE 1 FLAGS (\\Bogus)"))[-1] == b"BAD flag \\Bogus cannot be set"
        assert await one.run("NOOP") == [b"OK NOOP completed"]

    serve(scenario)


def test_expunge_is_told_only_when_numbers_may_change(serve: Serve) -> None:
    """Another session learns of an EXPUNGE at NOOP or a UID command, never during FETCH, STORE or SEARCH."""

    async def scenario(server: ImapServer, _: Store) -> None:
        one, two = await Client.logged_in(server), await Client.logged_in(server)
        await fill(one, 4)
        await one.run("SELECT INBOX")
        await two.run("SELECT INBOX")
        await one.run("STORE 1,3 +FLAGS.SILENT (\\Deleted)")
        assert await one.run("EXPUNGE") == [b"* 1 EXPUNGE", b"* 2 EXPUNGE", b"OK EXPUNGE completed"]

        answer = await two.run("FETCH 1:4 UID")
        assert answer[-1].startswith(b"NO [EXPUNGEISSUED]")
        assert not any(b"EXPUNGE" in line for line in answer[:-1])
        assert b"* 4 FETCH (UID 4)" in answer
        assert (await two.run("STORE 1 +FLAGS (\\Seen)"))[-1].startswith(b"NO [EXPUNGEISSUED]")
        assert b"* SEARCH 2 4" in await two.run("SEARCH SUBJECT number")
        assert await two.run("UID SEARCH ALL") == [
            b"* SEARCH 2 4",
            b"* 1 EXPUNGE",
            b"* 2 EXPUNGE",
            b"OK SEARCH completed",
        ]
        assert await two.run("FETCH 1:* UID") == [b"* 1 FETCH (UID 2)", b"* 2 FETCH (UID 4)", b"OK FETCH completed"]

    serve(scenario)


def test_copy_move_and_uid_expunge(serve: Serve) -> None:
    """COPYUID pairs old and new UIDs; MOVE tells it before the EXPUNGEs; a missing target asks for TRYCREATE."""

    async def scenario(server: ImapServer, _: Store) -> None:
        client = await Client.logged_in(server)
        await fill(client, 4)
        await client.run("SELECT INBOX")
        assert re.fullmatch(rb"OK \[COPYUID \d+ 1,3 1:2\] COPY completed", (await client.run("COPY 1,3 Trash"))[-1])
        assert (await client.run("COPY 1 Nowhere"))[-1] == b"NO [TRYCREATE] no such mailbox"
        moved = await client.run("UID MOVE 2:3 Archive")
        assert re.fullmatch(rb"\* OK \[COPYUID \d+ 2:3 1:2\] moved", moved[0])
        assert moved[1:] == [b"* 2 EXPUNGE", b"* 2 EXPUNGE", b"OK MOVE completed"]
        assert await client.run("UID COPY 99 Trash") == [b"OK COPY completed"]
        await client.run("STORE 1:2 +FLAGS.SILENT (\\Deleted)")
        assert await client.run("UID EXPUNGE 4") == [b"* 2 EXPUNGE", b"OK UID EXPUNGE completed"]
        assert await client.run("CLOSE") == [b"OK CLOSE completed"]
        assert (await client.run("STATUS INBOX (MESSAGES)"))[0] == b"* STATUS INBOX (MESSAGES 0)"

    serve(scenario)


def test_unselect_and_close_after_examine_remove_nothing(serve: Serve) -> None:
    """UNSELECT, and CLOSE of a mailbox opened read-only, leave deleted messages where they are."""

    async def scenario(server: ImapServer, _: Store) -> None:
        client = await Client.logged_in(server)
        await fill(client, 1)
        await client.run("SELECT INBOX")
        await client.run("STORE 1 +FLAGS (\\Deleted)")
        assert (await client.run("UNSELECT"))[-1] == b"OK UNSELECT completed"
        await client.run("EXAMINE INBOX")
        assert (await client.run("CLOSE"))[-1] == b"OK CLOSE completed"
        assert (await client.run("STATUS INBOX (MESSAGES DELETED)"))[0] == b"* STATUS INBOX (MESSAGES 1 DELETED 1)"

    serve(scenario)


def test_condstore(serve: Serve) -> None:
    """MODSEQ is told once asked for; CHANGEDSINCE and UNCHANGEDSINCE look at it; SEARCH tells the highest."""

    async def scenario(server: ImapServer, store: Store) -> None:
        client = await Client.logged_in(server)
        await fill(client, 3)
        assert b"* ENABLED CONDSTORE" in await client.run("ENABLE CONDSTORE X-UNKNOWN")
        await client.run("SELECT INBOX")
        inbox = store.mailbox(USER, "INBOX")
        assert inbox is not None
        base = store.status(inbox.id).highest_modseq
        answer = await client.run("STORE 2 +FLAGS (\\Flagged)")
        after = store.status(inbox.id).highest_modseq
        assert after > base
        assert answer[0] == b"* 2 FETCH (UID 2 FLAGS (\\Flagged \\Recent) MODSEQ (%d))" % after
        changed = await client.run(f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE {base})")
        assert len(changed) == 2 and b"UID 2" in changed[0] and b"MODSEQ (%d)" % after in changed[0]
        refused = await client.run(f"STORE 1:3 (UNCHANGEDSINCE {base}) +FLAGS.SILENT (\\Seen)")
        assert refused[-1] == b"OK [MODIFIED 2] some messages were changed by others"
        assert [line[:9] for line in refused[:-1]] == [b"* 1 FETCH", b"* 3 FETCH"]
        assert all(b"FLAGS" not in line and b"MODSEQ" in line for line in refused[:-1])
        found = await client.run(f"SEARCH MODSEQ {after}")
        assert re.fullmatch(rb"\* SEARCH 1 2 3 \(MODSEQ \d+\)", found[0])
        assert (await client.run('SEARCH MODSEQ "/flags/\\\\draft" all 99999'))[0] == b"* SEARCH"
        assert b"HIGHESTMODSEQ" in (await client.run("STATUS INBOX (HIGHESTMODSEQ)"))[0]

    serve(scenario)


def test_idle_tells_at_once(serve: Serve) -> None:
    """In IDLE new mail, flags and expunges arrive without a command; DONE ends it."""

    async def scenario(server: ImapServer, store: Store) -> None:
        client, other = await Client.logged_in(server), await Client.logged_in(server)
        await fill(other, 1)
        await client.run("SELECT INBOX")
        client.send(b"i IDLE\r\n")
        assert await client.line() == b"+ idling"
        await fill(other, 1)
        assert [await client.line(), await client.line()] == [b"* 2 EXISTS", b"* 2 RECENT"]
        inbox = store.mailbox(USER, "INBOX")
        assert inbox is not None
        await store.submit(StoreFlags(inbox.id, (1,), FlagsMode.ADD, ("\\Deleted",)))
        assert await client.line() == b"* 1 FETCH (UID 1 FLAGS (\\Deleted \\Recent))"
        await store.submit(Expunge(inbox.id, None))
        assert await client.line() == b"* 1 EXPUNGE"
        client.send(b"DONE\r\nn NOOP\r\n")
        assert await client.until(b"i") == [b"OK IDLE completed"]
        assert await client.until(b"n") == [b"OK NOOP completed"]
        client.send(b"j IDLE\r\n")
        await client.line()
        client.send(b"NOOP\r\n")
        assert await client.until(b"j") == [b"BAD expected DONE"]

    serve(scenario)


def test_mailbox_commands(serve: Serve) -> None:
    """CREATE to UNSUBSCRIBE, with international names, special use, and errors that have codes."""

    async def scenario(server: ImapServer, _: Store) -> None:
        client = await Client.logged_in(server)
        listed = await client.run('LIST "" *')
        assert listed[0] == b'* LIST (\\HasNoChildren) "/" INBOX'
        assert b'* LIST (\\HasNoChildren \\Sent) "/" Sent' in listed
        assert (await client.run("CREATE a/b/"))[-1] == b"OK CREATE completed"
        assert (await client.run("CREATE a/b"))[-1].startswith(b"NO [ALREADYEXISTS]")
        assert (await client.run("CREATE a//b"))[-1].startswith(b"NO [CANNOT]")
        assert (await client.run("CREATE INBOX"))[-1].startswith(b"NO [ALREADYEXISTS]")
        assert (await client.run("DELETE INBOX"))[-1].startswith(b"NO [CANNOT]")
        assert (await client.run("DELETE nowhere"))[-1].startswith(b"NO [NONEXISTENT]")
        assert (await client.run('LIST "" %'))[-2:-1] == [b'* LIST (\\HasChildren) "/" a']
        assert (await client.run("LIST a/ %"))[:-1] == [b'* LIST (\\HasNoChildren) "/" a/b']
        assert (await client.run("DELETE a"))[-1] == b"OK DELETE completed"
        assert b'* LIST (\\Noselect \\HasChildren) "/" a' in await client.run('LIST "" %')
        assert (await client.run("CREATE Entw&APw-rfe"))[-1] == b"OK CREATE completed"
        assert b'* LIST (\\HasNoChildren) "/" Entw&APw-rfe' in await client.run('LIST "" E*')
        assert (await client.run("CREATE &bad"))[-1].startswith(b"BAD mailbox name")
        assert (await client.run("RENAME Entw&APw-rfe x&-y"))[-1] == b"OK RENAME completed"
        assert (await client.run("RENAME nowhere z"))[-1].startswith(b"NO [NONEXISTENT]")
        assert (await client.run("SUBSCRIBE x&-y"))[-1] == b"OK SUBSCRIBE completed"
        assert b'* LSUB () "/" x&-y' in await client.run('LSUB "" *')
        assert (await client.run("UNSUBSCRIBE x&-y"))[-1] == b"OK UNSUBSCRIBE completed"
        assert (await client.run('LSUB "" x*'))[:-1] == []
        assert (await client.run("CREATE Important (USE (\\Flagged))"))[-1] == b"OK CREATE completed"
        special = await client.run('LIST (SPECIAL-USE) "" *')
        assert len(special) == 7 and b'* LIST (\\HasNoChildren \\Flagged) "/" Important' in special
        assert (await client.run('LIST "" ""'))[0] == b'* LIST (\\Noselect) "/" ""'
        assert (await client.run("NAMESPACE"))[0] == b'* NAMESPACE (("" "/")) NIL NIL'
        assert b'* ID ("name" "spinrt"' in (await client.run('ID ("name" "test" "version" NIL)'))[0]

    serve(scenario)


def test_deleting_a_selected_mailbox(serve: Serve) -> None:
    """Whoever deletes its selected mailbox leaves it; other sessions there are told BYE."""

    async def scenario(server: ImapServer, _: Store) -> None:
        one, two = await Client.logged_in(server), await Client.logged_in(server)
        await one.run("CREATE box")
        await one.run("SELECT box")
        await two.run("SELECT box")
        assert (await one.run("DELETE box"))[-1] == b"OK DELETE completed"
        assert (await one.run("CHECK"))[-1].startswith(b"BAD CHECK has no meaning")
        two.send(b"x NOOP\r\n")
        assert await two.line() == b"* BYE the selected mailbox was deleted"

    serve(scenario)


def test_append_refusals(serve: Serve) -> None:
    """APPEND into nowhere, too large, empty or with bytes behind the message is refused; the session stays in step."""

    async def scenario(server: ImapServer, _: Store) -> None:
        client = await Client.logged_in(server)
        assert await client.append("Nowhere", MAIL) == b"NO [TRYCREATE] no such mailbox"
        assert await client.append("INBOX", b"x" * 3000) == b"NO [TOOBIG] message of 3000 bytes; at most 2000 are taken"
        assert await client.append("INBOX", b"") == b"NO [CANNOT] the message is empty"
        assert (await client.run(b"APPEND INBOX {5+}\r\n12345 behind"))[-1] == b"BAD APPEND ends with its message"
        assert (await client.run(b"APPEND INBOX (\\Seen) nonsense {5+}\r\n12345"))[-1].startswith(
            b"BAD expected the message"
        )
        client.send(b"s APPEND Nowhere {10}\r\n")
        assert await client.until(b"s") == [b"NO [TRYCREATE] no such mailbox"]
        client.send(b"s APPEND INBOX {%d}\r\n" % len(MAIL))
        assert await client.line() == b"+ send the message"
        client.send(MAIL + b"\r\n")
        assert (await client.until(b"s"))[-1].startswith(b"OK [APPENDUID ")
        assert (await client.run("STATUS INBOX (MESSAGES)"))[0] == b"* STATUS INBOX (MESSAGES 1)"

    serve(scenario, limits=ImapLimits(append_bytes_max=2000))


def test_other_users_see_nothing(serve: Serve) -> None:
    """Mailboxes are of one user: the same name is another mailbox."""

    async def scenario(server: ImapServer, _: Store) -> None:
        alice, bob = await Client.logged_in(server), await Client.logged_in(server, "bob")
        await fill(alice, 1)
        await alice.run("CREATE private")
        assert (await bob.run("STATUS INBOX (MESSAGES)"))[0] == b"* STATUS INBOX (MESSAGES 0)"
        assert (await bob.run("SELECT private"))[-1].startswith(b"NO [NONEXISTENT]")

    serve(scenario)


def test_search_keys(serve: Serve) -> None:
    """Every kind of search key, alone and combined."""

    async def scenario(server: ImapServer, store: Store) -> None:
        client = await Client.logged_in(server)
        mails = [
            b"Date: Mon, 1 Jan 2024 23:30:00 -0500\r\nFrom: ann@example.org\r\n"
            b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\nfirst",
            b"Date: Wed, 3 Jan 2024 00:00:00 +0000\r\nTo: Ben <ben@example.org>\r\nX-Tag: yes\r\n\r\n"
            + b"second " * 100,
            b"Subject: parts\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n"
            b"Content-Transfer-Encoding: base64\r\n\r\naGlkZGVuIHdvcmQ=\r\n--b\r\n"
            b"Content-Type: image/png\r\n\r\npicture\r\n--b--\r\n",
        ]
        for index, mail in enumerate(mails):
            await client.append("INBOX", mail, f'"0{index + 1}-Jan-2024 12:00:00 +0000" ')
        await client.run("SELECT INBOX")
        await client.run("STORE 1 FLAGS (\\Seen \\Answered $One)")
        for key, expected in {
            "ALL": "1 2 3",
            "SEEN": "1",
            "UNSEEN": "2 3",
            "NOT SEEN": "2 3",
            "ANSWERED SEEN": "1",
            "KEYWORD $One": "1",
            "UNKEYWORD $One": "2 3",
            "OR KEYWORD $One 3": "1 3",
            "2:*": "2 3",
            "UID 1,3": "1 3",
            "NOT (OR 1 2)": "3",
            "FROM ann": "1",
            "TO BEN": "2",
            "SUBJECT parts": "3",
            "HEADER X-Tag YES": "2",
            'HEADER Date ""': "1 2",
            "TEXT second": "2",
            "BODY second": "2",
            "BODY parts": "",
            "TEXT parts": "3",
            'BODY "hidden word"': "3",
            "BODY picture": "",
            "LARGER 500": "2",
            "SMALLER 500": "1 3",
            "BEFORE 2-Jan-2024": "1",
            "ON 2-Jan-2024": "2",
            'SINCE "2-Jan-2024"': "2 3",
            "SENTON 1-Jan-2024": "1",
            "SENTSINCE 2-Jan-2024": "2",
            "SENTBEFORE 3-Jan-2024": "1",
            "NEW": "2 3",
            "RECENT": "1 2 3",
            "OLD": "",
        }.items():
            answer = await client.run(f"SEARCH {key}")
            assert answer == [f"* SEARCH {expected}".rstrip().encode(), b"OK SEARCH completed"], key
        assert b"* SEARCH 1" in await client.run("SEARCH CHARSET UTF-8 SUBJECT {7+}\r\ngrüßE")
        assert (await client.run("SEARCH SUBJECT Grüße"))[-1].startswith(b"BAD")  # 8-bit text cannot be an atom
        assert (await client.run("SEARCH CHARSET KOI8-R ALL"))[-1].startswith(b"NO [BADCHARSET (US-ASCII UTF-8)]")

    serve(scenario)


def test_pipelined_commands_run_in_order(serve: Serve) -> None:
    """Commands sent in one piece are answered in order, each seeing what the one before did."""

    async def scenario(server: ImapServer, _: Store) -> None:
        client = await Client.logged_in(server)
        client.send(
            b"1 CREATE p\r\n2 SELECT p\r\n3 APPEND p {5+}\r\nA: b\n\r\n4 FETCH 1 BODY[]\r\n"
            b"5 STORE 1 +FLAGS (\\Deleted)\r\n"
            b"6 EXPUNGE\r\n7 CLOSE\r\n8 DELETE p\r\n"
        )
        for tag in (b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8"):
            assert (await client.until(tag))[-1].startswith(b"OK"), tag

    serve(scenario)


def test_unseen_changes_by_delivery_reach_the_session(serve: Serve) -> None:
    """What the store applies from elsewhere is told at the next command."""

    async def scenario(server: ImapServer, store: Store) -> None:
        client = await Client.logged_in(server)
        await client.run("SELECT INBOX")
        inbox = store.mailbox(USER, "INBOX")
        assert inbox is not None
        writer = store.body_writer()
        writer.write(MAIL)
        await store.submit(Append(inbox.id, writer.finish(), (), 0, 0))
        assert await client.run("NOOP") == [b"* 1 EXISTS", b"* 1 RECENT", b"OK NOOP completed"]

    serve(scenario)


def test_internal_error_is_answered_and_logged(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """A mistake of the server is NO [SERVERBUG] without detail; the session lives."""

    async def scenario(server: ImapServer, store: Store) -> None:
        client = await Client.logged_in(server)
        store.mailboxes = None  # type: ignore[method-assign,assignment]
        assert await client.run('LIST "" *') == [b"NO [SERVERBUG] internal error, the server's log says more"]
        assert await client.run("NOOP") == [b"OK NOOP completed"]

    serve(scenario)
    assert "IMAP LIST of alice failed" in caplog.text


def test_close_says_goodbye(serve: Serve) -> None:
    """Closing the server tells BYE to a session in IDLE and to one that does nothing."""

    async def scenario(server: ImapServer, _: Store) -> None:
        idle, quiet = await Client.logged_in(server), await Client.logged_in(server)
        idle.send(b"i IDLE\r\n")
        await idle.line()
        await asyncio.gather(server.close(1.0), asyncio.sleep(0))
        for client in (idle, quiet):
            assert await client.line() == b"* BYE the server is shutting down"
            assert await client.line() == b""

    serve(scenario)
