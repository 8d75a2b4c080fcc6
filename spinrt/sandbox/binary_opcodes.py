"""Instructions of core WebAssembly 2.0 and tail calls: opcode, name, and the kind of what follows the opcode.

This is a table and nothing else; ``binary_walk`` reads code by it. An opcode is one number: the byte itself, or
``prefix << 8 | second`` for the instructions behind 0xFC and 0xFD, whose second number stays below 0x100 here.
What spinrt refuses is listed too, so that a refusal can say what it found.

Source: WebAssembly Core Specification 2.0, 5.4 "Instructions"; the tail call proposal for 0x12 and 0x13.
"""

from __future__ import annotations

from typing import Final, NamedTuple

PREFIX_MISC: Final = 0xFC
PREFIX_SIMD: Final = 0xFD


class Opcode(NamedTuple):
    """``name`` as in the text format, and ``kind``, the shape of the immediates (`binary_walk` lists the kinds)."""

    name: str
    kind: str


# First opcode, kind, then the names of consecutive opcodes; "-" is a hole.
_TABLE: Final = """
0x00 none unreachable nop
0x02 block block loop if
0x05 none else
0x0B none end
0x0C index br br_if
0x0E labels br_table
0x0F none return
0x10 index call
0x11 two-indices call_indirect
0x12 index return_call
0x13 two-indices return_call_indirect
0x1A none drop select
0x1C types select
0x20 index local.get local.set local.tee global.get global.set table.get table.set
0x28 memarg i32.load i64.load f32.load f64.load
0x2C memarg i32.load8_s i32.load8_u i32.load16_s i32.load16_u
0x30 memarg i64.load8_s i64.load8_u i64.load16_s i64.load16_u i64.load32_s i64.load32_u
0x36 memarg i32.store i64.store f32.store f64.store i32.store8 i32.store16 i64.store8 i64.store16 i64.store32
0x3F memory memory.size memory.grow
0x41 s32 i32.const
0x42 s64 i64.const
0x43 four-bytes f32.const
0x44 eight-bytes f64.const
0x45 none i32.eqz i32.eq i32.ne i32.lt_s i32.lt_u i32.gt_s i32.gt_u i32.le_s i32.le_u i32.ge_s i32.ge_u
0x50 none i64.eqz i64.eq i64.ne i64.lt_s i64.lt_u i64.gt_s i64.gt_u i64.le_s i64.le_u i64.ge_s i64.ge_u
0x5B none f32.eq f32.ne f32.lt f32.gt f32.le f32.ge f64.eq f64.ne f64.lt f64.gt f64.le f64.ge
0x67 none i32.clz i32.ctz i32.popcnt i32.add i32.sub i32.mul i32.div_s i32.div_u i32.rem_s i32.rem_u
0x71 none i32.and i32.or i32.xor i32.shl i32.shr_s i32.shr_u i32.rotl i32.rotr
0x79 none i64.clz i64.ctz i64.popcnt i64.add i64.sub i64.mul i64.div_s i64.div_u i64.rem_s i64.rem_u
0x83 none i64.and i64.or i64.xor i64.shl i64.shr_s i64.shr_u i64.rotl i64.rotr
0x8B none f32.abs f32.neg f32.ceil f32.floor f32.trunc f32.nearest f32.sqrt
0x92 none f32.add f32.sub f32.mul f32.div f32.min f32.max f32.copysign
0x99 none f64.abs f64.neg f64.ceil f64.floor f64.trunc f64.nearest f64.sqrt
0xA0 none f64.add f64.sub f64.mul f64.div f64.min f64.max f64.copysign
0xA7 none i32.wrap_i64 i32.trunc_f32_s i32.trunc_f32_u i32.trunc_f64_s i32.trunc_f64_u
0xAC none i64.extend_i32_s i64.extend_i32_u i64.trunc_f32_s i64.trunc_f32_u i64.trunc_f64_s i64.trunc_f64_u
0xB2 none f32.convert_i32_s f32.convert_i32_u f32.convert_i64_s f32.convert_i64_u f32.demote_f64
0xB7 none f64.convert_i32_s f64.convert_i32_u f64.convert_i64_s f64.convert_i64_u f64.promote_f32
0xBC none i32.reinterpret_f32 i64.reinterpret_f64 f32.reinterpret_i32 f64.reinterpret_i64
0xC0 none i32.extend8_s i32.extend16_s i64.extend8_s i64.extend16_s i64.extend32_s
0xD0 reference ref.null
0xD1 none ref.is_null
0xD2 index ref.func
0xFC00 none i32.trunc_sat_f32_s i32.trunc_sat_f32_u i32.trunc_sat_f64_s i32.trunc_sat_f64_u
0xFC04 none i64.trunc_sat_f32_s i64.trunc_sat_f32_u i64.trunc_sat_f64_s i64.trunc_sat_f64_u
0xFC08 index-memory memory.init
0xFC09 index data.drop
0xFC0A two-memories memory.copy
0xFC0B memory memory.fill
0xFC0C two-indices table.init
0xFC0D index elem.drop
0xFC0E two-indices table.copy
0xFC0F index table.grow table.size table.fill
0xFD00 memarg v128.load v128.load8x8_s v128.load8x8_u v128.load16x4_s v128.load16x4_u v128.load32x2_s v128.load32x2_u
0xFD07 memarg v128.load8_splat v128.load16_splat v128.load32_splat v128.load64_splat v128.store
0xFD0C sixteen-bytes v128.const i8x16.shuffle
0xFD0E none i8x16.swizzle i8x16.splat i16x8.splat i32x4.splat i64x2.splat f32x4.splat f64x2.splat
0xFD15 lane i8x16.extract_lane_s i8x16.extract_lane_u i8x16.replace_lane
0xFD18 lane i16x8.extract_lane_s i16x8.extract_lane_u i16x8.replace_lane
0xFD1B lane i32x4.extract_lane i32x4.replace_lane i64x2.extract_lane i64x2.replace_lane
0xFD1F lane f32x4.extract_lane f32x4.replace_lane f64x2.extract_lane f64x2.replace_lane
0xFD23 none i8x16.eq i8x16.ne i8x16.lt_s i8x16.lt_u i8x16.gt_s i8x16.gt_u i8x16.le_s i8x16.le_u i8x16.ge_s i8x16.ge_u
0xFD2D none i16x8.eq i16x8.ne i16x8.lt_s i16x8.lt_u i16x8.gt_s i16x8.gt_u i16x8.le_s i16x8.le_u i16x8.ge_s i16x8.ge_u
0xFD37 none i32x4.eq i32x4.ne i32x4.lt_s i32x4.lt_u i32x4.gt_s i32x4.gt_u i32x4.le_s i32x4.le_u i32x4.ge_s i32x4.ge_u
0xFD41 none f32x4.eq f32x4.ne f32x4.lt f32x4.gt f32x4.le f32x4.ge f64x2.eq f64x2.ne f64x2.lt f64x2.gt f64x2.le f64x2.ge
0xFD4D none v128.not v128.and v128.andnot v128.or v128.xor v128.bitselect v128.any_true
0xFD54 memarg-lane v128.load8_lane v128.load16_lane v128.load32_lane v128.load64_lane
0xFD58 memarg-lane v128.store8_lane v128.store16_lane v128.store32_lane v128.store64_lane
0xFD5C memarg v128.load32_zero v128.load64_zero
0xFD5E none f32x4.demote_f64x2_zero f64x2.promote_low_f32x4
0xFD60 none i8x16.abs i8x16.neg i8x16.popcnt i8x16.all_true i8x16.bitmask i8x16.narrow_i16x8_s i8x16.narrow_i16x8_u
0xFD67 none f32x4.ceil f32x4.floor f32x4.trunc f32x4.nearest
0xFD6B none i8x16.shl i8x16.shr_s i8x16.shr_u i8x16.add i8x16.add_sat_s i8x16.add_sat_u
0xFD71 none i8x16.sub i8x16.sub_sat_s i8x16.sub_sat_u f64x2.ceil f64x2.floor
0xFD76 none i8x16.min_s i8x16.min_u i8x16.max_s i8x16.max_u f64x2.trunc i8x16.avgr_u
0xFD7C none i16x8.extadd_pairwise_i8x16_s i16x8.extadd_pairwise_i8x16_u
0xFD7E none i32x4.extadd_pairwise_i16x8_s i32x4.extadd_pairwise_i16x8_u
0xFD80 none i16x8.abs i16x8.neg i16x8.q15mulr_sat_s i16x8.all_true i16x8.bitmask
0xFD85 none i16x8.narrow_i32x4_s i16x8.narrow_i32x4_u
0xFD87 none i16x8.extend_low_i8x16_s i16x8.extend_high_i8x16_s i16x8.extend_low_i8x16_u i16x8.extend_high_i8x16_u
0xFD8B none i16x8.shl i16x8.shr_s i16x8.shr_u i16x8.add i16x8.add_sat_s i16x8.add_sat_u
0xFD91 none i16x8.sub i16x8.sub_sat_s i16x8.sub_sat_u f64x2.nearest i16x8.mul
0xFD96 none i16x8.min_s i16x8.min_u i16x8.max_s i16x8.max_u - i16x8.avgr_u
0xFD9C none i16x8.extmul_low_i8x16_s i16x8.extmul_high_i8x16_s i16x8.extmul_low_i8x16_u i16x8.extmul_high_i8x16_u
0xFDA0 none i32x4.abs i32x4.neg - i32x4.all_true i32x4.bitmask
0xFDA7 none i32x4.extend_low_i16x8_s i32x4.extend_high_i16x8_s i32x4.extend_low_i16x8_u i32x4.extend_high_i16x8_u
0xFDAB none i32x4.shl i32x4.shr_s i32x4.shr_u i32x4.add - - i32x4.sub
0xFDB5 none i32x4.mul i32x4.min_s i32x4.min_u i32x4.max_s i32x4.max_u i32x4.dot_i16x8_s
0xFDBC none i32x4.extmul_low_i16x8_s i32x4.extmul_high_i16x8_s i32x4.extmul_low_i16x8_u i32x4.extmul_high_i16x8_u
0xFDC0 none i64x2.abs i64x2.neg - i64x2.all_true i64x2.bitmask
0xFDC7 none i64x2.extend_low_i32x4_s i64x2.extend_high_i32x4_s i64x2.extend_low_i32x4_u i64x2.extend_high_i32x4_u
0xFDCB none i64x2.shl i64x2.shr_s i64x2.shr_u i64x2.add - - i64x2.sub
0xFDD5 none i64x2.mul i64x2.eq i64x2.ne i64x2.lt_s i64x2.gt_s i64x2.le_s i64x2.ge_s
0xFDDC none i64x2.extmul_low_i32x4_s i64x2.extmul_high_i32x4_s i64x2.extmul_low_i32x4_u i64x2.extmul_high_i32x4_u
0xFDE0 none f32x4.abs f32x4.neg - f32x4.sqrt f32x4.add f32x4.sub f32x4.mul f32x4.div
0xFDE8 none f32x4.min f32x4.max f32x4.pmin f32x4.pmax
0xFDEC none f64x2.abs f64x2.neg - f64x2.sqrt f64x2.add f64x2.sub f64x2.mul f64x2.div
0xFDF4 none f64x2.min f64x2.max f64x2.pmin f64x2.pmax
0xFDF8 none i32x4.trunc_sat_f32x4_s i32x4.trunc_sat_f32x4_u f32x4.convert_i32x4_s f32x4.convert_i32x4_u
0xFDFC none i32x4.trunc_sat_f64x2_s_zero i32x4.trunc_sat_f64x2_u_zero
0xFDFE none f64x2.convert_low_i32x4_s f64x2.convert_low_i32x4_u
"""

