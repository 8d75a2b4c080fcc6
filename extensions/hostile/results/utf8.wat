(module
  (memory (export "memory") 1)
  (data (i32.const 64) "{{BYTES}}|")
  (func $length (result i32) (local $at i32)
    (loop $next
      (if (i32.ne (i32.load8_u (i32.add (i32.const 64) (local.get $at))) (i32.const 124)) (then
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next))))
    (local.get $at))
  (func (export "answer-text") (param $who i32) (param $step i32) (result i32)
    (i32.store (i32.const 16) (i32.const 64))
    (i32.store (i32.const 20) (call $length))
    (i32.const 16)))
