"""Guests that break the rules of the boundary get an error with a name, and the host goes on."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from spinrt import _core
from spinrt.errors import (
    AbiError,
    CapabilityRevoked,
    DeadlineExceeded,
    InternalError,
    MemoryExceeded,
    ModuleError,
    QuotaExceeded,
    SignatureMismatch,
    SpinError,
    StateError,
    Trapped,
    UsageError,
    WrongDomain,
)
from tests.guests import BUMP, extension, limits, wat

TEXT = _core.StringPlan()
U32 = _core.ScalarPlan("u32")
BYTES = _core.BytesPlan()
THING = "test:guest/host@1.0.0#thing"
BORROW = _core.HandlePlan(THING, False)
OWN = _core.HandlePlan(THING, True)
LAST_PAGE = 65536


def guest(body: str, *imports: Any, **changed: int) -> _core.Instance:
    return _core.Instance(_core.Module(wat(f"(module {body})")), tuple(imports), limits(**changed), "hostile")


def export(instance: _core.Instance, name: str, parameters: tuple[_core.Plan, ...], result: _core.Plan | None) -> Any:
    return _core.Export(instance, name, _core.FunctionPlan(name, parameters, result))


def returning(pointer: int, length: int) -> str:
    """A function that returns a string or list at that place."""
    return (
        f'(func (export "f") (result i32) (i32.store (i32.const 16) (i32.const {pointer}))'
        f" (i32.store (i32.const 20) (i32.const {length})) (i32.const 16))"
    )


@pytest.mark.parametrize(
    ("pointer", "length"),
    [(LAST_PAGE, 1), (LAST_PAGE - 2, 3), (-1, 1), (-1, -1), (0, LAST_PAGE + 1), (1, -1), (0x7FFFFFFF, 0x7FFFFFFF)],
)
def test_result_outside_memory_is_refused(pointer: int, length: int) -> None:
    """A string or list that does not lie in the guest's memory is an AbiError, wherever it points."""
    for plan in (TEXT, BYTES, _core.ListPlan(_core.ScalarPlan("u16"))):
        instance = guest(BUMP + returning(pointer & ~1, length), lift_bytes=1 << 40)
        with pytest.raises((AbiError, QuotaExceeded)):
            export(instance, "f", (), plan)(None)
        assert instance.broken


def test_result_at_the_edge_of_memory_is_taken() -> None:
    """The last byte belongs to the guest; so does an empty string right behind it."""
    assert export(guest(BUMP + returning(LAST_PAGE - 1, 1)), "f", (), BYTES)(None) == b"\0"
    assert export(guest(BUMP + returning(LAST_PAGE, 0)), "f", (), BYTES)(None) == b""


@pytest.mark.parametrize("area", [LAST_PAGE - 4, LAST_PAGE, -8, 2])
def test_return_area_outside_memory_or_misaligned_is_refused(area: int) -> None:
    """The area that a result is returned in is checked like any pointer."""
    with pytest.raises(AbiError):
        export(guest(f'{BUMP} (func (export "f") (result i32) (i32.const {area}))'), "f", (), TEXT)(None)


def test_invalid_utf8_case_and_char_are_refused() -> None:
    """Strings are UTF-8, cases are declared ones, chars are scalar values."""
    bad_text = BUMP + '(data (i32.const 64) "\\ff\\fe")' + returning(64, 2)
    with pytest.raises(AbiError, match="UTF-8"):
        export(guest(bad_text), "f", (), TEXT)(None)
    with pytest.raises(AbiError, match="case 2"):
        export(guest('(func (export "f") (result i32) (i32.const 2))'), "f", (), _core.EnumPlan("e", ("a", "b")))(None)
    for point in (0xD800, 0x110000, -1):
        with pytest.raises(AbiError, match="scalar"):
            export(guest(f'(func (export "f") (result i32) (i32.const {point}))'), "f", (), _core.ScalarPlan("char"))(
                None
            )


