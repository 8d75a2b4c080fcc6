"""The storage benchmark runs from end to end, with inputs so small that its numbers mean nothing."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from benchmarks.bench_storage import Scale, measure, report
from benchmarks.harness import Result, as_json
from benchmarks.storage import deliveries, mirroring, snapshots
from benchmarks.storage.deliveries import PEERS, SPINRT, DeliveriesFound
from benchmarks.storage.disk import DiskFound, mail
from benchmarks.storage.generator import Generator
from benchmarks.storage.memory import MemoryFound
from benchmarks.storage.mirroring import MirrorFound
from benchmarks.storage.snapshots import SnapshotsFound

TARGETS = {
    "deliveries_over_postfix_dovecot": (">=", 5),
    "disk_bytes_per_message_byte": ("<=", 0.7),
    "snapshot_per_changed_page_over_full_write_per_page": ("<=", 2),
    "delivery_p99_during_snapshot_over_quiet": ("<=", 2),
    "open_snapshot_over_full_copy": ("<=", 0.1),
    "diff_over_full_scan": ("<=", 0.02),
    "mirror_saved_15min": (">=", 0.5),
}
TINY = Scale(
    deliveries=deliveries.Scale(messages=20, rounds=1),
    disk_messages=30,
    snapshots=snapshots.Scale(messages=600, users=12, deliveries=20, rounds=1, paced=10),
    mirror=mirroring.Scale(old=60, per_minute=1),
    memory_message_bytes=2 * 1024 * 1024,
    memory_messages=300,
    users=3,
)


def stated(result: Result) -> dict[str, tuple[str, float]]:
    return {target.name: (target.relation, target.limit) for target in result.targets}


@pytest.mark.timeout(180)
def test_whole_benchmark_runs_and_measures_every_row() -> None:
    """Stores are filled, snapshots agree with a scan of all pages, mirrors follow, servers take what is sent."""
    result = measure(TINY)
    assert stated(result) == TARGETS
    assert all(target.value is not None or "install" in target.reason for target in result.targets)
    assert all(row.low <= row.median <= row.high for row in result.rows)
    as_json("storage", "spinrt bench storage", result)


def test_targets_are_what_the_numbers_say() -> None:
    """From numbers that a reader can check by hand."""
    taken = SnapshotsFound(
        index_pages=1000,
        fill_s=1.0,
        whole_s=0.1,
        changed=[100, 100],
        changed_s=[0.01, 0.02],
        open_s=[0.001, 0.001],
        copy_s=[0.1, 0.1],
        diff_s=[0.002, 0.002],
        scan_s=[0.1, 0.2],
        quiet=[[0.001] * 100, [0.001] * 100],
        during=[[0.001] * 98 + [0.004] * 2, [0.002] * 100],
        during_small=[[0.009] * 100, [0.009] * 100],
    )
    mirrored = MirrorFound(full_copy=1000, every_write=400, log_written=300, messages=60)
    mirrored.sent[15], mirrored.updates = 100, {1: 60, 15: 4, 60: 1}
    delivered = DeliveriesFound({SPINRT: [600.0, 1200.0], PEERS: [100.0, 200.0]})
    found = report(TINY, delivered, DiskFound(10, 1000, 400, 100), taken, mirrored, MemoryFound(1, 2, 3))
    values = {target.name: target.value for target in found.targets}
    assert values == {
        "deliveries_over_postfix_dovecot": pytest.approx(6.0),
        "disk_bytes_per_message_byte": pytest.approx(0.5),
        "snapshot_per_changed_page_over_full_write_per_page": pytest.approx(1.5),
        "delivery_p99_during_snapshot_over_quiet": pytest.approx(3.0),
        "open_snapshot_over_full_copy": pytest.approx(0.01),
        "diff_over_full_scan": pytest.approx(0.015),
        "mirror_saved_15min": pytest.approx(0.75),
    }


def test_generated_mail_is_the_same_for_a_seed_and_no_two_are_alike() -> None:
    """And it has the shape of mail."""
    first, again, other = (list(Generator(seed).messages(200)) for seed in (1, 1, 2))
    assert first == again != other
    assert len({hashlib.sha256(message).digest() for message in first}) == 200
    assert all(message.startswith(b"Received: ") and b"\r\n\r\n" in message for message in first)
    assert all(b"\n" not in message.replace(b"\r\n", b"") for message in first)
    assert 2000 < sorted(map(len, first))[100] < 12_000


def test_mail_of_the_user_is_taken_from_a_path(tmp_path: Path) -> None:
    """Up to so many messages."""
    for number in range(5):
        (tmp_path / f"{number}.eml").write_bytes(b"Subject: %d\n\nbody\n" % number)
    assert list(mail(3, tmp_path)) == [b"Subject: %d\r\n\r\nbody\r\n" % number for number in range(3)]
