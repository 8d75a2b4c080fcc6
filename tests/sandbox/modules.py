"""Modules for the tests of the binary format: one with every section, the shipped guests, and mutations of both."""

from __future__ import annotations

from pathlib import Path

from hypothesis import strategies as st

from tests.guests import wat

SHIPPED = sorted((Path(__file__).parents[2] / "spinrt" / "extensions").glob("*/*.wasm"))

EVERYTHING = """
(module $whole
  (type $pair (func (param i32 i64) (result f32 f64)))
  (type $plain (func))
  (import "test:a/b@1.0.0" "first" (func $first (type $plain)))
  (import "test:a/b@1.0.0" "second" (func $second (param i32) (result i32)))
  (table $calls 3 7 funcref)
  (table $others 0 externref)
  (memory (export "memory") 1 3)
  (global $count (mut i32) (i32.const -5))
  (global $fixed i64 (i64.const 0x7fffffffffffffff))
  (global $real (mut f64) (f64.const 2.5))
  (global $target funcref (ref.func $third))
  (export "first" (func $first))
  (export "calls" (table $calls))
  (export "count" (global $count))
  (start $begin)
  (elem (table $calls) (i32.const 0) func $first $third)
  (elem func $begin)
  (elem declare func $indirect)
  (elem (table $calls) (i32.const 2) funcref (ref.null func))
  (elem funcref (ref.func $walk) (ref.null func))
  (data (i32.const 8) "active")
  (data "passive")
  (func $begin (global.set $count (i32.const 3)))
  (func $third (export "third") (param i32) (result i32) (local i64 i64 f32)
    (i32.add (local.get 0) (global.get $count)))
  (func $walk (export "walk") (param i32) (result i32)
    (block $out (loop $again
      (br_table $out $again $out (i32.load offset=300 (local.get 0)))))
    (memory.init 1 (i32.const 0) (i32.const 0) (i32.const 1))
    (return_call $third (i32.const 1)))
  (func $indirect (call_indirect (type $plain) (i32.const 0))))
"""


def everything() -> bytes:
    """A valid module with every section, and a name section."""
    return wat(EVERYTHING)


def seeds() -> list[bytes]:
    return [everything(), wat("(module)"), *(path.read_bytes() for path in SHIPPED)]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A seed with some bytes changed, cut out, put in or repeated."""
    data = bytearray(draw(st.sampled_from(seeds())))
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 12))
        match draw(st.sampled_from(["set", "cut", "put", "repeat"])):
            case "set":
                data[place : place + 1] = draw(st.binary(min_size=1, max_size=1))
            case "cut":
                del data[place : place + length]
            case "put":
                data[place:place] = draw(st.binary(min_size=1, max_size=12))
            case _:
                data[place:place] = data[max(0, place - length) : place]
    return bytes(data)
