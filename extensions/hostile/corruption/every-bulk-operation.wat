;; The sum of 256 bytes tells whether some of them changed.
(module
  (memory (export "memory") 1)
  (data (i32.const 0) "\67\45\8b\6b")
  (data $more "other bytes, of which there are some")
  (func $sum (result i32) (local $at i32) (local $sum i32)
    (loop $next
      (local.set $sum (i32.add (local.get $sum) (i32.load (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 4)))
      (br_if $next (i32.lt_u (local.get $at) (i32.const 256))))
    (local.get $sum))
  (func (export "run") (param $who i32) (param $step i32) (result i32)
    (if (local.get $step) (then
      (memory.copy (i32.const 2) (i32.const 0) (i32.const 33)) (memory.copy (i32.const 0) (i32.const 5) (i32.const 77))
      (memory.fill (i32.const 9) (i32.const 3) (i32.const 101)) (memory.fill (i32.const 9) (i32.const 3) (i32.const 0))
      (memory.init $more (i32.const 1) (i32.const 2) (i32.const 31))
      (memory.fill (i32.const 0) (i32.const 17) (i32.const 65536))
      (if (i32.eq (call $sum) (i32.const 0x6b8b4567)) (then (return (i32.const 0))))
      unreachable))
    (call $sum)))
