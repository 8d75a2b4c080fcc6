"""The functions that are added to an instrumented module: they write the records that no store writes itself.

Each is given as text, one instruction after the other separated by ``;``, and assembled by the table of opcodes. They
read the head of the log and the stamp from the log's memory and write the head back; whoever keeps the head in a local
writes it before the call and reads it behind it.

Source: docs/design/transactions.md, "The undo log of an instance".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from spinrt.sandbox.binary_opcodes import OPCODES, PREFIX_MISC, PREFIX_SIMD
from spinrt.sandbox.binary_reader import signed, unsigned

HEAD, MOVED, STAMP, BYTES_HEAD, FUNCTIONS_HEAD, EXTERNS_HEAD, BYTES_NEXT, COUNTDOWN = 0, 4, 8, 16, 20, 24, 28, 32
FLAGS: Final = 64
RECORD_BYTES: Final = 16
STAMP_SHIFT: Final = 36
WORD, BYTES, GLOBAL, GLOBAL_HIGH, GROWTH, FLAG, ENTRY, GLOBAL_REFERENCE = 3, 4, 5, 6, 7, 8, 9, 10
FEW_BYTES: Final = 32

_NUMBERS: Final = {opcode.name: number for number, opcode in OPCODES.items()}
_EMPTY_BLOCK: Final = b"\x40"
_INDEXED: Final = b"\x40"


@dataclass(frozen=True, slots=True)
class Helper:
    """A function: types of its parameters (i32 each), of the locals behind them, and its code as text."""

    parameters: int
    locals: tuple[int, ...]
    text: str

    def body(self) -> bytes:
        """Encode it as an entry of the code section."""
        declared = unsigned(len(self.locals)) + b"".join(bytes([1, kind]) for kind in self.locals)
        code = declared + assemble(self.text) + b"\x0b"
        return unsigned(len(code)) + code


I32, I64 = 0x7F, 0x7E


def assemble(text: str) -> bytes:
    """Encode instructions. Blocks have no type; a load or store names the memory, then the offset.

    Raises:
        KeyError: There is no such instruction, or none of that shape is needed here.
    """
    return b"".join(_instruction(*part.split()) for part in text.split(";") if part.strip())


def _instruction(name: str, *arguments: str) -> bytes:
    number = _NUMBERS[name]
    prefix, second = divmod(number, 0x100)
    head = bytes([prefix]) + unsigned(second) if prefix in (PREFIX_MISC, PREFIX_SIMD) else bytes([number])
    return head + _IMMEDIATES[OPCODES[number].kind]([int(found) for found in arguments])


def _unsigned(values: Sequence[int]) -> bytes:
    return b"".join(unsigned(value) for value in values)


def _signed(values: Sequence[int]) -> bytes:
    return signed(values[0])


_IMMEDIATES: Final[dict[str, Callable[[Sequence[int]], bytes]]] = {
    "none": lambda values: b"",
    "block": lambda values: _EMPTY_BLOCK,
    "memarg": lambda values: _INDEXED + _unsigned(values),
    "lane": bytes,
    "s32": _signed,
    "s64": _signed,
    **dict.fromkeys(("index", "two-indices", "memory", "two-memories"), _unsigned),
}


def _record(log: int, head: int, kind: int, value: str, address: str = "i64.const 0") -> str:
    """Instructions that write one record; ``value`` and ``address`` push an i64 each."""
    return f"""
    i32.const 0; i32.load {log} {HEAD}; local.tee {head};
    {value}; i64.store {log} 8;
    local.get {head};
    {address}; i32.const 0; i64.load {log} {STAMP}; i64.add; i64.const {kind << 32}; i64.add; i64.store {log} 0;
    i32.const 0; local.get {head}; i32.const {RECORD_BYTES}; i32.add; i32.store {log} {HEAD}"""


def tick(log: int) -> Helper:
    """() -> (): one off the countdown, and a trap when it comes to 0."""
    return Helper(
        0,
        (I64,),
        f"""i32.const 0; i32.const 0; i64.load {log} {COUNTDOWN}; i64.const 1; i64.sub; local.tee 0;
        i64.store {log} {COUNTDOWN}; local.get 0; i64.eqz; if; unreachable; end""",
    )


def _few_bytes(log: int, head: int) -> str:
    """Instructions that record up to 32 bytes as words, and return: that costs less than a bulk copy of few bytes.

    A word may reach behind what is written. Taking it back is right all the same, as it is what was there then.
    """

    def record(at: int) -> str:
        return f"""local.get {head}; local.get 0; i64.load 0 {at}; i64.store {log} {2 * at + 8};
        local.get {head}; local.get 0; i64.extend_i32_u; i32.const 0; i64.load {log} {STAMP}; i64.add;
        i64.const {(WORD << 32) + at}; i64.add; i64.store {log} {2 * at};"""

    more = "".join(f"local.get 1; i32.const {at}; i32.gt_u; if; {record(at)}" for at in (8, 16, 24))
    return f"""local.get 1; i32.const 1; i32.sub; i32.const {FEW_BYTES}; i32.lt_u; if;
    local.get 0; i64.extend_i32_u; i64.const {FEW_BYTES}; i64.add;
    memory.size 0; i64.extend_i32_u; i64.const 16; i64.shl; i64.le_u; if;
    i32.const 0; i32.load {log} {HEAD}; local.set {head}; {record(0)} {more} end; end; end;
    i32.const 0; local.get {head}; local.get 1; i32.const 7; i32.add; i32.const 3; i32.shr_u; i32.const 4; i32.shl;
    i32.add; i32.store {log} {HEAD}; return; end; end;"""


def save_bytes(log: int, kept: int, dead_below: int) -> Helper:
    """(address, count) -> (): keep bytes of memory 0 in the memory ``kept``, unless all are in the dead stack."""
    place, end, head = 2, 3, 4
    is_dead = f"""local.get 0; i64.extend_i32_u; local.get 1; i64.extend_i32_u; i64.add; i64.const {dead_below};
    i64.le_u; if; return; end;"""
    value = f"local.get 1; i64.extend_i32_u; local.get {place}; i64.extend_i32_u; i64.const 32; i64.shl; i64.or"
    text = f"""{is_dead if dead_below else ""} {_few_bytes(log, head)}
    i32.const 0; i32.load {log} {BYTES_HEAD}; local.tee {place}; local.get 1; i32.add; local.set {end};
    i32.const 0; local.get {end}; i32.store {log} {BYTES_NEXT};
    local.get {place}; local.get 0; local.get 1; memory.copy {kept} 0;
    {_record(log, head, BYTES, value, "local.get 0; i64.extend_i32_u")};
    i32.const 0; local.get {end}; i32.store {log} {BYTES_HEAD}"""
    return Helper(2, (I32, I32, I32), text)


def note_growth(log: int) -> Helper:
    """() -> (): note how large memory 0 is."""
    return Helper(0, (I32,), _record(log, 0, GROWTH, "memory.size 0; i64.extend_i32_u"))


def drop(log: int) -> Helper:
    """(place of the flag) -> (): note what the flag is, and set it."""
    value = f"local.get 0; i32.load8_u {log} 0; i64.extend_i32_u"
    text = _record(log, 1, FLAG, value, "local.get 0; i64.extend_i32_u")
    return Helper(1, (I32,), f"{text}; local.get 0; i32.const 1; i32.store8 {log} 0")


def save_vector(log: int, index: int) -> Helper:
    """() -> (): note the two halves of a global."""
    low, high = (f"global.get {index}; i64x2.extract_lane {half}" for half in (0, 1))
    number = f"i64.const {index}"
    return Helper(0, (I32,), f"{_record(log, 0, GLOBAL, low, number)}; {_record(log, 0, GLOBAL_HIGH, high, number)}")


def save_reference(log: int, index: int, table: int, slots: int) -> Helper:
    """() -> (): keep the reference in a global; ``slots`` is where the table's head is."""
    text = f"""i32.const 0; i32.load {log} {slots}; local.tee 0; global.get {index}; table.set {table};
    {_record(log, 1, GLOBAL_REFERENCE, "local.get 0; i64.extend_i32_u", f"i64.const {index}")};
    i32.const 0; local.get 0; i32.const 1; i32.add; i32.store {log} {slots}"""
    return Helper(0, (I32, I32), text)


def save_entries(log: int, index: int, table: int, slots: int) -> Helper:
    """(entry, count) -> (): keep entries of a table, unless some are outside: then what follows traps by itself."""
    slot, head = 2, 3
    value = f"local.get {slot}; i64.extend_i32_u; i64.const {index << 32}; i64.add"
    text = f"""local.get 0; i64.extend_i32_u; local.get 1; i64.extend_i32_u; i64.add;
    table.size {index}; i64.extend_i32_u; i64.gt_u; if; return; end;
    block; loop;
    local.get 1; i32.eqz; br_if 1;
    i32.const 0; i32.load {log} {slots}; local.tee {slot}; local.get 0; table.get {index}; table.set {table};
    {_record(log, head, ENTRY, value, "local.get 0; i64.extend_i32_u")};
    i32.const 0; local.get {slot}; i32.const 1; i32.add; i32.store {log} {slots};
    local.get 0; i32.const 1; i32.add; local.set 0;
    local.get 1; i32.const 1; i32.sub; local.set 1;
    br 0; end; end"""
    return Helper(2, (I32, I32), text)
