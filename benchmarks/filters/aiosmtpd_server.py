"""aiosmtpd with filters in its handler: as functions of the same process, or as HTTP hooks that it posts messages to.

Runs as a process:
``python -m benchmarks.filters.aiosmtpd_server PORT TALLY_FILE [--functions N LIBRARY] [--hook PORT]…``.
The handler keeps nothing. Fields that filters add are put in front of the message, one filter after the other.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

from aiosmtpd.smtp import Envelope

from benchmarks.filters.hook_service import LENGTH
from benchmarks.filters.library import HEADER, Library, Tally
from benchmarks.peers.aiosmtpd_null import serve
from benchmarks.peers.process import HOST, PeerFailed, loop_factory

Filter: TypeAlias = Callable[[bytes], Awaitable[bytes]]
"""From a message to the value of the field to add."""


class FilteringHandler:
    """Accepts every message, lets each filter look at it, and forgets it."""

    def __init__(self, filters: list[Filter]) -> None:
        self.tally = Tally()
        self._filters = filters

    async def handle_DATA(self, server: object, session: object, envelope: Envelope) -> str:
        content = envelope.content
        assert isinstance(content, bytes)
        answer = b""
        for ask in self._filters:
            answer = await ask(content)
            content = b"%b: %b\r\n%b" % (HEADER.encode(), answer, content)
        self.tally.note(answer)
        return "250 2.0.0 OK"


class Hook:
    """A client that posts messages; connections are kept and used again."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def __call__(self, content: bytes) -> bytes:
        """Raises PeerFailed: the service did not answer as it should."""
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection(HOST, self._port)
        head = b"POST /filter HTTP/1.1\r\nHost: bench\r\nContent-Type: message/rfc822\r\nContent-Length: %d\r\n\r\n"
        writer.write(head % len(content) + content)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = LENGTH.search(answer)
        if not answer.startswith(b"HTTP/1.1 200 ") or length is None:
            raise PeerFailed(f"HTTP hook: answered {answer!r}")
        body = json.loads(await reader.readexactly(int(length[1])))
        self._idle.append((reader, writer))
        return str(body["headers"][0][1]).encode()


def function(library: Library) -> Filter:
    """The filter as a function of this process."""

    async def ask(content: bytes) -> bytes:
        return library.decide_content(content)

    return ask


def main(arguments: list[str] | None = None) -> None:
    """Command line of the process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("tally_file", type=Path)
    parser.add_argument("--functions", nargs=2, default=("0", ""), metavar=("N", "LIBRARY"))
    parser.add_argument("--hook", type=int, action="append", default=[], metavar="PORT")
    options = parser.parse_args(arguments)
    count, library = int(options.functions[0]), options.functions[1]
    filters: list[Filter] = [function(Library(Path(library)))] * count if count else []
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        handler = FilteringHandler([*filters, *map(Hook, options.hook)])
        runner.run(serve(options.port, handler))
    handler.tally.write(options.tally_file)


if __name__ == "__main__":
    main()
