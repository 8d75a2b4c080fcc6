"""Everything that is measured of filters, at full or quick scale, or of it what some rows need."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.filters import aiosmtpd_fronts, building, messages, postfix_fronts, spinrt_fronts
from benchmarks.filters.fronts import SESSIONS, Front, Fronts, Key, Stage, Traffic, having
from benchmarks.filters.library import Library
from benchmarks.filters.messages import Messages
from benchmarks.filters.postfix_fronts import NOOP_MILTER
from benchmarks.filters.spinrt_fronts import FORM as EXTENSION
from benchmarks.filters.spinrt_fronts import SpinrtFronts
from benchmarks.harness import Options, Result, compare, progress
from benchmarks.mail.smtp import event_loops
from benchmarks.selection import Selection
from benchmarks.timing import Subject, of_thread, one_run

LATENCY, RATE, CPU = "filter_latency", "filter_rate", "filter_cpu"
ADDED, ADDED_CPU = "filter_added", "filter_added_cpu"
DELIVERY, ADDED_DELIVERY = "filter_delivery", "filter_added_delivery"
OVER, CPU_OVER = "filter_over_three_extensions", "filter_cpu_over_three_extensions"
"""Names of rows."""
THREE: Final = Key(spinrt_fronts.SERVER, EXTENSION, 3)
ONE_MILTER: Final = Key(postfix_fronts.SERVER, NOOP_MILTER, 1)
"""Those that the target names."""
KEYS: Final = (*spinrt_fronts.KEYS, *aiosmtpd_fronts.KEYS, *postfix_fronts.KEYS)


@dataclass(frozen=True, slots=True)
class Scale:
    """Messages of one session and of many in each round, and rounds; time of a run of deliveries, and their rounds."""

    latency_messages: int
    rate_messages: int
    rounds: int
    delivery_run_ns: int
    delivery_rounds: int


FULL: Final = Scale(100, 400, rounds=21, delivery_run_ns=20_000_000, delivery_rounds=101)
QUICK: Final = Scale(30, 60, rounds=3, delivery_run_ns=10_000_000, delivery_rounds=21)
QUICK_SKIPS: Final = {
    key: "it compiles its expressions for a quarter of a minute, which is not for --quick"
    for key in postfix_fronts.KEYS
    if key.form == postfix_fronts.RSPAMD
}


@dataclass(frozen=True, slots=True)
class Measured:
    """One front in one round.

    Attributes:
        latencies_s: Each message of the one session.
        rate: Messages a second of `SESSIONS` sessions.
        cpu_s: For one of these, of all processes behind the front.
    """

    latencies_s: list[float]
    rate: float
    cpu_s: float


@dataclass(slots=True)
class Found:
    """What was measured.

    Attributes:
        messages: What was sent, over and over.
        sent: How many messages that was, all in all.
        fronts: Key → rounds.
        delivery_ns: Nanoseconds of this thread for one delivery in spinrt without store and server, one value for each
            round, by the number of extensions.
        skipped: What was not measured, and why.
        versions: Of the servers.
    """

    messages: Messages
    sent: int = 0
    fronts: dict[Key, list[Measured]] = field(default_factory=dict)
    delivery_ns: dict[int, list[float]] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


def benchmark(options: Options) -> Result:
    """Run it; see `benchmarks.filters.measure`."""
    from benchmarks.filters.report import report

    scale, skips = (QUICK, QUICK_SKIPS) if options.quick else (FULL, {})
    keys, deliveries = needed(options.only)
    if not keys and not deliveries:
        return Result()
    return report(measure(scale, keys - skips.keys(), skips, options.mail, deliveries=deliveries), options)


def needed(only: Selection) -> tuple[frozenset[Key], bool]:
    """The fronts that rows need, and whether they need deliveries without a server."""
    keys: set[Key] = set()
    deliveries = not only.wanted
    for key in KEYS:
        one, many = {**key.params, "sessions": 1}, {**key.params, "sessions": SESSIONS}
        added = key != key.base and (only.takes(ADDED, one) or only.takes(ADDED_CPU, many))
        has_ratio = key.filters == 1 and key.server != THREE.server
        over, cpu_over = (has_ratio and only.takes(name, key.params) for name in (OVER, CPU_OVER))
        if added or over or cpu_over:
            keys |= {key, key.base}
        if only.takes(LATENCY, one) or only.takes(RATE, many) or only.takes(CPU, many):
            keys.add(key)
        if cpu_over:
            keys |= {THREE, THREE.base}
        if over or (key.server == THREE.server and _takes_delivery(only, key)):
            deliveries = True
    return frozenset(keys), deliveries


def _takes_delivery(only: Selection, key: Key) -> bool:
    return only.takes(DELIVERY, key.params) or only.takes(ADDED_DELIVERY, key.params)


def measure(
    scale: Scale,
    keys: Iterable[Key] = KEYS,
    skips: Mapping[Key, str] | None = None,
    mail: Path | None = None,
    *,
    deliveries: bool = True,
) -> Found:
    """Start what is needed, measure it in turns, and check that no filter was left out.

    Args:
        scale: How much of everything.
        keys: The fronts to measure.
        skips: Those that are left out, and why.
        mail: The user's own messages.
        deliveries: Whether to measure deliveries in spinrt without a server.

    Raises:
        PeerFailed: A server failed, refused a message, or a filter did not see one.
        SpinError: Messages cannot be read, or the extension cannot be built.
    """
    with tempfile.TemporaryDirectory(prefix="spinrt-bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)  # Postfix and rspamd run as other users
        library = building.library(directory)
        found = Found(messages.load(mail, Library(library)))
        with ExitStack() as stack:
            stage = Stage(directory, library, event_loops()[0], stack)
            spinrt = SpinrtFronts(stage)
            _measure_fronts(stage, spinrt, scale, frozenset(keys), found)
        if deliveries:
            progress("filters: deliveries in spinrt without a server")
            found.delivery_ns = _measure_deliveries(spinrt, scale, found.messages.contents)
    found.skipped = {**{key.name: why for key, why in (skips or {}).items()}, **found.skipped}
    return found


def _measure_fronts(stage: Stage, spinrt: SpinrtFronts, scale: Scale, keys: frozenset[Key], found: Found) -> None:
    """In each round every front, with one session and with many, in another order each time."""
    progress(f"filters: starting mail servers and filters for {len(keys)} fronts")
    fronts = Fronts(keys)
    having(fronts, spinrt_fronts.SERVER, partial(spinrt.bring, fronts))
    having(fronts, aiosmtpd_fronts.SERVER, partial(aiosmtpd_fronts.bring, stage, fronts))
    having(fronts, postfix_fronts.SERVER, partial(postfix_fronts.bring, stage, fronts))
    stage.await_started()
    traffic = Traffic(found.messages, stage.directory / "messages")
    progress(f"filters: messages through all of them, in {scale.rounds + 1} rounds")
    subjects = {front.key.name: partial(_measure, traffic, front, scale) for front in fronts.running}
    measured = compare(subjects, scale.rounds) if subjects else {}
    found.fronts = {front.key: measured[front.key.name] for front in fronts.running}
    for check in fronts.checks:
        check()
    stage.stack.close()
    fronts.check_tallies()
    found.sent = sum(front.sent for front in fronts.running)
    found.skipped, found.versions = fronts.skipped, fronts.versions


def _measure(traffic: Traffic, front: Front, scale: Scale) -> Measured:
    latencies_s = traffic.latencies(front, scale.latency_messages)
    return Measured(latencies_s, *traffic.rate(front, scale.rate_messages))


def _measure_deliveries(spinrt: SpinrtFronts, scale: Scale, contents: Sequence[bytes]) -> dict[int, list[float]]:
    made = spinrt.deliveries(contents)
    subjects = {
        str(count): one_run(Subject(str(count), {}, of_thread(one.measure)), scale.delivery_run_ns)
        for count, one in made.items()
    }
    measured = compare(subjects, scale.delivery_rounds)
    return {count: measured[str(count)] for count in made}
