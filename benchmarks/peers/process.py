"""A server as a child process: started, awaited until its ports answer, stopped; its output is kept for complaints."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from pwd import struct_passwd
from types import TracebackType

REPOSITORY = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0
OUTPUT_BYTES_SHOWN = 2000


class PeerFailed(RuntimeError):
    """A server did not start, did not stop, or did not do its work; no number of this run means anything."""


class PeerMissing(RuntimeError):
    """A server to compare with is not installed; the message says how to install it."""


def free_port() -> int:
    """A port of loopback that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


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
        ports: Those that it will listen on.
        account: Whom to run as; the caller by default.
        environment: Variables on top of the caller's.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        directory: Path,
        ports: Sequence[int],
        *,
        account: struct_passwd | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.output = directory / f"{name}.out"
        self._command = command
        self._ports = ports
        self._account = account
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
        return time.clock_gettime((~self.pid << 3) | 2)

    def __enter__(self) -> ServerProcess:
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
        try:
            for port in self._ports:
                self._await_port(port)
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._running()
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._kill()
            if kind is None:
                raise PeerFailed(f"{self.name}: still ran {STOP_TIMEOUT_S:g} s after SIGTERM") from None

    def _await_port(self, port: int) -> None:
        end = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < end:
            code = self._running().poll()
            if code is not None:
                raise PeerFailed(f"{self.name}: ended with code {code} while it started: {self._tail()}")
            try:
                socket.create_connection((HOST, port), 1.0).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise PeerFailed(f"{self.name}: port {port} did not answer within {START_TIMEOUT_S:g} s: {self._tail()}")

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise PeerFailed(f"{self.name}: used before it was started")
        return self._process

    def _kill(self) -> None:
        """End the process and what it started (they are one process group)."""
        process = self._running()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(STOP_TIMEOUT_S)

    def _tail(self) -> str:
        text = self.output.read_bytes()[-OUTPUT_BYTES_SHOWN:].decode(errors="replace").strip()
        return text or "it said nothing"
