(module
  (memory (export "memory") 16)
  (func $store (param $times i32) (local $at i32)
    (loop $next
      (i32.store8 (i32.add (i32.const 64) (i32.and (local.get $at) (i32.const 0xffff))) (local.get $at))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $at) (local.get $times)))))
  (func (export "run") (param $who i32) (param $step i32) (result i32)
    (block $few (block $copy (block $fill (block $many (block $none
      (br_table $none $many $fill $copy $few (local.get $step)))
      (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1)))
      (return (i32.load (i32.const 0))))
      (call $store (i32.const 5000)) (return (i32.const 0)))
      (memory.fill (i32.const 0) (i32.const 7) (i32.const 1000000)) (return (i32.const 0)))
      (memory.copy (i32.const 0) (i32.const 8) (i32.const 1000000)) (return (i32.const 0)))
    (call $store (i32.const 3000))
    (i32.const 1)))
