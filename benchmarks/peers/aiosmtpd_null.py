"""aiosmtpd with a handler that keeps nothing: the least that a mail server made with it can cost.

Runs as a process: ``python -m benchmarks.peers.aiosmtpd_null PORT COUNT_FILE [--loop asyncio]``. On SIGTERM it writes
the number of messages that its handler saw into COUNT_FILE.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from aiosmtpd.smtp import SMTP

from benchmarks.peers.process import HOST, PeerFailed, ServerProcess, free_port, loop_factory

BACKLOG = 1024


class CountingHandler:
    """Accepts every message and forgets it."""

    def __init__(self) -> None:
        self.count = 0

    async def handle_DATA(self, server: object, session: object, envelope: object) -> str:
        self.count += 1
        return "250 2.0.0 OK"


class AiosmtpdNull:
    """The process and what it counted, for a benchmark; enter ``process`` to run it."""

    def __init__(self, directory: Path, *, loop: str) -> None:
        self.port = free_port()
        self._count_file = directory / f"aiosmtpd-{loop}.count"
        command = [sys.executable, "-m", "benchmarks.peers.aiosmtpd_null", str(self.port), str(self._count_file)]
        self.process = ServerProcess(f"aiosmtpd-{loop}", [*command, "--loop", loop], directory, [self.port])

    def count(self) -> int:
        """Messages that the handler saw; known once the process has ended."""
        try:
            return int(self._count_file.read_text())
        except (OSError, ValueError) as error:
            raise PeerFailed(f"{self.process.name}: its count cannot be read: {error}") from None


async def serve(port: int, handler: object) -> None:
    """Serve until SIGTERM.

    The host name is given, because aiosmtpd would look it up for every connection; the limit of lines is as it comes.
    """
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    server = await loop.create_server(
        lambda: SMTP(handler, hostname="bench.example", loop=loop, enable_SMTPUTF8=True), HOST, port, backlog=BACKLOG
    )
    await stopped.wait()
    server.close()


def main(arguments: list[str] | None = None) -> None:
    """Command line of the process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("count_file", type=Path)
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    options = parser.parse_args(arguments)
    with asyncio.Runner(loop_factory=loop_factory(options.loop)) as runner:
        handler = CountingHandler()
        runner.run(serve(options.port, handler))
    options.count_file.write_text(str(handler.count))


if __name__ == "__main__":
    main()
