"""Storage: durable deliveries, bytes on disk, snapshots of a large store, what a mirror sends, the highest memory.

docs/benchmarks.md says what each row and target means. ``--mail`` takes the messages whose size on disk is measured
from the user's own mail.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.harness import Options, Result, Row, Target, main, progress, ratio
from benchmarks.mail.smtp import CLIENTS
from benchmarks.stats import percentile
from benchmarks.storage import deliveries, disk, memory, mirroring, snapshots
from benchmarks.storage.deliveries import PEERS, SPINRT, DeliveriesFound
from benchmarks.storage.disk import DiskFound
from benchmarks.storage.memory import MemoryFound
from benchmarks.storage.mirroring import MirrorFound
from benchmarks.storage.snapshots import SnapshotsFound

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything."""

    deliveries: deliveries.Scale
    disk_messages: int
    snapshots: snapshots.Scale
    mirror: mirroring.Scale
    memory_message_bytes: int
    memory_messages: int
    users: int


def full() -> Scale:
    """Some ten minutes, and a few gigabytes of disk meanwhile."""
    return Scale(
        deliveries=deliveries.Scale(messages=2000, rounds=7),
        disk_messages=20_000,
        snapshots=snapshots.Scale(messages=1_000_000, users=100, deliveries=1000, rounds=9, paced=300),
        mirror=mirroring.Scale(old=20_000, per_minute=60),
        memory_message_bytes=200 * MIB,
        memory_messages=1_000_000,
        users=100,
    )


def quick() -> Scale:
    """About a minute: a store of a tenth, a message of a quarter."""
    return Scale(
        deliveries=deliveries.Scale(messages=300, rounds=3),
        disk_messages=2000,
        snapshots=snapshots.Scale(messages=100_000, users=100, deliveries=1000, rounds=3, paced=60),
        mirror=mirroring.Scale(old=2000, per_minute=10),
        memory_message_bytes=50 * MIB,
        memory_messages=50_000,
        users=100,
    )


def benchmark(options: Options) -> Result:
    """Everything, at full or quick scale."""
    return measure(quick() if options.quick else full(), options.mail)


