"""``spinrt mirror``: a second data directory that follows, here or on another machine."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from spinrt import trace
from spinrt.cli.common import add_config, add_json, load_config, print_json, print_table, printable
from spinrt.errors import ConfigError, NotFound
from spinrt.mail.config_values import format_duration

if TYPE_CHECKING:
    from spinrt.mail.config import Config
    from spinrt.storage.protocols import Snapshot

EPILOG = """\
The configuration's section `mirror` says where to and from where; a running
`spinrt serve` does it all by itself. More: docs/operating/mirror.md

examples:
  spinrt mirror init                      make this side's certificate, print it
  spinrt mirror push                      bring every target up to date now
  spinrt mirror status                    how far behind, what was sent and saved
  spinrt mirror serve                     only keep the mirrors of others
  spinrt mirror open /srv/mirror          what a mirror holds, read-only
  spinrt mirror promote /srv/mirror       make a mirror the primary
  spinrt mirror resync /srv/data          have an old primary follow its mirror
  spinrt mirror discard /srv/data 3f9a1c  delete what was set aside
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def action(name: str, text: str) -> argparse.ArgumentParser:
        return actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")

    made = action("init", "make this side's certificate and key, unless they are there, and print the certificate")
    push = action("push", "bring targets up to date now")
    push.add_argument("target", nargs="?", help="one of mirror.targets; all of them by default")
    serve = action("serve", "keep the mirrors that mirror.sources lists, in the foreground, without serving mail")
    serve.add_argument("--log-level", choices=list(trace.LEVELS), help="override logging.level")
    status = action("status", "how far mirrors are, and what they cost")
    for one in (made, push, serve, status):
        add_config(one)
    for one in (push, status):
        add_json(one)
    opened = action("open", "list mailboxes or messages that a mirror holds, or print a message; read-only")
    opened.add_argument("directory", type=Path, help="data directory of the mirror")
    opened.add_argument("user", nargs="?", help="an account; without, accounts are listed")
    opened.add_argument("mailbox", nargs="?", help="one of its mailboxes")
    opened.add_argument("uid", nargs="?", type=int, help="one of its messages")
    opened.add_argument("--snapshot", default="newest", help="another one than the current: its label or id")
    promote = action("promote", "make a mirror the primary: its data directory then takes mail")
    resync = action("resync", "have an old primary, or a mirror that went another way, follow the next source")
    discard = action("discard", "delete snapshots of a mirror, as those set aside; nothing may have it open")
    discard.add_argument("directory", type=Path, help="data directory of the mirror")
    discard.add_argument("snapshots", nargs="+", metavar="SNAPSHOT", help="label, or beginning of an id")
    promote.add_argument("directory", type=Path, help="data directory of the mirror")
    resync.add_argument("directory", type=Path, help="data directory of the old primary, or of the mirror")
    for one in (opened, promote, resync, discard):
        add_json(one)


def run(arguments: argparse.Namespace) -> int:
    return _ACTIONS[arguments.action](arguments)


def _init(arguments: argparse.Namespace) -> int:
    from spinrt.mail.mirror_server import identity_directory
    from spinrt.mail.tls import fingerprint, pinned_pair

    config = load_config(arguments)
    certificate, key = pinned_pair(identity_directory(config), config.hostname)
    print(certificate.read_text(encoding="ascii"), end="")
    for line in (
        f"certificate {certificate}, SHA-256 {fingerprint(certificate)}",
        f"key         {key}: stays here",
        "give the certificate to the other side, and name the other side's in mirror.targets or mirror.sources",
    ):
        print(line, file=sys.stderr)
    return 0


def _push(arguments: argparse.Namespace) -> int:
    from spinrt.mail.asking import ask

    found = ask(load_config(arguments), "mirror.push", target=arguments.target)
    failed = [one for one in found if one["error"]]
    if arguments.json:
        print_json(found)
        return 1 if failed else 0
    for one in failed:
        print(f"spinrt: mirror {one['target']}: not brought up to date: {printable(one['error'])}", file=sys.stderr)
    for one in found:
        if one["error"]:
            continue
        sent, written = format_bytes(one["last_sent_bytes"]), format_bytes(one["last_written_bytes"])
        print(
            f"{one['target']}: up to date; sent {sent} ({one['last_pages']} pages, {one['last_bodies']} bodies)"
            f" for {written} of log"
        )
    return 1 if failed else 0


def _status(arguments: argparse.Namespace) -> int:
    from spinrt.mail.asking import ask

    config = load_config(arguments)
    has_store = (config.data_directory / "FORMAT").exists()
    found = ask(config, "mirror.status") if has_store else {"targets": [], "sources": []}
    if not found["sources"] and config.mirror.sources:
        from spinrt.mail.mirror_server import describe_mirrors

        found["sources"] = describe_mirrors(config)
    if arguments.json:
        print_json(found)
        return 0
    _show_targets(found["targets"])
    _show_sources(found["sources"])
    if not found["targets"] and not found["sources"]:
        print("the configuration has neither mirror.targets nor mirror.sources")
    return 0


