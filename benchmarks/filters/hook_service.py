"""The filter as an HTTP hook: a mail server posts the message and is answered with header fields to add, as JSON.

HTTP/1.1 with keep-alive, and of it no more than this needs: what a framework would add is not what is measured. Runs
as a process: ``python -m benchmarks.filters.hook_service PORT TALLY_FILE LIBRARY``.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from benchmarks.filters.library import HEADER, Library, Tally
from benchmarks.filters.service import FilterProtocol, serve

LENGTH = re.compile(rb"^content-length:[ \t]*(\d+)", re.IGNORECASE | re.MULTILINE)


class HookProtocol(FilterProtocol):
    """One connection; one request at a time."""

    def data_received(self, data: bytes) -> None:
        self._input += data
        head, separator, rest = self._input.partition(b"\r\n\r\n")
        if not separator:
            return
        found = LENGTH.search(head)
        length = int(found[1]) if found else 0
        if len(rest) >= length:
            self._input = rest[length:]
            self._answer(rest[:length])

    def _answer(self, content: bytes) -> None:
        answer = self._library.decide_content(content)
        self._tally.note(answer)
        body = json.dumps({"headers": [[HEADER, answer.decode()]]}).encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        self._transport.write(head + body)


def main() -> None:
    """Command line of the process."""
    port, tally_file, library = sys.argv[1:]
    tally, loaded = Tally(), Library(Path(library))
    serve(lambda: HookProtocol(loaded, tally), int(port), tally, Path(tally_file))


if __name__ == "__main__":
    main()
