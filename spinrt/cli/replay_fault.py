"""``spinrt replay-fault``: run the call of a crash record again, away from the server."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spinrt.cli.common import add_json, print_json, printable
from spinrt.errors import CorruptRecord, NotFound
from spinrt.runtime.crash import CrashRecord, decode_record
from spinrt.runtime.replay import Asked, Replayed, replay
from spinrt.sandbox.binary_reader import shown

EPILOG = """\
The record holds module, state, arguments and what the host answered; nothing
of this machine is asked. Records are written to crashes/ in the data directory
for extensions whose policy says `supervision: {crash_records: on}`.

exit codes: 0 the same fault; 1 another one, none, or it asked the host for
something else than then; 3 the record is damaged

examples:
  spinrt replay-fault var/data/crashes/20261121T081502.113Z-delivery-1.crash
  spinrt replay-fault FILE --json | jq .backtrace
"""
FILE_BYTES_MAX = 1 << 30
SAME, DIFFERENT = 0, 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.add_argument("file", type=Path, metavar="FILE", help="crash record")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    record = read(arguments.file)
    replayed = replay(record, arguments.file.name)
    if arguments.json:
        print_json(as_values(record, replayed))
    else:
        print_replay(record, replayed)
    return SAME if replayed.same else DIFFERENT


def read(file: Path) -> CrashRecord:
    """Read a record from a file.

    Raises:
        NotFound: There is no such file.
        CorruptRecord, FormatUnknown: It is no record, or damaged.
    """
    try:
        if file.stat().st_size > FILE_BYTES_MAX:
            raise CorruptRecord(f"crash record {file.name}: found over {FILE_BYTES_MAX} bytes, expected at most that")
        data = file.read_bytes()
    except OSError as error:
        raise NotFound(f"crash record {file}: {error.strerror}") from None
    return decode_record(data, file.name)


def as_values(record: CrashRecord, replayed: Replayed) -> dict[str, Any]:
    """Return what --json prints."""
    about = record.about
    return {
        "format": 1,
        "time": about.time,
        "extension": about.extension,
        "version": about.version,
        "module_sha256": record.code_digest,
        "spinrt": about.spinrt,
        "engine": about.engine,
        "event": about.event,
        "export": about.export,
        "image": about.image,
        "recorded": asdict(about.fault),
        "replayed": asdict(replayed.outcome),
        "same": replayed.same,
        "diverged": replayed.diverged,
        "backtrace": [asdict(frame) for frame in replayed.backtrace],
        "recorded_backtrace": [asdict(frame) for frame in replayed.recorded_backtrace],
        "host_calls": [_call_values(call) for call in replayed.calls],
        "host_calls_made": replayed.asked,
        "host_calls_complete": about.calls_complete,
    }


def _call_values(call: Asked) -> dict[str, Any]:
    return {"function": call.function, "arguments": [repr(value) for value in call.arguments], "failure": call.failure}


def print_replay(record: CrashRecord, replayed: Replayed) -> None:
    """Print it as people read it."""
    about = record.about
    print(f"{about.extension} {about.version}, {about.event}, {about.time}")
    print(f"recorded  {shown_line(about.fault.code, about.fault.text)}")
    print(f"replayed  {shown_line(replayed.outcome.code, replayed.outcome.text)}")
    print(f"verdict   {verdict(replayed)}")
    if about.image != "before":
        print("state     of a fresh instance: what it was before the call was not kept (limits.undo_bytes is 0)")
    for title, frames in (("backtrace", replayed.backtrace), ("backtrace then", replayed.recorded_backtrace)):
        if frames and (title == "backtrace" or not replayed.same):
            print(f"\n{title}")
            for frame in frames:
                print(f"  {printable(str(frame))}")
    if replayed.calls:
        print(f"\nhost calls ({replayed.asked} of {len(replayed.calls)} made)")
        for call in replayed.calls:
            given = ", ".join(f"{value!r:.60}" for value in call.arguments)
            print(f"  {call.function}({given}){f' failed: {shown(call.failure)}' if call.failure else ''}")


def shown_line(code: str, text: str) -> str:
    """An outcome as one line."""
    return f"{code}: {printable(text)}" if code else "no fault"


def verdict(replayed: Replayed) -> str:
    """One word or two."""
    if replayed.same:
        return "the same fault"
    if replayed.diverged:
        return "it asked the host for something else than then"
    return "another fault" if replayed.outcome.code else "no fault"