def _show_targets(targets: list[Mapping[str, Any]]) -> None:
    if not targets:
        return
    rows = [
        (
            one["target"],
            "never" if one["lag_s"] is None else format_age(one["lag_s"]),
            "-" if one["lag_bytes"] is None else format_bytes(one["lag_bytes"]),
            format_bytes(one["last_sent_bytes"]),
            format_bytes(one["sent_bytes"]),
            "-" if one["saved"] is None else f"{max(one['saved'], 0):.0%}",
            printable(one["error"]) or ("not tried" if one["lag_s"] is None else "ok"),
        )
        for one in targets
    ]
    print_table(rows, ("target", "behind", "log behind", "last sent", "sent", "saved", "last try"))


def _show_sources(sources: list[Mapping[str, Any]]) -> None:
    if not sources:
        return
    rows = [
        (
            one["source"],
            one["directory"],
            (one["snapshot"] or "none yet")[:12],
            format_moment(one["updated_s"]),
            len(one["aside"]),
            "yes" if one["resync"] else "",
        )
        for one in sources
    ]
    print_table(rows, ("source", "directory", "snapshot", "updated", "set aside", "resync"))
    for one in sources:
        if one["aside"]:
            _show_aside(one)


def _show_aside(source: Mapping[str, Any]) -> None:
    directory = source["directory"]
    rows = [
        (
            one["snapshot"][:12],
            format_moment(one["taken_s"]),
            printable(one["label"]) or "-",
            format_moment(one["aside_s"]) if one["aside_s"] else "-",
            one["reason"],
        )
        for one in source["aside"]
    ]
    print(f"\nset aside in {directory}:")
    print_table(rows, ("snapshot", "taken", "label", "set aside", "because it"))
    print(f"look into one: spinrt mirror open --snapshot {rows[0][0]} {directory}")
    print(f"remove it:     spinrt mirror discard {directory} {rows[0][0]}")


def format_bytes(count: int) -> str:
    """A number of bytes for people: three digits."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.3g} {unit}"
        amount /= 1024
    return f"{amount:.3g} TiB"


def format_age(seconds: float) -> str:
    """A time span for people, to the second below an hour."""
    return format_duration(round(seconds) if seconds < 3600 else round(seconds / 60) * 60)


def format_moment(seconds: float) -> str:
    import time

    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else "never"


def _serve(arguments: argparse.Namespace) -> int:
    config = load_config(arguments)
    if config.mirror.listen is None or not config.mirror.sources:
        raise ConfigError(f"{config.shown}: mirror.listen and mirror.sources: expected both for `mirror serve`")
    level, json_lines = arguments.log_level or config.logging.level, config.logging.format == "json"
    trace.setup(level=level, json_lines=json_lines, buffered=True)
    asyncio.run(_serve_until_stopped(config))
    return 0


async def _serve_until_stopped(config: Config) -> None:
    from spinrt.mail.mirror_server import MirrorServer

    server, stopped = MirrorServer(config), asyncio.Event()
    await server.start()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    host, port = server.sockets[0].getsockname()[:2]
    trace.log(trace.component("mirror"), 20, "ready", at=f"{host}:{port}", sources=len(server.kept))
    try:
        await stopped.wait()
    finally:
        await server.close()


def _open(arguments: argparse.Namespace) -> int:
    from spinrt.cli.snapshot import look_into
    from spinrt.mail.store.snapshots import find_snapshot
    from spinrt.storage.mirror.book import is_mirror

    directory: Path = arguments.directory
    if not is_mirror(directory):
        raise NotFound(f"{directory}: is no mirror", hint="`spinrt snapshot open` looks into a primary's snapshots")

    def choose(snapshots: list[Snapshot]) -> Snapshot:
        if not snapshots:
            raise NotFound(f"mirror {directory}: has no snapshot yet", hint="wait for the first update")
        return find_snapshot(directory, snapshots, arguments.snapshot)

    result, show = look_into(directory, choose, arguments)
    if arguments.json:
        print_json(result)
    else:
        show(result)
    return 0


def _promote(arguments: argparse.Namespace) -> int:
    from spinrt.mail.store.promote import promote

    made = promote(arguments.directory)
    if arguments.json:
        print_json({"directory": str(arguments.directory), "snapshot": made.identity.hex()})
    else:
        print(f"{arguments.directory} is a primary now, from snapshot {made.identity.hex()[:12]} on")
        print("name it as data_directory in a configuration with the same accounts, and start `spinrt serve`")
    return 0


def _discard(arguments: argparse.Namespace) -> int:
    from spinrt.mail.store.thinning import discard

    gone = [one.identity.hex() for one in discard(arguments.directory, arguments.snapshots)]
    if arguments.json:
        print_json(gone)
    else:
        print(f"deleted {', '.join(one[:12] for one in gone)}")
    return 0


def _resync(arguments: argparse.Namespace) -> int:
    from spinrt.mail.store.promote import step_down

    aside = step_down(arguments.directory)
    if arguments.json:
        print_json({"directory": str(arguments.directory), "aside": None if aside is None else aside.identity.hex()})
        return 0
    if aside is not None:
        print(f"all that {arguments.directory} had is kept in snapshot {aside.identity.hex()[:12]}")
    print(f"{arguments.directory} is a mirror; it follows the next source that sends, also to an earlier snapshot")
    return 0


_ACTIONS: Final[Mapping[str, Callable[[argparse.Namespace], int]]] = {
    "init": _init,
    "push": _push,
    "serve": _serve,
    "status": _status,
    "open": _open,
    "promote": _promote,
    "resync": _resync,
    "discard": _discard,
}