def measure(scale: Scale, source: Path | None = None) -> Result:
    """Run the parts one after the other, in a directory that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="spinrt-bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)  # Dovecot runs as another user when root runs the benchmark
        progress("storage, part 1 of 5: durable deliveries")
        (directory / "deliveries").mkdir()
        delivered = deliveries.measure(directory / "deliveries", scale.deliveries)
        progress("storage, part 2 of 5: bytes on disk")
        stored = disk.measure(directory / "disk", disk.mail(scale.disk_messages, source))
        progress("storage, part 3 of 5: snapshots of a large store")
        taken = snapshots.measure(directory / "snapshots", scale.snapshots)
        progress("storage, part 4 of 5: an hour of mail and its mirrors")
        (directory / "mirror").mkdir()
        mirrored = mirroring.measure(directory / "mirror", scale.mirror)
        progress("storage, part 5 of 5: memory")
        (directory / "memory").mkdir()
        held = memory.measure(
            directory / "memory",
            message_bytes=scale.memory_message_bytes,
            messages=scale.memory_messages,
            users=scale.users,
        )
    return report(scale, delivered, stored, taken, mirrored, held)


def report(
    scale: Scale,
    delivered: DeliveriesFound,
    stored: DiskFound,
    taken: SnapshotsFound,
    mirrored: MirrorFound,
    held: MemoryFound,
) -> Result:
    """Put rows, targets and what a reader must know together."""
    rows = [
        *_delivery_rows(scale, delivered),
        *_disk_rows(stored),
        *_snapshot_rows(scale, taken),
        *_mirror_rows(mirrored),
        *_memory_rows(scale, held),
    ]
    targets = [
        _delivery_target(delivered),
        Target("disk_bytes_per_message_byte", stored.per_byte, "<=", 0.7),
        *_snapshot_targets(taken),
        Target("mirror_saved_15min", 1 - mirrored.sent[15] / mirrored.every_write, ">=", 0.5),
    ]
    return Result(rows, targets, notes=_notes(scale, delivered, taken, mirrored))


# ----------------------------------------------------------------------------------------------------------------- rows


def _delivery_rows(scale: Scale, found: DeliveriesFound) -> list[Row]:
    params = {"clients": CLIENTS, "bytes": scale.deliveries.message_bytes, "messages": scale.deliveries.messages}
    return [Row.of(name, rates, "messages/s", params) for name, rates in found.rates.items()]


def _disk_rows(found: DiskFound) -> list[Row]:
    params = {"messages": found.messages, "message_bytes": found.message_bytes}
    return [
        Row.of("disk_log", [found.log_bytes / found.message_bytes], "bytes/byte", params),
        Row.of("disk_index", [found.index_bytes / found.message_bytes], "bytes/byte", params),
    ]


def _snapshot_rows(scale: Scale, found: SnapshotsFound) -> list[Row]:
    store = {"messages": scale.snapshots.messages, "pages": found.index_pages}
    changed = {**store, "changed": int(median(found.changed))}
    per_million = [seconds * 1e9 / found.index_pages for seconds in found.diff_s]
    return [
        Row.of("fill", [scale.snapshots.messages / found.fill_s], "messages/s", {"messages": scale.snapshots.messages}),
        Row.of("snapshot_whole", _milli([found.whole_s]), "ms", store),
        Row.of("snapshot_changed", _milli(found.changed_s), "ms", changed),
        Row.of("snapshot_whole_page", [found.whole_s * 1e6 / found.index_pages], "us/page", store),
        Row.of("snapshot_changed_page", _per_page(found), "us/page", changed),
        Row.of("open_snapshot", _milli(found.open_s), "ms", store),
        Row.of("copy_snapshot", _milli(found.copy_s), "ms", store),
        Row.of("diff", _milli(found.diff_s), "ms", changed),
        Row.of("diff_per_million_pages", per_million, "ms", changed),
        Row.of("scan", _milli(found.scan_s), "ms", store),
        Row.of_samples("delivery_quiet", [_milli(run) for run in found.quiet], "ms", store),
        Row.of_samples("delivery_during_snapshot", [_milli(run) for run in found.during], "ms", store),
        Row.of_samples("delivery_during_small_snapshots", [_milli(run) for run in found.during_small], "ms", store),
    ]


def _mirror_rows(found: MirrorFound) -> list[Row]:
    rows = [
        Row.of("mirror_full_copy", [found.full_copy / MIB], "MiB"),
        Row.of("mirror_every_write", [found.every_write / MIB], "MiB", {"messages": found.messages}),
        Row.of("mirror_log_written", [found.log_written / MIB], "MiB", {"messages": found.messages}),
    ]
    for interval, sent in found.sent.items():
        params = {"minutes": interval, "updates": found.updates[interval]}
        rows.append(Row.of("mirror_sent", [sent / MIB], "MiB", params))
        rows.append(Row.of("mirror_saved", [1 - sent / found.every_write], "share", params))
        rows.append(Row.of("mirror_sent_over_log", [sent / found.log_written], "x", params))
        rows.append(
            Row.of("mirror_sent_over_full_copy", [sent / found.updates[interval] / found.full_copy], "x", params)
        )
    return rows


def _memory_rows(scale: Scale, found: MemoryFound) -> list[Row]:
    return [
        Row.of("memory_start", [found.start / MIB], "MiB"),
        Row.of("memory_large_message", [found.large_message / MIB], "MiB", {"bytes": scale.memory_message_bytes}),
        Row.of("memory_large_store", [found.large_store / MIB], "MiB", {"messages": scale.memory_messages}),
    ]


def _milli(seconds: Sequence[float]) -> list[float]:
    return [one * 1000 for one in seconds]


def _per_page(found: SnapshotsFound) -> list[float]:
    return [seconds * 1e6 / count for seconds, count in zip(found.changed_s, found.changed, strict=True)]


# -------------------------------------------------------------------------------------------------------------- targets


def _delivery_target(found: DeliveriesFound) -> Target:
    name, limit = "deliveries_over_postfix_dovecot", 5.0
    if PEERS not in found.rates:
        return Target(name, None, ">=", limit, found.missing)
    return Target(name, ratio(found.rates[SPINRT], found.rates[PEERS]), ">=", limit)


def _snapshot_targets(found: SnapshotsFound) -> list[Target]:
    whole = found.whole_s * 1e6 / found.index_pages
    tails = [(percentile(sorted(during), 0.99), percentile(sorted(quiet), 0.99)) for during, quiet in _rounds(found)]
    return [
        Target("snapshot_per_changed_page_over_full_write_per_page", median(_per_page(found)) / whole, "<=", 2),
        Target("delivery_p99_during_snapshot_over_quiet", median(above / below for above, below in tails), "<=", 2),
        Target("open_snapshot_over_full_copy", ratio(found.open_s, found.copy_s), "<=", 0.1),
        Target("diff_over_full_scan", ratio(found.diff_s, found.scan_s), "<=", 0.02),
    ]


def _rounds(found: SnapshotsFound) -> list[tuple[list[float], list[float]]]:
    return list(zip(found.during, found.quiet, strict=True))


def _notes(scale: Scale, delivered: DeliveriesFound, taken: SnapshotsFound, mirrored: MirrorFound) -> list[str]:
    snapshot = scale.snapshots
    return [
        f"Deliveries beside {delivered.versions or 'nothing: ' + delivered.missing}.",
        f"Snapshots: {snapshot.messages:,} messages in {snapshot.users} mailboxes, {taken.index_pages:,} pages of"
        f" index; between two of them {snapshot.deliveries:,} deliveries and flag changes in {snapshots.FLAG_MAILBOXES}"
        " mailboxes.",
        f"Mirror: an hour of {mirrored.messages:,} messages, {mirroring.DELETED:.0%} of them deleted after"
        f" {mirroring.KEPT_MINUTES:g} minutes on average; every write is what went to files, snapshots and mirrors"
        " apart.",
    ]


if __name__ == "__main__":
    sys.exit(main("storage", benchmark, takes=["mail"]))
