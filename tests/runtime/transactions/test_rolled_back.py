"""What a failed handler changed in its own instance is taken back, whatever it changed and whatever ended it."""

from __future__ import annotations

import pytest

from spinrt.errors import AbiError, DeadlineExceeded, QuotaExceeded, SpinError, Trapped
from spinrt.runtime.call import Transaction
from tests.guests import BUMP, EVENTS, HOST
from tests.runtime.linked_guests import guest
from tests.runtime.transactions.guests import COUNT, IMPORTS, World, counter

CHANGES = {
    "every-width": """
      (i32.store8 (i32.const 200) (i32.const 1)) (i32.store16 (i32.const 203) (i32.const 515))
      (i64.store (i32.const 213) (i64.const -1)) (f32.store (i32.const 225) (f32.const 1.5))
      (f64.store (i32.const 230) (f64.const 2.5)) (i64.store32 (i32.const 240) (i64.const 7))
    """,
    "the-same-twice": "(i32.store (i32.const 200) (i32.const 1)) (i32.store (i32.const 202) (i32.const 2))",
    "vector": """
      (v128.store (i32.const 201) (v128.const i64x2 -1 5)) (v128.store16_lane 3 (i32.const 300)
      (v128.const i16x8 1 2 3 4 5 6 7 8))
    """,
    "fill": "(memory.fill (i32.const 201) (i32.const 9) (i32.const 33))",
    "copy-over-itself": """
      (i32.store (i32.const 1000) (i32.const 77)) (memory.copy (i32.const 1001) (i32.const 1000) (i32.const 64))
    """,
    "init": "(memory.init $kept (i32.const 500) (i32.const 0) (i32.const 5))",
    "first-and-last-byte": "(i32.store8 (i32.const 0) (i32.const 3)) (i32.store8 (i32.const 65535) (i32.const 4))",
    "loop": """
      (local.set $b (local.get $a))
      (loop $next
        (i32.store8 offset=700 (i32.and (local.get $b) (i32.const 255)) (local.get $b))
        (br_if $next (i32.lt_u (local.tee $b (i32.add (local.get $b) (i32.const 1))) (i32.add (local.get $a)
        (i32.const 600)))))
      (local.set $b (local.get $a))
    """,
}
EXTRA = '(data $kept "hello")'


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_memory_is_what_it_was(change: str) -> None:
    """After a trap every byte is as before; after a success changes stay, and a later failure goes back to there."""
    world = World(counter(change, extra=EXTRA))
    before = world.memory()
    assert world.add.raise_(1, 1) is None
    assert world.memory() == before
    if "local.set $b" not in change:
        assert world.add.raise_(1, 2) == 1
        after = world.memory()
        assert after != before
        assert world.add.raise_(3, 3) is None
        assert world.memory() == after
        assert world.add.raise_(1, 2) == 2
    assert world.domains[0].counters.restarts == 0


GLOBALS = """
(global $number (mut i64) (i64.const 5)) (global $part (mut f32) (f32.const 1)) (global $wide (mut v128)
(v128.const i64x2 1 2))
(func $look (result i32)
  (i32.add (i32.wrap_i64 (global.get $number)) (i32.add (i32.trunc_f32_s (global.get $part)) (i32.add (global.get $top)
    (i32.wrap_i64 (i64.add (i64x2.extract_lane 0 (global.get $wide)) (i64x2.extract_lane 1 (global.get $wide))))))))
"""
SET_GLOBALS = """
(global.set $number (i64.const 900)) (global.set $part (f32.const 77)) (global.set $wide (v128.const i64x2 50 60))
(global.set $number (i64.const 901)) (global.set $top (i32.const 8192))
"""


def test_globals_are_what_they_were() -> None:
    """Mutable globals of numbers and vectors, the one that the code sets most among them, come back."""
    body = f"(if (i32.eq (local.get $a) (local.get $b)) (then {SET_GLOBALS} unreachable)) (return (call $look))"
    world = World(counter(body, extra=GLOBALS))
    first = world.add.raise_(1, 2)
    assert first == 5 + 1 + 4096 + 3
    world.add.raise_(1, 1)
    assert world.add.raise_(1, 2) == first


def test_dropped_segments_come_back() -> None:
    """A data segment that a failed call dropped can be used again; one that a good call dropped cannot."""
    change = """
      (memory.init $kept (i32.const 500) (i32.const 0) (i32.const 5))
      (if (i32.eq (local.get $a) (i32.const 9)) (then (data.drop $kept)))
    """
    world = World(counter(change, extra=EXTRA))
    assert world.add.raise_(9, 9) is None
    assert world.add.raise_(1, 2) == 1
    assert world.add.raise_(9, 1) == 2
    assert world.add.raise_(1, 2) is None  # out of bounds: it is gone


TABLE = """
(table $t 4 funcref) (elem declare func $one $two) (type $answer (func (result i32)))
(func $one (result i32) (i32.const 1)) (func $two (result i32) (i32.const 2))
"""


def test_tables_are_what_they_were() -> None:
    """References that a failed call put into a table are gone again."""
    change = """
      (if (i32.eqz (local.get $a)) (then (table.set $t (i32.const 2) (ref.func $one))))
      (if (i32.eq (local.get $a) (i32.const 5)) (then (table.set $t (i32.const 2) (ref.func $two)) (table.fill $t
      (i32.const 0) (ref.func $two) (i32.const 4))))
      (if (i32.eq (local.get $a) (i32.const 7)) (then (return (call_indirect $t (type $answer) (i32.const 2)))))
    """
    world = World(counter(change, extra=TABLE))
    assert world.add.raise_(0, 1) == 1
    assert world.add.raise_(7, 1) == 1
    assert world.add.raise_(5, 5) is None
    assert world.add.raise_(7, 1) == 1
    assert world.add.raise_(5, 1) == 4
    assert world.add.raise_(7, 1) == 2