def test_overlapping_lists_cannot_blow_up_the_host() -> None:
    """A list whose elements all name the same bytes is bounded by what a call may lift, not by what it names."""
    body = BUMP + (
        '(func (export "f") (result i32) (local $i i32)'
        " (loop (i32.store (i32.add (i32.const 4096) (local.get $i)) (i32.const 0))"
        "   (i32.store (i32.add (i32.const 4100) (local.get $i)) (i32.const 60000))"
        "   (local.set $i (i32.add (local.get $i) (i32.const 8)))"
        "   (br_if 0 (i32.lt_u (local.get $i) (i32.const 32000))))"
        " (i32.store (i32.const 16) (i32.const 4096)) (i32.store (i32.const 20) (i32.const 4000)) (i32.const 16))"
    )
    with pytest.raises(QuotaExceeded, match="passed to the host"):
        export(guest(body, lift_bytes=1 << 20), "f", (), _core.ListPlan(BYTES))(None)


@pytest.mark.parametrize("answer", ["0xffffffff", "65535", "65536", "3", "0x80000000"])
def test_lying_allocator_is_refused(answer: str) -> None:
    """What cabi_realloc answers is checked for place and alignment before a byte is written."""
    body = (
        '(memory (export "memory") 1)'
        f'(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const {answer}))'
        '(func (export "f") (param i32 i32))'
    )
    instance = guest(body)
    with pytest.raises(AbiError):
        export(instance, "f", (_core.ListPlan(U32),), None)(None, [1, 2])
    assert instance.broken
    assert _core.peek(instance, LAST_PAGE - 8, 8) == bytes(8)


def test_allocator_may_not_call_out() -> None:
    """A host call from within cabi_realloc ends the call (CanonicalABI.md: may_leave)."""
    note = _core.HostFunction(_core.FunctionPlan("note", (), None), lambda call: None)
    body = (
        '(import "h" "note" (func $note)) (memory (export "memory") 1)'
        '(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (call $note) (i32.const 64))'
        '(func (export "f") (param i32 i32))'
    )
    with pytest.raises(AbiError, match="allocator"):
        export(guest(body, note), "f", (TEXT,), None)(None, "x")


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("unreachable", Trapped),
        ("(drop (i32.load (i32.const -1)))", Trapped),
        ("(drop (i32.div_u (i32.const 1) (i32.const 0)))", Trapped),
        ("(call 0)", Trapped),
        ("(loop (br 0))", DeadlineExceeded),
    ],
)
def test_traps_and_endless_loops_are_named(body: str, error: type[SpinError]) -> None:
    """Every way out of a guest is an error of ours, and the same process runs the next guest."""
    instance = guest(f'(func (export "f") {body}) (memory 1)', deadline_ticks=20)
    with pytest.raises(error):
        export(instance, "f", (), None)(None)
    with pytest.raises(StateError, match="fresh"):
        export(instance, "f", (), None)(None)
    assert export(guest('(func (export "f") (result i32) (i32.const 7))'), "f", (), U32)(None) == 7


def test_deadline_is_met_after_the_ticker_was_idle() -> None:
    """A parked ticker wakes for the next call."""
    time.sleep(0.05)
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        export(guest('(func (export "f") (loop (br 0)))', deadline_ticks=10), "f", (), None)(None)
    assert time.monotonic() - began < 5


def test_memory_and_tables_stay_below_their_limits() -> None:
    """Too much memory at the start is refused by name; growing over the limit gives the guest -1."""
    with pytest.raises(MemoryExceeded):
        guest("(memory 100)", memory_bytes=1 << 20)
    with pytest.raises(MemoryExceeded):
        guest("(table 1000 funcref)", table_entries=100)
    grow = '(memory (export "memory") 1) (func (export "f") (result i32) (memory.grow (i32.const 100)))'
    assert export(guest(grow, memory_bytes=1 << 20), "f", (), _core.ScalarPlan("s32"))(None) == -1


