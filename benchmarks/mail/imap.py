"""Commands over IMAP: the same three at 1,000 and at 20,000 messages, and beside Dovecot at 20,000.

One connection for each mailbox, one command at a time; connections take turns. Clients and servers share one core: one
of them waits for the other all the time, and on two cores each answer would have to wake one that sleeps, which costs a
virtual machine more than the command. Dovecot is measured at its best: its
indexes are warm, and STORE comes last, because it renames files of a Maildir, after which it has to look for them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.harness import compare
from benchmarks.mail.messages import messages, numbered_message
from benchmarks.peers import dovecot
from benchmarks.peers.dovecot import Dovecot
from benchmarks.peers.imap_client import ImapClient
from benchmarks.peers.process import PeerFailed, PeerMissing, on_one_core
from benchmarks.peers.spinrt_server import PASSWORD, USER, SpinrtServer

SEED = 7
SMALL, LARGE, DOVECOT = "small", "large", "dovecot"
NOOP, FETCH, STORE = "noop", "fetch", "store"


@dataclass(frozen=True, slots=True)
class Scale:
    """Sizes of the mailboxes, commands in one run by their name, rounds."""

    small: int
    large: int
    commands: Mapping[str, int]
    rounds: int


@dataclass(slots=True)
class ImapFound:
    """Seconds for one command: command → place (``small``, ``large``, ``dovecot``) → one value for each round."""

    seconds: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    dovecot_version: str = ""
    dovecot_missing: str = ""
    """Why there is no Dovecot beside it."""


@dataclass(frozen=True, slots=True)
class Place:
    """A mailbox that a connection has selected."""

    client: ImapClient
    count: int


def measure(directory: Path, scale: Scale, *, loop: str) -> ImapFound:
    """Fill the mailboxes, check that they give back what was put in, and run the commands.

    Raises:
        PeerFailed: A server failed, or holds something else than was put in.
    """
    found = ImapFound()
    directory.mkdir()
    with ExitStack() as stack:
        stack.enter_context(on_one_core())
        places = _spinrt_places(directory / "spinrt", scale, loop, stack)
        try:
            places[DOVECOT] = _dovecot_place(directory / "dovecot", scale, stack, found)
        except PeerMissing as missing:
            found.dovecot_missing = str(missing)
        for place in places.values():
            _check_content(place)
        for command, count in scale.commands.items():
            subjects = {name: _subject(command, place, count) for name, place in places.items()}
            found.seconds[command] = compare(subjects, scale.rounds)
    return found


def _spinrt_places(directory: Path, scale: Scale, loop: str, stack: ExitStack) -> dict[str, Place]:
    directory.mkdir()
    server = SpinrtServer(directory, loop=loop)
    server.fill({SMALL: messages(scale.small), LARGE: messages(scale.large)})
    stack.enter_context(server.process)
    places = {}
    for mailbox, count in ((SMALL, scale.small), (LARGE, scale.large)):
        client = stack.enter_context(ImapClient(server.imap_port, USER, PASSWORD))
        places[mailbox] = _select(client, mailbox, count)
    return places


def _dovecot_place(directory: Path, scale: Scale, stack: ExitStack, found: ImapFound) -> Place:
    directory.mkdir()
    peer = Dovecot(directory)
    found.dovecot_version = peer.version
    peer.fill(messages(scale.large))
    stack.enter_context(peer.process)
    client = stack.enter_context(ImapClient(peer.port, dovecot.USER, dovecot.PASSWORD))
    return _select(client, "INBOX", scale.large)


def _select(client: ImapClient, mailbox: str, expected: int) -> Place:
    count = client.select(mailbox)
    if count != expected:
        raise PeerFailed(f"IMAP: {mailbox} holds {count} messages, {expected} were put in")
    return Place(client, count)


def _check_content(place: Place) -> None:
    """First and last message come back byte for byte."""
    for number in (1, place.count):
        if numbered_message(number) not in place.client.command(b"FETCH %d BODY.PEEK[]" % number):
            raise PeerFailed(f"IMAP: FETCH {number} gave another message than was put in")


def _subject(command: str, place: Place, count: int) -> Callable[[], float]:
    """Time ``count`` commands on messages drawn anew for each run, the same draws for every place of one size."""
    draw = random.Random(SEED)
    return lambda: place.client.time(_COMMANDS[command](draw, place.count, count))


def _noops(draw: random.Random, messages: int, count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield b"NOOP"


def _fetches(draw: random.Random, messages: int, count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield b"FETCH %d BODY.PEEK[]" % draw.randint(1, messages)


def _stores(draw: random.Random, messages: int, count: int) -> Iterator[bytes]:
    """Set a flag on half as many messages, then take it away again, so that each command changes something."""
    chosen = draw.sample(range(1, messages + 1), max(1, count // 2))
    for sign in (b"+", b"-"):
        for number in chosen:
            yield b"STORE %d %bFLAGS (\\Flagged)" % (number, sign)


_COMMANDS: Mapping[str, Callable[[random.Random, int, int], Iterator[bytes]]] = {
    NOOP: _noops,
    FETCH: _fetches,
    STORE: _stores,
}
