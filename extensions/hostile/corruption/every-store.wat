;; The sum of 256 bytes tells whether some of them changed.
(module
  (memory (export "memory") 1)
  (data (i32.const 0) "\67\45\8b\6b")
  (func $sum (result i32) (local $at i32) (local $sum i32)
    (loop $next
      (local.set $sum (i32.add (local.get $sum) (i32.load (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 4)))
      (br_if $next (i32.lt_u (local.get $at) (i32.const 256))))
    (local.get $sum))
  (func (export "run") (param $who i32) (param $step i32) (result i32)
    (if (local.get $step) (then
      (i32.store8 (i32.const 0) (i32.const 1)) (i32.store16 (i32.const 1) (i32.const 2)) (i32.store (i32.const 3) (i32.const 3))
      (i64.store8 (i32.const 8) (i64.const 4)) (i64.store16 (i32.const 9) (i64.const 5)) (i64.store32 (i32.const 11) (i64.const 6))
      (i64.store (i32.const 17) (i64.const 7)) (i64.store offset=8 (i32.const 24) (i64.const 8))
      (f32.store (i32.const 41) (f32.const 9)) (f64.store (i32.const 51) (f64.const 10))
      (i32.store (i32.const 3) (i32.const -1)) (i64.store (i32.const 0) (i64.const -1))
      (if (i32.eq (call $sum) (i32.const 0x6b8b4567)) (then (return (i32.const 0))))
      unreachable))
    (call $sum)))