def test_memory_that_grew_is_seen_by_the_host() -> None:
    """A pointer into pages that the guest has just added is good."""
    body = (
        f'(func (export "f") (result i32) (drop (memory.grow (i32.const 1)))'
        f" (i32.store (i32.const 16) (i32.const {LAST_PAGE + 8}))"
        " (i32.store (i32.const 20) (i32.const 4)) (i32.store (i32.const 65544) (i32.const 0x64636261)) (i32.const 16))"
    )
    assert export(guest(BUMP + body), "f", (), TEXT)(None) == "abcd"


def test_start_function_runs_under_a_deadline() -> None:
    """A module cannot hang the loader."""
    with pytest.raises(DeadlineExceeded):
        guest("(func $s (loop (br 0))) (start $s)", deadline_ticks=10)
    with pytest.raises(Trapped):
        guest("(func $s unreachable) (start $s)")


def test_host_calls_are_counted() -> None:
    """A guest that calls out without end runs out of host calls."""
    note = _core.HostFunction(_core.FunctionPlan("note", (), None), lambda call: None)
    body = '(import "h" "note" (func $note)) (func (export "f") (loop (call $note) (br 0)))'
    with pytest.raises(QuotaExceeded, match="host calls"):
        export(guest(body, note, host_calls=10), "f", (), None)(None)


def test_guest_cannot_be_entered_twice() -> None:
    """A host function that calls back into the guest that called it is refused; the guest's call fails with it."""
    inner: list[Any] = []
    again = _core.HostFunction(_core.FunctionPlan("again", (), None), lambda call: inner[0](None))
    instance = guest('(import "h" "again" (func $again)) (func (export "f") (call $again))', again)
    inner.append(export(instance, "f", (), None))
    with pytest.raises(StateError, match="entered once"):
        inner[0](None)


