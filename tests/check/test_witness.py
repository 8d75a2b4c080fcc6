"""Witnesses: whatever an instance holds and that changed is named; what did not matter is not."""

from __future__ import annotations

import pytest

from spinrt._core import COUNTDOWN_NEVER, Witness, countdown, has_log, set_countdown
from spinrt.check.rehearsal import Rig
from spinrt.check.rigs import Rigs
from spinrt.errors import HandlerFailed, StateError
from spinrt.runtime.call import Transaction
from tests.check.guests import EVERYTHING
from tests.check.support import handling, subject
from tests.guests import BUMP, EVENTS, HOST


def rig(body: str, name: str = "ping", kind: str = "counting", **manifest: object) -> Rig:
    made = subject(body, handlers=handling(name), **manifest)
    assert made.error is None, made.error
    return Rigs(made, 0).make(kind, made.manifest.handlers[0])


def changing(code: str) -> str:
    """A guest whose ``ping`` does that."""
    return f'(table $t 3 funcref) (func $f) (elem declare func $f) (data $d "x") {BUMP} (global $g (mut v128) (v128.const i64x2 0 0)) (func (export "{EVENTS}#ping") {code})'  # noqa: E501


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("(i32.store8 (i32.const 65535) (i32.const 1))", "memory: found 0x01 at 0xffff, expected 0x00"),
        ("(global.set $g (v128.const i64x2 0 1))", "spinrt:global/"),
        ("(table.set $t (i32.const 2) (ref.func $f))", "table 0: found other entries at [2]"),
        ("(data.drop $d)", "segments: found one dropped"),
        ("(global.set $top (i32.const 4104))", "moved global: found 0x1008, expected 0x1000"),
    ],
)
def test_what_a_committed_call_changed_is_named(code: str, says: str) -> None:
    """Memory to its last byte, all of a vector, entries of tables, dropped segments, the global that moved."""
    made = rig(changing(code))
    witness = Witness(made.instance)
    assert witness.difference() is None

    made.event.raise_()

    assert says in (witness.difference() or "")


def test_memory_that_grew_is_named() -> None:
    made = rig(f'{BUMP} (func (export "{EVENTS}#ping") (drop (memory.grow (i32.const 1))))')
    witness = Witness(made.instance)
    made.event.raise_()
    assert witness.difference() == "memory: found 131072 bytes, expected 65536"


def test_handles_are_compared_by_number_and_object() -> None:
    """One more is named, one less, and another tenant of the same slot; generations of free slots may go up."""
    made = rig(HOLDS, "add", imports=[HOST])
    empty = Witness(made.instance)
    made.event.raise_(0, 1)
    assert empty.difference() == "handles: found 1 live ones, expected 0"
    held = Witness(made.instance)
    made.event.raise_(1, 1)
    assert "handles: found something else in slot 1" in (held.difference() or "")
    made.event.raise_(0x1_0001, 0)
    assert held.difference() == "handles: found 0 live ones, expected 1"
    assert empty.difference() is None


HOLDS = f"""
(import "{HOST}" "lend" (func $lend (result i32)))
(import "{HOST}" "[resource-drop]thing" (func $drop (param i32)))
(func (export "{EVENTS}#add") (param i32 i32) (result i32)
  (if (local.get 0) (then (call $drop (local.get 0))))
  (if (local.get 1) (then (drop (call $lend))))
  (i32.const 0))
"""
"""Drops the handle that is its first argument, and gets another one if the second is not 0."""


def test_a_call_that_was_taken_back_leaves_no_difference() -> None:
    """Rolled back by its transaction, or because it failed."""
    made = rig(EVERYTHING)
    for _ in range(3):
        made.event.raise_()
        witness = Witness(made.instance)
        with Transaction() as transaction:
            transaction.raise_(made.event)
            assert witness.difference() is not None
        assert witness.difference() is None
        set_countdown(made.instance, 12)
        with pytest.raises(HandlerFailed):
            made.event.raise_()
        assert countdown(made.instance) == 0
        set_countdown(made.instance, 0)
        assert witness.difference() is None


def test_rewinding_gives_later_handles_the_same_numbers() -> None:
    """Generations of free slots go up in each run that is taken back, and come back."""
    made = rig(EVERYTHING)
    made.event.raise_()
    witness = Witness(made.instance)
    seen = []
    for _ in range(3):
        made.stage.reset()
        with Transaction() as transaction:
            transaction.raise_(made.event)
            inside = Witness(made.instance)
            if seen:
                assert seen[0].difference() is None
            seen.append(inside)
        assert witness.difference() is None
        witness.rewind()


def test_countdowns_and_logs_need_a_module_that_was_made_for_them() -> None:
    """A guest that changes nothing has no log, and says so."""
    made = rig(f'(func (export "{EVENTS}#ping"))')
    assert not has_log(made.instance)
    with pytest.raises(StateError, match="found no undo log"):
        set_countdown(made.instance, 1)


def test_a_countdown_counts_every_change() -> None:
    """As many as a run that is never stopped uses."""
    made = rig(changing("(i32.store (i32.const 64) (i32.const 1)) (i32.store (i32.const 68) (i32.const 1))"))
    set_countdown(made.instance, COUNTDOWN_NEVER)
    made.event.raise_()
    assert COUNTDOWN_NEVER - countdown(made.instance) == 2
