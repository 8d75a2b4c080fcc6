"""``spinrt demo``: the whole way of a message, shown; nothing is left running and nothing is left behind."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from spinrt.errors import UsageError

EPILOG = """\
Starts a server on free ports of this machine, sends mail to it by SMTP (Python's
smtplib, STARTTLS) through the three shipped extensions, reads it back over IMAP
(imapclient), and prints what each extension did, where each message lies, whether
it is byte for byte what was sent, and how long all of it took. Then the server is
stopped and its directory removed.

Exit code 1 when a message is lost, altered, repeated or not answered.

examples:
  spinrt demo
  spinrt demo --mail ~/Maildir        a directory of messages, an mbox file, or a Maildir
  spinrt demo --keep /tmp/demo        keep configuration, data and log to look at
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.add_argument("--mail", type=Path, metavar="PATH", help="use this mail instead of the built-in examples")
    parser.add_argument("--count", type=_positive, metavar="N", help="send only the first N messages")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the server's files in DIR (new or empty)")
    parser.add_argument("--json", action="store_true", help="print JSON for programs instead of text for people")


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number from 1")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    from spinrt.cli import demo_report
    from spinrt.cli.common import print_json
    from spinrt.cli.demo_run import perform
    from spinrt.cli.demo_source import open_source

    source = None if arguments.mail is None else open_source(arguments.mail)
    with _ended_by_signals(), _workspace(arguments.keep) as directory:
        if not arguments.json:
            print(f"spinrt demo: mail from {source.kind} {source.path}\n" if source else "spinrt demo\n", flush=True)
        outcome = perform(directory, source, arguments.count)
        if arguments.json:
            print_json(demo_report.as_json(outcome))
        elif source is None:
            demo_report.print_samples(outcome)
        else:
            demo_report.print_summary(outcome)
    if arguments.keep is not None and not arguments.json:
        print(f"\nkept in {arguments.keep}: look with `spinrt serve --config {arguments.keep}/spinrt.yaml`")
    return 1 if outcome.problems() else 0


@contextlib.contextmanager
def _workspace(keep: Path | None) -> Iterator[Path]:
    """Yield a directory for the server: a temporary one, or one to keep."""
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="spinrt-demo-") as name:
            yield Path(name)
        return
    if keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise UsageError(f"{keep}: is there already and not an empty directory", hint="--keep takes a new directory")
    keep.mkdir(parents=True, exist_ok=True)
    yield keep.absolute()


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the demo in order, as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, frame: object) -> None:
    sys.exit(128 + number)