# First and last opcode of what other proposals define.
_REFUSED: Final = (
    (0x06, 0x0A, "exception handling"),
    (0x14, 0x15, "typed function references"),
    (0x18, 0x19, "exception handling"),
    (0x1F, 0x1F, "exception handling"),
    (0xD3, 0xD3, "garbage collection"),
    (0xD4, 0xD6, "typed function references"),
    (0xE0, 0xE6, "stack switching"),
    (0xFB, 0xFB, "garbage collection"),
    (0xFE, 0xFE, "threads"),
    (0xFC13, 0xFC16, "wide arithmetic"),
)


def _read_table(text: str) -> dict[int, Opcode]:
    found: dict[int, Opcode] = {}
    for line in text.split("\n"):
        first, kind, *names = line.split() or ("0", "none")
        found |= {int(first, 16) + place: Opcode(name, kind) for place, name in enumerate(names) if name != "-"}
    return found


OPCODES: Final = _read_table(_TABLE)


def opcodes(*names: str) -> frozenset[int]:
    """Return the opcodes of instructions by name; a name that ends in ``*`` stands for all that begin like it."""
    return frozenset(
        number
        for number, opcode in OPCODES.items()
        if any(opcode.name == name or (name[-1] == "*" and opcode.name.startswith(name[:-1])) for name in names)
    )


def refusal(opcode: int) -> str:
    """Return the proposal that an opcode outside the table belongs to, or "an unknown instruction"."""
    return next(
        (what for first, last, what in _REFUSED if first <= opcode <= last),
        "an unknown instruction",
    )


CALLS: Final = opcodes("call", "return_call")
INDIRECT_CALLS: Final = opcodes("call_indirect", "return_call_indirect")
MEMORY_WRITES: Final = frozenset(number for number, opcode in OPCODES.items() if ".store" in opcode.name) | opcodes(
    "memory.copy", "memory.fill", "memory.init"
)
MEMORY_GROWTH: Final = opcodes("memory.grow")
TABLE_WRITES: Final = opcodes("table.set", "table.grow", "table.fill", "table.copy", "table.init")
SEGMENT_DROPS: Final = opcodes("elem.drop", "data.drop")
GLOBAL_WRITES: Final = opcodes("global.set")
FUNCTION_REFERENCES: Final = opcodes("ref.func")