def test_host_mistakes_are_named_as_the_hosts() -> None:
    """An exception of a host function, or an answer of the wrong type, is an InternalError that keeps its cause."""
    body = '(import "h" "ask" (func $ask (result i32))) (func (export "f") (result i32) (call $ask))'
    plan = _core.FunctionPlan("ask", (), U32)
    with pytest.raises(InternalError, match="ZeroDivisionError") as caught:
        export(guest(body, _core.HostFunction(plan, lambda call: 1 // 0)), "f", (), U32)(None)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    with pytest.raises(InternalError, match="expected an integer"):
        export(guest(body, _core.HostFunction(plan, lambda call: "no")), "f", (), U32)(None)


def test_keyboard_interrupt_passes_through_the_guest() -> None:
    """Ctrl-C inside a host function is not swallowed."""

    def interrupt(call: object) -> None:
        raise KeyboardInterrupt

    body = '(import "h" "ask" (func $ask)) (func (export "f") (call $ask))'
    with pytest.raises(KeyboardInterrupt):
        export(guest(body, _core.HostFunction(_core.FunctionPlan("ask", (), None), interrupt)), "f", (), None)(None)


def test_wrong_argument_of_the_host_leaves_the_guest_whole() -> None:
    """A bad argument is the raiser's mistake: nothing ran, and the next call works."""
    instance = guest(BUMP + '(func (export "f") (param i32) (result i32) (local.get 0))')
    call = export(instance, "f", (U32,), U32)
    for bad in (-1, 2**32, "x", None):
        with pytest.raises(UsageError):
            call(None, bad)
    with pytest.raises(UsageError, match="arguments"):
        call(None)
    assert call(None, 5) == 5


# ------------------------------------------------------------------------------------------------------------ handles

USE = (
    '(import "h" "name" (func $name (param i32 i32))) (import "h" "[resource-drop]thing" (func $drop (param i32)))'
    '(import "h" "lend" (func $lend (result i32))) (import "h" "take" (func $take (param i32)))' + BUMP
)


class Thing:
    """What handles name in these tests."""


def with_handles(body: str, *, handles: int = 8) -> tuple[_core.Instance, list[object]]:
    taken: list[object] = []
    imports = (
        _core.HostFunction(_core.FunctionPlan("name", (BORROW,), TEXT), lambda call, thing: type(thing).__name__),
        _core.DropFunction(THING),
        _core.HostFunction(_core.FunctionPlan("lend", (), OWN), lambda call: Thing()),
        _core.HostFunction(_core.FunctionPlan("take", (OWN,), None), lambda call, thing: taken.append(thing)),
    )
    return guest(USE + body, *imports, handles=handles), taken


@pytest.mark.parametrize("handle", [0, 1, 2, 7, 0x100001, 0x7FFFFFFF, -1])
def test_forged_handles_are_refused(handle: int) -> None:
    """A number that the guest was not given names nothing."""
    for body in (f"(call $name (i32.const {handle}) (i32.const 16))", f"(call $drop (i32.const {handle}))"):
        instance, _ = with_handles(f'(func (export "f") {body})')
        with pytest.raises((WrongDomain, CapabilityRevoked)):
            export(instance, "f", (), None)(None)


def test_borrow_ends_with_its_call() -> None:
    """A handle kept from an earlier call is refused, and never means the object that took its slot."""
    body = (
        "(global $kept (mut i32) (i32.const 0))"
        '(func (export "keep") (param i32) (global.set $kept (local.get 0)))'
        '(func (export "use") (param i32) (call $name (global.get $kept) (i32.const 16)))'
    )
    instance, _ = with_handles(body)
    export(instance, "keep", (BORROW,), None)(None, Thing())
    assert _core.live_handles(instance) == 0
    with pytest.raises(CapabilityRevoked):
        export(instance, "use", (BORROW,), None)(None, Thing())


def test_dropped_and_given_handles_are_gone() -> None:
    """Dropping twice, and using what was given away, are refused."""
    twice = "(local $h i32) (local.set $h (call $lend)) (call $drop (local.get $h)) (call $drop (local.get $h))"
    given_away = "(local $h i32) (local.set $h (call $lend)) (call $take (local.get $h)) (call $take (local.get $h))"
    for body in (twice, given_away):
        instance, taken = with_handles(f'(func (export "f") {body})')
        with pytest.raises(CapabilityRevoked):
            export(instance, "f", (), None)(None)
        assert len(taken) <= 1


def test_borrow_cannot_be_given_away() -> None:
    """Only what the extension owns can be passed on as owned."""
    instance, taken = with_handles('(func (export "f") (param i32) (call $take (local.get 0)))')
    with pytest.raises(WrongDomain, match="borrow"):
        export(instance, "f", (BORROW,), None)(None, Thing())
    assert taken == []


def test_handles_are_typed_and_counted() -> None:
    """A handle of one type is none of another; the table has a limit."""
    other = _core.HandlePlan("test:guest/host@1.0.0#other", False)
    instance, _ = with_handles('(func (export "f") (param i32) (call $name (local.get 0) (i32.const 16)))')
    with pytest.raises(WrongDomain, match="expected a test:guest/host"):
        export(instance, "f", (other,), None)(None, Thing())
    instance, _ = with_handles('(func (export "f") (loop (drop (call $lend)) (br 0)))', handles=5)
    with pytest.raises(QuotaExceeded, match="handles"):
        export(instance, "f", (), None)(None)


def test_slots_are_used_again_with_new_generations() -> None:
    """Lending for ever needs one slot; 32,768 handles in a row differ."""
    body = '(func (export "f") (param i32) (result i32) (local.get 0))'
    instance, _ = with_handles(body, handles=1)
    call = export(instance, "f", (BORROW,), U32)
    seen = [call(None, Thing()) for _ in range(70_000)]
    assert len(set(seen[:32_768])) == 32_768
    assert _core.live_handles(instance) == 0


@pytest.mark.parametrize(
    "body",
    [
        "(memory i64 1)",
        "(memory 1 1 shared)",
        "(tag (param i32))",
        "(type (struct (field i32)))",
    ],
)
def test_refused_proposals_do_not_compile(body: str) -> None:
    """Memory64, threads, exceptions and GC are refused with a reason."""
    with pytest.raises(ModuleError):
        _core.Module(wat(f"(module {body})"))


def test_functions_of_vectors_do_not_end_the_process() -> None:
    """The engine cannot tell a vector's kind; such functions are listed, and nothing that we call has such a type."""
    body = '(import "h" "take" (func (param v128))) (func (export "give") (result i32 v128) unreachable)'
    module = _core.Module(wat(f"(module {body})"))

    assert module.imports == (("h", "take", "function", "?:"),)
    assert module.exports == {"give": ("function", ":i?")}


def test_several_memories_are_refused() -> None:
    """The engine takes them, for what is added to a module; an extension has one at most."""
    with pytest.raises(ModuleError, match="2 memories, expected one at most"):
        extension("(memory 1) (memory 1)")


@pytest.mark.parametrize("code", [b"", b"\0asm", b"\0asm\x01\0\0\0\x01\xff\xff\xff\xff\x0f", b"(module)", bytes(1000)])
def test_garbage_is_no_module(code: bytes) -> None:
    """Bytes that are no module are one clear line."""
    with pytest.raises(ModuleError) as caught:
        _core.Module(code)
    assert "\n" not in str(caught.value)


def test_every_unchecked_entry_has_the_type_of_its_plan() -> None:
    """A function, allocator, post-return or import of another core type is refused before it could be called."""
    many = "i64 " * 20
    values = " ".join("(i64.const 1)" for _ in range(20))
    with pytest.raises(SignatureMismatch, match="cabi_realloc"):
        guest(f'(func (export "cabi_realloc") (param i32) (result {many}) {values})')
    instance = guest(f'(func (export "f")) (func (export "cabi_post_f") (result {many}) {values})')
    with pytest.raises(SignatureMismatch, match="cabi_post_f"):
        export(instance, "f", (), None)
    with pytest.raises(SignatureMismatch, match="export f"):
        export(guest('(func (export "f") (result i64) (i64.const 1))'), "f", (), None)
    note = _core.HostFunction(_core.FunctionPlan("note", (), None), lambda call: None)
    with pytest.raises(SignatureMismatch, match="import"):
        guest('(import "h" "note" (func (param i64)))', note)
    with pytest.raises(InternalError, match="imports"):
        guest('(import "h" "note" (func))')


def test_deep_nesting_of_guests_ends_before_the_stack_does() -> None:
    """Host functions that enter one guest after the other run out of stack as an error, not as a crash."""
    depth = 60
    calls: list[Any] = []
    recurse = "(func $down (param i32) (if (local.get 0) (then (call $down (i32.sub (local.get 0) (i32.const 1)))"
    recurse += " (return))) (call $next))"
    for number in range(depth):
        onward = _core.HostFunction(
            _core.FunctionPlan("next", (), None),
            lambda call, number=number: calls[number + 1](None) if number + 1 < depth else None,
        )
        body = f'(import "h" "next" (func $next)) {recurse} (func (export "f") (call $down (i32.const 10000)))'
        calls.append(export(guest(body, onward, deadline_ticks=5000), "f", (), None))
    with pytest.raises(QuotaExceeded, match="stack"):
        calls[0](None)


def test_small_thread_is_refused_and_another_thread_too() -> None:
    """A thread whose stack is too small is told so; a guest is called by the thread that made it."""
    caught: list[BaseException] = []

    def run(make: Any) -> None:
        try:
            make()
        except SpinError as error:
            caught.append(error)

    mine = export(guest('(func (export "f"))'), "f", (), None)
    before = threading.stack_size(256 * 1024)
    try:
        for work in (lambda: guest('(func (export "f"))'), lambda: mine(None)):
            thread = threading.Thread(target=run, args=(work,))
            thread.start()
            thread.join()
    finally:
        threading.stack_size(before)
    assert [type(error) for error in caught] == [QuotaExceeded, UsageError]
    assert mine(None) is None
