"""Lose power again and again while mail comes in and is read, and compare with a run in which nothing happened.

    python -m tests.mail.power.campaign --crashes 10000 --seed 1

A script (`script`) runs once on a device that does not fail: the *reference*. What clients can see is written down
after each step. Then the same script runs on a device that loses power at some step of its own, half-way through a
write, a sync, the creation of a file. After each crash the system starts again from what the device kept, and it must
show what the reference showed after a step that had begun, and not before the last one that was acknowledged: so no
acknowledged message is lost or doubled, each transaction is stored whole or not at all, and flags, UIDs and MODSEQs are
those that clients were told. Then the script goes on from there, until the next crash, or to its end, where everything
must be as in the reference, also after the index was built anew from the log.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import random
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from spinrt.errors import SpinError
from spinrt.mail.store.fsck import DirectoryCheck
from spinrt.mail.store.schema import dump
from spinrt.mail.store.snapshots import index_of, write_object
from spinrt.storage.fsck.finding import Severity
from spinrt.testing.device import CrashDevice, PowerLost
from tests.mail.power.script import Batch, TakeSnapshot, scripted, seeded
from tests.mail.power.world import Devices, Rig, StepClock, World, crashed_tables, visible, write_out
from tests.progress import silent, teller

State = dict[str, bytes]
Dump = dict[str, list[tuple[object, ...]]]


class Broken(AssertionError):
    """What was promised does not hold."""


@dataclass
class Run:
    """One script against one device, from crash to crash. ``at`` is the step that comes next."""

    rig: Rig
    directory: Path
    script: Sequence[Batch]
    device: CrashDevice
    choices: random.Random
    life: int = 0
    at: int = 0
    begun: int = 0
    fates: list[str] = field(default_factory=list)
    snapshots: dict[bytes, Dump] = field(default_factory=dict)
    """What the index held when each snapshot was taken."""
    clock: StepClock = field(default_factory=StepClock)

    @property
    def path(self) -> Path:
        """The data directory of this life; the log is on the device."""
        return self.directory / f"life-{self.life}"

    async def open(self) -> World:
        device = self.device
        return await World.open(self.rig, self.path, Devices.of(device), self.clock, lambda: not device.lost)

    async def live(self) -> World:
        """Start, and do what is left of the script. Raises PowerLost, with ``at`` and ``begun`` as they were then."""
        world = await self.open()
        try:
            await self.play(world)
            if self.device.lost:
                raise PowerLost("behind the last step")
        except BaseException:
            self._keep_index()
            await world.die()
            raise
        return world

    async def play(self, world: World) -> None:
        """All steps that are left, those of a batch at once; a batch that was cut in the middle goes on there."""
        first = 0
        for number, batch in enumerate(self.script):
            left = batch[max(self.at - first, 0) :]
            first += len(batch)
            if left:
                self.clock.move_to(number + 1)
                await self._play_batch(world, left)

    async def _play_batch(self, world: World, steps: Batch) -> None:
        before = self.at
        self.begun = before + len(steps)
        peers = [step.start(world) for step in steps]
        for number, (step, peer) in enumerate(zip(steps, peers, strict=True)):
            answer = await step.finish(peer)
            if step.taken(answer):
                self.at = before + number + 1
                if isinstance(step, TakeSnapshot) and not self.device.lost:
                    self.snapshots[answer.removeprefix(b"taken ")] = dump(world.store._index.connection)
            elif not self.device.lost:
                raise Broken(f"step {before + number}, {step}: answered {answer!r} with power on")
        if self.at < self.begun:
            raise PowerLost("a step was refused")

    def crash(self, crash_at: int | None) -> None:
        """Power comes back, to be lost again at that step."""
        self._keep_index()
        self.device = self.device.crash(crash_at=crash_at)
        self.life += 1

    def _keep_index(self) -> None:
        """Give the next life the index as it is, before this one closes it; if there is none yet, none."""
        following = self.directory / f"life-{self.life + 1}"
        if not following.exists() and self.path.exists():
            self.fates.append(crashed_tables(self.path, following, self.choices))

    async def check(self, reference: Sequence[State]) -> None:
        """Compare what shows with the reference; ``at`` becomes the step that comes next."""
        world = await self.open()
        try:
            shown = await visible(world)
            self.check_snapshots(world, newest=1)
        finally:
            await world.stop()
        possible = [number for number in range(self.at, self.begun + 1) if reference[number] == shown]
        if not possible:
            raise Broken(self._difference(reference, shown))
        self.at = self.begun = possible[0]

    def check_snapshots(self, world: World, *, newest: int) -> None:
        """Every snapshot that was taken is there; the newest ones hold what the index held then."""
        pages = world.store.snapshots.pages
        there = {snapshot.identity: snapshot for snapshot in pages.snapshots()}
        gone = self.snapshots.keys() - there.keys()
        if gone:
            raise Broken(f"after crashes {self.fates}: snapshots {gone} are gone")
        for identity, expected in list(self.snapshots.items())[-newest:]:
            index = index_of(there[identity])
            assert index is not None
            target = self.directory / f"snapshot-{self.life}-{identity.hex()[:16]}"
            write_object(pages, index, target)
            with contextlib.closing(sqlite3.connect(f"{target.as_uri()}?immutable=1", uri=True)) as connection:
                if dump(connection) != expected:
                    raise Broken(f"after crashes {self.fates}: snapshot {identity.hex()} holds something else")
            target.unlink()

    def check_files(self) -> None:
        """`spinrt fsck` finds nothing in what is left behind a clean stop."""
        write_out(self.device, self.path)
        found = [one for one in DirectoryCheck(self.path).findings() if one.severity is Severity.DAMAGE]
        if found:
            raise Broken(f"after crashes {self.fates}: fsck says {found[0].line()}")

    def _difference(self, reference: Sequence[State], shown: State) -> str:
        lines = [f"after crashes {self.fates}, {self.at} steps acknowledged, {self.begun} begun:"]
        for name in sorted({*shown, *reference[self.at]}):
            expected = [reference[n].get(name) for n in range(self.at, self.begun + 1)]
            if shown.get(name) not in expected:
                lines.append(f"  {name}: {_short(shown.get(name))}, expected {_short(expected[0])}")
        return "\n".join(lines)


def _short(text: bytes | None) -> str:
    return "nothing" if text is None else f"{text[:400]!r}"


async def reference_of(rig: Rig, directory: Path, script: Sequence[Batch]) -> tuple[list[State], int]:
    """What shows after 0, 1, 2, … steps of a run in which nothing goes wrong; and how many steps its device took."""
    run = Run(rig, directory / "reference", script, CrashDevice(), random.Random(0))
    run.directory.mkdir()
    world = await run.open()
    states = [await visible(world)]
    for number, batch in enumerate(script):
        run.clock.move_to(number + 1)
        for step in batch:
            await run._play_batch(world, (step,))
            states.append(await visible(world))
    await world.stop()
    return states, run.device.step_count


async def one_crash(rig: Rig, directory: Path, reference: list[State], device: CrashDevice) -> bool:
    """Lose power once, recover, compare, go on to the end, compare. Returns whether the device got to that step."""
    run = Run(rig, directory, scripted(), device, device.random)
    return bool(await play_to_the_end(run, reference, later=lambda: None))


async def play_to_the_end(run: Run, reference: list[State], later: Callable[[], int | None]) -> int:
    """Crash and recover until the script is done; return how many crashes there were."""
    crashes = 0
    while True:
        try:
            world = await run.live()
        except (PowerLost, SpinError) as error:
            if not run.device.lost:
                raise Broken(f"{error!r} with power on") from error
        else:
            break
        crashes += 1
        crash_at = later()
        run.crash(crash_at)
        while crash_at is not None and not await _recovers(run):
            crashes += 1
            crash_at = later()
            run.crash(crash_at)
        run.device.crash_at = None
        await run.check(reference)
        run.device.step_count, run.device.crash_at = 0, later()
    try:
        run.check_snapshots(world, newest=100)
        await _check_end(world, reference[-1])
    finally:
        await world.stop()
    run.check_files()
    return crashes


async def _recovers(run: Run) -> bool:
    """Start on a device that may lose power while that goes on; tell whether it got through."""
    try:
        world = await run.open()
    except (PowerLost, SpinError):
        if not run.device.lost:
            raise
        return False
    await world.die()
    return not run.device.lost


async def _check_end(world: World, expected: State) -> None:
    if await visible(world) != expected:
        raise Broken("at the end something else shows than in the reference")
    world.store.rebuild()
    if await visible(world) != expected:
        raise Broken("an index built anew from the log shows something else")


@dataclass
class Outcome:
    """What a campaign found."""

    crashes: int = 0
    scripts: int = 0
    problems: list[str] = field(default_factory=list)

    def text(self) -> str:
        return f"scripts {self.scripts}, crashes {self.crashes}, problems {len(self.problems)}"


def _device(seed: int, crash_at: int) -> CrashDevice:
    return CrashDevice(seed, crash_at=crash_at)


def every_step(rig: Rig, directory: Path, *, seeds: int = 1) -> Outcome:
    """The scripted workload with a crash at every step; each seed lets something else survive it."""

    async def body() -> Outcome:
        reference, _ = await reference_of(rig, directory, scripted())
        outcome = Outcome(scripts=1)
        for seed in range(seeds):
            for step in count(1):
                below = directory / f"step-{seed}-{step}"
                below.mkdir()
                if not await one_crash(rig, below, reference, CrashDevice(seed * 1000 + step, crash_at=step)):
                    break
                outcome.crashes += 1
        return outcome

    return asyncio.run(body())


def random_crashes(
    rig: Rig,
    directory: Path,
    *,
    crashes: int,
    seed: int,
    make: Callable[[int, int], CrashDevice] = _device,
    tell: Callable[[int], None] = silent,
) -> Outcome:
    """Scripts drawn from seeds, each with a chain of crashes, until there were so many."""
    outcome = Outcome()
    while outcome.crashes < crashes and len(outcome.problems) < 5:
        tell(outcome.crashes)
        number = seed + outcome.scripts
        outcome.scripts += 1
        with tempfile.TemporaryDirectory(dir=directory) as name:
            try:
                outcome.crashes += asyncio.run(_chain(rig, Path(name), number, make))
            except (Broken, SpinError) as problem:
                outcome.problems.append(f"seed {number}: {problem}")
    return outcome


async def _chain(rig: Rig, directory: Path, seed: int, make: Callable[[int, int], CrashDevice]) -> int:
    choices = random.Random(f"crashes/{seed}")
    script = seeded(seed)
    reference, steps = await reference_of(rig, directory, script)

    def later() -> int | None:
        """The next crash comes soon, so that there are many of one script; in the end there is none."""
        return None if choices.random() < 0.1 else choices.randint(1, choices.choice((6, steps // 2)))

    run = Run(rig, directory, script, make(seed, choices.randint(1, steps)), choices)
    return await play_to_the_end(run, reference, later)


def main() -> int:
    parser = argparse.ArgumentParser(description="Lose power while mail comes in and is read, and compare.")
    parser.add_argument("--crashes", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    logging.disable(logging.CRITICAL)
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="spinrt-power-")))
        rig = Rig(directory)
        print(f"every step: {every_step(rig, directory, seeds=10).text()}", flush=True)
        tell = teller(arguments.crashes, "crashes at random")
        outcome = random_crashes(rig, directory, crashes=arguments.crashes, seed=arguments.seed, tell=tell)
    print(f"at random: {outcome.text()}")
    for problem in outcome.problems:
        print(f"problem: {problem}")
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
