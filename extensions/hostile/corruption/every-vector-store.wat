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
  (func (export "run") (param $who i32) (param $step i32) (result i32) (local $v v128)
    (local.set $v (v128.const i32x4 1 2 3 4))
    (if (local.get $step) (then
      (v128.store (i32.const 0) (local.get $v)) (v128.store offset=7 (i32.const 16) (local.get $v))
      (v128.store8_lane 15 (i32.const 3) (local.get $v)) (v128.store16_lane 7 (i32.const 61) (local.get $v))
      (v128.store32_lane 3 (i32.const 71) (local.get $v)) (v128.store64_lane 1 (i32.const 81) (local.get $v))
      (v128.store64_lane 0 (i32.const 0) (local.get $v))
      (if (i32.eq (call $sum) (i32.const 0x6b8b4567)) (then (return (i32.const 0))))
      unreachable))
    (call $sum)))
