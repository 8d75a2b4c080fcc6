"""A full disk at every point of a workload: refused for now, nothing lost, and it goes on when there is room."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from spinrt.mail.store import store as store_module
from spinrt.mail.store.bodies import CHUNK_BYTES_MAX
from spinrt.testing.device import CrashDevice, FullDevice, Space
from tests.mail.power.campaign import State, reference_of
from tests.mail.power.script import Step, scripted
from tests.mail.power.world import Devices, Rig, StepClock, World, visible

STEPS = tuple(step for batch in scripted() for step in batch)
ALONE = tuple((step,) for step in STEPS)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Rig:
    return Rig(tmp_path_factory.mktemp("rig"))


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(store_module, "RETRY_S", 0.01)
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@dataclass
class Run:
    """The script against a disk that is full now and then. ``refused`` counts how often a step was put off."""

    world: World
    reference: list[State]
    take_room: Callable[[], None]
    make_room: Callable[[], None]
    refused: list[bytes] = field(default_factory=list)

    async def play(self) -> None:
        for number, step in enumerate(STEPS):
            self.world.clock.move_to(number + 1)
            self.take_room()
            while not await self._try(number, step):
                self.make_room()
        assert await visible(self.world) == self.reference[-1]

    async def _try(self, number: int, step: Step) -> bool:
        answer = await step.finish(step.start(self.world))
        if step.taken(answer):
            return True
        assert step.refused_for_now(answer), f"step {number}, {step}: {answer!r}"
        assert await visible(self.world) == self.reference[number], f"step {number}: refused and yet done"
        self.refused.append(answer)
        assert len(self.refused) < 1000
        return False


def test_full_log_at_every_point(rig: Rig, tmp_path: Path) -> None:
    """At each step the log's device has little room left, or none, and gets a little more each time it is full."""

    async def body() -> None:
        reference, _ = await reference_of(rig, tmp_path, ALONE)
        answers: set[bytes] = set()
        for seed in range(8):
            device, space, choices = CrashDevice(), Space(1 << 20), random.Random(seed)
            clock, path = StepClock(), tmp_path / f"seed-{seed}"
            log, pages = (FullDevice(device.directory(name), space) for name in ("log", "pages"))
            world = await World.open(rig, path, Devices(log, pages), clock, lambda: True)

            def shrink(space: Space = space, choices: random.Random = choices) -> None:
                space.left = choices.choice((0, 30, 400, 5_000, 1 << 20))

            def grow(space: Space = space, choices: random.Random = choices) -> None:
                space.left += choices.choice((50, 500, 100_000))

            run = Run(world, reference, shrink, grow)
            await run.play()
            await world.stop()
            answers |= {answer[:4] for answer in run.refused}
            again = await World.open(rig, path, Devices.of(device.crash()), clock, lambda: True)
            assert await visible(again) == reference[-1]
            await again.stop()
        assert answers == {b"452 ", b"q NO", b"full"}

    asyncio.run(body())


def test_a_message_of_which_a_part_was_given_up_is_refused_for_now(rig: Rig, tmp_path: Path) -> None:
    """The device was full while a slow client was half-way; there is room when it ends. No extension is to blame."""

    async def body() -> None:
        device, space = CrashDevice(), Space(1 << 30)
        log, pages = (FullDevice(device.directory(name), space) for name in ("log", "pages"))
        world = await World.open(rig, tmp_path / "world", Devices(log, pages), StepClock(), lambda: True)
        counters = rig.mail.runtime.domains["delivery"].counters
        faults = counters.faults
        slow, line = world.smtp(), b"a" * 70 + b"\r\n"
        slow.send(b"EHLO x\r\nMAIL FROM:<a@b.net>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n")
        await slow.expect(rb"^354 ")
        slow.send(b"Subject: slow\r\n\r\n" + line * (CHUNK_BYTES_MAX // len(line) + 100))
        space.left = 0
        other = world.smtp()
        other.send(b"EHLO x\r\nMAIL FROM:<a@b.net>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n")
        await other.expect(rb"^354 ")
        other.send(b"Subject: other\r\n\r\nx\r\n.\r\n")
        await other.expect(rb"^452 ")
        space.left = 1 << 30
        slow.send(line + b".\r\n")
        assert await slow.expect(rb"^452 4\.3\.1 ")
        assert counters.faults == faults
        slow.received = b""
        slow.send(b"MAIL FROM:<a@b.net>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n")
        await slow.expect(rb"^354 ")
        slow.send(b"Subject: again\r\n\r\n" + line * 10_000 + b".\r\n")
        assert await slow.expect(rb"^250 2\.6\.0 ")
        await world.stop()

    asyncio.run(body())


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_full_file_system(rig: Rig, tmp_path: Path) -> None:
    """Log and index on a file system that somebody else fills to the last byte, at every step of the script."""
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(small)], check=False).returncode:
        pytest.skip("a file system cannot be mounted here")
    try:
        asyncio.run(_fill_and_free(rig, tmp_path, small / "data", small / "ballast"))
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)


async def _fill_and_free(rig: Rig, tmp_path: Path, data: Path, ballast: Path) -> None:
    reference, _ = await reference_of(rig, tmp_path, ALONE)
    world = await World.open(rig, data, Devices(), StepClock(), lambda: True)
    refused = 0
    for number, step in enumerate(STEPS):
        world.clock.move_to(number + 1)
        answer = await _while_full(world, step, ballast)
        if not step.taken(answer):
            assert step.refused_for_now(answer), f"step {number}, {step}: {answer!r}"
            assert await visible(world) == reference[number], f"step {number}: refused and yet done"
            assert step.taken(await step.finish(step.start(world)))
            refused += 1
        assert await visible(world) == reference[number + 1]
    assert refused >= 3
    await world.stop()
    again = await World.open(rig, data, Devices(), StepClock(), lambda: True)
    assert await visible(again) == reference[-1]
    again.store.rebuild()
    assert await visible(again) == reference[-1]
    await again.stop()


async def _while_full(world: World, step: Step, ballast: Path) -> bytes:
    """Do a step while the file system is full; what is durable and cannot be applied is answered when there is room."""
    _fill(ballast)
    answer = asyncio.create_task(step.finish(step.start(world)))
    await asyncio.wait([answer], timeout=0.05)
    os.unlink(ballast)
    await _usable(world)
    return await answer


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


async def _usable(world: World) -> None:
    """Wait until the store, which tries by itself, takes changes again."""
    for _ in range(500):
        if world.store._retry is None:
            return
        await asyncio.sleep(0.005)
    raise AssertionError("the store did not go on by itself")
