"""The filter as a milter with pymilter; as its twin in C, it switches off what it does not need.

Runs as a process of whichever Python has pymilter:
``python3 -m benchmarks.filters.python_milter SOCKET TALLY_FILE LIBRARY``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import Milter

from benchmarks.filters.library import BODY_BYTES_MAX, HEADER, NAMES, Library, Tally

library: Library
tally = Tally()


class FilterMilter(Milter.Base):  # type: ignore[misc]  # pymilter has no types
    """One connection; `begin_again` for each message. Callbacks that are not here are switched off."""

    def __init__(self) -> None:
        self.begin_again()

    def begin_again(self) -> None:
        self.fields: list[bytes | None] = [None] * len(NAMES)
        self.content = b""

    @Milter.noreply  # type: ignore[untyped-decorator]
    def header(self, name: str, value: str) -> int:
        lowered = name.lower()
        if lowered in NAMES:
            place = NAMES.index(lowered)
            if self.fields[place] is None:
                raw = value.encode(errors="surrogateescape")
                self.fields[place] = raw.replace(b"\r", b"").replace(b"\n", b"")
        return int(Milter.CONTINUE)

    def body(self, chunk: bytes) -> int:
        self.content += chunk[: BODY_BYTES_MAX - len(self.content)]
        skips = len(self.content) == BODY_BYTES_MAX and self._protocol & Milter.P_SKIP
        return int(Milter.SKIP if skips else Milter.CONTINUE)

    def eom(self) -> int:
        answer = library.decide(self.fields, self.content)
        tally.note(answer)
        self.begin_again()
        self.addheader(HEADER, answer.decode())
        return int(Milter.CONTINUE)

    def abort(self) -> int:
        self.begin_again()
        return int(Milter.CONTINUE)


def main() -> None:
    """Command line of the process; libmilter ends it at SIGTERM."""
    global library  # noqa: PLW0603  # pymilter makes its objects itself, from the class alone
    socket, tally_file, path = sys.argv[1:]
    library = Library(Path(path))
    os.umask(0)  # Postfix, which has an account of its own, must reach the socket
    Milter.factory = FilterMilter
    Milter.set_flags(Milter.ADDHDRS)
    Milter.runmilter("filter", socket, 0)
    tally.write(Path(tally_file))


if __name__ == "__main__":
    main()
