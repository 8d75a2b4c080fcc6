"""Killed in the middle of a takeover, or of stepping down, at every step: it can be done again, and nothing is lost.

A step is a system call that makes something durable, names it, or takes its name away; the process ends before one of
them, as by SIGKILL. What was written until then stays, as it does when only the process dies.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spinrt.mail.store.fsck import DirectoryCheck
from spinrt.mail.store.promote import promote, step_down
from spinrt.mail.store.store import Store
from spinrt.storage.fsck.finding import Severity
from spinrt.storage.mirror.book import FileBook, is_mirror
from tests.mail.mirror_support import Site, mirror_to, stored
from tests.mail.store_support import run

STEPS = ("fsync", "fdatasync", "rename", "unlink", "rmdir", "mkdir", "open", "ftruncate")
KILLED = 9
DONE = 0


def killed_at(step: int, action: Callable[[], object]) -> bool:
    """Run an action in a process of its own, which ends before its step of that number; tell whether it came there."""
    child = os.fork()
    if child == 0:
        try:
            _end_before(step)
            action()
        except BaseException:
            os._exit(1)
        os._exit(DONE)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (KILLED, DONE)
    return status == KILLED


def _end_before(step: int) -> None:
    left = [step]

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*arguments: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                os._exit(KILLED)
            return call(*arguments, **named)

        return counting

    for name in STEPS:
        setattr(os, name, counted(getattr(os, name)))


def damaged(path: Path) -> list[str]:
    return [one.line() for one in DirectoryCheck(path).findings() if one.severity is Severity.DAMAGE]


class Pair(Site):
    """The same, and copies of it."""

    def copy(self, what: Path) -> Path:
        target = self.path / "copy" / what.name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(what, target)
        return target


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(tmp_path_factory.mktemp("pair"))


def test_a_promotion_that_was_killed_is_a_mirror_still_or_done(pair: Pair) -> None:
    step, mirrors = 0, 0
    for step in range(1000):
        target = pair.copy(pair.new)
        if not killed_at(step, lambda target=target: promote(target)):  # type: ignore[misc]
            break
        assert damaged(target) == [], f"step {step}"
        mirrors += is_mirror(target)
        if is_mirror(target):
            promote(target)
        assert stored(target) == pair.mirrored, f"step {step}"
        assert damaged(target) == [], f"step {step}"
    assert step > mirrors > 20


def test_a_mirror_whose_promotion_was_killed_follows_on(pair: Pair) -> None:
    """Nobody promotes again: the source is there after all, and the next update arrives."""
    for step in range(0, 1000, 3):
        target = pair.copy(pair.new)
        source = pair.copy(pair.old)
        if not killed_at(step, lambda target=target: promote(target)) or not is_mirror(target):  # type: ignore[misc]
            break

        async def update(source: Path = source, target: Path = target) -> None:
            store = Store.open(source)
            sender = await mirror_to(store, target)
            assert sender.traffic.bodies_moved == 1
            await store.close()

        run(update)
        promote(target)
        assert stored(target) == pair.all, f"step {step}"
        assert damaged(target) == [], f"step {step}"
    assert step > 20


def test_stepping_down_that_was_killed_loses_nothing(pair: Pair) -> None:
    promoted = pair.copy(pair.new).rename(pair.path / "copy" / "promoted")
    promote(promoted)
    step, primaries = 0, 0
    for step in range(1000):
        old = pair.copy(pair.old)
        if not killed_at(step, lambda old=old: step_down(old)):  # type: ignore[misc]
            break
        assert damaged(old) == [], f"step {step}"
        primaries += not is_mirror(old)
        if not is_mirror(old):
            assert stored(old) == pair.all, f"step {step}"
        again = step_down(old)
        aside = again.identity if again else FileBook(old).read().current

        async def follow(old: Path = old) -> None:
            store = Store.open(promoted)
            await mirror_to(store, old)
            await store.close()

        run(follow)
        assert aside in FileBook(old).read().aside, f"step {step}"
        assert damaged(old) == [], f"step {step}"
        promote(old)
        assert stored(old) == pair.mirrored, f"step {step}"
    assert step > primaries > 20
