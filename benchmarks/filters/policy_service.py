"""The filter as a Postfix policy service (SMTPD_POLICY_README): it sees the envelope and nothing of the message.

So it is not the same filter: the sender's address stands for From, and all else is missing. Runs as a process:
``python -m benchmarks.filters.policy_service SOCKET TALLY_FILE LIBRARY``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from benchmarks.filters.library import HEADER, Library, Tally
from benchmarks.filters.service import FilterProtocol, serve

_SENDER = re.compile(rb"^sender=(.*)$", re.MULTILINE)
_END = b"\n\n"


class PolicyProtocol(FilterProtocol):
    """One connection: requests of lines ``name=value``, each ended by an empty line; one answer for each."""

    def data_received(self, data: bytes) -> None:
        *requests, self._input = (self._input + data).split(_END)
        for request in requests:
            self._transport.write(b"action=PREPEND %b: %b\n\n" % (HEADER.encode(), self._answer(request)))

    def _answer(self, request: bytes) -> bytes:
        found = _SENDER.search(request)
        answer = self._library.decide([found[1] if found else None, None, None, None], b"")
        self._tally.note(answer)
        return answer


def main() -> None:
    """Command line of the process."""
    at, tally_file, library = map(Path, sys.argv[1:])
    tally, loaded = Tally(), Library(library)
    serve(lambda: PolicyProtocol(loaded, tally), at, tally, tally_file)


if __name__ == "__main__":
    main()
