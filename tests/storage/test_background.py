"""Work beside an event loop lets others run, and costs nothing elsewhere."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Iterator

import pytest

from spinrt.storage import background
from spinrt.storage.background import SWITCH_INTERVAL_S, breathe, in_background


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """How long was slept, each time; the clock stands still but for that and what a test adds."""
    found: list[float] = []
    monkeypatch.setattr(background.time, "sleep", found.append)
    yield found


def test_only_background_work_breathes_after_a_slice(slept: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    now_ns = 10 * background.SLICE_NS
    monkeypatch.setattr(background.time, "monotonic_ns", lambda: now_ns)
    breathe()
    assert slept == []
    with background.background():
        breathe()
        breathe()
        assert len(slept) == 1
        now_ns += background.SLICE_NS + 1
        breathe()
        assert slept == [background.BREATH_S] * 2
    now_ns += background.SLICE_NS + 1
    breathe()
    assert len(slept) == 2


def test_other_threads_do_not_sleep_for_it(slept: list[float]) -> None:
    with background.background():
        other = threading.Thread(target=breathe)
        other.start()
        other.join()
    assert slept == []


def test_the_interval_is_short_until_the_last_of_overlapping_blocks_ends() -> None:
    usual_s = sys.getswitchinterval()
    with background.background():
        with background.background():
            assert sys.getswitchinterval() == pytest.approx(min(SWITCH_INTERVAL_S, usual_s))
        assert sys.getswitchinterval() == pytest.approx(min(SWITCH_INTERVAL_S, usual_s))
    assert sys.getswitchinterval() == pytest.approx(usual_s)


def test_a_forked_process_has_threads_of_its_own() -> None:
    """Those of its parent are not there any more."""
    assert asyncio.run(in_background(os.getpid)) == os.getpid()
    child = os.fork()
    if not child:
        signal.alarm(20)
        os._exit(0 if asyncio.run(in_background(os.getpid)) == os.getpid() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="priorities are of threads on Linux only")
def test_background_work_steps_back_and_the_others_do_not() -> None:
    """In a thread of lower priority and with a short switch interval; an error comes out as it is."""

    def work(wanted: str, *, fails: bool) -> tuple[str, int, float]:
        if fails:
            raise KeyError(wanted)
        return wanted, os.getpriority(os.PRIO_PROCESS, threading.get_native_id()), sys.getswitchinterval()

    async def all_of_it() -> None:
        usual, usual_s = os.getpriority(os.PRIO_PROCESS, 0), sys.getswitchinterval()
        assert await in_background(work, "x", fails=False) == ("x", min(usual + background.NICE, 19), SWITCH_INTERVAL_S)
        with pytest.raises(KeyError):
            await in_background(work, "x", fails=True)
        found = await asyncio.to_thread(os.getpriority, os.PRIO_PROCESS, 0)
        assert (found, os.getpriority(os.PRIO_PROCESS, 0), sys.getswitchinterval()) == (usual, usual, usual_s)

    asyncio.run(all_of_it())
