"""The short form of the campaign with lost power; the long one is ``make crash-campaign``."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from spinrt.storage.device import File
from spinrt.testing.device import CrashDevice
from tests.mail.power import campaign
from tests.mail.power.world import Rig


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Rig:
    return Rig(tmp_path_factory.mktemp("rig"))


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Stores that lose their device say so each time."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_crash_at_every_step_of_a_scripted_workload(rig: Rig, tmp_path: Path) -> None:
    """What shows after it is what showed after some step of a run without one, and not before the last acknowledged."""
    outcome = campaign.every_step(rig, tmp_path)
    assert outcome.crashes > 30


@pytest.mark.timeout(180)
def test_two_hundred_random_crashes(rig: Rig, tmp_path: Path) -> None:
    """Chains of crashes, in recovery too, under scripts drawn from seeds."""
    outcome = campaign.random_crashes(rig, tmp_path, crashes=200, seed=20261121)
    assert outcome.problems == []
    assert outcome.crashes >= 200


class LyingDevice(CrashDevice):
    """Says of files that they are synced when they are not."""

    def open(self, name: str, *, create: bool = False, write: bool = False) -> File:
        file = super().open(name, create=create, write=write)
        if not create:
            return file
        file.sync = self.step  # type: ignore[method-assign,assignment]
        return file


def test_the_campaign_notices_a_device_that_lies(rig: Rig, tmp_path: Path) -> None:
    """It can fail: what was acknowledged is gone, or cannot be read, and it says so."""
    outcome = campaign.random_crashes(
        rig, tmp_path, crashes=60, seed=1, make=lambda seed, at: LyingDevice(seed, crash_at=at)
    )
    assert outcome.problems
    assert all(problem.startswith("seed ") for problem in outcome.problems)
