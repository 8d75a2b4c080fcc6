"""Profiles of guest code, in the format that existing viewers open."""

from __future__ import annotations

import gc
import json
from typing import Any

import pytest

from spinrt.errors import StateError
from spinrt.runtime.profile import Recording
from spinrt.runtime.runtime import Runtime
from tests.guests import BUMP, EVENTS, HOST, extension, granted, runtime

BODY = f"""
(import "{HOST}" "again" (func $again)) {BUMP}
(func $busy (param $n i32) (loop (local.set $n (i32.sub (local.get $n) (i32.const 1))) (br_if 0 (local.get $n))))
(func $entry (export "{EVENTS}#ping") (call $busy (i32.const 40000000)) (call $again))
"""


def world(again: Any = lambda: None) -> Runtime:
    made = runtime({"again": lambda call: again()}, events=("ping",))
    made.load(extension(BODY, handlers=("ping",), limits={"deadline_ms": 100}), granted())
    return made


def names(thread: dict[str, Any], sample: int) -> list[str]:
    """The stack of one sample, the innermost function first, as a viewer would show it."""
    found, stack = [], thread["samples"]["stack"][sample]
    while stack is not None:
        frame = thread["stackTable"]["frame"][stack]
        function = thread["frameTable"]["func"][frame]
        found.append(thread["stringArray"][thread["funcTable"]["name"][function]])
        stack = thread["stackTable"]["prefix"][stack]
    return found


def raise_until_sampled(made: Runtime, recording: Recording) -> None:
    for _ in range(200):
        made.events[f"{EVENTS}#ping"].raise_()
        if recording.samples >= 3:
            return
    raise AssertionError("no sample in 200 raises of many milliseconds each")


def test_profile_names_the_functions_that_ran() -> None:
    """Samples with stacks of function names, innermost first, and the extension's name."""
    made = world()
    with Recording(made, "title") as recording:
        raise_until_sampled(made, recording)

    document = json.loads(recording.finish())

    (thread,) = document["threads"]
    assert document["meta"]["product"] == "title"
    stacks = [names(thread, sample) for sample in range(recording.samples)]
    assert ["busy", "entry"] in stacks
    assert thread["name"] == "guest"
    assert recording.finish() == recording.finish()


def test_nothing_is_sampled_before_and_after() -> None:
    """A profile that is finished, or thrown away, costs the next raises nothing, and another can be taken."""
    made = world()
    recording = Recording(made)
    assert json.loads(recording.finish())["threads"][0]["samples"]["length"] == 0
    made.events[f"{EVENTS}#ping"].raise_()
    assert recording.samples == 0

    thrown_away = Recording(made)
    del thrown_away
    gc.collect()

    with Recording(made) as second:
        raise_until_sampled(made, second)
    assert second.samples >= 3


def test_one_profile_at_a_time() -> None:
    """A second one is refused, and the first goes on."""
    made = world()
    with Recording(made) as recording:
        with pytest.raises(StateError, match="under way"):
            Recording(made)
        raise_until_sampled(made, recording)
    Recording(made).finish()


def test_finish_inside_a_raise_is_refused() -> None:
    """The profile that a host function would end is being taken; it ends afterwards."""
    recordings: list[Recording] = []

    def again() -> None:
        with pytest.raises(StateError, match="running"):
            recordings[0].finish()

    made = world(again)
    recordings.append(Recording(made))
    made.events[f"{EVENTS}#ping"].raise_()
    assert recordings[0].finish()


def test_runtime_without_extensions_gives_an_empty_profile() -> None:
    """There is nothing to sample."""
    assert json.loads(Recording(runtime()).finish()) == {}
