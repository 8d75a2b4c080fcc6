"""``spinrt log``: list, show, verify and follow what is stored, also while the server runs."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any, Final

from spinrt.cli.common import Subparsers, add_config, add_json, load_config, print_json, printable
from spinrt.errors import SpinError, UsageError
from spinrt.mail.store.changes import CHANGE_NAMES, KIND_BODY, decode_change
from spinrt.mail.store.model import Body
from spinrt.storage.carry import decode_carried
from spinrt.storage.fsck.finding import Severity
from spinrt.storage.fsck.log import LogCheck
from spinrt.storage.log_view import NS, LogView
from spinrt.storage.readonly import ReadOnlyDevice
from spinrt.storage.record import KIND_CARRIED, KIND_PROMOTED, Record

EPILOG = """\
A line of `list` is: position, time (UTC), bytes as stored, kind, and what it
says as NAME=VALUE. FROM and TO are a position, a time such as 2026-11-21 or
2026-11-21T10:00:00, or how long ago: 30s, 15min, 2h, 7d. Nothing is locked and
nothing is changed. A body is named by the position at which it was first
written; `show` finds it where it lies now.

exit codes: 0 worked, 1 failed, 2 wrong usage, 3 stored data is damaged

examples:
  spinrt log list --from 2h
  spinrt log list --kind deliver | grep sender=ann@example.org
  spinrt log show 123456
  spinrt log show 123456 --body > message.eml
  spinrt log verify
  spinrt log follow
