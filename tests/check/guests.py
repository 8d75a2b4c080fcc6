"""Guests for campaigns, as text: one that changes all that it can, and some that leave something behind."""

from __future__ import annotations

from tests.guests import BUMP, EVENTS, HOST

COUNTER = f"""
(import "{HOST}" "again" (func $again))
{BUMP}
(global $count (mut i64) (i64.const 0))
(func (export "{EVENTS}#add") (param i32 i32) (result i32)
  (i32.store (i32.const 64) (i32.add (i32.load (i32.const 64)) (local.get 0)))
  (global.set $count (i64.add (global.get $count) (i64.const 1)))
  (call $again)
  (i32.store8 (i32.const 70) (local.get 1))
  (i32.load (i32.const 64)))
"""
"""Two stores and a global, with a host call in between."""

EVERYTHING = f"""
(import "{HOST}" "lend" (func $lend (result i32)))
(import "{HOST}" "take" (func $take (param i32)))
(import "{HOST}" "[resource-drop]thing" (func $drop (param i32)))
(import "{HOST}" "note" (func $note (param i32 i32)))
(import "{HOST}" "shout" (func $shout (param i32 i32 i32)))
{BUMP}
(global $vector (mut v128) (v128.const i64x2 1 2))
(global $float (mut f64) (f64.const 1.5))
(global $held (mut i32) (i32.const 0))
(table $t 4 funcref) (elem $e func $one $two) (elem declare func $one $two)
(data $d "some bytes that can be dropped")
(func $one) (func $two)
(func (export "{EVENTS}#ping")
  (i64.store (i32.const 64) (i64.add (i64.load (i32.const 64)) (i64.const 1)))
  (i32.store16 (i32.const 72) (i32.const 7)) (f32.store (i32.const 76) (f32.const 2))
  (v128.store (i32.const 96) (v128.const i64x2 3 4))
  (v128.store8_lane 5 (i32.const 130) (global.get $vector))
  (global.set $vector (v128.const i64x2 5 6)) (global.set $float (f64.add (global.get $float) (f64.const 1)))
  (if (i64.eq (i64.load (i32.const 64)) (i64.const 3))
    (then (memory.init $d (i32.const 200) (i32.const 0) (i32.const 8)) (data.drop $d) (elem.drop $e)))
  (memory.fill (i32.const 300) (i32.wrap_i64 (i64.load (i32.const 64))) (i32.const 50))
  (memory.copy (i32.const 310) (i32.const 60) (i32.const 30))
  (table.set $t (i32.const 1) (ref.func $two)) (table.fill $t (i32.const 2) (ref.func $one) (i32.const 1))
  (if (global.get $held) (then (call $drop (global.get $held))))
  (global.set $held (call $lend))
  (call $take (call $lend))
  (call $note (i32.const 300) (i32.const 4))
  (call $shout (i32.const 300) (i32.const 4) (i32.const 400))
  (i32.store (i32.const 420) (i32.load (i32.const 400))))
"""
"""All stores, segments, tables, globals of all types; handles made, kept, given away and dropped; texts both ways."""

GROWS = f"""
{BUMP}
(func (export "{EVENTS}#add") (param i32 i32) (result i32)
  (i32.store (i32.const 64) (i32.const 1))
  (if (i32.lt_u (memory.size) (i32.const 4)) (then (drop (memory.grow (i32.const 1)))))
  (i32.store (i32.const 68) (i32.const 2))
  (memory.size))
"""

FAILS_ON_LARGE = f"""
{BUMP}
(func (export "{EVENTS}#add") (param i32 i32) (result i32)
  (i32.store (i32.const 64) (local.get 0))
  (if (i32.gt_u (local.get 0) (i32.const 1000)) (then unreachable))
  (i32.load (i32.const 64)))
"""

CLOCK_WATCHER = f"""
(import "spinrt:clock/clock@1.0.0" "now" (func $now (result i64)))
(import "spinrt:clock/random@1.0.0" "bytes" (func $random (param i32 i32)))
{BUMP}
(func (export "{EVENTS}#ping")
  (i64.store (i32.const 64) (call $now))
  (call $random (i32.const 16) (i32.const 80)))
"""
"""Keeps what the host says of time and chance."""