def test_growth_is_taken_back() -> None:
    """A memory that grew in a failed call has its old size and all else that it had; then it can grow for good."""
    change = """
      (if (i32.eq (local.get $a) (i32.const 4)) (then
        (drop (memory.grow (i32.const 2))) (i32.store (i32.const 100000) (i32.const 5)) (i32.store (i32.const 300)
        (i32.const 5))))
    """
    world = World(counter(change))
    assert world.add.raise_(1, 2) == 1
    before = world.memory()
    assert len(before) == 65536
    assert world.add.raise_(4, 4) is None
    assert world.memory() == before
    assert world.add.raise_(1, 2) == 2
    assert world.add.raise_(4, 1) == 3
    assert len(world.memory()) == 3 * 65536
    assert world.add.raise_(4, 4) is None
    assert len(world.memory()) == 3 * 65536
    assert world.add.raise_(1, 2) == 4
    assert world.domains[0].counters.restarts == 0


ENDS: dict[str, tuple[str, type[SpinError]]] = {
    "unreachable": ("unreachable", Trapped),
    "division": ("(drop (i32.div_u (i32.const 1) (i32.sub (local.get $a) (local.get $b))))", Trapped),
    "out-of-bounds": ("(i32.store (i32.const 65533) (i32.const -1))", Trapped),
    "endless": ("(i32.store (i32.const 400) (i32.const 1)) (loop $l (br $l))", DeadlineExceeded),
    "recursion": ("(call $deep)", Trapped),
    "host-refuses": ("(call $note (i32.const 65500) (i32.const 4000))", AbiError),
    "full-log": ("(loop $l (i64.store (i32.const 400) (i64.const 1)) (br $l))", QuotaExceeded),
    "full-log-of-bytes": (
        "(loop $l (memory.fill (i32.const 0) (i32.const 7) (i32.const 65536)) (br $l))",
        QuotaExceeded,
    ),
}
DEEP = "(func $deep (i32.store (i32.const 404) (i32.const 1)) (call $deep) (call $deep))"


@pytest.mark.parametrize(("end", "error"), ENDS.values(), ids=ENDS)
def test_whatever_ends_it(end: str, error: type[SpinError]) -> None:
    """Trap, deadline, exhausted stack or quota, refusal of a host function, full log: the same way back."""
    full = error is QuotaExceeded
    limits = {"deadline_ms": 10_000 if full else 50, "undo_bytes": 1 << 20 if full else 1 << 28}
    fail = f"(if (i32.eq (local.get $a) (local.get $b)) (then {end}))"
    world = World(counter("(i32.store (i32.const 200) (i32.const 3))", extra=DEEP, fail=fail, limits=limits))
    assert world.add.raise_(1, 2) == 1
    before = world.memory()
    assert world.add.raise_(1, 1) is None
    assert world.memory() == before
    assert error.code in world.domains[0].counters.last_fault
    assert world.add.raise_(1, 2) == 2


@pytest.mark.parametrize("end", ["unreachable", "endless", "recursion", "full-log"])
@pytest.mark.parametrize("event", ["add", "judge"])
def test_growth_is_taken_back_whatever_ended_it(event: str, end: str) -> None:
    """Being made anew is no part of the call that failed: that this was late is nothing to it."""
    code, error = ENDS[end]
    limits = {"deadline_ms": 10_000 if error is QuotaExceeded else 20, "undo_bytes": 1 << 20}
    grow = f"{COUNT} (drop (memory.grow (i32.const 2))) {code} (i32.const 0)"
    body = f"""{IMPORTS} {BUMP} {DEEP} (func (export "{EVENTS}#judge") (param i32 i32) (result i32) {grow})
      (func (export "{EVENTS}#add") (param i32 i32) (result i32) {grow})"""
    world = World(guest("grower", body, imports=(HOST,), handlers=(event,), limits=limits))
    raised, arguments = (world.add, (1, 1)) if event == "add" else (world.judge, ("a text",))
    before = world.memory()
    for number in range(4):
        if number % 2:
            raised.raise_(*arguments)
        else:
            with Transaction() as transaction:
                transaction.raise_(raised, *arguments)
        assert error.code in world.domains[0].counters.last_fault
        assert world.domains[0].counters.restarts == 0
        assert world.memory() == before


def test_what_the_host_wrote_is_taken_back() -> None:
    """Texts and results that a host function left in the guest's memory are gone after the call failed."""
    change = (
        "(i32.store (i32.const 600) (i32.const 0x636261)) (call $shout (i32.const 600) (i32.const 3) (i32.const 608))"
    )
    world = World(counter(change))
    before = world.memory()
    assert world.add.raise_(1, 1) is None
    assert world.memory() == before
    assert world.add.raise_(1, 2) == 1
    pointer = int.from_bytes(world.memory()[608:612], "little")
    assert world.memory()[pointer : pointer + 3] == b"ABC"


def test_arguments_that_the_host_wrote_are_taken_back() -> None:
    """A text that was passed to a handler that failed is gone from its memory."""
    body = f'(func (export "{EVENTS}#judge") (param i32 i32) (result i32) {COUNT} unreachable)'
    world = World(guest("judge", f"{BUMP} {body}", handlers=("judge",)))
    before = world.memory()
    assert world.judge.raise_("a text that is not in its memory") == "low"
    assert world.memory() == before
