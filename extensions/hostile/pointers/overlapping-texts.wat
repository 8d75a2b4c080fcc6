(module
  (import "hostile:trial/host@1.0.0" "send" (func $send (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "run") (param $who i32) (param $step i32) (result i32) (local $at i32)
    (loop $next
      (i32.store (i32.add (i32.const 4096) (local.get $at)) (i32.const 0))
      (i32.store (i32.add (i32.const 4100) (local.get $at)) (i32.const 4000))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (br_if $next (i32.lt_u (local.get $at) (i32.const 32000))))
    (call $send (i32.const 4096) (select (i32.const 4000) (i32.const 1) (local.get $step)))))
