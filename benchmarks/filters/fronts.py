"""What is measured: mail servers with so many filters of one form behind them, and the load that is put on each.

A *front* is one port where mail is taken. Fronts of one server may share it: Postfix listens on many ports. Everything
that runs is checked in the end: no filter may have been left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence, Set
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.filters.library import Tally
from benchmarks.filters.messages import Messages
from benchmarks.mail.smtp import RECIPIENT
from benchmarks.peers.process import HOST, PeerFailed, PeerMissing, ServerProcess
from benchmarks.smtp_load import Load, Options, Result
from spinrt.storage.commit import SHARED_S

NO_FILTER: Final = "none"
COUNTS: Final = (1, 3)
"""How many filters stand one behind the other; besides none."""
SESSIONS: Final = 20


class Key(NamedTuple):
    """Which server, with which form of the filter (`NO_FILTER` where there is none), and how many in a row."""

    server: str
    form: str
    filters: int

    @property
    def params(self) -> dict[str, object]:
        """Of its rows."""
        return {"server": self.server, "filter": self.form, "filters": self.filters}

    @property
    def name(self) -> str:
        """For people, and to tell it from all others."""
        return f"{self.server}/{self.form}/{self.filters}"

    @property
    def base(self) -> Key:
        """The same server without a filter."""
        return Key(self.server, NO_FILTER, 0)


@dataclass(slots=True)
class Front:
    """One port, and what works behind it.

    Attributes:
        key: What it is.
        port: Where it takes mail.
        processes: All that work for it.
        drain: Waits until the server has done what it puts off.
        sent: Messages that were sent to it so far.
        suspects: How many of these the filter must have found suspect.
        left_s: When many sessions left it last.
    """

    key: Key
    port: int
    processes: Sequence[ServerProcess]
    drain: Callable[[], None] = lambda: None
    sent: int = 0
    suspects: int = 0
    left_s: float = -SHARED_S

    def cpu_seconds(self) -> float:
        """Processor time that its processes used so far."""
        return sum(process.tree_cpu_seconds() for process in self.processes)


@dataclass(slots=True)
class Fronts:
    """All that was started.

    Attributes:
        wanted: Those to start.
        running: Those that were.
        skipped: What could not be had, and why.
        versions: Of the servers.
        checks: Run while all still runs; raise `PeerFailed`.
        tallies: File that a filter's process writes when it ends → the fronts whose mail it saw, and whether it
            judges messages.
    """

    wanted: Set[Key]
    running: list[Front] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    checks: list[Callable[[], None]] = field(default_factory=list)
    tallies: dict[Path, tuple[list[Front], bool]] = field(default_factory=dict)

    def check_tallies(self) -> None:
        """Compare what filters counted with what was sent, when their processes have ended.

        Raises:
            PeerFailed: A filter did not see a message, or found another.
        """
        for path, (fronts, judges) in self.tallies.items():
            sent = sum(front.sent for front in fronts)
            expected = Tally(sent, sum(front.suspects for front in fronts) if judges else 0)
            try:
                found = Tally.read(path)
            except (OSError, ValueError) as error:
                raise PeerFailed(f"filter {path.stem}: its tally cannot be read: {error}") from None
            if found != expected:
                raise PeerFailed(f"filter {path.stem}: found {found}, expected {expected}")


class Traffic:
    """Sends messages to fronts, always the same ones from the first on, and gives what it took.

    The clients run in this process, which has nothing else to do meanwhile.
    """

    def __init__(self, messages: Messages, directory: Path) -> None:
        self._messages = messages
        self._options = Options(HOST, 0, content=messages.write(directory), reuse=True, pipelining=False)
        self._options.recipient = RECIPIENT

    def latencies(self, front: Front, count: int) -> list[float]:
        """Seconds for each of so many messages of one session, one after the other.

        spinrt has a commit wait for others as long as it remembers that there were some: that must be over. It is where
        other fronts had their turn meanwhile.
        """
        time.sleep(max(0.0, front.left_s + SHARED_S - time.monotonic()))
        return self._send(front, count, 1).message_seconds

    def rate(self, front: Front, count: int) -> tuple[float, float]:
        """Messages a second of `SESSIONS` sessions, and processor seconds for one message of all that works for it."""
        before = front.cpu_seconds()
        result = self._send(front, count, SESSIONS)
        front.left_s = time.monotonic()
        return result.per_second, (front.cpu_seconds() - before) / count

    def _send(self, front: Front, count: int, sessions: int) -> Result:
        """Raises PeerFailed: not every message was accepted."""
        result = Load(replace(self._options, port=front.port, messages=count, clients=sessions)).run()
        if result.accepted != count:
            why = result.refusal or f"{result.failed} connections failed"
            raise PeerFailed(f"{front.key.name}: accepted {result.accepted} of {count} messages: {why}")
        front.drain()
        front.sent += count
        front.suspects += self._messages.suspects_of(count)
        return result


@dataclass(frozen=True, slots=True)
class Stage:
    """What servers are started with: where, on which event loop, and what ends them.

    They start at the same time: most are busy with imports for a while.
    """

    directory: Path
    library: Path
    loop: str
    stack: ExitStack
    starting: list[ServerProcess] = field(default_factory=list)

    def start(self, process: ServerProcess) -> ServerProcess:
        """Start it without waiting; it runs until the stack is closed."""
        process.start()
        self.stack.push(process)
        self.starting.append(process)
        return process

    def await_started(self) -> None:
        """Wait until all that was started answers.

        Raises:
            PeerFailed: One does not.
        """
        while self.starting:
            self.starting.pop().await_ports()

    def place(self, name: str) -> Path:
        """An empty directory of that name."""
        path = self.directory / name
        path.mkdir()
        return path


def having(found: Fronts, what: str, bring: Callable[[], None]) -> None:
    """Start what is wanted of something, or note why it cannot be had; ``what`` is a server, or ``server/form``."""
    if not any(what in (key.server, f"{key.server}/{key.form}") for key in found.wanted):
        return
    try:
        bring()
    except PeerMissing as missing:
        found.skipped[what] = str(missing)
