"""Work beside an event loop lets others run, and costs nothing elsewhere."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest

from spinrt.storage import background
from spinrt.storage.background import SWITCH_INTERVAL_S, breathe


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
