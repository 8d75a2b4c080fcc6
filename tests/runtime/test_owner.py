"""A runtime belongs to one thread of one process; several may work side by side."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from spinrt.errors import SpinError, StateError
from spinrt.runtime.policy import Policy
from spinrt.runtime.runtime import Runtime
from tests.guests import EVENTS
from tests.runtime.linked_guests import WORDS, exporter, guest, importer, runtime

# Traps for 0, runs for ever for 1, else answers the sum.
MOODY = f"""
(func (export "{EVENTS}#add") (param i32 i32) (result i32)
  (if (i32.eqz (local.get 0)) (then unreachable))
  (if (i32.eq (local.get 0) (i32.const 1)) (then (loop (br 0))))
  (i32.add (local.get 0) (local.get 1)))
"""


def moody(name: str = "moody") -> Any:
    return guest(name, MOODY, handlers=("add",), limits={"deadline_ms": 20})


def in_thread(action: Callable[[], object]) -> BaseException | None:
    """What the action raised in another thread."""
    caught: list[BaseException] = []

    def run() -> None:
        try:
            action()
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return caught[0] if caught else None


def in_child(action: Callable[[], None]) -> int:
    """Exit code of a forked child that does it: 0 when it returned."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            action()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def operations(made: Runtime) -> dict[str, Callable[[], object]]:
    """Every public operation, with arguments that the owner could use."""
    domain = made.domains["words"]
    fresh = made.create(importer("fresh"), Policy.granting(WORDS))
    return {
        "export": lambda: made.export(domain),
        "define": lambda: made.define(f"{EVENTS}#ping"),
        "create": lambda: made.create(exporter("other")),
        "load": lambda: made.load(guest("new", "")),
        "unload": lambda: made.unload(domain),
        "resolve": lambda: fresh.resolve(domain),
        "unresolve": lambda: fresh.unresolve(domain),
        "initialize": fresh.initialize,
        "destroy": fresh.destroy,
    }


@pytest.mark.parametrize("operation", ["export", "define", "create", "load", "unload", "resolve", "unresolve",
                                       "initialize", "destroy"])  # fmt: skip
def test_other_threads_and_children_are_refused(operation: str) -> None:
    """Each operation says who it expected, and nothing changes."""
    made = runtime()
    made.load(exporter())
    action = operations(made)[operation]
    error = in_thread(action)
    assert isinstance(error, StateError), error
    assert "from another thread" in str(error)

    def refused() -> None:
        with pytest.raises(StateError, match="forked process") as caught:
            action()
        assert "after the fork" in caught.value.hint

    assert in_child(refused) == 0
    assert list(made.domains) == ["words"]


def test_child_cannot_raise_in_its_parents_runtime() -> None:
    """Its effects would be applied twice; the parent goes on."""
    made = runtime()
    made.load(moody())
    event = made.events[f"{EVENTS}#add"]

    def refused() -> None:
        with pytest.raises(StateError, match="forked process"):
            event.raise_(2, 3)

    assert in_child(refused) == 0
    assert event.raise_(2, 3) == 5


def test_child_works_with_a_runtime_of_its_own() -> None:
    """Compiling, linking, traps and deadlines work after a fork, also when the parent's ticker was running."""
    made = runtime()
    made.load(moody())
    assert made.events[f"{EVENTS}#add"].raise_(1, 0) is None

    def work() -> None:
        own = runtime()
        own.load(exporter())
        own.load(importer(), Policy.granting(WORDS))
        assert own.events[f"{EVENTS}#add"].raise_(4, 0) == 8
        own.load(moody())
        assert own.events[f"{EVENTS}#add"].raise_(5, 1) == 6
        assert own.events[f"{EVENTS}#add"].raise_(1, 0) == 2
        assert own.domains["moody"].counters.last_fault.startswith("extension.deadline")

    assert in_child(work) == 0
    assert made.events[f"{EVENTS}#add"].raise_(1, 0) is None
    assert made.domains["moody"].counters.last_fault.startswith("extension.deadline")


def test_runtimes_on_several_threads_do_not_meet() -> None:
    """Each has its own domains, faults and results, while others load, trap and run into their deadline."""
    extension = moody()

    def work(number: int) -> tuple[list[int | None], int]:
        made = runtime({"note": lambda call, text: None})
        answers: list[int | None] = []
        for turn in range(20):
            domain = made.load(extension)
            answers += [made.events[f"{EVENTS}#add"].raise_(left, number) for left in (2, 0, 3)]
            if turn % 10 == 0:
                answers.append(made.events[f"{EVENTS}#add"].raise_(1, 0))
            faults = domain.counters.faults
            made.unload(domain)
        return answers, faults

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(work, range(4)))
    for number, (answers, faults) in enumerate(found):
        turn = [2 + number, None, 3 + number]
        assert answers == [*turn, None, *(turn * 10), None, *(turn * 9)]
        assert faults == 1


def test_guest_of_another_thread_is_not_entered() -> None:
    """A raise from a thread that did not make the runtime fails; nobody is blamed for it."""
    made = runtime()
    domain = made.load(moody())
    error = in_thread(lambda: made.events[f"{EVENTS}#add"].raise_(2, 3))
    assert isinstance(error, SpinError)
    assert "another thread" in str(error)
    assert domain.counters.faults == 0
    assert made.events[f"{EVENTS}#add"].raise_(2, 3) == 5


def test_free_threaded_builds_are_refused_at_import() -> None:
    """One clear ImportError, before anything is loaded."""
    code = "import sys; sys.abiflags = 't'; import spinrt"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ImportError: spinrt: found a free-threaded build of Python, expected" in done.stderr
    kept = subprocess.run([sys.executable, "-c", "import spinrt"], capture_output=True, text=True, check=False)
    assert (kept.returncode, kept.stderr) == (0, "")
