(module
  (memory (export "memory") 1)
  (global $__stack_pointer (mut i32) (i32.const 4096))
  (func (export "run") (param $who i32) (param $step i32) (result i32) (local $before i32)
    (local.set $before (global.get $__stack_pointer))
    (if (local.get $step) (then
      (global.set $__stack_pointer (i32.sub (local.get $before) (i32.const 16)))
      (i32.store (global.get $__stack_pointer) (i32.const -1))))
    (if (i32.eq (local.get $step) (i32.const 2)) (then (global.set $__stack_pointer (i32.const 64)) unreachable))
    (local.get $before)))
