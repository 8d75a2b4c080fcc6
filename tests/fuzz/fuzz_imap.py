"""Invariant: however IMAP bytes are cut, the reader gives the same events, never raises, and holds bounded memory.

Run with atheris where it is installed (``python tests/fuzz/fuzz_imap.py tests/fuzz/seeds/imap``); `test_fuzz_imap`
replays the seeds, and mutations of them from fixed random seeds, without it.
"""

from __future__ import annotations

import sys

from spinrt.mail.imap.limits import ImapLimits
from spinrt.mail.imap.reader import Event, Fatal, MessageData, MessageStart, Reader
from spinrt.mail.imap.response import body_structure, format_envelope
from spinrt.mail.message.envelope import envelope
from spinrt.mail.message.mime import parse_mime

LIMITS = ImapLimits(
    line_bytes_max=1000,
    literal_bytes_max=500,
    command_bytes_max=2000,
    append_bytes_max=1000,
    discard_bytes_max=4000,
)


def events_of(data: bytes, step: int) -> list[Event]:
    """All events of a stream that comes in pieces of ``step`` bytes; every other message is refused."""
    reader = Reader(LIMITS)
    events: list[Event] = []
    messages = 0
    for start in range(0, len(data), step):
        reader.feed(data[start : start + step])
        while (event := reader.next()) is not None:
            if isinstance(event, MessageStart):
                messages += 1
                (reader.accept_message if messages % 2 else reader.refuse_message)()
            if isinstance(event, MessageData) and events and isinstance(events[-1], MessageData):
                event = MessageData(events.pop().data + event.data)  # type: ignore[union-attr]
            events.append(event)
            if isinstance(event, Fatal):
                return events
        assert reader.buffered <= LIMITS.line_bytes_max + max(step, LIMITS.literal_bytes_max)
    return events


def check(data: bytes) -> None:
    """The invariant for one input; messages that come out of it are parsed and written too."""
    whole = events_of(data, max(1, len(data)))
    assert events_of(data, 1) == whole
    assert events_of(data, 7) == whole
    for event in whole:
        if isinstance(event, MessageData):
            tree = parse_mime(event.data)
            body_structure(tree, extended=True)
            format_envelope(envelope(tree.headers))


def main() -> None:
    """Fuzz until stopped; needs atheris."""
    import atheris  # type: ignore[import-not-found, unused-ignore]

    atheris.instrument_all()
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
