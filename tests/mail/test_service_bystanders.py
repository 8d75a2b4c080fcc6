"""While an extension faults in one session as often as it can, others get octet for octet what they get without."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.mail.service_support import PASSWORD, Dialogue, Running, fetch, message
from tests.mail.test_service_supervision import serving_with

ROUNDS = 30
RECIPIENTS = 50
FAULTS_MIN = 200
_VARYING = re.compile(
    rb"(?<=UIDVALIDITY )\d+|(?<=APPENDUID )\d+|(?<=\bid )[0-9a-f-]+|\b[0-9a-f]{4,}-[0-9a-f]+-[0-9a-f]+\b"
    rb"|\d\d? \w{3} \d{4} \d\d:\d\d:\d\d|\d\d?-\w{3}-\d{4} \d\d:\d\d:\d\d|(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),"
)
"""Times and what is made from them: they differ between any two runs."""


class Imap:
    """An IMAP client that keeps every octet that it is sent."""

    def __init__(self, service: Running, user: str) -> None:
        self._socket = socket.create_connection(service.address("imap"), timeout=30)
        self._file = self._socket.makefile("rb")
        self.heard = [self._file.readline()]
        self._number = 0
        self.say(f'LOGIN {user} "{PASSWORD}"')

    def say(self, command: str) -> None:
        """A command, and everything up to the line that ends it."""
        self._number += 1
        tag = f"a{self._number}"
        self._socket.sendall(f"{tag} {command}\r\n".encode())
        while not self.heard[-1].startswith(tag.encode() + b" "):
            line = self._file.readline()
            assert line, f"{command}: the server closed the connection"
            self.heard.append(line)

    def close(self) -> None:
        self._file.close()
        self._socket.close()


class Hitter:
    """A peer whose mail makes an extension trap, for each of many recipients, until it is told to stop."""

    def __init__(self, service: Running) -> None:
        self._service = service
        self._stop = threading.Event()
        self.replies: set[str] = set()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with Dialogue(self._service.address("lmtp"), "LHLO hitter.example") as peer:
            while not self._stop.is_set():
                peer.begin(*[f"bob+{number}@example.org" for number in range(RECIPIENTS)])
                self.replies |= {reply[:9] for reply in peer.data(message(), RECIPIENTS)}

    @contextmanager
    def hitting(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join(60)


def converse(service: Running) -> list[bytes]:
    """What sessions of somebody else are sent (SMTP, LMTP, IMAP), in their order, without what always varies."""
    heard: list[bytes] = []
    alice = Imap(service, "alice")
    with (
        Dialogue(service.address("smtp")) as smtp,
        Dialogue(service.address("lmtp"), "LHLO peer.example") as lmtp,
    ):
        alice.say("SELECT INBOX")
        for number in range(ROUNDS):
            for peer in (smtp, lmtp):
                heard += [line.encode() for line in peer.begin("alice@example.org", "nobody@example.org")]
                heard += [line.encode() for line in peer.data(message(f"number {number}"))]
            alice.say("NOOP")
            alice.say(f"FETCH {2 * number + 1}:* (UID FLAGS RFC822.SIZE BODY[])")
            alice.say(f"STORE {number + 1} +FLAGS (\\Flagged $Seen-{number})")
            alice.say(f'UID SEARCH SUBJECT "number {number}"')
        alice.say("STATUS INBOX (MESSAGES UIDNEXT UNSEEN)")
        alice.say("LOGOUT")
    alice.close()
    return [_VARYING.sub(b"_", line) for line in heard + alice.heard]


def test_other_sessions_notice_nothing(tmp_path: Path) -> None:
    """Replies, message numbers, flags, octets of messages: the same with faults all around them and with none."""
    for name in ("calm", "hit"):
        (tmp_path / name).mkdir()
    with serving_with(tmp_path / "calm", faults=0) as service:
        calm = converse(service)
        assert service.service.mail.runtime.domains["bobs"].counters.faults == 0
    with serving_with(tmp_path / "hit", faults=0) as service:
        counters = service.service.mail.runtime.domains["bobs"].counters
        hitter = Hitter(service)
        with hitter.hitting():
            found = converse(service)
            faults = counters.faults
        assert faults >= FAULTS_MIN
        assert hitter.replies == {"451 4.3.0"}
        assert fetch(service, "bob") == []
        domains = service.service.mail.runtime.domains
        assert [name for name, one in domains.items() if one.counters.faults] == ["bobs"]
    assert len(calm) > 10 * ROUNDS
    assert found == calm
