"""A filter that is a server in Python: it listens, serves until SIGTERM, and writes what it counted."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import cast

from benchmarks.filters.library import Library, Tally
from benchmarks.peers.process import HOST, loop_factory

BACKLOG = 1024


class FilterProtocol(asyncio.Protocol):
    """One connection to a filter: what it decides with, and what has come and is not yet answered."""

    def __init__(self, library: Library, tally: Tally) -> None:
        self._library = library
        self._tally = tally
        self._input = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not say that it is one


def serve(make_protocol: Callable[[], asyncio.Protocol], at: Path | int, tally: Tally, tally_file: Path) -> None:
    """Serve at a Unix socket or a port of loopback, on the fastest event loop that is installed."""
    os.umask(0)  # Postfix, which has an account of its own, must reach a socket
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_until_term(make_protocol, at))
    tally.write(tally_file)


async def _until_term(make_protocol: Callable[[], asyncio.Protocol], at: Path | int) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    if isinstance(at, Path):
        server: asyncio.Server = await loop.create_unix_server(make_protocol, str(at), backlog=BACKLOG)
    else:
        server = await loop.create_server(make_protocol, HOST, at, backlog=BACKLOG)
    await ended.wait()
    server.close()
