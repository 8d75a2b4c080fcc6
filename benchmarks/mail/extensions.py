"""Time in the three extensions for each message, in the real service while mail comes in.

The service runs in this process, on the same event loop as elsewhere, and reports for each transaction how long each
extension's handlers ran, host functions included. A load process sends by SMTP meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.mail.smtp import send
from benchmarks.peers.process import PeerFailed
from benchmarks.peers.spinrt_server import SpinrtServer
from spinrt.mail.config import load
from spinrt.mail.report import DeliveryReport
from spinrt.mail.service import loop_factory, running

EXTENSIONS = ("delivery", "audit", "undo-hook")


@dataclass(frozen=True, slots=True)
class ExtensionsFound:
    """Seconds for one message, one value for each round: the mean over the messages of the round."""

    together: list[float]
    each: Mapping[str, list[float]]


def measure(directory: Path, messages: int, rounds: int, *, loop: str) -> ExtensionsFound:
    """Send so many messages in each of so many rounds, after one that does not count.

    Raises:
        PeerFailed: Not all were accepted, or an extension did not run for one of them.
    """
    directory.mkdir()
    server = SpinrtServer(directory, loop=loop)
    with asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
        found = runner.run(_measure(server, messages, rounds))
    return ExtensionsFound(
        [sum(one.values()) for one in found], {name: [one[name] for one in found] for name in EXTENSIONS}
    )


async def _measure(server: SpinrtServer, messages: int, rounds: int) -> list[dict[str, float]]:
    reports: list[DeliveryReport] = []
    found = []
    async with running(load(server.configuration)) as service:
        service.observers.append(reports.append)
        for number in range(rounds + 1):
            reports.clear()
            await asyncio.to_thread(send, server.smtp_port, messages, pipelining=False)
            if number:
                found.append(_seconds_each(reports, messages))
    return found


def _seconds_each(reports: list[DeliveryReport], messages: int) -> dict[str, float]:
    if len(reports) != messages:
        raise PeerFailed(f"extensions: {messages} messages were accepted, {len(reports)} reported")
    taken: dict[str, float] = defaultdict(float)
    for report in reports:
        if set(report.extensions) != set(EXTENSIONS):
            raise PeerFailed(f"extensions: for {report.delivery_id} ran {', '.join(report.extensions) or 'none'}")
        for name, part in report.extensions.items():
            taken[name] += part.ns / 1e9 / messages
    return taken