"""
BODY_HELP: Final = (
    "print nothing but the octets that the record holds, decompressed: of kind body a message, or a piece of one, as it"
    " came; of other kinds the change as it is encoded"
)
POLL_S: Final = 0.3
DAMAGED: Final = 3
VALUE_CHARACTERS_MAX: Final = 60
_PLAIN_KINDS: Final = {KIND_BODY: "body", KIND_CARRIED: "carried", KIND_PROMOTED: "promoted"}
"""Records that are no changes of the store."""
KINDS: Final = (*_PLAIN_KINDS.values(), *CHANGE_NAMES)
_NUMBER: Final = re.compile(r"0x[0-9a-f]{4}")
_UNITS: Final = {"s": 1, "min": 60, "h": 3600, "d": 86400}
_AGO: Final = re.compile(r"([0-9]+)(s|min|h|d)")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = _add(actions, "list", "one line for each record")
    listing.add_argument("--from", dest="first", metavar="FROM", help="leave out what is before")
    listing.add_argument("--to", dest="last", metavar="TO", help="leave out what is at or after")
    listing.add_argument("--last", dest="count", type=int, metavar="N", help="only the last N of them")
    listing.add_argument("--kind", metavar="NAME", help="only records of that kind; a wrong one lists them")
    showing = _add(actions, "show", "all that one record says")
    showing.add_argument("position", type=int)
    showing.add_argument("--body", action="store_true", help=BODY_HELP)
    _add(actions, "verify", "check every byte of the log")
    following = _add(actions, "follow", "one line for each record that comes")
    following.add_argument("--from", dest="first", metavar="FROM", help="begin there (default: at the end)")


def _add(actions: Subparsers, name: str, text: str) -> argparse.ArgumentParser:
    below = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False)
    below.add_argument("--data", type=Path, metavar="DIR", help="data directory (default: the configuration's)")
    add_config(below)
    add_json(below)
    return below


def run(arguments: argparse.Namespace) -> int:
    data: Path = arguments.data if arguments.data is not None else load_config(arguments).data_directory
    action = {"list": _list, "show": _show, "verify": _verify, "follow": _follow}[arguments.action]
    return action(data / "log", arguments)


# ------------------------------------------------------------------------------------------------------------- actions


def _list(directory: Path, arguments: argparse.Namespace) -> int:
    records = _chosen(LogView(directory), arguments)
    if arguments.count is not None:
        if arguments.count < 1:
            raise UsageError(f"log list: --last {arguments.count}, expected 1 or more")
        records = iter(deque(records, arguments.count))
    for record in records:
        print(_line(record, as_json=arguments.json))
    return 0


def _chosen(view: LogView, arguments: argparse.Namespace) -> Iterator[Record]:
    last, last_is_time = _border(arguments.last)
    wanted = _kind(arguments.kind)
    for record in _from(view, arguments.first):
        if last is not None and (record.time_ns if last_is_time else record.position) >= last:
            return
        if not wanted or kind_name(record) == wanted:
            yield record


def _kind(text: str | None) -> str | None:
    """Return how `kind_name` says it. Raises UsageError."""
    wanted = None if text is None else text.lower()
    if wanted is not None and wanted not in KINDS and not _NUMBER.fullmatch(wanted):
        raise UsageError(
            f"log list: --kind {text!r}, expected one of {', '.join(KINDS)}, or a number of four hex digits such as"
            " 0x01ff"
        )
    if wanted is not None and _NUMBER.fullmatch(wanted):
        return _PLAIN_KINDS.get(int(wanted, 16), wanted)
    return wanted


def _from(view: LogView, first: str | None) -> Iterator[Record]:
    border, is_time = _border(first)
    if border is None:
        return view.records()
    if is_time:
        return view.since(border)
    start = max((segment.start for segment in view.segments() if segment.start <= border), default=0)
    return (record for record in view.records(start) if record.position >= border)


def _border(text: str | None) -> tuple[int | None, bool]:
    """Return a position, or a time in nanoseconds, and which of them it is."""
    if text is None or text.isdecimal():
        return (None if text is None else int(text)), False
    if ago := _AGO.fullmatch(text):
        return time.time_ns() - int(ago[1]) * _UNITS[ago[2]] * NS, True
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"log: found {text[:40]!r}, expected a position, a time such as 2026-11-21T10:00:00, or 2h"
        ) from None
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * NS), True


def _show(directory: Path, arguments: argparse.Namespace) -> int:
    record = LogView(directory).read(arguments.position)
    if arguments.body:
        sys.stdout.buffer.write(record.body)
        return 0
    said = _front(record) | {"plain_bytes": len(record.body), "compressed": record.compressed} | describe(record)
    if arguments.json:
        print_json(said)
        return 0
    for name, value in said.items():
        print(f"{name:<16} {_text(value)}")
    return 0


def _verify(directory: Path, arguments: argparse.Namespace) -> int:
    view = LogView(directory)
    check = LogCheck(ReadOnlyDevice(directory))
    found = list(check.findings())
    damaged = any(finding.severity is Severity.DAMAGE for finding in found)
    if arguments.json:
        findings = [{"severity": one.severity.value, "line": one.line()} for one in found]
        print_json({"segments": len(view.segments()), "records": check.records, "end": check.end, "findings": findings})
    else:
        for one in found:
            print(one.line())
        told = ("1 finding" if len(found) == 1 else f"{len(found)} findings") if found else "nothing is wrong"
        print(f"{check.records} records, {check.start} to {check.end}: {told}")
    return DAMAGED if damaged else 0


def _follow(directory: Path, arguments: argparse.Namespace) -> int:
    view = LogView(directory)
    position = 0
    if arguments.first is None:
        newest = max((segment.start for segment in view.segments()), default=0)
        for record in view.records(newest):
            position = record.next_position
    else:
        for record in _from(view, arguments.first):
            position = _tell(record, as_json=arguments.json)
    while True:
        for record in view.records(position):
            position = _tell(record, as_json=arguments.json)
        time.sleep(POLL_S)


def _tell(record: Record, *, as_json: bool) -> int:
    print(_line(record, as_json=as_json), flush=True)
    return record.next_position


# --------------------------------------------------------------------------------------------------------------- words


def _front(record: Record) -> dict[str, Any]:
    moment = datetime.fromtimestamp(record.time_ns // NS, UTC) if record.time_ns < 2**62 else None
    return {
        "position": record.position,
        "time": "" if moment is None else f"{moment:%Y-%m-%dT%H:%M:%S}.{record.time_ns % NS // 1000:06d}Z",
        "stored_bytes": len(record.stored),
        "kind": kind_name(record),
    }


def kind_name(record: Record) -> str:
    """What a record is, in one word; its number for kinds that are not known."""
    if record.kind in _PLAIN_KINDS:
        return _PLAIN_KINDS[record.kind]
    try:
        change = decode_change(record.kind, record.body)
    except SpinError:
        change = None
    return f"{record.kind:#06x}" if change is None else type(change).__name__.lower()


def describe(record: Record) -> dict[str, Any]:
    """What a record says, field by field, as plain values."""
    if record.kind == KIND_CARRIED:
        name, kind, _, stored = decode_carried(record.body)
        return {"name": name, "kind_carried": f"{kind:#06x}", "bytes": len(stored)}
    if record.kind == KIND_BODY:
        return {}
    try:
        change = decode_change(record.kind, record.body)
    except SpinError as error:
        return {"problem": str(error)}
    if change is None:
        return {}
    named = change._fields if isinstance(change, tuple) else tuple(type(change).__dataclass_fields__)
    return {name: _plain(getattr(change, name)) for name in named}


def _plain(value: Any) -> Any:
    match value:
        case Body():
            names = [extent.position for extent in value.extents]
            return {"names": names, "size": value.size, "sha256": value.digest.hex()}
        case bytes():
            return value.decode("ascii", "backslashreplace")
        case Enum():
            return value.value
        case tuple() if hasattr(value, "_fields"):
            return {name: _plain(getattr(value, name)) for name in value._fields}
        case tuple() | list():
            return [_plain(one) for one in value]
        case _ if hasattr(value, "__dataclass_fields__"):
            return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
        case _:
            return value


def _line(record: Record, *, as_json: bool) -> str:
    said = _front(record) | describe(record)
    if as_json:
        return json.dumps(said)
    front = f"{said['position']:>12} {said['time']:<27} {said['stored_bytes']:>8} {said['kind']:<14}"
    return f"{front} {' '.join(_short(said))}".rstrip()


def _short(said: Mapping[str, Any]) -> Iterator[str]:
    for name, value in said.items():
        if name not in ("position", "time", "stored_bytes", "kind") and value not in (None, [], "", ()):
            text = _text(value)
            clipped = text if len(text) <= VALUE_CHARACTERS_MAX else text[:VALUE_CHARACTERS_MAX] + "…"
            yield f"{name}={clipped}"


def _text(value: Any) -> str:
    """A value on one line, without what a terminal would obey."""
    if isinstance(value, Mapping) and "names" in value:
        value = f"{'+'.join(map(str, value['names'])) or 'none'}({value['size']} bytes)"
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
