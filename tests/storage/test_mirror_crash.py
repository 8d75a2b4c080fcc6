"""Power lost at the mirror in every step of its updates, and disks that are full: all or nothing, and it goes on."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from spinrt.errors import StorageError
from spinrt.storage.device import Device
from spinrt.storage.log import Log
from spinrt.storage.mirror import pipe
from spinrt.storage.mirror.book import Standing
from spinrt.storage.mirror.receiver import Receiver
from spinrt.storage.mirror.update import Update
from spinrt.storage.pages import LocalPages
from spinrt.storage.protocols import Snapshot
from spinrt.storage.tree import pages as pages_of
from spinrt.testing.device import CrashDevice, FaultDevice, PowerLost
from tests.storage.mirror_support import Primary, content
from tests.storage.support import open_log

GENERATION = 5


@dataclass
class CrashingBook:
    """A book that power can be lost under: a write is whole or not at all."""

    device: CrashDevice
    standing: Standing = field(default_factory=Standing)

    def read(self) -> Standing:
        return self.standing

    def write(self, standing: Standing) -> None:
        crashing = self.device.step()
        if not crashing or self.device.random.random() < 0.5:
            self.standing = standing
        if crashing:
            raise PowerLost("while writing the book")


class Place:
    """A mirror on a device: opened, and opened again after what happened to it."""

    def __init__(self, scratch: Path, pages: Device, log: Device, book: CrashingBook) -> None:
        scratch.mkdir(parents=True)
        self.book = book
        self.pages = LocalPages.open(scratch, pages, pack_bytes_max=4096)
        self.log: Log = open_log(log, generation=GENERATION)

    def take(self, primary: Primary, target: Snapshot) -> None:
        update = Update(self.pages, lambda generation: self.log, self.book, clock_ns=lambda: 1)
        pipe.run(primary.sender(target), Receiver(update))

    def current(self) -> Snapshot | None:
        snapshots = {one.identity: one for one in self.pages.snapshots()}
        identity = self.book.read().settled(set(snapshots)).current
        return None if identity is None else snapshots[identity]

    def check(self, primary: Primary) -> Snapshot | None:
        """All that the current snapshot, and any other, needs is there."""
        for snapshot in self.pages.snapshots():
            originals = primary.pages.committed[snapshot.identity].objects
            for item, original in zip(snapshot.objects, originals, strict=True):
                assert list(pages_of(self.pages, item)) == list(pages_of(primary.pages, original))
            for name in primary.live[snapshot.identity]:
                assert self.log.stored_body(name) == primary.log.bodies[name]
        return self.current()


def history() -> tuple[Primary, list[Snapshot]]:
    """A source with three snapshots: grown, changed, shrunk."""
    primary = Primary()
    names = [primary.log.add(b"body %d " % number * 20) for number in range(12)]
    indexes = ([b"a", b"b"] * 100, [b"a", b"b"] * 70 + [b"c"] * 90, [b"d"] * 3)
    return primary, [
        primary.snapshot({"config": b"%d" % number, "index": content(pages)}, names[number : number + 8], number + 1)
        for number, pages in enumerate(indexes)
    ]


def test_power_lost_in_any_step_leaves_one_snapshot_or_the_next(tmp_path: Path) -> None:
    primary, targets = history()
    for crash_at in count(1):
        device = CrashDevice(crash_at, crash_at=crash_at)
        book = CrashingBook(device)
        reached = -1
        try:
            place = Place(tmp_path / f"{crash_at}-a", device.directory("pages"), device.directory("log"), book)
            for number, target in enumerate(targets):
                place.take(primary, target)
                reached = number
        except PowerLost:
            pass
        after = device.crash()
        again = Place(
            tmp_path / f"{crash_at}-b",
            after.directory("pages"),
            after.directory("log"),
            CrashingBook(after, book.standing),
        )
        current = again.check(primary)
        expected = [None, *targets][reached + 1 : reached + 3]
        assert current in expected, f"crash at step {crash_at}"

        again.take(primary, targets[-1])
        assert again.check(primary) == targets[-1]
        if reached == len(targets) - 1:
            break
    assert crash_at > 30


@pytest.mark.parametrize("where", ["pages", "log"])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_device_that_refuses_in_any_step_costs_the_update_alone(tmp_path: Path, where: str, error: int) -> None:
    """Whatever step fails: what was there is there, and with the device healed a new start takes the update."""
    primary, targets = history()
    for fail_at in count(1):
        device = CrashDevice()
        failing = FaultDevice(device.directory(where), fail_at=fail_at, error=error)
        devices = {"pages": device.directory("pages"), "log": device.directory("log"), where: failing}
        book = CrashingBook(device)
        failed = attempt(tmp_path / f"{fail_at}-a", devices, book, primary, targets)
        failing.heal()
        again = Place(tmp_path / f"{fail_at}-b", device.directory("pages"), device.directory("log"), book)
        again.check(primary)
        again.take(primary, targets[-1]) if again.current() != targets[-1] else None
        assert again.check(primary) == targets[-1]
        if not failed:
            break
    assert fail_at > 5


def attempt(
    scratch: Path, devices: dict[str, Device], book: CrashingBook, primary: Primary, targets: list[Snapshot]
) -> bool:
    """Take all updates; tell whether the device refused one."""
    try:
        place = Place(scratch, devices["pages"], devices["log"], book)
    except StorageError:
        return True
    for target in targets:
        try:
            place.take(primary, target)
        except StorageError:
            place.check(primary)
            return True
    return False


def test_what_arrived_before_the_power_went_is_not_sent_again(tmp_path: Path) -> None:
    """Synced contents survive the mirror's crash, though no snapshot refers to them."""
    primary, targets = history()
    device = CrashDevice()
    book = CrashingBook(device)
    place = Place(tmp_path / "a", device.directory("pages"), device.directory("log"), book)
    update = Update(place.pages, lambda generation: place.log, book)
    sender, receiver = primary.sender(targets[0]), Receiver(update)
    drive_until(lambda: receiver.traffic.bodies_moved == 8, sender.produce, sender.receive, receiver)
    place.pages.sync()
    place.log.sync()

    after = device.crash()
    again = Place(tmp_path / "b", after.directory("pages"), after.directory("log"), CrashingBook(after))
    sender = primary.sender(targets[0])
    pipe.run(sender, Receiver(Update(again.pages, lambda generation: again.log, again.book)))

    assert (sender.traffic.pages_moved, sender.traffic.bodies_moved) == (0, 0)
    assert again.check(primary) == targets[0]


def drive_until(
    done: Callable[[], bool], produce: Callable[[int], bytes], take: Callable[[bytes], None], receiver: Receiver
) -> None:
    while not done():
        take(receiver.receive(produce(1)))
