"""One run of the demo: start the server, send, read back, stop, and gather what was found out."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from spinrt.cli.demo_client import Answer, Outgoing, Target, read_back, send_all
from spinrt.cli.demo_config import write_config
from spinrt.cli.demo_ledger import Ledger
from spinrt.cli.demo_messages import DOMAIN, EXPECTED, STRANGER, samples, users_of
from spinrt.cli.demo_report import Outcome, Timings
from spinrt.cli.demo_server import DemoServer
from spinrt.cli.demo_source import Source
from spinrt.mail.report import DeliveryReport

CONNECTIONS = 8
"""Connections that send at the same time when there is much to send."""
USER = "alice"
"""Account that gets mail from --mail."""


def perform(directory: Path, source: Source | None, count: int | None = None) -> Outcome:
    """Start a server in an empty directory, send, read everything back, stop it; return what was found out.

    Args:
        directory: Gets configuration, data and log.
        source: Mail to send; none sends the samples.
        count: Send only so many.

    Raises:
        StateError: The server does not start.
        OSError: Mail cannot be read.
    """
    timings = Timings()
    outcome = Outcome(Ledger(), timings)
    reports: list[DeliveryReport] = []
    if source is None:
        outcome.expected = dict(EXPECTED)
    else:
        outcome.source, outcome.connections = f"{source.kind} {source.path}", CONNECTIONS

    def note(report: DeliveryReport) -> None:
        timings.add(report)
        if source is None:
            reports.append(report)

    passwords = write_config(directory)
    with DemoServer.start(directory, note) as server, _progress() as progress:
        _send(outcome, server.target, source, count, progress)
        _read(outcome, server.target, passwords, progress)
    outcome.reports = _by_name(outcome, reports)
    return outcome


def _send(outcome: Outcome, target: Target, source: Source | None, count: int | None, progress: Progress) -> None:
    messages = iter(samples()) if source is None else _from_source(source)
    total = source.total_bytes if source is not None and count is None else None
    task = progress.add_task("sending", total=total)

    def note(outgoing: Outgoing, answer: Answer) -> None:
        outcome.ledger.enter(outgoing, users_of(outgoing), answer)
        progress.advance(task, outgoing.weight)

    start = time.perf_counter()
    send_all(target, itertools.islice(messages, count), note, connections=outcome.connections)
    outcome.send_s = time.perf_counter() - start


def _from_source(source: Source) -> Iterator[Outgoing]:
    for message in source.messages():
        yield Outgoing(message.name, STRANGER, (f"{USER}@{DOMAIN}",), message.wire, message.source_bytes)


def _read(outcome: Outcome, target: Target, passwords: dict[str, str], progress: Progress) -> None:
    task = progress.add_task("reading back", total=len(outcome.ledger.sent))
    start = time.perf_counter()
    for user, password in passwords.items():
        for found in read_back(target, user, password):
            outcome.ledger.find(found)
            progress.advance(task)
    outcome.read_s = time.perf_counter() - start


def _by_name(outcome: Outcome, reports: list[DeliveryReport]) -> dict[str, DeliveryReport]:
    """Give each report to its message: one connection sent them, so they come in the order of complete messages."""
    complete = [sent.name for sent in outcome.ledger.sent if sent.answer.command in ("DATA", "BDAT")]
    return dict(zip(complete, reports, strict=False))


def _progress() -> Progress:
    """Progress on the terminal; nothing at all when there is none."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description:>12}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
