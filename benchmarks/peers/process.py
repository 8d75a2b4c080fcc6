"""A server as a child process: started, awaited until its ports answer, stopped; its output is kept for complaints."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from pwd import struct_passwd
from types import TracebackType

REPOSITORY = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0
OUTPUT_BYTES_SHOWN = 2000
KNOCK_DELAY_S = 0.02
PORTS_FROM = 10_000

_given_ports: set[int] = set()
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
"""Where programs are looked for: servers lie where ordinary users do not look."""


class PeerFailed(RuntimeError):
    """A server did not start, did not stop, or did not do its work; no number of this run means anything."""


class PeerMissing(RuntimeError):
    """A server to compare with is not installed; the message says how to install it."""


def free_port() -> int:
    """A port of loopback that nobody uses at this moment, another each time.

    None of those that the kernel gives to outgoing connections: one of them could take it before the server does.

    Raises:
        PeerFailed: There is none.
    """
    ports = set(range(PORTS_FROM, _ephemeral_from())) - _given_ports
    while ports:
        port = random.choice(tuple(ports))
        _given_ports.add(port)
        ports.discard(port)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port
    raise PeerFailed(f"loopback: found no free port from {PORTS_FROM} on")


def _ephemeral_from() -> int:
    """The first port that the kernel gives to outgoing connections (ip(7))."""
    return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])


def program(name: str) -> str:
    """The path of a program of a peer.

    Raises:
        PeerMissing: It is not installed.
    """
    found = shutil.which(name, path=SEARCH_PATH)
    if found is None:
        raise PeerMissing(f"{name} is not installed; benchmarks/install-peers installs it (Debian, root)")
    return found


def loop_factory(name: str = "auto") -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Makes the event loop called ``asyncio`` or ``uvloop``, or for ``auto`` uvloop where it is installed."""
    if name == "asyncio":
        return None
    try:
        import uvloop
    except ImportError:
        if name == "auto":
            return None
        raise
    return uvloop.new_event_loop


@contextlib.contextmanager
def on_one_core() -> Iterator[None]:
    """Hold this thread, and what is started meanwhile, to the last of the cores that it may use."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


class ServerProcess:
    """One server; a context manager that is entered when every port answers.

    Args:
        name: What complaints call it.
        command: Program and arguments.
        directory: Where its output goes; must exist.
        ports: Those that it will listen on: of loopback, or paths of Unix sockets.
        account: Whom to run as; the caller by default.
        environment: Variables on top of the caller's.
        knock: Connect to it once more when it is to end: libmilter looks for its end only every 5 s, and when somebody
            connects.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        directory: Path,
        ports: Sequence[int | Path],
        *,
        account: struct_passwd | None = None,
        environment: Mapping[str, str] | None = None,
        knock: bool = False,
    ) -> None:
        self.name = name
        self.output = directory / f"{name}.out"
        self._command = command
        self._ports = ports
        self._account = account
        self._knock = knock
        self._environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id, once entered."""
        return self._running().pid

    def cpu_seconds(self) -> float:
        """Processor time it used so far, of all its threads, user and system together.

        Read from the process's own clock, as clock_getcpuclockid(3) names it: /proc counts in ticks of 10 ms.
        """
        return _cpu_seconds(self.pid)

    def tree_cpu_seconds(self) -> float:
        """The same with all processes that it started, also those that have ended (these to the tick of /proc)."""
        parents = _parents()
        tree = {self.pid}
        while more := {pid for pid, parent in parents.items() if parent in tree} - tree:
            tree |= more
        return sum(_cpu_seconds(pid) + _reaped_seconds(pid) for pid in tree)

    def __enter__(self) -> ServerProcess:
        self.start()
        try:
            self.await_ports()
        except BaseException:
            self._kill()
            raise
        return self

    def start(self) -> None:
        """Start it without waiting; who calls this sees to it that it is left, too."""
        account = self._account
        with self.output.open("wb") as output:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
                user=account.pw_uid if account else None,
                group=account.pw_gid if account else None,
                extra_groups=[] if account else None,
            )

    def await_ports(self) -> None:
        """Wait until every port answers.

        Raises:
            PeerFailed: It ended, or one does not.
        """
        for port in self._ports:
            self._await_port(port)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._running()
        process.terminate()
        try:
            if self._knock:
                self._knock_at_ports()
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._kill()
            if kind is None:
                raise PeerFailed(f"{self.name}: still ran {STOP_TIMEOUT_S:g} s after SIGTERM") from None
        else:
            self._kill()  # what it started and left behind

    def _await_port(self, port: int | Path) -> None:
        end = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < end:
            code = self._running().poll()
            if code is not None:
                raise PeerFailed(f"{self.name}: ended with code {code} while it started: {self._tail()}")
            try:
                _connect(port)
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise PeerFailed(f"{self.name}: port {port} did not answer within {START_TIMEOUT_S:g} s: {self._tail()}")

    def _knock_at_ports(self) -> None:
        time.sleep(KNOCK_DELAY_S)  # for the signal to arrive first
        for port in self._ports:
            with contextlib.suppress(OSError):
                _connect(port)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise PeerFailed(f"{self.name}: used before it was started")
        return self._process

    def _kill(self) -> None:
        """End the process and what it started (they are one process group), and wait for it."""
        process = self._running()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(STOP_TIMEOUT_S)
        end = time.monotonic() + STOP_TIMEOUT_S
        while _lives_in_group(process.pid) and time.monotonic() < end:
            time.sleep(0.005)

    def _tail(self) -> str:
        text = self.output.read_bytes()[-OUTPUT_BYTES_SHOWN:].decode(errors="replace").strip()
        return text or "it said nothing"


def _connect(port: int | Path) -> None:
    if isinstance(port, int):
        socket.create_connection((HOST, port), 1.0).close()
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        probe.connect(str(port))


def _cpu_seconds(pid: int) -> float:
    """Of all threads of a process; 0 when it has ended."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def _parents() -> dict[int, int]:
    """Every process of the machine → its parent."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        fields = _stat(int(path.name))
        if fields:
            found[int(path.name)] = int(fields[1])
    return found


def _lives_in_group(group: int) -> bool:
    """Whether a process of that group lives; one that has ended and waits to be reaped does not."""
    stats = (_stat(int(path.name)) for path in Path("/proc").glob("[0-9]*"))
    return any(fields[0] != "Z" and int(fields[2]) == group for fields in stats if fields)


def _reaped_seconds(pid: int) -> float:
    """Processor time of the children that a process has waited for, and of theirs (cutime and cstime, proc(5))."""
    fields = _stat(pid)
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the third on, the state; none when the process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []
