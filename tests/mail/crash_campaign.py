"""Kill the server again and again while mail comes in, and count.

    python -m tests.mail.crash_campaign --kills 100 --seed 1

A real server process, clients in threads that send numbered messages to two users in one transaction and send again
what was not acknowledged, as mail servers do. At a moment drawn from the seed the server is killed with SIGKILL and
started again. At the end everything is read back over IMAP:

* an attempt that was acknowledged lies once in each recipient's mailbox;
* an attempt without an answer lies once with every recipient, or with none: a transaction is stored whole or not;
* an attempt that was refused, or cut before its end, lies nowhere;
* every message got through. Copies that a client's second try made are counted, not judged (RFC 1047);
* `spinrt fsck` finds no damage: log, pages of the snapshots that were taken meanwhile, index.

The moments of kills replay from the seed; what the threads do in between is the scheduler's.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from spinrt.mail.store.fsck import DirectoryCheck
from spinrt.storage.fsck.finding import Severity
from tests.mail.service_support import Dialogue, config_text, fetch_at, free_port, message
from tests.progress import silent, teller

USERS = ("alice", "bob")
START_TIMEOUT_S = 60.0
SNAPSHOT_INTERVAL = "150 ms"
"""So that kills come while one is taken, too."""
BODY_SIZES = (100, 4_000, 300_000)
"""One chunk of a body, and more than one."""


class Answer(Enum):
    """What a client knows of one attempt."""

    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    """All was sent and no answer came."""
    CUT = "cut"
    """The connection ended before the message was complete."""


@dataclass
class Server:
    """The server process. ``start`` waits until it greets."""

    config: Path
    smtp: tuple[str, int]
    imap: tuple[str, int]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "spinrt", "serve", "--config", str(self.config)]
        with (self.config.parent / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._greets():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(
                    f"the server did not start: {(self.config.parent / 'server.log').read_text()[-2000:]}"
                )
            time.sleep(0.02)

    def _greets(self) -> bool:
        try:
            with socket.create_connection(self.imap, timeout=5) as peer:  # listens last
                return peer.recv(4) == b"* OK"
        except OSError:
            return False

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Drain; returns the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)


@dataclass
class Attempts:
    """Every attempt of every client. ``answers`` by the attempt's number."""

    answers: dict[int, Answer] = field(default_factory=dict)
    numbers: dict[int, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _counter: itertools.count[int] = field(default_factory=itertools.count)

    def begin(self, number: str) -> int:
        with self._lock:
            attempt = next(self._counter)
            self.numbers[attempt] = number
            self.answers[attempt] = Answer.CUT
            return attempt

    def end(self, attempt: int, answer: Answer) -> None:
        with self._lock:
            self.answers[attempt] = answer


class Client(threading.Thread):
    """Sends numbered messages, each until it is acknowledged."""

    def __init__(self, name: int, server: Server, attempts: Attempts, seed: int, stopped: threading.Event) -> None:
        super().__init__(daemon=True)
        self._name, self._server, self._attempts, self._stopped = name, server, attempts, stopped
        self._choices = random.Random(f"{seed}/{name}")

    def run(self) -> None:
        for count in itertools.count():
            if self._stopped.is_set():
                return
            number = f"{self._name}-{count}"
            size = self._choices.choice(BODY_SIZES)
            while self._send(number, size) is not Answer.ACKNOWLEDGED:
                time.sleep(0.01)

    def _send(self, number: str, size: int) -> Answer:
        attempt = self._attempts.begin(number)
        answer = self._try(attempt, number, size)
        self._attempts.end(attempt, answer)
        return answer

    def _try(self, attempt: int, number: str, size: int) -> Answer:
        answer = Answer.CUT
        try:
            with Dialogue(self._server.smtp) as peer:
                replies = peer.begin(*(f"{user}@example.org" for user in USERS))
                if not all(reply.startswith("250") for reply in replies):
                    return Answer.REFUSED
                content = message(number, f"X-Attempt: {attempt}", body=("x" * 70 + "\r\n") * (size // 72 + 1))
                if not peer.say("DATA").startswith("354"):
                    return Answer.REFUSED
                answer = Answer.UNKNOWN
                reply = peer.end_data(content)
                return Answer.ACKNOWLEDGED if reply.startswith("250") else Answer.REFUSED
        except OSError:
            return answer


@dataclass(frozen=True)
class Outcome:
    """What a campaign found. ``problems`` is empty when the server kept its word."""

    kills: int
    acknowledged: int
    unknown: int
    unknown_stored: int
    sent_again: int
    """Copies beyond the first of a message, for one recipient."""
    snapshots: int
    """There in the end; retention deletes the others."""
    problems: list[str]

    def text(self) -> str:
        return (
            f"kills {self.kills}, acknowledged {self.acknowledged}, without an answer {self.unknown}"
            f" (of them stored {self.unknown_stored}), copies sent again {self.sent_again},"
            f" snapshots {self.snapshots}, problems {len(self.problems)}"
        )


def run(directory: Path, *, kills: int, seed: int, clients: int = 6, tell: Callable[[int], None] = silent) -> Outcome:
    """Run a campaign below an empty directory."""
    choices = random.Random(seed)
    server = _server(directory)
    attempts, stopped = Attempts(), threading.Event()
    threads = [Client(name, server, attempts, seed, stopped) for name in range(clients)]
    with _running(server):
        for thread in threads:
            thread.start()
        for number in range(kills):
            tell(number)
            time.sleep(choices.uniform(0.02, 0.6))
            server.kill()
            server.start()
        time.sleep(0.3)
        stopped.set()
        for thread in threads:
            thread.join(START_TIMEOUT_S)
        alive = sum(thread.is_alive() for thread in threads)
        stored = [_stored(server, user) for user in USERS]
        code = server.stop()
    found = list(DirectoryCheck(directory / "data").findings())
    problems = [f"fsck: {finding.line()}" for finding in found if finding.severity is Severity.DAMAGE]
    problems += [f"{alive} clients never got their message through"] if alive else []
    problems += [f"the server ended with status {code}"] if code else []
    return _judge(attempts, stored, kills, len(list((directory / "data" / "pages").glob("*.snap"))), problems)


def _server(directory: Path) -> Server:
    smtp, imap = ("127.0.0.1", free_port()), ("127.0.0.1", free_port())
    config = directory / "spinrt.yaml"
    listen = {"smtp": f"{smtp[0]}:{smtp[1]}", "lmtp": None, "imap": f"{imap[0]}:{imap[1]}"}
    more = {"logging": {"level": "warning"}, "snapshots": {"interval": SNAPSHOT_INTERVAL}}
    config.write_text(config_text(directory, users=USERS, listen=listen, **more))
    return Server(config, smtp, imap)


@contextlib.contextmanager
def _running(server: Server) -> Iterator[None]:
    server.start()
    try:
        yield
    finally:
        if server.process is not None and server.process.poll() is None:
            server.kill()


def _stored(server: Server, user: str) -> Counter[int]:
    """How often each attempt lies in a user's INBOX."""
    found = fetch_at(server.imap, user, "INBOX", "BODY.PEEK[HEADER.FIELDS (X-ATTEMPT)]")
    return Counter(int(match[1]) for text, _ in found if (match := re.search(rb"X-Attempt: (\d+)", text)))


def _judge(attempts: Attempts, stored: list[Counter[int]], kills: int, snapshots: int, problems: list[str]) -> Outcome:
    expected = {
        Answer.ACKNOWLEDGED: [[1] * len(stored)],
        Answer.UNKNOWN: [[0] * len(stored), [1] * len(stored)],
        Answer.REFUSED: [[0] * len(stored)],
        Answer.CUT: [[0] * len(stored)],
    }
    unknown_stored = 0
    copies: Counter[str] = Counter()
    for attempt, answer in attempts.answers.items():
        counts = [mailbox[attempt] for mailbox in stored]
        copies[attempts.numbers[attempt]] += counts[0]
        if counts not in expected[answer]:
            problems.append(f"attempt {attempt} ({answer.value}) lies {counts} times in the mailboxes of {USERS}")
        unknown_stored += answer is Answer.UNKNOWN and counts[0] > 0
    strangers = {attempt for mailbox in stored for attempt in mailbox} - attempts.answers.keys()
    problems += [f"message of attempt {attempt}, which nobody made" for attempt in strangers]
    tally = Counter(attempts.answers.values())
    again = sum(count - 1 for count in copies.values() if count > 1)
    return Outcome(kills, tally[Answer.ACKNOWLEDGED], tally[Answer.UNKNOWN], unknown_stored, again, snapshots, problems)


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill the server while mail comes in, and count.")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)))
    parser.add_argument("--clients", type=int, default=6)
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="spinrt-crash-") as directory:
        outcome = run(
            Path(directory),
            kills=arguments.kills,
            seed=arguments.seed,
            clients=arguments.clients,
            tell=teller(arguments.kills, "kills"),
        )
    print(outcome.text())
    for problem in outcome.problems:
        print(f"problem: {problem}")
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
